/*
 * batch_pool.h - the batches of one pool, and the functions of its workers.
 *
 * A function has a number. A worker inherits the functions that were known when
 * it was forked. A function that was set later is sent to the worker before the
 * first items that need the function.
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
	struct fz_pool *pool; /* no other dispatcher uses it */
	unsigned workers; /* maximum number; 0: the caller calls the items */
	/* an idle worker is dismissed when there is no more work for it */
	bool once;
};

/* Make the object. NULL and `err` on failure. The pool outlives it. */
struct fz_batch_pool *fz_batch_pool_new(
    const struct fz_batch_pool_opts *opts, struct fz_err *err);

/* Cancel the batches of the pool, and free the object. NULL is allowed. */
void fz_batch_pool_free(struct fz_batch_pool *pool);

/* The owner for batches of this pool. */
struct fz_batch_owner *fz_batch_pool_owner(struct fz_batch_pool *pool);

/*
 * Set or replace function `number`. Workers that are forked later inherit the
 * new function; `code` is sent to the workers that exist. Takes the reference
 * to `code`, which may be NULL if no worker exists.
 */
void fz_batch_pool_func(
    struct fz_batch_pool *pool, uint32_t number, struct fz_blob *code);

/*
 * Declare that workers that are forked from now on do not inherit the current
 * function `number`. Its code, unless it is NULL, is sent to them.
 */
void fz_batch_pool_lose(struct fz_batch_pool *pool, uint32_t number);

/*
 * fz_batch_pool_version(): begin a new version of the memory that workers
 * inherit; workers forked from now on have it. fz_batch_pool_oldest(): the
 * oldest version that a worker has.
 */
uint64_t fz_batch_pool_version(struct fz_batch_pool *pool);
uint64_t fz_batch_pool_oldest(const struct fz_batch_pool *pool);

/* Cancel the batches that are not done; get their number. */
void fz_batch_pool_cancel(struct fz_batch_pool *pool, const char *text);
unsigned fz_batch_pool_nbatches(const struct fz_batch_pool *pool);

/* Whether the caller calls the items. */
bool fz_batch_pool_is_local(const struct fz_batch_pool *pool);

#endif
