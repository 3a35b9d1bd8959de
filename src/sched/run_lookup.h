/*
 * run_lookup.h - nodes whose values may be known already.
 *
 * Before such a node runs, a change of the run asks the caller for values from
 * an earlier run. Values that the node makes itself are kept until the caller
 * has recorded them, and the run is not done before that. The same holds for
 * the elements of a map: the caller answers for all of them when it is asked
 * for the map.
 *
 * Runs of a flow are identified by their items; the run of an invoke has item
 * 0.
 */
#ifndef FZ_RUN_LOOKUP_H
#define FZ_RUN_LOOKUP_H

#include <stdbool.h>
#include <stdint.h>

struct fz_batch;
struct fz_blob;
struct fz_err;
struct fz_flow;
struct fz_run;
struct fz_run_map;
struct fz_step;

/*
 * Let the flow ask for the values of `node`; call it before the start. 0, or -1
 * and `err`.
 */
int fz_lookup_want(struct fz_flow *flow, uint32_t node, struct fz_err *err);

/* The run of an item that is under way; NULL if there is none. */
struct fz_run *fz_lookup_run(const struct fz_flow *flow, uint64_t item);

/* A node of one run. */
struct fz_lookup_at {
	uint64_t item;
	uint32_t node;
};

/*
 * The nodes that wait for an answer, at most `n`, in the order in which they
 * began to wait. Returns their number.
 */
uint32_t fz_lookup_asked(
    const struct fz_flow *flow, struct fz_lookup_at *list, uint32_t n);

/*
 * Answer with the values of a node that was asked for, in the order in which
 * the node makes them. Takes the references. Other values and nodes are
 * ignored.
 */
void fz_lookup_found(struct fz_flow *flow, struct fz_lookup_at at,
    struct fz_blob *const *values, uint32_t n);

/* Answer that the values are not known, so that the node runs. */
void fz_lookup_not_found(struct fz_flow *flow, struct fz_lookup_at at);

/*
 * Before fz_lookup_not_found(): the result of an element of a map that was
 * asked for. Takes the reference. Must be called in the order of the elements.
 * 0, or -1 and `err`; other elements are ignored.
 */
int fz_lookup_know(struct fz_flow *flow, struct fz_lookup_at at,
    uint64_t element, struct fz_blob *value, struct fz_err *err);

/*
 * The node whose own values have waited longest to be recorded. False if there
 * is none.
 */
bool fz_lookup_made(const struct fz_flow *flow, struct fz_lookup_at *at);

/* Value number `k`, from 0, of the node of fz_lookup_made(). The caller gets no
 * new reference.
 */
struct fz_blob *fz_lookup_made_value(const struct fz_flow *flow, uint32_t k);

/* Release the values of the node of fz_lookup_made(), which are recorded. */
void fz_lookup_recorded(struct fz_flow *flow);

/* Results of consecutive elements of a map. */
struct fz_lookup_elements {
	struct fz_lookup_at at;
	uint64_t first;
	uint32_t n;
	/* list of the values; the caller owns the reference */
	struct fz_blob *list;
};

/*
 * Take results of elements that were not taken before, to record them. False if
 * there are none. Results for which there is no memory are skipped.
 */
bool fz_lookup_take_elements(
    struct fz_flow *flow, struct fz_lookup_elements *elements);

/*
 * For run_step.c. fz_lookup_wanted(): whether the caller must be asked for the
 * values of a step. fz_lookup_ask(): ask for them. fz_lookup_forget(): withdraw
 * the question.
 */
bool fz_lookup_wanted(const struct fz_step *step);
void fz_lookup_ask(struct fz_step *step);
void fz_lookup_forget(struct fz_step *step);

/*
 * Keep the values that a step has made, if they are to be recorded and there is
 * memory.
 */
void fz_lookup_keep(
    struct fz_step *step, struct fz_blob *const *values, uint32_t n);

/*
 * Release all values that are kept for a run, and those of the elements of its
 * maps.
 */
void fz_lookup_clear(struct fz_run *run);

/* For run_map.c: set the known elements in the new batch of the step. */
void fz_lookup_start_map(struct fz_step *step, struct fz_batch *batch);

/* Whether results of elements wait for fz_lookup_take_elements(). */
bool fz_lookup_has_elements(const struct fz_run_map *map);

#endif
