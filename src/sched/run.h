/*
 * run.h - one pass through a graph: ready nodes, retries, policy, values.
 *
 * Values stay encoded on their way from worker to worker. In a local run
 * (opts.jobs = 0) the caller runs the nodes itself, one after the other.
 */
#ifndef FZ_RUN_H
#define FZ_RUN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "sched/limits.h"

struct fz_blob;
struct fz_engine;
struct fz_job_event;
struct fz_failure;
struct fz_flow;
struct fz_graph;
struct fz_map_ops;
struct fz_pool;
struct fz_run;
struct fz_run_map;
struct fz_trace;
struct fz_trace_names;

struct fz_run_opts {
	struct fz_engine *engine;
	const struct fz_graph *graph; /* frozen; must outlive the run */
	/* the pools by number, which outlive the run; the list is copied */
	struct fz_pool *const *pools;
	uint32_t npools;
	/* maximum number of busy workers; 0: the caller runs the nodes */
	unsigned jobs;
	enum fz_policy policy;
	uint64_t seed;
	/* time at which an unfinished run fails; FZ_CLOCK_NEVER: none */
	int64_t deadline_ns;
	bool events; /* list the events for fz_run_next_event() */
	/* the trace that gets the events; NULL: none */
	struct fz_trace *trace;
	/* names of the nodes in the trace */
	struct fz_trace_names *trace_names;
	/*
	 * the encoded value for an optional input that could not be made, in
	 * static memory
	 */
	const void *absent;
	size_t absent_len;
	struct fz_limits limits;
	/* functions for the lists of maps; NULL: the graph has no maps */
	const struct fz_map_ops *map_ops;
	void *map_ctx;
};

/* Create a run. NULL and `err` on failure. */
struct fz_run *fz_run_new(const struct fz_run_opts *opts, struct fz_err *err);

/* Cancel the nodes that have not ended, and free the run. NULL is allowed. */
void fz_run_free(struct fz_run *run);

/* Set other limits for one node, before the start. 0, or -1 and `err`. */
int fz_run_limit(struct fz_run *run, uint32_t node,
    const struct fz_limits *limits, struct fz_err *err);
const struct fz_limits *fz_run_limits_of(
    const struct fz_run *run, uint32_t node);

/*
 * Set a value. Values from outside must be set before the start. Takes over the
 * reference to `blob`. NULL: drop the value.
 */
void fz_run_set(struct fz_run *run, uint32_t value, struct fz_blob *blob);

/* Keep the value until the end of the run. Call it before the start. */
void fz_run_keep(struct fz_run *run, uint32_t value);

/*
 * Start the run; the loop then executes it. 0, or -1 and `err` if a value from
 * outside is missing.
 */
int fz_run_start(struct fz_run *run, struct fz_err *err);

/* The flow of the run, for the functions of run_lookup.h. */
struct fz_flow *fz_run_flow(const struct fz_run *run);

/* The id of the run's change (worker/change.h). */
uint64_t fz_run_id(const struct fz_run *run);

/*
 * Whether the run is done: none of its jobs runs or will run, and all output of
 * its workers was passed on.
 */
bool fz_run_done(const struct fz_run *run);

/*
 * Cancel the run: kill the workers of running nodes, and wait for the ends of
 * these workers. The run is then done. Do not call this from a callback of the
 * loop. If the run is done already, does nothing.
 */
void fz_run_cancel(struct fz_run *run, enum fz_err_kind kind, const char *text);

/*
 * A value; NULL if it was not made or not kept; opts.absent if its node failed
 * and the graph has optional inputs. No new reference.
 */
struct fz_blob *fz_run_value(const struct fz_run *run, uint32_t value);

/*
 * The reason why `node` has no result; NULL if it has one or has not ended.
 * `*because`: the node whose failure cancelled it, else FZ_GRAPH_NONE.
 */
const struct fz_failure *fz_run_failure_of(
    const struct fz_run *run, uint32_t node, uint32_t *because);

/*
 * The failure of the run as a whole; NULL if there is none. `*node` is the node
 * whose failure stopped the run; FZ_GRAPH_NONE: a deadline or cancellation.
 * With FZ_POLICY_CONTINUE no node stops the run. A failed node does not stop it
 * either if all lost values can be done without: each has readers, and each
 * reader has it as an optional input or is cancelled.
 */
