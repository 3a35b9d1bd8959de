/*
 * run_map.h - a node of a run that calls its function for each element of a
 * list.
 *
 * When all inputs of such a step are known, the run creates a batch (batch.h)
 * for the list. The batch is another producer of the run's dispatcher. The
 * elements are therefore sent, retried and recalled as the items of any batch,
 * beside the other nodes. When the batch is done, the value of the node is the
 * list of the results. The caller provides the functions that read and make
 * lists (struct fz_map_ops).
 *
 *   step:  waiting -> ready -> mapped -> done, failed or cancelled
 *
 * Values that all calls share are sent to each worker only once. These are the
 * other inputs, and the list itself unless its elements are encoded one by one.
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

/* The list whose elements a map processes. */
struct fz_map_list {
	struct fz_blob *blob; /* the list: the first input of the node */
	uint64_t n;           /* number of elements of the list */
	/*
	 * argument of encode(), if elements are encoded one by one; NULL: each
	 * worker gets the whole list
	 */
	void *reader;
	size_t raw_size; /* bytes of a raw result; 0: no result is raw */
};

/* The functions that read and make lists. The loop calls them. */
struct fz_map_ops {
	/*
	 * Set `n`, `reader` and `raw_size` of a list. If `sliced`, `reader`
	 * must not be NULL. 0, or -1 and `failure`.
	 */
	int (*open)(void *ctx, struct fz_map_list *list, bool sliced,
	    struct fz_failure *failure);
	struct fz_blob *(*encode)(void *reader, uint64_t first, uint32_t *n,
	    struct fz_failure *failure);
	void (*close)(void *ctx, void *reader);
	/*
	 * Make a list of `n` values from the results, which are sorted by
	 * element. Failed and missing elements become nil. NULL and `err` on
	 * failure.
	 */
	struct fz_blob *(*join)(void *ctx,
	    const struct fz_batch_result *results, size_t nresults, uint64_t n,
	    struct fz_err *err);
};

struct fz_run_map {
	struct fz_batch_owner owner;
	/* link in the flow's list of maps, until the map has ended */
	struct fz_list link;
	struct fz_step *step;
	struct fz_batch *batch; /* the batch; NULL: it could not be created */
	struct fz_batch_opts opts;
	struct fz_map_list list;
	/* values that all calls share, in the order of the inputs */
	struct fz_blob **shared;
	uint32_t nshared;
	/* the list of a failed map, with nil for failed elements; or NULL */
	struct fz_blob *partial;
	struct fz_defer ended; /* the deferred call of try_end() */
	/* index of the element because of which the step has failed; 0: none */
	uint64_t failed;
	size_t at;       /* for run_lookup.c: next result to record */
	uint32_t ntaken; /* for run_lookup.c: recorded items of it */
};

#define FZ_MAP_OF(ptr) FZ_CONTAINER_OF(ptr, struct fz_run_map, link)

/* The ready list of the pool that runs the map. */
struct fz_ready_list *fz_map_ready_list(const struct fz_run_map *map);

/*
 * Start the map of a step that has all its inputs. On failure, the step fails.
 */
void fz_map_start(struct fz_step *step);

/*
 * Start no more elements. If `kill` is not NULL, kill the workers of running
 * elements; else let these elements end.
 */
void fz_map_stop(struct fz_run_map *map, const struct fz_err *kill);

/*
 * Kill the workers of running elements, wait for the ends of these workers, and
 * end the step.
 */
void fz_map_cancel(
    struct fz_run_map *map, enum fz_err_kind kind, const char *text);

/* See fz_run_element_failure(). Call this after the end of the step. */
uint64_t fz_map_failure(
    const struct fz_run_map *map, size_t k, const struct fz_failure **failure);

/* NULL is allowed. */
void fz_map_free(struct fz_run_map *map);

#endif
