/*
 * pool.h - the workers of one stage: which are idle, which are busy.
 *
 * Workers are started when they are first needed and kept until the pool is
 * closed. A dead worker is replaced when there is work for another one.
 */
#ifndef FZ_POOL_H
#define FZ_POOL_H

#include <stddef.h>

#include "worker/worker.h"

struct fz_blob;
struct fz_engine;
struct fz_err;
struct fz_nodes;
struct fz_pool;
struct fz_slots;

/* A sender of jobs to the workers of pools, which is a dispatcher. */
struct fz_pool_client {
	/*
	 * Called when `worker`, which had jobs of this client, is idle or dead.
	 * NULL: a worker of another client, or a slot, has become free.
	 */
	void (*freed)(struct fz_pool_client *client, struct fz_worker *worker);
};

struct fz_pool_opts {
	struct fz_engine *engine;
	unsigned max; /* maximum number of workers; at least 1 */
	/*
	 * Items that a worker gets before another worker replaces it; 0: no
	 * limit.
	 */
	uint32_t max_tasks;
	/*
	 * The slots (slots.h), of which a busy worker holds one. NULL: there is
	 * no limit.
	 */
	struct fz_slots *slots;
	/* time after which an idle worker is dismissed; 0: never */
	int64_t idle_ns;
	/*
	 * A dismissed worker calls a function of the user before it ends.
	 * Workers of a closed pool do not.
	 */
	bool exits;
	bool spread; /* each worker begins on another processor: see cpus.h */
	/*
	 * Whether workers are programs (see start.h). Then `setup` is called
	 * before one or several starts. It encodes what the programs get in
	 * place of inherited memory; NULL and `err` if that cannot be sent.
	 */
	bool spawns;
	/* the nodes on which the programs run; NULL: this machine */
	struct fz_nodes *nodes;
	struct fz_blob *(*setup)(void *main_ctx, struct fz_err *err);
	/* Called in the parent, before one or several forks. May be NULL. */
	void (*before_fork)(void *main_ctx);
	fz_worker_main main;
	void *main_ctx;
};

/* Make a pool without workers. NULL and `err` on failure. */
struct fz_pool *fz_pool_new(
    const struct fz_pool_opts *opts, struct fz_err *err);

/*
 * End all workers; busy ones are killed, and their jobs fail as cancelled. From
 * now on fz_pool_take() fails.
 */
void fz_pool_close(struct fz_pool *pool);

/* Close and free the pool, which no run may use. NULL is allowed. */
void fz_pool_free(struct fz_pool *pool);

/*
 * Notify `client` of free workers from now on. 0, or -1 and `err` if there is
 * no memory.
 */
int fz_pool_join(
    struct fz_pool *pool, struct fz_pool_client *client, struct fz_err *err);
/* Stop notifying a client, which has no jobs in the pool any more. */
void fz_pool_leave(struct fz_pool *pool, struct fz_pool_client *client);

/*
 * Acquire the idle worker that was used last, or a new one, until `freed` is
 * called. NULL if all are busy or no slot is free. NULL and `err` if the pool
 * is closed, or if it has no worker, either because a fork failed or because
 * many workers in a row died before they started a job.
 */
struct fz_worker *fz_pool_take(
    struct fz_pool *pool, struct fz_pool_client *client, struct fz_err *err);

/* Return an acquired worker that got no job; `freed` is called. */
void fz_pool_put_back(struct fz_pool *pool, struct fz_worker *worker);

/* The number of further items that the worker may get. */
uint32_t fz_pool_nleft(
    const struct fz_pool *pool, const struct fz_worker *worker);

bool fz_pool_is_closed(const struct fz_pool *pool);

/* The number of living workers, busy or not. */
unsigned fz_pool_nworkers(const struct fz_pool *pool);

/* Whether fz_pool_take() could return a worker now. */
bool fz_pool_has_free(const struct fz_pool *pool);

/* Whether there is an idle worker, so no new one is needed. */
bool fz_pool_has_idle(const struct fz_pool *pool);

/*
 * Let all idle workers end by themselves. `engine->wake_count` is incremented
 * when the last worker of the pool has ended.
 */
void fz_pool_dismiss_idle(struct fz_pool *pool);

/*
 * Fork as many workers as the pool may have, unless they are on nodes. 0, or -1
 * and `err`.
 */
int fz_pool_prefork(struct fz_pool *pool, struct fz_err *err);

/* Workers that are forked from now on inherit this version of functions. */
void fz_pool_set_version(struct fz_pool *pool, uint64_t version);

/*
 * The lowest version of a living worker or, without one, the version of the
 * next worker.
 */
uint64_t fz_pool_oldest(const struct fz_pool *pool);

/* The first busy worker; its `next` leads to the others. */
struct fz_worker *fz_pool_busy(const struct fz_pool *pool);

/* Pass on the incomplete last lines of all workers without a client. */
void fz_pool_flush(const struct fz_pool *pool);

/* Call `each` for every living worker. */
void fz_pool_workers(const struct fz_pool *pool,
    void (*each)(void *ctx, struct fz_worker *worker), void *ctx);

/* Call `each` for the process of every living worker. */
void fz_pool_pids(
    const struct fz_pool *pool, void (*each)(void *ctx, pid_t pid), void *ctx);

#endif
