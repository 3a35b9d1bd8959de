/*
 * run_lookup.h - nodes whose values may be known already.
 *
 * Before such a node runs its caller is asked, by a change of the run, for
 * values from an earlier run. Values that the node makes itself are kept until
 * the caller has recorded them.
 */
#ifndef FZ_RUN_LOOKUP_H
#define FZ_RUN_LOOKUP_H

#include <stdbool.h>
#include <stdint.h>

struct fz_blob;
struct fz_err;
struct fz_flow;
struct fz_run;
struct fz_step;

/* Before the start: ask for `node`. 0, or -1 and `err`. */
int fz_run_look_up(struct fz_run *run, uint32_t node, struct fz_err *err);

/* The node that waits for an answer the longest; FZ_GRAPH_NONE: none does. */
uint32_t fz_run_asked(const struct fz_run *run);

/*
 * The values of a node that was asked for, in the node's order; takes the
 * references. Other values and nodes are ignored.
 */
void fz_run_found(
    struct fz_run *run, uint32_t node, struct fz_blob **values, uint32_t n);

/* They are not known: the node runs. */
void fz_run_not_found(struct fz_run *run, uint32_t node);

/* The node whose own values wait the longest; FZ_GRAPH_NONE: there is none. */
uint32_t fz_run_made(const struct fz_run *run);

/* Value number `k` of that node, from 0. Not a new reference. */
struct fz_blob *fz_run_made_value(const struct fz_run *run, uint32_t k);

/* Release the values of that node. */
void fz_run_recorded(struct fz_run *run);

/* For run_step.c: whether the step must be asked for; ask; forget that. */
bool fz_lookup_wanted(const struct fz_step *step);
void fz_lookup_ask(struct fz_step *step);
void fz_lookup_forget(struct fz_step *step);

/* Keep the values that a step has made, if they are wanted and fit memory. */
void fz_lookup_keep(
    struct fz_step *step, struct fz_blob *const *values, uint32_t n);

/* Release all values that are kept. */
void fz_lookup_clear(struct fz_flow *flow);

#endif
