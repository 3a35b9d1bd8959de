/*
 * batch_dispatch.h - the batches of one pool, and the functions of its workers.
 */
#ifndef FZ_BATCH_DISPATCH_H
#define FZ_BATCH_DISPATCH_H

#include <stdbool.h>
#include <stdint.h>

struct fz_batch;
struct fz_batch_owner;
struct fz_blob;
struct fz_engine;
struct fz_err;
struct fz_pool;
struct fz_sched;

struct fz_sched_opts {
	struct fz_engine *engine;
	struct fz_pool *pool; /* all its workers are for this scheduler */
	unsigned workers;     /* at most, 0: the caller runs the items */
	bool once; /* a worker leaves as soon as there is no more for it */
};

/* NULL and `err` on failure. Outlived by the pool. */
struct fz_sched *fz_sched_new(
    const struct fz_sched_opts *opts, struct fz_err *err);

/* All its batches are cancelled. NULL is allowed. */
void fz_sched_free(struct fz_sched *sched);

/* What its batches are made with. */
struct fz_batch_owner *fz_sched_owner(struct fz_sched *sched);

/*
 * The function in `slot` is another one from now on. Workers that are forked
 * later inherit it; others get `code` (the reference is taken; NULL if there
 * are no others).
 */
void fz_sched_func(struct fz_sched *sched, uint32_t slot, struct fz_blob *code);

/* Workers that are forked from now on get its code, if there is any. */
void fz_sched_lose(struct fz_sched *sched, uint32_t slot);

/*
 * A new version of what workers inherit: those that are forked from now on have
 * it. The other: the version that all workers have.
 */
uint64_t fz_sched_version(struct fz_sched *sched);
uint64_t fz_sched_oldest(const struct fz_sched *sched);

/* Fork all workers that there may be. 0, or -1 and `err`. */
int fz_sched_fill(struct fz_sched *sched, struct fz_err *err);

/* Send now what can be sent, outside of a step of the loop. */
void fz_sched_flush(struct fz_sched *sched);

/* Take one that is done and was to be told of; NULL: there is none. */
struct fz_batch *fz_sched_finished(struct fz_sched *sched);

/* Cancel all that is not done. */
void fz_sched_cancel(struct fz_sched *sched, const char *text);

/* Batches that are not done. */
unsigned fz_sched_nbatches(const struct fz_sched *sched);

bool fz_sched_is_local(const struct fz_sched *sched);

#endif
