/*
 * run.h - one pass through a graph: ready nodes, retries, policy, values.
 *
 * Values stay encoded on their way from worker to worker. In a local run (0
 * jobs at once) the caller runs the nodes itself, one after the other.
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
	const struct fz_graph *graph; /* frozen; outlives the run */
	/* the pools by number, which outlive the run; the list is copied */
	struct fz_pool *const *pools;
	uint32_t npools;
	/* maximum number of busy workers; 0: the caller runs the nodes */
	unsigned jobs;
	enum fz_policy policy;
	uint64_t seed;
	/* time at which the run ends at the latest */
	int64_t deadline_ns;
	bool events; /* record events */
	/* a trace, which records events, too; NULL: none */
	struct fz_trace *trace;
	/* names of the nodes in the trace */
	struct fz_trace_names *trace_names;
	/*
	 * The encoded value, in static memory, of an optional input whose maker
	 * failed.
	 */
	const void *absent;
	size_t absent_len;
	struct fz_limits limits;
	/* functions for lists; NULL: the graph has no maps */
	const struct fz_map_ops *map_ops;
	void *map_ctx;
};

/* Make a run. NULL and `err` on failure. */
struct fz_run *fz_run_new(const struct fz_run_opts *opts, struct fz_err *err);

/* Cancel the nodes that are not done, and free the run. NULL is allowed. */
void fz_run_free(struct fz_run *run);

/* Set other limits for one node, before the start. 0, or -1 and `err`. */
int fz_run_limit(struct fz_run *run, uint32_t node,
    const struct fz_limits *limits, struct fz_err *err);
const struct fz_limits *fz_run_limits_of(
    const struct fz_run *run, uint32_t node);

/*
 * Set a value; values from outside must be set before the start. Takes the
 * reference. NULL: drop the value.
 */
void fz_run_set(struct fz_run *run, uint32_t value, struct fz_blob *blob);

/* Keep the value until the end of the run. Call it before the start. */
void fz_run_keep(struct fz_run *run, uint32_t value);

/*
 * Start the run, which the loop then drives. 0, or -1 and `err` if a needed
 * value was not set.
 */
int fz_run_start(struct fz_run *run, struct fz_err *err);

/* The flow of the run, for run_lookup.h. */
struct fz_flow *fz_run_flow(const struct fz_run *run);

/* The id of the run's change (worker/change.h). */
uint64_t fz_run_id(const struct fz_run *run);

/*
 * Whether the run is done: none of its jobs runs or will run, and all output
 * was passed on.
 */
bool fz_run_done(const struct fz_run *run);

/*
 * Kill the workers of running nodes and wait until they have ended; the run is
 * then done. Do not call it from a callback of the loop. Later calls do
 * nothing.
 */
void fz_run_cancel(struct fz_run *run, enum fz_err_kind kind, const char *text);

/*
 * A value; NULL if it was not made or not kept; `absent` if its maker failed
 * and the graph has optional inputs. The caller gets no new reference.
 */
struct fz_blob *fz_run_value(const struct fz_run *run, uint32_t value);

/*
 * The reason why `node` has no result; NULL if it has one or is under way.
 * `*because` is the node whose failure cancelled it, else FZ_GRAPH_NONE.
 */
const struct fz_failure *fz_run_failure_of(
    const struct fz_run *run, uint32_t node, uint32_t *because);

/*
 * The failure of the run as a whole; NULL if there is none. It is a deadline or
 * a cancel (`*node` is FZ_GRAPH_NONE), or the failure of the node for which the
 * run stopped. With FZ_POLICY_CONTINUE only a cancel counts.
 *
 * A run does not stop for a failure if it can end without the lost values. Then
 * each lost value is read by a node, and each of its readers has it as an
 * optional input or is cancelled.
 */
const struct fz_failure *fz_run_failure(
    const struct fz_run *run, uint32_t *node);

/*
 * The node that failed next in time after `node`; if `node` is FZ_GRAPH_NONE,
 * the one that failed first. Returns FZ_GRAPH_NONE after the last one. Nodes
 * that were ended because another node failed are included; their failure is
 * FZ_ERR_CANCELLED.
 */
uint32_t fz_run_next_failed(const struct fz_run *run, uint32_t node);

/*
 * The node that failed first among those that wait for fz_run_decide(), because
 * limits.ask is set; FZ_GRAPH_NONE if none waits. Its failure is
 * fz_run_failure_of().
 */
uint32_t fz_run_undecided(const struct fz_run *run);

/* An element of a map that waits for fz_run_decide(). */
struct fz_run_element {
	uint64_t item; /* index of the item in a stream; 0: an invoke */
	uint32_t node;
	uint64_t element; /* index of the element */
	const struct fz_failure *failure;
};

/* The next element that waits for fz_run_decide(). False if there is none. */
bool fz_run_undecided_element(
    const struct fz_run *run, struct fz_run_element *element);

/*
 * Retry a node, or an element of a map, or let it fail. `element` 0: the node
 * itself. Does nothing if the node or element does not wait for this decision.
 */
void fz_run_decide(
    struct fz_run *run, uint32_t node, uint64_t element, bool again);

/*
 * If `node` is a map that has failed because an element failed: the index of
 * that element; else 0.
 */
uint64_t fz_run_failed_element(const struct fz_run *run, uint32_t node);

/* Whether a map has failed because its list cannot be read. */
bool fz_run_lacks_list(const struct fz_run *run, uint32_t node);

/*
 * The index of the failed element number `k`, from 0, of a map, in the order of
 * the elements, and its failure. Returns 0 if fewer have failed.
 */
uint64_t fz_run_element_failure(const struct fz_run *run, uint32_t node,
    size_t k, const struct fz_failure **failure);

/*
 * With FZ_POLICY_CONTINUE: the list of a map of which some elements have
 * failed; NULL if there is none. The caller gets no new reference.
 */
struct fz_blob *fz_run_partial(const struct fz_run *run, uint32_t node);

/*
 * Numbers of elements of maps whose list is known. Each map counts one element
 * less than it has, because its node is among the nodes.
 */
struct fz_run_elements {
	uint64_t total, done, failed;
};

/* Numbers of nodes; in a stream, of the nodes of all items. */
struct fz_run_counts {
	uint64_t done, failed; /* `failed` nodes are not retried */
	/* nodes that wait for a worker; elements of maps, too */
	uint64_t waiting;
	unsigned running; /* workers that run a node now */
	struct fz_run_elements more;
};

/* The nodes of pool number `pool`. */
struct fz_run_counts fz_run_counts(const struct fz_run *run, uint32_t pool);

/* Take the oldest event. Returns 1, or 0 if there is none. */
int fz_run_next_event(struct fz_run *run, struct fz_job_event *event);

/*
 * Local runs: the next node to run now; FZ_GRAPH_NONE if there is none, because
 * the run is done or waits for a retry. The caller ends the node by
 * fz_run_local_done() or fz_run_local_failed(), which take their arguments as
 * the ops of a job do. If the node is a map that is under way, the caller calls
 * the next element of its batch instead.
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
