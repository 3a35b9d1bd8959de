/*
 * run_lookup.h - nodes whose values may be known already.
 *
 * Before such a node runs, the run asks the caller for values from an earlier
 * run: its change is reported. If the caller has none, the node runs, and its
 * values are kept until the caller has recorded them. The run is not done
 * before that. The same holds for the elements of a map. When the caller is
 * asked for a map, it answers for all elements.
 *
 * The runs of a flow are identified by their items. The run of an invoke has
 * item 0.
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
 * Make the flow ask the caller for the values of `node` before the node runs.
 * Call this before the start. 0, or -1 and `err`.
 */
int fz_lookup_want(struct fz_flow *flow, uint32_t node, struct fz_err *err);

/* The run of `item`; NULL if the item is not being processed. */
struct fz_run *fz_lookup_run(const struct fz_flow *flow, uint64_t item);

/* A node of one run. */
struct fz_lookup_at {
	uint64_t item;
	uint32_t node;
};

/*
 * List the nodes that wait for an answer, those that have waited longest first,
 * at most `n`. Returns their number.
 */
uint32_t fz_lookup_asked(
    const struct fz_flow *flow, struct fz_lookup_at *list, uint32_t n);

/*
 * Answer with the values of a node that waits for an answer, in the order in
 * which the node makes them. Takes over the references. Does nothing else if
 * the node does not wait, or if the number of values is wrong.
 */
void fz_lookup_found(struct fz_flow *flow, struct fz_lookup_at at,
    struct fz_blob *const *values, uint32_t n);

/* Answer that the values are not known. The node then runs. */
void fz_lookup_not_found(struct fz_flow *flow, struct fz_lookup_at at);

/*
 * Provide the known result of an element of a map, before fz_lookup_not_found()
 * and in the order of the elements; other calls are ignored. Takes the
 * reference. 0, or -1 and `err`.
 */
int fz_lookup_know(struct fz_flow *flow, struct fz_lookup_at at,
    uint64_t element, struct fz_blob *value, struct fz_err *err);

/*
 * Get the node whose values have waited longest to be recorded. False if none
 * waits.
 */
bool fz_lookup_made(const struct fz_flow *flow, struct fz_lookup_at *at);

/* Value number `k`, from 0, of fz_lookup_made()'s node. No new reference. */
struct fz_blob *fz_lookup_made_value(const struct fz_flow *flow, uint32_t k);

/* Release the values of fz_lookup_made()'s node, which are recorded now. */
void fz_lookup_recorded(struct fz_flow *flow);

/* The results of consecutive elements of a map. */
struct fz_lookup_elements {
	struct fz_lookup_at at;
	uint64_t first;
	uint32_t n;
	/* a list of the results; the caller owns the reference */
	struct fz_blob *list;
};

/*
 * Take results of elements of a map, each once, to record them. False if there
 * are none. Those for which there is no memory are skipped.
 */
bool fz_lookup_take_elements(
    struct fz_flow *flow, struct fz_lookup_elements *elements);

/*
 * Used by run_step.c. fz_lookup_wanted(): whether the caller must be asked for
 * the values of a step. fz_lookup_ask(): ask. fz_lookup_forget(): withdraw the
 * question.
 */
bool fz_lookup_wanted(const struct fz_step *step);
void fz_lookup_ask(struct fz_step *step);
void fz_lookup_forget(struct fz_step *step);

/*
 * Keep the values that a step has made until they are recorded. Does nothing if
 * they are not to be recorded, or if there is no memory.
 */
void fz_lookup_keep(
    struct fz_step *step, struct fz_blob *const *values, uint32_t n);

/*
 * Release everything that is kept for a run: values of nodes, and known
 * elements of its maps.
 */
void fz_lookup_clear(struct fz_run *run);

/* Used by run_map.c: pass the known elements to the new batch of a map. */
void fz_lookup_start_map(struct fz_step *step, struct fz_batch *batch);

/* Whether results of elements wait for fz_lookup_take_elements(). */
bool fz_lookup_has_elements(const struct fz_run_map *map);

#endif
