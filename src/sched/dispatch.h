/*
 * dispatch.h - sends the jobs of producers to the workers of pools.
 *
 * A producer has jobs for the workers of one pool: the items of a batch
 * (batch.h), or the nodes of a run that are ready (run.h). Producers of the
 * same pool take turns.
 *
 * Slots go to pools: the last pool with jobs gets all that it can use, then the
 * one before it. So the workers move to the stage with the longest queue. Jobs
 * collect only in front of the slowest stage, because later ones are served
 * first, and earlier ones get slots only if the slowest stage leaves some. Any
 * order is equally quick, because it uses all slots while work waits. This
 * order ends items early, which frees their memory.
 *
 * One rule says how many jobs are sent ahead to a worker: it gets another job
 * while it has less than about 5 ms of work, by the measured time of an item.
 * For a worker on a node the limit is higher, by the time to the node and back.
 * Jobs that are sent too early do no harm, because a worker that becomes idle
 * gets jobs that another worker has not begun.
 *
 * A job belongs to its producer, which allocates and frees it; `job->owner` is
 * the producer. While `job->worker` is set a worker has it; the ops of the job
 * (worker.h) report its progress: `started`; `done`, `failed` and `items` when
 * it ends; `returned` if it was not begun. When a job ends or is returned, the
 * producer calls fz_producer_wake().
 *
 * A producer need not know its number of jobs. nready() is 0 while it waits for
 * its next item. When the item comes, the producer calls fz_producer_wake(). At
 * its end nready() stays 0.
 *
 * A dispatcher that is sparing gives a pool another worker only if more than a
 * moment's work waits for the workers that it has.
 */
#ifndef FZ_DISPATCH_H
#define FZ_DISPATCH_H

#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"
#include "os/loop.h"
#include "sched/pool.h"
#include "worker/worker.h"

struct fz_engine;
struct fz_err;
struct fz_producer;

struct fz_producer_ops {
	/*
	 * The number of items that the producer could send now; 0 if it was
	 * stopped.
	 */
	uint64_t (*nready)(const struct fz_producer *producer);
	/*
	 * Send the next job, of at most `max` items, to `worker`. False if none
	 * was sent; jobs that cannot be sent have failed.
	 */
	bool (*send)(struct fz_producer *producer, struct fz_worker *worker,
	    uint32_t max);
	/* There is no worker and will be none: let the next job fail. */
	void (*fail_next)(
	    struct fz_producer *producer, const struct fz_failure *failure);
	/*
	 * Whether the next job goes to a worker that has no other job. NULL:
	 * never.
	 */
	bool (*next_is_alone)(const struct fz_producer *producer);
};

/* Embedded in the object that has the jobs. */
struct fz_producer {
	const struct fz_producer_ops *ops;
	struct fz_dispatcher *dispatcher;
	struct fz_lane *lane;
	/* in `ready` of the lane, or in `stopping` */
	struct fz_list link;
	/* why its workers are killed; NULL: they are not */
	const struct fz_err *kill;
};

/* A pool of a dispatcher, with its producers. */
struct fz_lane {
	struct fz_pool *pool;
	/* producers with jobs to send, which take turns */
	struct fz_list ready;
	bool used; /* the dispatcher may have busy workers of this pool */
};

struct fz_dispatcher {
	struct fz_pool_client client;
	struct fz_engine *engine;
	struct fz_lane *lanes;
	uint32_t nlanes;
	/* maximum number of busy workers; 0: the caller does the jobs */
	unsigned max;
	unsigned nbusy;
	/* idle workers are dismissed when there is nothing more to send */
	bool once;
	bool sparing;            /* see the top of this file */
	bool joined;             /* the pools report free workers */
	struct fz_list stopping; /* producers that were stopped in this turn */
	/* time of the current dispatch; 0: not read yet */
	int64_t now_ns;
	struct fz_defer dispatch;
	struct fz_timer poll;
};

/*
 * A dispatcher of `npools` pools, which outlive it, that keeps at most `max`
 * workers busy at once. 0, or -1 and `err`. End with fz_dispatcher_fini().
 */
int fz_dispatcher_init(struct fz_dispatcher *d, struct fz_engine *engine,
    struct fz_pool *const *pools, uint32_t npools, unsigned max,
    struct fz_err *err);
void fz_dispatcher_fini(struct fz_dispatcher *d);

/*
 * Start or stop the use of the pools. At the stop, no job may be at a worker.
 * 0, or -1 and `err`.
 */
int fz_dispatcher_join(struct fz_dispatcher *d, struct fz_err *err);
void fz_dispatcher_leave(struct fz_dispatcher *d);

/* In a forked child: forget the producers and workers of the parent. */
void fz_dispatcher_in_child(struct fz_dispatcher *d);

/*
 * Pass on incomplete lines that the workers have printed. Call it while none of
 * the workers runs a job.
 */
void fz_dispatcher_flush(const struct fz_dispatcher *d);

/* Initialise a producer for pool number `pool`, with nothing to send yet. */
void fz_producer_init(struct fz_producer *producer,
    const struct fz_producer_ops *ops, struct fz_dispatcher *d, uint32_t pool);

/*
 * Dispatch soon: the producer may have a job to send, or one of its jobs has
 * ended, so a worker has room for another.
 */
void fz_producer_wake(struct fz_producer *producer);

/*
 * Recall the jobs of the producer that no worker has begun. If `kill` is set,
 * kill the workers that run a job of it.
 */
void fz_producer_recall(
    const struct fz_producer *producer, const struct fz_err *kill);

/*
 * The producer sends no more jobs: at the end of the loop's turn recall those
 * that it has sent. `kill` must stay valid.
 */
void fz_producer_stop(struct fz_producer *producer, const struct fz_err *kill);

/*
 * Recall the jobs of the producer, kill the workers that run one of them, and
 * wait until these are dead.
 * Do not call it from a callback of the loop.
 */
void fz_producer_end(struct fz_producer *producer, const struct fz_err *kill);

/*
 * The number of small jobs that may go to the worker in one frame: as many as
 * take about 0.1 ms, by measured times. 1 if the time is unknown, or if the
 * worker would not return them soon after a recall.
 */
uint32_t fz_dispatch_together(const struct fz_worker *worker);

/* The number of workers that run a job of the producer now. */
unsigned fz_producer_nrunning(const struct fz_producer *producer);

#endif
