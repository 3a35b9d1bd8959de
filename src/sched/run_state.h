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
 * A step whose values may be known goes from waiting to lookup, and from there
 * to ready or done.
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
	FZ_STEP_WAITING, /* waits for inputs that other nodes make */
	/* waits for fz_lookup_found() or fz_lookup_not_found() */
	FZ_STEP_LOOKUP,
	FZ_STEP_READY,     /* could start now */
	FZ_STEP_SENT,      /* a worker has the job */
	FZ_STEP_UNDECIDED, /* failed, and waits for fz_run_decide() */
	/* a map: its list is there, and its elements are called */
	FZ_STEP_MAPPED,
	FZ_STEP_DELAYED,   /* failed, and is tried again after its backoff */
	FZ_STEP_DONE,      /* its values are there */
	FZ_STEP_FAILED,    /* failed, and is not tried again */
	FZ_STEP_CANCELLED, /* it will never run */
};

/* One node of the graph in this run. */
struct fz_step {
	struct fz_job job;
	struct fz_run *run;
	uint32_t waiting; /* number of inputs that are not made yet */
	/* the failed node because of which this one was cancelled */
	uint32_t because;
	enum fz_step_state state;
	bool looked_up; /* the caller was asked for the step's values */
	/*
	 * the start of this attempt is recorded, even if the job was returned
	 * after that
	 */
	bool told_start;
	unsigned attempts; /* number of attempts that have ended */
	struct fz_failure *failure;
	struct fz_blob **made;  /* values to be recorded; NULL: none */
	struct fz_known *known; /* known elements of its map; NULL: none */
	/* the next failed step in time, or the next undecided one */
	struct fz_step *next_failed;
	struct fz_timer delay; /* armed while delayed */
	/* the map; NULL until its list is there */
	struct fz_run_map *map;
};

/*
 * The ready list: the steps of one pool that could start now. It is a producer.
 */
struct fz_ready_list {
	struct fz_producer producer;
	struct fz_job *head, **tail; /* jobs of the steps, the oldest first */
	uint64_t n;
	uint64_t nsent;   /* number of steps that workers have */
	uint64_t ndone;   /* number of steps of the pool that are done */
	uint64_t nfailed; /* number of steps of the pool that have failed */
	/*
	 * elements of maps that have ended, which `ndone` and `nfailed` do not
	 * count
	 */
	struct fz_run_elements more;
};

/*
 * What the runs of one graph share: the one run of an invoke (run.c), or the
 * runs of a stream (stream.c).
 */
struct fz_flow {
	struct fz_dispatcher dispatcher;
	struct fz_run_opts opts;
	/* limits of each node; NULL: all as in opts */
	struct fz_limits *limits;
	uint32_t nnodes, nvalues;
	size_t nbytes; /* bytes of the values of all runs */
	/* for each value: number of readers, plus 1 if it is kept */
	uint32_t *uses;
	struct fz_ready_list *ready; /* the ready list of each pool */
	/* runs that were begun and not removed, in order */
	struct fz_list runs;
	struct fz_list maps; /* maps that are under way */
	bool has_maps;
	bool foreign; /* the flow belongs to the parent of this process */
	/*
	 * Called at the end of a turn of the loop when none of the run's jobs
	 * runs or will run.
	 */
	void (*over)(struct fz_run *run);
	/* many runs: one that stops must not recall jobs of the others */
	bool is_stream;
	bool whole_failed;
	/* failure of the flow as a whole: a deadline or a cancel */
	struct fz_failure whole;
	/* failure of a node if there is no memory to keep its own failure */
	struct fz_failure lost;
	/* value of absent inputs; NULL if no input is optional */
	struct fz_blob *absent;
	/*
	 * Undecided steps of all runs, linked by next_failed, in the order of
	 * time.
	 */
	struct fz_step *undecided, **last_undecided;
	/*
	 * whether the caller is asked for each node, see run_lookup.h; NULL:
	 * for none
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
	struct fz_list link; /* in the list of the flow */
	/* index of its item in a stream, from 1; 0: an invoke */
	uint64_t item;
	struct fz_step *steps;
	struct fz_blob **values;
	/* for each value: number of readers to come, plus 1 if it is kept */
	uint32_t *uses;
	/* local runs: a bit for each node, set if it is ready */
	uint64_t *local;
	uint32_t local_from; /* no bit is set below this word */
	/* number of nodes that are not done, failed or cancelled */
	uint32_t unfinished;
	uint32_t sent; /* number of jobs that workers have */
	/* number of steps whose values are to be recorded */
	uint32_t unrecorded;
	bool done;
	bool skipped;  /* the run is done and was never started */
	bool stopping; /* start nothing new */
	/* the node whose failure stops the run; FZ_GRAPH_NONE: none */
	uint32_t because;
	/* steps that failed and are not retried, in the order of time */
	struct fz_step *failed, **last_failed;
	struct fz_defer settle; /* the deferred check whether the run is done */
};

