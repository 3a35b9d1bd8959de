/*
 * run_state.h - what run_step.c, run_source.c and run.c share of one run.
 *
 * step:  waiting -> ready -> sent -> done
 *                     ^       |
 *                     |       +-> failed (attempts used up)
 *                  delayed <--+
 *        waiting, ready, delayed -> cancelled
 */
#ifndef FZ_RUN_STATE_H
#define FZ_RUN_STATE_H

#include "base/container.h"
#include "os/loop.h"
#include "sched/dispatch.h"
#include "sched/job_event.h"
#include "sched/run.h"
#include "worker/change.h"
#include "worker/worker.h"

enum fz_step_state {
	FZ_STEP_WAITING,   /* for inputs that other nodes make */
	FZ_STEP_READY,     /* could start now */
	FZ_STEP_SENT,      /* a worker has it */
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
	unsigned attempts; /* that have ended */
	struct fz_failure *failure;
	struct fz_step *next_failed; /* in the order of time */
	struct fz_timer delay;       /* armed while delayed */
};

/* The steps of one pool that could start now, as a source. */
struct fz_run_lane {
	struct fz_source source;
	struct fz_job *head, **tail; /* of steps, the oldest first */
};

struct fz_run {
	struct fz_dispatcher dispatcher;
	struct fz_run_opts opts;
	struct fz_limits *limits; /* of each node, NULL: all as in opts */
	struct fz_step *steps;
	uint32_t nnodes, nvalues;
	struct fz_blob **values;
	uint32_t *uses;            /* of each value: users to come, and keeps */
	struct fz_run_lane *lanes; /* of each pool */
	uint64_t *local;           /* local runs: a bit a node that is ready */
	uint32_t local_from;       /* no bit is set below this word */
	uint32_t unfinished;       /* nodes not done, failed or cancelled */
	uint32_t sent;             /* jobs that workers have */
	bool done;
	bool stopping;    /* start nothing new */
	uint32_t because; /* the node it stops for */
	struct fz_step *failed,
	    **last_failed; /* for good, the first one first */
	bool whole_failed;
	struct fz_failure whole; /* a deadline or a cancel */
	struct fz_failure lost;  /* for a node whose failure had no memory */
	struct fz_defer settle;  /* checks whether it is done */
	struct fz_timer deadline;
	struct fz_fork_hook hook;
	struct fz_job_event_log events;
	struct fz_change change;
};

#define FZ_RUN_OF(member, ptr) FZ_CONTAINER_OF(ptr, struct fz_run, member)

/* How a dispatcher gets the steps of a lane. */
extern const struct fz_source_ops fz_run_source_ops;

#endif
