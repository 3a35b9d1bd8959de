/*
 * run_map.h - a node of a run that calls its function for each element of a
 * list.
 *
 * When the inputs of such a step are there, the run makes a batch (batch.h) of
 * the list, which is one more producer of the run's dispatcher. So its elements
 * are sent, retried and recalled like the items of any batch, beside the
 * other nodes. When the batch has ended, the list of its results is the value
 * of the node. The caller reads and makes lists (struct fz_map_ops).
 *
 *   step:  waiting -> ready -> mapped -> done, failed or cancelled
 *
 * The values that all calls share are sent once to each worker: the other
 * inputs, and the list itself if its elements are not encoded one by one.
 */
#ifndef FZ_RUN_MAP_H
#define FZ_RUN_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/container.h"
#include "base/list.h"
#include "os/loop.h"
#include "sched/batch.h"

struct fz_blob;
struct fz_err;
struct fz_failure;
struct fz_ready_list;
struct fz_step;

/* The list of a map. */
struct fz_map_list {
	struct fz_blob *blob; /* the first input of the node */
	uint64_t n;           /* number of elements */
	/*
	 * Context for the encoding of elements, see fz_batch_opts; NULL:
	 * workers get the blob.
	 */
	void *reader;
	size_t raw_size; /* bytes of a raw result; 0: none are raw */
};

/*
 * The functions that read and make lists. They are called inside steps of the
 * loop.
 */
struct fz_map_ops {
	/*
	 * Set `n`, `reader` and `raw_size` of a list; `sliced`: the list needs
	 * a reader. 0, or -1 and `failure`.
	 */
	int (*open)(void *ctx, struct fz_map_list *list, bool sliced,
	    struct fz_failure *failure);
	struct fz_blob *(*encode)(void *reader, uint64_t first, uint32_t *n,
	    struct fz_failure *failure);
	void (*close)(void *ctx, void *reader);
	/*
	 * Make the list of `n` values from the results, which are in the order
	 * of the items. Missing and failed items are nil. NULL and `err` on
	 * failure.
	 */
	struct fz_blob *(*join)(void *ctx,
	    const struct fz_batch_result *results, size_t nresults, uint64_t n,
	    struct fz_err *err);
};

struct fz_run_map {
	struct fz_batch_owner owner;
	/* in the list of the flow, until the map has ended */
	struct fz_list link;
	struct fz_step *step;
	struct fz_batch *batch; /* the batch; NULL: it could not be made */
	struct fz_batch_opts opts;
	struct fz_map_list list;
	/* the values that workers get once, in order */
	struct fz_blob **shared;
	uint32_t nshared;
	/* the list with holes of a failed map; NULL: none */
	struct fz_blob *partial;
	struct fz_defer ended; /* the deferred end of the step */
	/* index of the element whose failure the step has; 0: none */
	uint64_t failed;
	size_t at; /* for run_lookup.c: index of the next result to record */
	uint32_t ntaken; /* number of items of that result that are recorded */
};

#define FZ_MAP_OF(ptr) FZ_CONTAINER_OF(ptr, struct fz_run_map, link)

/* The ready list of the workers of the map. */
struct fz_ready_list *fz_map_ready_list(const struct fz_run_map *map);

/*
 * Start the map of a step whose inputs are there. If that fails, the step
 * fails.
 */
void fz_map_start(struct fz_step *step);

/*
 * Start no further elements. Running elements go on, or are killed if `kill` is
 * set.
 */
void fz_map_stop(struct fz_run_map *map, const struct fz_err *kill);

/*
 * Kill the workers of running elements, wait until they have ended, and end the
 * step.
 */
void fz_map_cancel(
    struct fz_run_map *map, enum fz_err_kind kind, const char *text);

/* See fz_run_element_failure(). Call it after the end of the step. */
uint64_t fz_map_failure(
    const struct fz_run_map *map, size_t k, const struct fz_failure **failure);

/* NULL is allowed. */
void fz_map_free(struct fz_run_map *map);

#endif
