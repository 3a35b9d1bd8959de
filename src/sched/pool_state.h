/* pool_state.h - what the files of pools share: struct fz_pool. */
#ifndef FZ_POOL_STATE_H
#define FZ_POOL_STATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "os/loop.h"
#include "sched/pool.h"
#include "sched/slots.h"
#include "worker/change.h"

struct fz_blob;
struct fz_node;
struct fz_worker_ops;

struct fz_pool {
	struct fz_pool_opts opts;
	/* the idle workers; the one that was used last is the first */
	struct fz_worker *idle;
	struct fz_worker *busy;
	unsigned nworkers; /* number of workers in both lists */
	/* for each number below opts.max: whether a worker has it */
	bool *numbers;
	unsigned lowest; /* all numbers below this one are used */
	/* expires when a worker has been idle for opts.idle_ns */
	struct fz_timer idle_timer;
	struct fz_change change; /* reported when the last worker has ended */
	struct fz_pool_client **clients;
	size_t nclients, clients_cap;
	/* number of failed starts since a worker last did a job */
	unsigned nfailed_starts;
	/* error of the last failed start; FZ_ERR_NONE: unknown */
	struct fz_err start_err;
	uint64_t version; /* version that the next worker inherits */
	/* the encoded setup for programs; NULL: none yet */
	struct fz_blob *setup;
	bool closed;
	/*
	 * Armed after a fork has failed. The pool does not fork until it
	 * expires. Without the pause, a client that is notified of a free
	 * worker and gets none would try again at once, forever.
	 */
	struct fz_timer pause;
	struct fz_slots_waiter waiter;
	struct fz_timer nodes_check; /* armed while nodes have busy workers */
	/* number of slots of all nodes at the last check */
	unsigned nslots;
	/* generation of the process that owns the workers (fz_process) */
	uint32_t generation;
};

extern const struct fz_worker_ops fz_pool_worker_ops;

/* The slots for the jobs of this pool; NULL: no limit. */
struct fz_slots *fz_pool_slots(const struct fz_pool *pool);

/*
 * Whether the pool may start a worker now. Without workers it always may, even
 * after failures.
 */
bool fz_pool_may_start(const struct fz_pool *pool);

/*
 * Fork a worker, or start one on `node`. `first` is false if a start of the
 * same call precedes this one. Returns NULL if the start fails. If the pool has
 * other workers, that is no error: it pauses its starts. Otherwise fills `err`.
 */
struct fz_worker *fz_pool_start(
    struct fz_pool *pool, struct fz_node *node, bool first, struct fz_err *err);

/* Notify the clients that `w` is free; NULL: that a worker may be free. */
void fz_pool_notify(const struct fz_pool *pool, struct fz_worker *w);

/*
 * An idle or new worker, in no list, on the node with the smallest share of
 * busy slots. NULL if there is none now; with `err` if there never will be.
 */
struct fz_worker *fz_pool_take_on_node(
    struct fz_pool *pool, struct fz_err *err);

/* Called by the timer `nodes_check`: leave nodes that do not answer. */
void fz_pool_check_nodes(struct fz_timer *timer);

/* Remove the worker from the list of idle or of busy workers. */
void fz_pool_unlink(struct fz_worker *w);

/*
 * Start no worker for POOL_PAUSE_NS. The pool continues with its other workers.
 * 0, or -1 if there is no memory for the timer.
 */
int fz_pool_pause_starts(struct fz_pool *pool);

/*
 * Called when `w` is dead: count it if it died before its first job. After many
 * such deaths in a row, fz_pool_start() fails with an error.
 */
void fz_pool_count_start(struct fz_pool *pool, const struct fz_worker *w);

#endif
