#include "sched/batch_pool.h"

#include <stdlib.h>

#include "base/container.h"
#include "base/err.h"
#include "sched/batch_state.h"
#include "sched/pool.h"
#include "wire/blob.h"
#include "worker/engine.h"

struct func {
	uint64_t version; /* version in which the function was set; 0: never */
	/*
	 * workers with this version or a later one do not inherit the function;
	 * 0: there is no such version
	 */
	uint64_t lost;
	struct fz_blob *code;
};

struct fz_batch_pool {
	struct fz_batch_owner owner;
	struct fz_dispatcher dispatcher;
	struct fz_pool *pool;
	struct fz_list batches; /* the batches that are not done */
	unsigned nbatches;
	uint64_t nversions;
	struct func funcs[FZ_WORKER_FUNCS];
	struct fz_fork_hook hook;
};

static struct fz_batch_pool *
batch_pool_of(struct fz_batch_owner *owner)
{
	return FZ_CONTAINER_OF(owner, struct fz_batch_pool, owner);
}

static struct fz_batch *
first_batch(const struct fz_list *list)
{
	struct fz_list *link = fz_list_first(list);

	return link != NULL ? FZ_CONTAINER_OF(link, struct fz_batch, link)
			    : NULL;
}

static bool
is_inherited(const struct func *func, const struct fz_worker *w)
{
	return func->version <= w->version &&
	       (func->lost == 0 || w->version < func->lost);
}

/*
 * Send the function to the worker unless it has it. A function without code was
 * set before there was a worker, so all workers inherit it.
 */
static int
prepare(struct fz_batch_owner *owner, struct fz_worker *w, uint32_t number,
    struct fz_err *err)
{
	const struct func *func = &batch_pool_of(owner)->funcs[number];

	if (w->funcs[number] == func->version || func->code == NULL ||
	    is_inherited(func, w))
		return 0;
	if (fz_worker_send_func(w, number, func->code, err) != 0)
		return -1;
	w->funcs[number] = func->version;
	return 0;
}

static void
batch_made(struct fz_batch_owner *owner, struct fz_batch *b)
{
	struct fz_batch_pool *bp = batch_pool_of(owner);

	fz_list_push(&bp->batches, &b->link);
	bp->nbatches++;
}

static void
batch_done(struct fz_batch_owner *owner, struct fz_batch *b)
{
	struct fz_batch_pool *bp = batch_pool_of(owner);

	fz_list_remove(&b->link);
	if (--bp->nbatches == 0 && bp->dispatcher.max != 0)
		fz_dispatcher_flush(&bp->dispatcher);
}

/* Called in a forked child: mark the parent's batches as done. */
static void
in_child(struct fz_fork_hook *hook)
{
	struct fz_batch_pool *bp =
	    FZ_CONTAINER_OF(hook, struct fz_batch_pool, hook);
	struct fz_batch *b;

	while ((b = first_batch(&bp->batches)) != NULL) {
		fz_list_remove(&b->link);
		b->done = b->stopping = b->whole_failed = true;
		fz_list_init(&b->waiting);
		fz_list_init(&b->delayed);
		fz_list_init(&b->local);
		b->nresults = b->result_at = 0;
		fz_err_set(&b->whole.err, FZ_ERR_CLOSED,
		    "the call belongs to the process that started it");
	}
	bp->nbatches = 0;
	fz_dispatcher_in_child(&bp->dispatcher);
}

struct fz_batch_pool *
fz_batch_pool_new(const struct fz_batch_pool_opts *opts, struct fz_err *err)
{
	struct fz_batch_pool *bp = calloc(1, sizeof(*bp));

	if (bp == NULL) {
		fz_err_nomem(err, "a pool");
		return NULL;
	}
	bp->pool = opts->pool;
	if (fz_dispatcher_init(&bp->dispatcher, opts->engine, &bp->pool, 1,
		opts->workers, err) != 0 ||
	    fz_dispatcher_join(&bp->dispatcher, err) != 0) {
		fz_dispatcher_fini(&bp->dispatcher);
		free(bp);
		return NULL;
	}
	bp->dispatcher.once = opts->once;
	bp->owner = (struct fz_batch_owner){ &bp->dispatcher, batch_made,
		batch_done, prepare, NULL, NULL, NULL };
	fz_list_init(&bp->batches);
	bp->hook.in_child = in_child;
	fz_loop_hook(opts->engine->loop, &bp->hook);
	return bp;
}

void
fz_batch_pool_free(struct fz_batch_pool *bp)
{
	if (bp == NULL)
		return;
	fz_batch_pool_cancel(bp, "its pool was closed");
	fz_dispatcher_fini(&bp->dispatcher);
	fz_loop_unhook(&bp->hook);
	for (unsigned i = 0; i < FZ_WORKER_FUNCS; i++)
		fz_blob_unref(bp->funcs[i].code);
	free(bp);
}

struct fz_batch_owner *
fz_batch_pool_owner(struct fz_batch_pool *bp)
{
	return &bp->owner;
}

uint64_t
fz_batch_pool_version(struct fz_batch_pool *bp)
{
	fz_pool_set_version(bp->pool, ++bp->nversions);
	return bp->nversions;
}

uint64_t
fz_batch_pool_oldest(const struct fz_batch_pool *bp)
{
	return fz_pool_oldest(bp->pool);
}

void
fz_batch_pool_func(
    struct fz_batch_pool *bp, uint32_t number, struct fz_blob *code)
{
	struct func *func = &bp->funcs[number];

	fz_blob_unref(func->code);
	func->code = code;
	func->version = fz_batch_pool_version(bp);
	func->lost = 0;
}

void
fz_batch_pool_lose(struct fz_batch_pool *bp, uint32_t number)
{
	if (bp->funcs[number].lost == 0)
		bp->funcs[number].lost = fz_batch_pool_version(bp);
}

unsigned
fz_batch_pool_nbatches(const struct fz_batch_pool *bp)
{
	return bp->nbatches;
}

bool
fz_batch_pool_is_local(const struct fz_batch_pool *bp)
{
	return bp->dispatcher.max == 0;
}

void
fz_batch_pool_cancel(struct fz_batch_pool *bp, const char *text)
{
	struct fz_batch *b;

	while ((b = first_batch(&bp->batches)) != NULL)
		fz_batch_cancel(b, FZ_ERR_CANCELLED, text);
}
