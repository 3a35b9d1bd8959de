/*
 * dispatch.h - sends the jobs of producers to the workers of pools.
 *
 * A producer has jobs for the workers of one pool: the items of a batch
 * (batch.h), or the nodes of a run that are ready (run.h). Producers of the
 * same pool take turns.
 *
 * Slots go to pools: the last pool with jobs gets all that it can use, then the
 * one before it. Jobs then collect only in front of the slowest stage: later
 * stages are served before it, and earlier stages get only the slots that it
 * leaves. Any other order would be equally quick, because all slots are used
 * while jobs wait. But this order ends items early, which frees their memory.
 *
 * A worker gets another job while its jobs take less than about 5 ms, by the
 * measured time of an item. For a worker on a node, the time to the node and
 * back is added. To send jobs early does no harm, because an idle worker gets
 * jobs that a busy worker has not started.
 *
 * A job belongs to its producer (`job->owner`), which allocates and frees the
 * job. While a worker has the job, `job->worker` is set. The functions in
 * `job->ops` (worker.h) report `started`; `done`, `failed` or `items` at the
 * end; or `returned` if the job was not started. When a job ends or is
 * returned, the producer calls fz_producer_wake().
 *
 * A producer need not know how many jobs it will have. While it waits for its
 * next item, nready() returns 0; when the item comes, the producer calls
 * fz_producer_wake(). After the last item nready() always returns 0.
 *
 * A sparing dispatcher uses another worker of a pool only if the waiting jobs
 * are enough work for it (DISPATCH_STEAL_NS).
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
	 * The number of items that the producer could send now; 0 after a stop.
	 */
	uint64_t (*nready)(const struct fz_producer *producer);
	/*
	 * Send the next job, of at most `max` items, to `worker`. Returns false
	 * if no job was sent; jobs that cannot be sent have then failed.
	 */
	bool (*send)(struct fz_producer *producer, struct fz_worker *worker,
	    uint32_t max);
	/* Fail the next job, because no worker will ever be available. */
	void (*fail_next)(
	    struct fz_producer *producer, const struct fz_failure *failure);
	/*
	 * Whether the next job must be the only one of its worker. NULL: false.
	 */
	bool (*next_is_alone)(const struct fz_producer *producer);
};

/* Embedded in the object that provides the jobs. */
struct fz_producer {
	const struct fz_producer_ops *ops;
	struct fz_dispatcher *dispatcher;
	struct fz_lane *lane;
	/* link in `ready` of the lane, or in `stopping` of the dispatcher */
	struct fz_list link;
	/* number of its turn while it is in `ready`, and of its last job */
	uint64_t turn, sent_turn;
	/* reason for which its workers are killed; NULL: they are not killed */
	const struct fz_err *kill;
};

/* A pool that a dispatcher uses, and the producers for this pool. */
struct fz_lane {
	struct fz_pool *pool;
	/* producers with jobs to send, in the order of their turns */
	struct fz_list ready;
	bool used; /* busy workers of this pool may have jobs */
};

struct fz_dispatcher {
	struct fz_pool_client client;
	struct fz_engine *engine;
	struct fz_lane *lanes;
	uint32_t nlanes;
	/* maximum number of busy workers; 0: the caller executes the jobs */
	unsigned max;
	unsigned nbusy;
	/* dismiss idle workers when there are no more jobs to send */
	bool once;
	bool sparing; /* use few workers: see the top of this file */
	bool joined;  /* the pools notify the dispatcher of free workers */
	struct fz_list stopping; /* producers that were stopped in this turn */
	uint64_t nturns;         /* number of turns that producers have got */
	/* time of the current dispatch; 0: the clock was not read yet */
	int64_t now_ns;
	struct fz_defer dispatch;
	struct fz_timer poll;
};

/*
 * Initialise a dispatcher of `npools` pools, which outlive it. It keeps at most
 * `max` workers busy. 0, or -1 and `err`.
 */
int fz_dispatcher_init(struct fz_dispatcher *d, struct fz_engine *engine,
    struct fz_pool *const *pools, uint32_t npools, unsigned max,
    struct fz_err *err);
void fz_dispatcher_fini(struct fz_dispatcher *d);

/*
 * Start or stop the use of the pools. At the stop, no worker may have a job of
 * the dispatcher. 0, or -1 and `err`.
 */
int fz_dispatcher_join(struct fz_dispatcher *d, struct fz_err *err);
void fz_dispatcher_leave(struct fz_dispatcher *d);

/* Called in a forked child: drop the producers and workers of the parent. */
void fz_dispatcher_in_child(struct fz_dispatcher *d);

/*
 * Pass on incomplete lines that the workers have printed. Call this while no
 * worker runs a job of this dispatcher.
 */
void fz_dispatcher_flush(const struct fz_dispatcher *d);

/* Initialise a producer for pool number `pool`. It has nothing to send yet. */
void fz_producer_init(struct fz_producer *producer,
    const struct fz_producer_ops *ops, struct fz_dispatcher *d, uint32_t pool);

/*
 * Dispatch soon. Call this when the producer may have a job to send, and when
 * one of its jobs has ended, because its worker can then get another.
 */
void fz_producer_wake(struct fz_producer *producer);

/*
 * The same when a job was returned: unless the producer has other jobs to send,
 * it gets the turn of its last job again. So a call that was sent ahead is not
 * overtaken by all that wait.
 */
void fz_producer_wake_again(struct fz_producer *producer);

/*
 * Recall the jobs of the producer that no worker has started. If `kill` is not
 * NULL, kill the workers that run a job of the producer.
 */
void fz_producer_recall(
    const struct fz_producer *producer, const struct fz_err *kill);

/*
 * Stop the producer: it sends no more jobs. At the end of the loop's turn,
 * fz_producer_recall() is called with `kill`, which must stay valid.
 */
void fz_producer_stop(struct fz_producer *producer, const struct fz_err *kill);

/*
 * Recall the jobs of the producer, kill the workers that run one of them, and
 * wait for the deaths of these workers. Do not call this from a callback of the
 * loop.
 */
void fz_producer_end(struct fz_producer *producer, const struct fz_err *kill);

/*
 * The number of small jobs that may be sent to the worker in one frame: as many
 * as take about 0.1 ms, by measured times. 1 if that time is unknown, or if a
 * recall would not return them soon.
 */
uint32_t fz_dispatch_together(const struct fz_worker *worker);

/* The number of workers that are running a job of the producer. */
unsigned fz_producer_nrunning(const struct fz_producer *producer);

#endif
