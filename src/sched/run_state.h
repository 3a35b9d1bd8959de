/*
 * run_state.h - what the files of runs share: a flow, its runs, their steps.
 *
 * step:  waiting -> ready -> sent -> done
 *                     ^       |
 *                     |       +-> failed (attempts used up)
 *                     |       +-> undecided -> failed, delayed
 *                  delayed <--+
 *        waiting, ready, delayed -> cancelled
 *
 * If the values of a step may be known already, the step goes from waiting to
 * lookup, and then to ready or done.
 *
 * For the step of a map see run_map.h.
 */
#ifndef FZ_RUN_STATE_H
#define FZ_RUN_STATE_H

#include "base/container.h"
#include "base/list.h"
#include "os/loop.h"
#include "sched/dispatch.h"
#include "sched/run.h"
#include "trace/event_log.h"
#include "worker/change.h"
#include "worker/worker.h"

enum fz_step_state {
	FZ_STEP_WAITING, /* some inputs are not made yet */
	/* waits for fz_lookup_found() or fz_lookup_not_found() */
	FZ_STEP_LOOKUP,
	FZ_STEP_READY,     /* the step could start now */
	FZ_STEP_SENT,      /* a worker has the job */
	FZ_STEP_UNDECIDED, /* the step failed, and waits for fz_run_decide() */
	/* the step is a map, and its elements are being called */
	FZ_STEP_MAPPED,
	FZ_STEP_DELAYED,   /* failed; will be ready again after a pause */
	FZ_STEP_DONE,      /* the values of the step are known */
	FZ_STEP_FAILED,    /* the step failed finally */
	FZ_STEP_CANCELLED, /* the step will never run */
};

/* A step: one node of the graph in one run. */
struct fz_step {
	struct fz_job job;
	struct fz_run *run;
	uint32_t waiting; /* number of inputs that are not made yet */
	/* the failed node because of which this step was cancelled */
	uint32_t because;
	enum fz_step_state state;
	bool looked_up; /* the caller was asked for the step's values */
	/*
	 * the start of the current attempt is recorded, even if the job was
	 * returned afterwards
	 */
	bool told_start;
	unsigned attempts; /* number of attempts that have ended */
	struct fz_failure *failure;
	struct fz_blob **made;  /* values to be recorded; NULL: none */
	struct fz_known *known; /* known elements of the map; NULL: none */
	/* next step in one of the lists: failed, undecided, asked or made */
	struct fz_step *next_failed;
	struct fz_timer delay; /* armed in the state FZ_STEP_DELAYED */
	/* the map; NULL: the step is no map, or has not started */
	struct fz_run_map *map;
};

/* Steps that workers of one pool could start now. The list is a producer. */
struct fz_ready_list {
	struct fz_producer producer;
	struct fz_job *head, **tail; /* jobs of the steps, oldest first */
	uint64_t n;
	uint64_t nsent;   /* number of steps of the pool that workers have */
	uint64_t ndone;   /* number of steps of the pool that are done */
	uint64_t nfailed; /* number of steps of the pool that have failed */
	/*
	 * numbers of elements of maps, which `ndone` and `nfailed` do not
	 * include; `done` and `failed` are those of maps that have ended
	 */
	struct fz_run_elements more;
};

/*
 * What all runs of a graph share: the single run of an invoke (run.c), or the
 * runs of a stream (stream.c).
 */
struct fz_flow {
	struct fz_dispatcher dispatcher;
	struct fz_run_opts opts;
	/* limits of each node; NULL: all nodes have opts.limits */
	struct fz_limits *limits;
	uint32_t nnodes, nvalues;
	size_t nbytes; /* size of the values of all runs in bytes */
	/* for each value: number of its readers, plus 1 if it is kept */
	uint32_t *uses;
	struct fz_ready_list *ready; /* a ready list for each pool */
	/* runs that have begun and were not removed, in this order */
	struct fz_list runs;
	struct fz_list maps; /* maps that have started and not ended */
	bool has_maps;
	bool foreign; /* the flow belongs to the parent of this process */
	/*
	 * Called at the end of a loop's turn, when none of the run's jobs runs
	 * or will run.
	 */
	void (*over)(struct fz_run *run);
	/* many runs: if one stops, jobs of the others are not recalled */
	bool is_stream;
	bool whole_failed;
	/* failure of the flow as a whole, by a deadline or a cancellation */
	struct fz_failure whole;
	/* failure of a node for whose own failure there is no memory */
	struct fz_failure lost;
	/* value of lost optional inputs; NULL: no input is optional */
	struct fz_blob *absent;
	/*
	 * undecided steps of all runs, linked by next_failed, the oldest first
	 */
	struct fz_step *undecided, **last_undecided;
	/*
	 * for each node: whether the caller is asked for its values
	 * (run_lookup.h); NULL: the caller is never asked
	 */
	bool *lookups;
	struct fz_step *asked, **last_asked;
	struct fz_step *made, **last_made;
	struct fz_timer deadline;
	struct fz_fork_hook hook;
	struct fz_event_log events;
	struct fz_change change;
};

