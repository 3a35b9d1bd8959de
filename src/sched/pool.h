/*
 * pool.h - the idle and the busy workers of one stage.
 *
 * A worker is started when there is work for it, and usually lives until the
 * pool is closed. A dead worker is replaced when there is work for another one.
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

/* A client sends jobs to the workers of pools. Every client is a dispatcher. */
struct fz_pool_client {
	/*
	 * Called when `worker`, which had jobs of this client, is idle or dead.
	 * NULL: another worker or a slot may have become free.
	 */
	void (*freed)(struct fz_pool_client *client, struct fz_worker *worker);
};

struct fz_pool_opts {
	struct fz_engine *engine;
	unsigned max; /* maximum number of workers; at least 1 */
	/*
	 * maximum number of items for a worker, which is then replaced; 0: no
	 * limit
	 */
	uint32_t max_tasks;
	/* the slots (slots.h); each busy worker holds one; NULL: no limit */
	struct fz_slots *slots;
	/* idle time after which a worker is dismissed; 0: never */
	int64_t idle_ns;
	/*
	 * A worker calls a function of the user before it ends by itself. When
	 * the pool is closed, workers are killed and do not call this function.
	 */
	bool exits;
	bool spread; /* each worker starts on another processor, see cpus.h */
	/*
	 * Workers are programs (start.h). setup() is then called before one or
	 * several starts. It encodes what the programs get instead of inherited
	 * memory. It returns NULL and fills `err` if something cannot be sent.
	 */
	bool spawns;
	/* nodes for the programs; NULL: this machine */
	struct fz_nodes *nodes;
	struct fz_blob *(*setup)(void *main_ctx, struct fz_err *err);
	/* Called in the parent before one or several forks. NULL is allowed. */
	void (*before_fork)(void *main_ctx);
	fz_worker_main main;
	void *main_ctx;
};

/* Create a pool without workers. NULL and `err` on failure. */
struct fz_pool *fz_pool_new(
    const struct fz_pool_opts *opts, struct fz_err *err);

/*
 * End all workers. Busy workers are killed, and their jobs fail as cancelled.
 * Afterwards fz_pool_take() always fails.
 */
void fz_pool_close(struct fz_pool *pool);

/* Close and free the pool. No run may use it. NULL is allowed. */
void fz_pool_free(struct fz_pool *pool);

/*
 * fz_pool_join(): from now on notify `client` of free workers. 0, or -1 and
 * `err` if there is no memory.
 */
int fz_pool_join(
    struct fz_pool *pool, struct fz_pool_client *client, struct fz_err *err);
/* Stop notifying `client`, which must have no jobs in the pool. */
void fz_pool_leave(struct fz_pool *pool, struct fz_pool_client *client);

/*
 * Acquire the idle worker that was used last, or a new one, until `freed` is
 * called. NULL if all are busy or no slot is free. NULL and `err` if the pool
 * is closed, or if it has no worker because a fork failed or too many workers
 * in a row died before their first job.
 */
struct fz_worker *fz_pool_take(
    struct fz_pool *pool, struct fz_pool_client *client, struct fz_err *err);

/* Return an acquired worker that has got no job. Calls `freed`. */
void fz_pool_put_back(struct fz_pool *pool, struct fz_worker *worker);

/* The number of items that the worker may still get. */
uint32_t fz_pool_nleft(
    const struct fz_pool *pool, const struct fz_worker *worker);

bool fz_pool_is_closed(const struct fz_pool *pool);

/* The number of living workers, idle and busy. */
unsigned fz_pool_nworkers(const struct fz_pool *pool);

/* Whether fz_pool_take() could return a worker now. */
bool fz_pool_has_free(const struct fz_pool *pool);

/* Whether there is an idle worker. Otherwise fz_pool_take() must start one. */
bool fz_pool_has_idle(const struct fz_pool *pool);

/*
 * Dismiss all idle workers. The change of the pool is reported when its last
 * worker has ended.
 */
void fz_pool_dismiss_idle(struct fz_pool *pool);

/*
 * Start as many workers as the pool may have. Does nothing for a pool on nodes.
 * 0, or -1 and `err`.
 */
int fz_pool_prefork(struct fz_pool *pool, struct fz_err *err);

/* Set the version of functions that later forked workers inherit. */
void fz_pool_set_version(struct fz_pool *pool, uint64_t version);

/*
 * The lowest version of all living workers; without workers, the version of the
 * next one.
 */
uint64_t fz_pool_oldest(const struct fz_pool *pool);

/* The first busy worker; the others follow through `next`. */
struct fz_worker *fz_pool_busy(const struct fz_pool *pool);

/* Pass on incomplete last lines of all workers that have no client. */
void fz_pool_flush(const struct fz_pool *pool);

/* Call `each` for every living worker of the pool. */
void fz_pool_workers(const struct fz_pool *pool,
    void (*each)(void *ctx, struct fz_worker *worker), void *ctx);

/* Call `each` with the pid of every living worker of the pool. */
void fz_pool_pids(
    const struct fz_pool *pool, void (*each)(void *ctx, pid_t pid), void *ctx);

#endif