const struct fz_failure *fz_run_failure(
    const struct fz_run *run, uint32_t *node);

/*
 * The node that failed next after `node`, in time; the first one if `node` is
 * FZ_GRAPH_NONE. FZ_GRAPH_NONE if no further node has failed. Includes nodes
 * that were ended because another node had failed; the kind of their failure is
 * FZ_ERR_CANCELLED.
 */
uint32_t fz_run_next_failed(const struct fz_run *run, uint32_t node);

/*
 * The first node that waits for fz_run_decide(), because limits.ask is set;
 * FZ_GRAPH_NONE if none waits. fz_run_failure_of() returns its failure.
 */
uint32_t fz_run_undecided(const struct fz_run *run);

/* An element of a map that waits for fz_run_decide(). */
struct fz_run_element {
	uint64_t item; /* index of the item in a stream; 0 in an invoke */
	uint32_t node;
	uint64_t element; /* index of the element in the list */
	const struct fz_failure *failure;
};

/* Get the first element that waits for fz_run_decide(). False: none waits. */
bool fz_run_undecided_element(
    const struct fz_run *run, struct fz_run_element *element);

/*
 * Try a node again (`again`), or let it fail; or do so for an element of a map
 * (`element` 0: the node itself). Ignored unless it waits for this.
 */
void fz_run_decide(
    struct fz_run *run, uint32_t node, uint64_t element, bool again);

/*
 * If `node` is a map that has failed because of an element: the index of that
 * element. Else 0.
 */
uint64_t fz_run_failed_element(const struct fz_run *run, uint32_t node);

/* Whether a map has failed because its list cannot be read. */
bool fz_run_lacks_list(const struct fz_run *run, uint32_t node);

/*
 * The index of failed element number `k`, from 0, of a map, and its failure.
 * Returns 0 if the map has no more than `k` failed elements.
 */
uint64_t fz_run_element_failure(const struct fz_run *run, uint32_t node,
    size_t k, const struct fz_failure **failure);

/*
 * With FZ_POLICY_CONTINUE: the list of results of a map of which some elements
 * have failed. NULL if there is none. The caller gets no new reference.
 */
struct fz_blob *fz_run_partial(const struct fz_run *run, uint32_t node);

/*
 * Numbers of elements of the maps whose lists are known. Each map has one
 * element less here than in its list, because its node counts as well.
 */
struct fz_run_elements {
	uint64_t total, done, failed;
};

/* Numbers of nodes; in a stream, the sums over all items. */
struct fz_run_counts {
	uint64_t done, failed; /* `failed`: nodes that have failed finally */
	/* nodes, and elements of maps, that wait for a worker */
	uint64_t waiting;
	unsigned running; /* number of workers that are running a node */
	struct fz_run_elements more;
};

/* The numbers of nodes that pool number `pool` runs. */
struct fz_run_counts fz_run_counts(const struct fz_run *run, uint32_t pool);

/* Take the oldest event from the list. Returns 1; 0 if there is none. */
int fz_run_next_event(struct fz_run *run, struct fz_job_event *event);

/*
 * For a run whose nodes the caller runs. fz_run_local_next(): the next node to
 * run; FZ_GRAPH_NONE: none now, as the run is done or waits for a retry.
 * fz_run_local_done() or fz_run_local_failed() then ends the node, and takes
 * over its arguments as the functions of a job do. For a map
 * (fz_run_local_map()), the caller calls the next element of its batch instead.
 */
bool fz_run_is_local(const struct fz_run *run);
uint32_t fz_run_local_next(struct fz_run *run);

/* Whether fz_run_local_next() would return a node. */
bool fz_run_local_ready(const struct fz_run *run);
struct fz_run_map *fz_run_local_map(const struct fz_run *run, uint32_t node);
uint64_t fz_run_local_seed(const struct fz_run *run, uint32_t node);
void fz_run_local_done(
    struct fz_run *run, uint32_t node, struct fz_blob **values, uint32_t n);
void fz_run_local_failed(
    struct fz_run *run, uint32_t node, struct fz_failure *failure);

#endif