struct fz_run {
	struct fz_flow *flow;
	struct fz_list link; /* link in the flow's list of runs */
	/* index of the item in a stream, from 1; 0 in an invoke */
	uint64_t item;
	struct fz_step *steps;
	struct fz_blob **values;
	/* for each value: number of readers to come, plus 1 if it is kept */
	uint32_t *uses;
	/* for a local run: a bit for each node that is ready */
	uint64_t *local;
	uint32_t local_from; /* all words of `local` before this index are 0 */
	/* number of nodes that are not done, failed or cancelled */
	uint32_t unfinished;
	uint32_t sent; /* number of jobs that workers have */
	/* number of steps whose values are not recorded yet */
	uint32_t unrecorded;
	bool done;
	bool skipped;  /* the run is done without having been started */
	bool stopping; /* the run starts no more steps */
	/* the node whose failure has stopped the run; FZ_GRAPH_NONE: none */
	uint32_t because;
	/* steps that have failed finally, in the order of time */
	struct fz_step *failed, **last_failed;
	struct fz_defer settle; /* checks whether the run is done */
};

#define FZ_RUN_OF(member, ptr) FZ_CONTAINER_OF(ptr, struct fz_run, member)

/*
 * Initialise a flow without runs. `over` is called for each run when it is
 * over. 0, or -1 and `err`. Call fz_flow_fini() when all its runs are done.
 */
int fz_flow_init(struct fz_flow *flow, const struct fz_run_opts *opts,
    void (*over)(struct fz_run *run), struct fz_err *err);
void fz_flow_fini(struct fz_flow *flow);

/*
 * Start and stop the use of the pools. fz_flow_open() also arms the deadline,
 * and returns 0, or -1 and `err`.
 */
int fz_flow_open(struct fz_flow *flow, struct fz_err *err);
void fz_flow_close(struct fz_flow *flow);

/* Numbers of the steps of all runs that pool number `pool` runs. */
struct fz_run_counts fz_flow_counts(const struct fz_flow *flow, uint32_t pool);

/* See fz_run_limit() and fz_run_keep(). */
int fz_flow_limit(struct fz_flow *flow, uint32_t node,
    const struct fz_limits *limits, struct fz_err *err);
void fz_flow_keep(struct fz_flow *flow, uint32_t value);

/*
 * Fail the flow as a whole, kill the workers of running nodes, and wait for the
 * ends of these workers. Do not call this from a callback of the loop.
 */
void fz_flow_cancel(
    struct fz_flow *flow, enum fz_err_kind kind, const char *text);

/* Let a failed step wait for fz_flow_decide(). */
void fz_flow_ask(struct fz_step *step);

/* Remove a step from the list of undecided steps. */
void fz_flow_forget(struct fz_step *step);

/* As fz_run_decide(), for the run of `item`. */
void fz_flow_decide(struct fz_flow *flow, uint64_t item, uint32_t node,
    uint64_t element, bool again);
bool fz_flow_undecided_element(
    const struct fz_flow *flow, struct fz_run_element *element);

/* Allocate the memory for a run of the flow. 0, or -1 and `err`. */
int fz_run_init(struct fz_run *run, struct fz_flow *flow, struct fz_err *err);
void fz_run_fini(struct fz_run *run);

/* Add the run to the flow, with all its nodes in the initial state. */
void fz_run_begin(struct fz_run *run, uint64_t item);

/* Start a run that has begun and has its values. The flow must be open. */
void fz_run_start_steps(struct fz_run *run);

/* The run is done: none of its jobs runs or will run. Idempotent. */
void fz_run_end(struct fz_run *run);

/* The step whose failure has stopped the run; NULL if there is none. */
struct fz_step *fz_run_stopper(const struct fz_run *run);

/* Release the values and failures of a run that is done. */
void fz_run_clear(struct fz_run *run);

/* The functions through which a dispatcher gets the steps of a ready list. */
extern const struct fz_producer_ops fz_run_producer_ops;

#endif
