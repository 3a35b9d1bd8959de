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
 * The step of a map goes another way, see run_map.h.
 */
#ifndef FZ_RUN_STATE_H
#define FZ_RUN_STATE_H

#include "base/container.h"
#include "base/list.h"
#include "os/loop.h"
#include "sched/dispatch.h"
#include "sched/event_log.h"
#include "sched/run.h"
#include "worker/change.h"
#include "worker/worker.h"

enum fz_step_state {
	FZ_STEP_WAITING,   /* for inputs that other nodes make */
	FZ_STEP_LOOKUP,    /* waits for fz_run_found() or its opposite */
	FZ_STEP_READY,     /* could start now */
	FZ_STEP_SENT,      /* a worker has it */
	FZ_STEP_UNDECIDED, /* failed, and waits for fz_run_decide() */
	FZ_STEP_MAPPED,    /* the elements of its list are called */
	FZ_STEP_DELAYED,   /* failed, and is tried again after its backoff */
	FZ_STEP_DONE,      /* has its values */
	FZ_STEP_FAILED,    /* failed for good */
	FZ_STEP_CANCELLED, /* will never run */
};

/* One node of the graph in this run. */
struct fz_step {
	struct fz_job job;
	struct fz_run *run;
	uint32_t waiting; /* inputs that have not been made */
	uint32_t because; /* the failed node that cancelled this one */
	enum fz_step_state state;
	bool looked_up;    /* the caller was asked for its values */
	bool told_start;   /* of this attempt; it may come back unbegun */
	unsigned attempts; /* that have ended */
	struct fz_failure *failure;
	struct fz_blob **made;       /* values to record; NULL: none */
	struct fz_known *known;      /* elements of its map; NULL: none */
	struct fz_step *next_failed; /* in the order of time; or undecided */
	struct fz_timer delay;       /* armed while delayed */
	struct fz_run_map *map;      /* once its list is there; NULL: no map */
};

/*
 * The ready list: the steps of one pool that could start now. It is a producer.
 */
struct fz_ready_list {
	struct fz_producer producer;
	struct fz_job *head, **tail; /* of steps, the oldest first */
	uint64_t n;
	uint64_t nsent;              /* steps that workers have */
	uint64_t ndone, nfailed;     /* steps of the pool that have ended so */
	struct fz_run_elements more; /* `done`, `failed`: of ended maps */
};

/*
 * What the runs of one graph share: the one run of an invoke (run.c), or the
 * runs of a stream (stream.c).
 */
struct fz_flow {
	struct fz_dispatcher dispatcher;
	struct fz_run_opts opts;
	struct fz_limits *limits; /* of each node, NULL: all as in opts */
	uint32_t nnodes, nvalues;
	size_t nbytes;               /* of the values of all runs */
	uint32_t *uses;              /* of each value: its readers, and keeps */
	struct fz_ready_list *ready; /* of each pool */
	struct fz_list runs; /* that were begun and not removed, in order */
	struct fz_list maps; /* that are under way */
	bool has_maps;
	bool foreign; /* it belongs to the parent of this process */
	/*
	 * Called at the end of a turn of the loop when none of the run's jobs
	 * runs or will run.
	 */
	void (*over)(struct fz_run *run);
	bool is_stream; /* a run that stops leaves the jobs of others alone */
	bool whole_failed;
	struct fz_failure whole; /* a deadline or a cancel */
	struct fz_failure lost;  /* for a node whose failure had no memory */
	struct fz_blob *absent;  /* NULL if no input is optional */
	/* Steps of all runs by next_failed, in the order of time. */
	struct fz_step *undecided, **last_undecided;
	bool *lookups; /* of each node; NULL: none; see run_lookup.h */
	struct fz_step *asked, **last_asked;
	struct fz_step *made, **last_made;
	struct fz_timer deadline;
	struct fz_fork_hook hook;
	struct fz_event_log events;
	struct fz_change change;
};

struct fz_run {
	struct fz_flow *flow;
	struct fz_list link; /* in the flow's list */
	uint64_t item;       /* its index in a stream, from 1; 0: an invoke */
	struct fz_step *steps;
	struct fz_blob **values;
	uint32_t *uses;      /* of each value: readers to come, and keeps */
	uint64_t *local;     /* local runs: a bit a node that is ready */
	uint32_t local_from; /* no bit is set below this word */
	uint32_t unfinished; /* nodes not done, failed or cancelled */
	uint32_t sent;       /* jobs that workers have */
	uint32_t unrecorded; /* steps whose values are to be recorded */
	bool done;
	bool skipped;     /* it is done and was never started */
	bool stopping;    /* start nothing new */
	uint32_t because; /* the node it stops for; FZ_GRAPH_NONE: none */
	struct fz_step *failed,
	    **last_failed;      /* for good, the first one first */
	struct fz_defer settle; /* checks whether it is done */
};

#define FZ_RUN_OF(member, ptr) FZ_CONTAINER_OF(ptr, struct fz_run, member)

/*
 * A flow without runs, which calls `over`. 0, or -1 and `err`. End with
 * fz_flow_fini(), without runs that are not done.
 */
int fz_flow_init(struct fz_flow *flow, const struct fz_run_opts *opts,
    void (*over)(struct fz_run *run), struct fz_err *err);
void fz_flow_fini(struct fz_flow *flow);

/* Use the pools until fz_flow_close(), and arm the deadline. 0, or -1 and
 * `err`. */
int fz_flow_open(struct fz_flow *flow, struct fz_err *err);
void fz_flow_close(struct fz_flow *flow);

/* The steps of all runs for the pool number `pool`. */
struct fz_run_counts fz_flow_counts(const struct fz_flow *flow, uint32_t pool);

/* See fz_run_limit() and fz_run_keep(). */
int fz_flow_limit(struct fz_flow *flow, uint32_t node,
    const struct fz_limits *limits, struct fz_err *err);
void fz_flow_keep(struct fz_flow *flow, uint32_t value);

/*
 * Fail all runs as a whole, kill what runs and wait until it has ended. Not
 * from a callback of the loop.
 */
void fz_flow_cancel(
    struct fz_flow *flow, enum fz_err_kind kind, const char *text);

/* run_undecided.c: the step has failed, and waits for fz_flow_decide(). */
void fz_flow_ask(struct fz_step *step);

/* Remove an undecided step from the list. */
void fz_flow_forget(struct fz_step *step);

/* See fz_run_decide(); `item` is that of the run. */
void fz_flow_decide(struct fz_flow *flow, uint64_t item, uint32_t node,
    uint64_t element, bool again);
bool fz_flow_undecided_element(
    const struct fz_flow *flow, struct fz_run_element *element);

/* Allocate what a run of the flow needs. 0, or -1 and `err`. */
int fz_run_init(struct fz_run *run, struct fz_flow *flow, struct fz_err *err);
void fz_run_fini(struct fz_run *run);

/* Make the run one of the flow, with nothing done yet. */
void fz_run_begin(struct fz_run *run, uint64_t item);

/* Start a run that has begun and has its values, in a flow that is open. */
void fz_run_start_steps(struct fz_run *run);

/*
 * Mark the run as done, because none of its jobs runs or will run. Idempotent.
 */
void fz_run_end(struct fz_run *run);

/* The step for whose failure the run stopped; NULL: none. */
struct fz_step *fz_run_stopper(const struct fz_run *run);

/* Release the values and failures of a run that is done. */
void fz_run_clear(struct fz_run *run);

/* How a dispatcher gets the steps of a ready list. */
extern const struct fz_producer_ops fz_run_producer_ops;

#endif
