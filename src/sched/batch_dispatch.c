#include "sched/batch_dispatch.h"

#include <stdlib.h>

#include "base/container.h"
#include "base/err.h"
#include "sched/batch_state.h"
#include "sched/pool.h"
#include "worker/blob.h"
#include "worker/engine.h"

struct func {
	uint64_t version; /* 0: none yet */
	uint64_t lost;    /* workers of this version or later do not inherit
			     it; 0: all do */
	struct fz_blob *code;
};

struct fz_sched {
	struct fz_batch_owner owner;
	struct fz_dispatcher dispatcher;
	struct fz_pool *pool;
	struct fz_list batches;  /* that are not done */
	struct fz_list finished; /* that are to be reported */
	unsigned nbatches;
	uint64_t nversions;
	struct func funcs[FZ_WORKER_FUNCS];
	struct fz_fork_hook hook;
};

static struct fz_sched *
sched_of(struct fz_batch_owner *owner)
{
	return FZ_CONTAINER_OF(owner, struct fz_sched, owner);
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
	return func->version <= w->stamp &&
	       (func->lost == 0 || w->stamp < func->lost);
}

/*
 * The worker gets the function unless it has it. A function without code is
 * one that workers which are forked later inherit as it is then.
 */
static int
prepare(struct fz_batch_owner *owner, struct fz_worker *w, uint32_t slot,
    struct fz_err *err)
{
	const struct func *func = &sched_of(owner)->funcs[slot];

	if (w->funcs[slot] == func->version || func->code == NULL ||
	    is_inherited(func, w))
		return 0;
	if (fz_worker_send_func(w, slot, func->code, err) != 0)
		return -1;
	w->funcs[slot] = func->version;
	return 0;
}

static void
batch_made(struct fz_batch_owner *owner, struct fz_batch *b)
{
	struct fz_sched *s = sched_of(owner);

	fz_list_push(&s->batches, &b->link);
	s->nbatches++;
}

static void
batch_done(struct fz_batch_owner *owner, struct fz_batch *b)
{
	struct fz_sched *s = sched_of(owner);

	fz_list_remove(&b->link);
	if (--s->nbatches == 0 && s->dispatcher.max != 0)
		fz_dispatcher_flush(&s->dispatcher);
	if (b->opts.told)
		fz_list_push(&s->finished, &b->link);
}

/* In a worker no batch of its parent goes on. */
static void
in_child(struct fz_fork_hook *hook)
{
	struct fz_sched *s = FZ_CONTAINER_OF(hook, struct fz_sched, hook);
	struct fz_batch *b;

	while ((b = first_batch(&s->batches)) != NULL) {
		fz_list_remove(&b->link);
		b->done = b->stopping = b->whole_failed = true;
		fz_list_init(&b->waiting);
		fz_list_init(&b->delayed);
		fz_list_init(&b->local);
		b->nnews = b->news_at = 0;
		fz_err_set(&b->whole.err, FZ_ERR_CLOSED,
		    "it belongs to the process that started it");
	}
	while (fz_sched_finished(s) != NULL)
		continue;
	s->nbatches = 0;
	fz_dispatcher_in_child(&s->dispatcher);
}

struct fz_sched *
fz_sched_new(const struct fz_sched_opts *opts, struct fz_err *err)
{
	struct fz_sched *s = calloc(1, sizeof(*s));

	if (s == NULL) {
		fz_err_nomem(err, "a pool");
		return NULL;
	}
	s->pool = opts->pool;
	if (fz_dispatcher_init(&s->dispatcher, opts->engine, &s->pool, 1,
		opts->workers, err) != 0 ||
	    fz_dispatcher_join(&s->dispatcher, err) != 0) {
		fz_dispatcher_fini(&s->dispatcher);
		free(s);
		return NULL;
	}
	s->dispatcher.once = opts->once;
	s->owner = (struct fz_batch_owner){ &s->dispatcher, batch_made,
		batch_done, prepare };
	fz_list_init(&s->batches);
	fz_list_init(&s->finished);
	s->hook.in_child = in_child;
	fz_loop_hook(opts->engine->loop, &s->hook);
	return s;
}

void
fz_sched_free(struct fz_sched *s)
{
	if (s == NULL)
		return;
	fz_sched_cancel(s, "its pool was closed");
	while (fz_sched_finished(s) != NULL)
		continue;
	fz_dispatcher_fini(&s->dispatcher);
	fz_loop_unhook(&s->hook);
	for (unsigned i = 0; i < FZ_WORKER_FUNCS; i++)
		fz_blob_unref(s->funcs[i].code);
	free(s);
}

struct fz_batch_owner *
fz_sched_owner(struct fz_sched *s)
{
	return &s->owner;
}

uint64_t
fz_sched_version(struct fz_sched *s)
{
	fz_pool_stamp(s->pool, ++s->nversions);
	return s->nversions;
}

uint64_t
fz_sched_oldest(const struct fz_sched *s)
{
	return fz_pool_oldest(s->pool);
}

void
fz_sched_func(struct fz_sched *s, uint32_t slot, struct fz_blob *code)
{
	struct func *func = &s->funcs[slot];

	fz_blob_unref(func->code);
	func->code = code;
	func->version = fz_sched_version(s);
	func->lost = 0;
}

void
fz_sched_lose(struct fz_sched *s, uint32_t slot)
{
	if (s->funcs[slot].lost == 0)
		s->funcs[slot].lost = fz_sched_version(s);
}

int
fz_sched_fill(struct fz_sched *s, struct fz_err *err)
{
	return fz_pool_fill(s->pool, err);
}

void
fz_sched_flush(struct fz_sched *s)
{
	fz_loop_flush(s->dispatcher.engine->loop);
}

unsigned
fz_sched_nbatches(const struct fz_sched *s)
{
	return s->nbatches;
}

bool
fz_sched_is_local(const struct fz_sched *s)
{
	return s->dispatcher.max == 0;
}

struct fz_batch *
fz_sched_finished(struct fz_sched *s)
{
	struct fz_batch *b = first_batch(&s->finished);

	if (b != NULL)
		fz_list_remove(&b->link);
	return b;
}

void
fz_sched_cancel(struct fz_sched *s, const char *text)
{
	struct fz_batch *b;

	while ((b = first_batch(&s->batches)) != NULL)
		fz_batch_cancel(b, FZ_ERR_CANCELLED, text);
}
