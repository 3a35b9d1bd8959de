/*
 * run_lookup.h - nodes whose values may be known already.
 *
 * Before such a node runs its caller is asked, by a change of the run, for
 * values from an earlier run. Values that the node makes itself are kept until
 * the caller has recorded them, and a run is not done before. The same holds
 * for the elements of a map, whose caller answers for them when it is asked for
 * the map.
 *
 * Runs of a flow are named by their items: 0 is that of an invoke.
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

/* Before the start: ask for `node`. 0, or -1 and `err`. */
int fz_lookup_want(struct fz_flow *flow, uint32_t node, struct fz_err *err);

/* The run of an item that is under way; NULL: there is none. */
struct fz_run *fz_lookup_run(const struct fz_flow *flow, uint64_t item);

/* A node of one run. */
struct fz_lookup_at {
	uint64_t item;
	uint32_t node;
};

/*
 * The nodes that wait for an answer, at most `n`, those that wait the longest
 * first. Returns how many.
 */
uint32_t fz_lookup_asked(
    const struct fz_flow *flow, struct fz_lookup_at *list, uint32_t n);

/*
 * The values of a node that was asked for, in the node's order; takes the
 * references. Other values and nodes are ignored.
 */
void fz_lookup_found(struct fz_flow *flow, struct fz_lookup_at at,
    struct fz_blob **values, uint32_t n);

/* The results are not known: the node runs. */
void fz_lookup_not_found(struct fz_flow *flow, struct fz_lookup_at at);

/*
 * Before that: the result of an element of a map that was asked for; takes the
 * reference. Elements are answered for in their order. 0, or -1 and `err`;
 * other elements are ignored.
 */
int fz_lookup_know(struct fz_flow *flow, struct fz_lookup_at at,
    uint64_t element, struct fz_blob *value, struct fz_err *err);

/* The node whose own values wait the longest. False: there is none. */
bool fz_lookup_made(const struct fz_flow *flow, struct fz_lookup_at *at);

/* Value number `k` of that node, from 0. Not a new reference. */
struct fz_blob *fz_lookup_made_value(const struct fz_flow *flow, uint32_t k);

/* Release the values of that node. */
void fz_lookup_recorded(struct fz_flow *flow);

/* Results of consecutive elements of a map. */
struct fz_lookup_elements {
	struct fz_lookup_at at;
	uint64_t first;
	uint32_t n;
	struct fz_blob *list; /* of the values; the caller's reference */
};

/*
 * Take results of elements that were not taken before: they are recorded now.
 * False: there are none. Those that no memory is left for are skipped.
 */
bool fz_lookup_take_elements(
    struct fz_flow *flow, struct fz_lookup_elements *elements);

/* For run_step.c: whether the step must be asked for; ask; forget that. */
bool fz_lookup_wanted(const struct fz_step *step);
void fz_lookup_ask(struct fz_step *step);
void fz_lookup_forget(struct fz_step *step);

/* Keep the values that a step has made, if they are wanted and fit memory. */
void fz_lookup_keep(
    struct fz_step *step, struct fz_blob *const *values, uint32_t n);

/* Release all values that are kept for a run, and those of elements. */
void fz_lookup_clear(struct fz_run *run);

/* For run_map.c: the new batch of the step gets the known elements. */
void fz_lookup_start_map(struct fz_step *step, struct fz_batch *batch);

/* Whether results of elements wait for fz_lookup_take_elements(). */
bool fz_lookup_has_elements(const struct fz_run_map *map);

#endif
