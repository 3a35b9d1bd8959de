/* pool_state.h - struct fz_pool, for the files of pools. */
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
	/* the idle workers; the one that was used last comes first */
	struct fz_worker *idle;
	struct fz_worker *busy;
	unsigned nworkers; /* number of workers in both lists */
	/* for each of opts.max numbers: whether a worker has it */
	bool *numbers;
	unsigned lowest; /* no number below this one, from 0, is free */
	/* fires when a worker has been idle for long */
	struct fz_timer rest;
	struct fz_change change; /* reports that the last worker has ended */
	struct fz_pool_client **clients;
	size_t nclients, clients_cap;
	/* number of failed starts since a worker last did a job */
	unsigned nfailed_starts;
	/* error of the last failed start; NONE: unknown */
	struct fz_err start_err;
	uint64_t version; /* version of workers forked from now on */
	/* the setup for programs; NULL: not encoded yet */
	struct fz_blob *setup;
	bool closed;
	/*
	 * Armed after a fork failed: until it fires, the pool forks no worker.
	 * Otherwise a client that is notified of a free worker and gets none
	 * would ask again at once, for ever.
	 */
	struct fz_timer pause;
	struct fz_slots_waiter waiter;
	struct fz_timer nodes_check; /* armed while workers are on nodes */
	/* number of slots of the nodes at the last check */
	unsigned nslots;
	/* fz_process.generation of the process that started the workers */
	uint32_t generation;
};

extern const struct fz_worker_ops fz_pool_worker_ops;

/* The slots of this pool's jobs; NULL: there is no limit. */
struct fz_slots *fz_pool_slots(const struct fz_pool *pool);

/*
 * Whether another worker may be started. A pool without workers may always
 * start one, whatever failed before.
 */
bool fz_pool_may_start(const struct fz_pool *pool);

/*
 * Fork a worker, or start one on `node`; `first`: it is the first start of this
 * call. While other workers live, a failed start is not an error: the pool
 * pauses its starts. NULL if the start failed; `err` is filled if that is an
 * error.
 */
struct fz_worker *fz_pool_start(
    struct fz_pool *pool, struct fz_node *node, bool first, struct fz_err *err);

/* Notify the clients that `w` is free; NULL: that a worker may be free. */
void fz_pool_notify(const struct fz_pool *pool, struct fz_worker *w);

/*
 * An idle or new worker on the node with the most free slots. It is in no list.
 * NULL if there is none now. NULL and `err` if there will be none.
 */
struct fz_worker *fz_pool_take_on_node(
    struct fz_pool *pool, struct fz_err *err);

/* Callback of `nodes_check`: leave the nodes that do not answer. */
void fz_pool_check_nodes(struct fz_timer *timer);

/* Remove the worker from the list of idle or busy ones. */
void fz_pool_unlink(struct fz_worker *w);

/*
 * Start no worker for a while; the pool continues with its living workers. 0,
 * or -1 if there is no memory for the timer that ends the pause.
 */
int fz_pool_pause_starts(struct fz_pool *pool);

/*
 * `w` is dead: count it if it died at its start. After many such deaths in a
 * row fz_pool_start() fails with an error.
 */
void fz_pool_count_start(struct fz_pool *pool, const struct fz_worker *w);

#endif
