/*
 * pool.h - the workers of one stage: which are idle, which are busy.
 *
 * Workers are started when they are first needed and kept until the pool is
 * closed. One that died is replaced when there is work for it again.
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

/* A sender of jobs to the workers of pools: a dispatcher. */
struct fz_pool_client {
	/*
	 * `worker`, which had jobs of this client, is idle or dead. NULL: a
	 * worker of another client, or a slot, has become free.
	 */
	void (*freed)(struct fz_pool_client *client, struct fz_worker *worker);
};

struct fz_pool_opts {
	struct fz_engine *engine;
	unsigned max; /* workers at most, at least 1 */
	/* Items a worker gets before another takes its place, 0: no limit. */
	uint32_t max_tasks;
	/* A busy worker takes one (see slots.h). NULL: there is no limit. */
	struct fz_slots *slots;
	int64_t idle_ns; /* a worker that is idle for so long ends; 0: never */
	/* A dismissed worker calls a function of the user; a closed pool's not.
	 */
	bool exits;
	bool spread; /* each begins on another processor: see cpus.h */
	/*
	 * Whether workers are programs (see start.h). Before one or several
	 * starts `setup` encodes what they get in place of memory that they
	 * inherit; NULL and `err` if that cannot be sent.
	 */
	bool spawns;
	struct fz_nodes *nodes; /* where these programs are; NULL: here */
	struct fz_blob *(*setup)(void *main_ctx, struct fz_err *err);
	/* In the parent, before one or several forks; may be NULL. */
	void (*before_fork)(void *main_ctx);
	fz_worker_main main;
	void *main_ctx;
};

/* NULL and `err` on failure. No worker is forked yet. */
struct fz_pool *fz_pool_new(
    const struct fz_pool_opts *opts, struct fz_err *err);

/*
 * End all workers, busy ones at once, their jobs as cancelled. From now on
 * taking a worker fails.
 */
void fz_pool_close(struct fz_pool *pool);

/* Close and free; no run may have it. NULL is allowed. */
void fz_pool_free(struct fz_pool *pool);

/*
 * Notify `client` of free workers from now on. 0, or -1 and `err` (no memory).
 */
int fz_pool_join(
    struct fz_pool *pool, struct fz_pool_client *client, struct fz_err *err);
/* Stop notifying a client, which has no jobs in the pool any more. */
void fz_pool_leave(struct fz_pool *pool, struct fz_pool_client *client);

/*
 * Take the idle worker that was used last, or a new one; it is the client's
 * until `freed` is called. NULL if all are busy or there is no slot. NULL and
 * `err` if the pool is closed, or if it has no worker at all because a fork
 * failed or workers died before they started a job, many in a row.
 */
struct fz_worker *fz_pool_take(
    struct fz_pool *pool, struct fz_pool_client *client, struct fz_err *err);

/* Return a worker that was taken and got no job; `freed` is called. */
void fz_pool_put_back(struct fz_pool *pool, struct fz_worker *worker);

/* How many more items the worker may get. */
uint32_t fz_pool_nleft(
    const struct fz_pool *pool, const struct fz_worker *worker);

bool fz_pool_is_closed(const struct fz_pool *pool);

/* Workers that live, busy or not. */
unsigned fz_pool_nworkers(const struct fz_pool *pool);

/* Whether fz_pool_take() could give a worker now. */
bool fz_pool_has_free(const struct fz_pool *pool);

/* Whether that worker would be one that exists already. */
bool fz_pool_has_idle(const struct fz_pool *pool);

/*
 * Let all idle workers leave by themselves. `engine->wake_count` is incremented
 * when the last worker of the pool has ended.
 */
void fz_pool_dismiss_idle(struct fz_pool *pool);

/*
 * Fork all workers that there may be, unless they are on nodes. 0, or -1 and
 * `err`.
 */
int fz_pool_prefork(struct fz_pool *pool, struct fz_err *err);

/* Workers that are forked from now on inherit this version of functions. */
void fz_pool_set_version(struct fz_pool *pool, uint64_t version);

/* The lowest version of a living worker; without one that of the next. */
uint64_t fz_pool_oldest(const struct fz_pool *pool);

/* The first busy worker; the others by its `next`. */
struct fz_worker *fz_pool_busy(const struct fz_pool *pool);

/* Print the incomplete last lines of all workers without a client. */
void fz_pool_flush(const struct fz_pool *pool);

/* Call `each` for every living worker. */
void fz_pool_workers(const struct fz_pool *pool,
    void (*each)(void *ctx, struct fz_worker *worker), void *ctx);

/* Call `each` for the process of every living worker. */
void fz_pool_pids(
    const struct fz_pool *pool, void (*each)(void *ctx, pid_t pid), void *ctx);

#endif