#define FZ_RUN_OF(member, ptr) FZ_CONTAINER_OF(ptr, struct fz_run, member)

/*
 * Initialise a flow without runs, which calls `over`. 0, or -1 and `err`. End
 * with fz_flow_fini(), when all its runs are done.
 */
int fz_flow_init(struct fz_flow *flow, const struct fz_run_opts *opts,
    void (*over)(struct fz_run *run), struct fz_err *err);
void fz_flow_fini(struct fz_flow *flow);

/* Use the pools until fz_flow_close(), and arm the deadline. 0, or -1 and
 * `err`. */
int fz_flow_open(struct fz_flow *flow, struct fz_err *err);
void fz_flow_close(struct fz_flow *flow);

/* Counts of the steps of all runs for pool number `pool`. */
struct fz_run_counts fz_flow_counts(const struct fz_flow *flow, uint32_t pool);

/* See fz_run_limit() and fz_run_keep(). */
int fz_flow_limit(struct fz_flow *flow, uint32_t node,
    const struct fz_limits *limits, struct fz_err *err);
void fz_flow_keep(struct fz_flow *flow, uint32_t value);

/*
 * Fail all runs as a whole, kill the workers of running nodes and wait until
 * they have ended. Do not call it from a callback of the loop.
 */
void fz_flow_cancel(
    struct fz_flow *flow, enum fz_err_kind kind, const char *text);

/* The step has failed: let it wait for fz_flow_decide(). */
void fz_flow_ask(struct fz_step *step);

/* Remove an undecided step from the list. */
void fz_flow_forget(struct fz_step *step);

/* See fz_run_decide(); `item` is the item of the run. */
void fz_flow_decide(struct fz_flow *flow, uint64_t item, uint32_t node,
    uint64_t element, bool again);
bool fz_flow_undecided_element(
    const struct fz_flow *flow, struct fz_run_element *element);

/* Allocate the memory that a run of the flow needs. 0, or -1 and `err`. */
int fz_run_init(struct fz_run *run, struct fz_flow *flow, struct fz_err *err);
void fz_run_fini(struct fz_run *run);

/* Add the run to the flow; none of its nodes is done. */
void fz_run_begin(struct fz_run *run, uint64_t item);

/* Start a run that has begun and has its values. The flow is open. */
void fz_run_start_steps(struct fz_run *run);

/*
 * Mark the run as done, because none of its jobs runs or will run. Idempotent.
 */
void fz_run_end(struct fz_run *run);

/* The step for whose failure the run stopped; NULL if there is none. */
struct fz_step *fz_run_stopper(const struct fz_run *run);

/* Release the values and failures of a run that is done. */
void fz_run_clear(struct fz_run *run);

/* The functions by which a dispatcher gets the steps of a ready list. */
extern const struct fz_producer_ops fz_run_producer_ops;

#endif
