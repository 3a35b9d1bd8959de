/*
 * batch_pool.h - the batches of one pool, and the functions of its workers.
 *
 * A worker inherits the functions that exist when it is forked. A function that
 * is set later is sent to the worker before the first items that need it.
 */
#ifndef FZ_BATCH_POOL_H
#define FZ_BATCH_POOL_H

#include <stdbool.h>
#include <stdint.h>

struct fz_batch;
struct fz_batch_owner;
struct fz_blob;
struct fz_engine;
struct fz_err;
struct fz_pool;
struct fz_batch_pool;

struct fz_batch_pool_opts {
	struct fz_engine *engine;
	struct fz_pool *pool; /* the pool; no other dispatcher may use it */
	unsigned workers; /* maximum number; 0: the caller calls the items */
	/* dismiss an idle worker when there is no more work for it */
	bool once;
};

/* Create the object. NULL and `err` on failure. opts->pool must outlive it. */
struct fz_batch_pool *fz_batch_pool_new(
    const struct fz_batch_pool_opts *opts, struct fz_err *err);

/* Cancel all batches, and free the object. NULL is allowed. */
void fz_batch_pool_free(struct fz_batch_pool *pool);

/* The owner to name in fz_batch_opts for batches of this object. */
struct fz_batch_owner *fz_batch_pool_owner(struct fz_batch_pool *pool);

/*
 * Set or replace function `number`. Workers that are forked later inherit the
 * new function. Existing workers get `code`, which may be NULL if there are
 * none. Takes over the reference to `code`.
 */
void fz_batch_pool_func(
    struct fz_batch_pool *pool, uint32_t number, struct fz_blob *code);

/*
 * Declare that workers that are forked later do not inherit the current
 * function `number`. They get its code instead, unless that is NULL.
 */
void fz_batch_pool_lose(struct fz_batch_pool *pool, uint32_t number);

/*
 * fz_batch_pool_version(): begin a new version of the memory that workers
 * inherit. Workers that are forked later have this version.
 * fz_batch_pool_oldest(): the oldest version among the workers.
 */
uint64_t fz_batch_pool_version(struct fz_batch_pool *pool);
uint64_t fz_batch_pool_oldest(const struct fz_batch_pool *pool);

/* Cancel the batches that are not done; get their number. */
void fz_batch_pool_cancel(struct fz_batch_pool *pool, const char *text);
unsigned fz_batch_pool_nbatches(const struct fz_batch_pool *pool);

/* Whether there are no workers, so that the caller calls the items. */
bool fz_batch_pool_is_local(const struct fz_batch_pool *pool);

#endif
