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
	struct fz_worker *idle; /* the one used last first */
	struct fz_worker *busy;
	unsigned nworkers;       /* in both lists */
	bool *numbers;           /* those that are in use; opts.max of them */
	unsigned lowest;         /* no lower number is free, counted from 0 */
	struct fz_timer rest;    /* the next check for workers idle for long */
	struct fz_change change; /* the last worker has ended */
	struct fz_pool_client **clients;
	size_t nclients, clients_cap;
	unsigned nfailed_starts; /* since a worker was last of use */
	struct fz_err start_err; /* of the last of them; NONE: not known */
	uint64_t version;        /* of workers forked from now on */
	struct fz_blob *setup;   /* for programs; NULL: none yet */
	bool closed;
	/*
	 * Armed after a fork failed: until it fires the pool forks none. A
	 * client that is notified of a free worker and gets none would ask
	 * again at once, for ever.
	 */
	struct fz_timer pause;
	struct fz_slots_waiter waiter;
	struct fz_timer nodes_check; /* armed while workers are on nodes */
	unsigned nslots;             /* of the nodes, at the last check */
	uint32_t generation;         /* of the process that it has workers in */
};

extern const struct fz_worker_ops fz_pool_worker_ops;

/* The slots of this pool's jobs; NULL: there is no limit. */
struct fz_slots *fz_pool_slots(const struct fz_pool *pool);

/* Whether another worker may be started. A pool whose last worker died starts
 * anew, whatever failed before. */
bool fz_pool_may_start(const struct fz_pool *pool);

/*
 * Fork a worker, or start one on `node`; `first`: it is the first of this call.
 * While other workers live, a failed start is no error: the pool pauses its
 * starts. NULL if it failed, with `err` if that is an error.
 */
struct fz_worker *fz_pool_start(
    struct fz_pool *pool, struct fz_node *node, bool first, struct fz_err *err);

/* Notify the clients: `w` is free, or NULL: a worker may be. */
void fz_pool_notify(const struct fz_pool *pool, struct fz_worker *w);

/*
 * A free worker on the node with the most free slots, which is in no list; a
 * new one if need be. NULL, and `err` if there will be none.
 */
struct fz_worker *fz_pool_take_on_node(
    struct fz_pool *pool, struct fz_err *err);

/* Callback of `nodes_check`: leave the nodes that do not answer. */
void fz_pool_check_nodes(struct fz_timer *timer);

/* Remove the worker from the list of idle or busy ones. */
void fz_pool_unlink(struct fz_worker *w);

/* Start no worker for a while; the pool continues with its living workers. */
void fz_pool_pause_starts(struct fz_pool *pool);

/* `w` is dead: a worker that dies at its start is replaced, but not for ever.
 */
void fz_pool_count_start(struct fz_pool *pool, const struct fz_worker *w);

#endif
