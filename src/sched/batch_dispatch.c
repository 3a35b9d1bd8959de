#include "sched/batch_dispatch.h"

#include <stddef.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/container.h"
#include "base/err.h"
#include "sched/batch_state.h"
#include "sched/pool.h"
#include "worker/blob.h"
#include "worker/engine.h"
#include "worker/wire.h"

/* A worker gets about this much work at once. */
#define SCHED_CHUNK_NS (5 * FZ_CLOCK_MS)
/* One that has said nothing for so long is looked at. */
#define SCHED_LOOK_NS (4 * FZ_CLOCK_MS)
/*
 * Work that is worth being taken from a busy worker for an idle one, and for
 * one that would have to be forked.
 */
#define SCHED_STEAL_NS (FZ_CLOCK_MS / 2)
#define SCHED_STEAL_FORK_NS (2 * FZ_CLOCK_MS)
/* A chunk that is sent has more, if it can. */
#define SCHED_LEAST_NS (FZ_CLOCK_MS / 10)

enum {
	SCHED_UNMEASURED = 4, /* chunks ahead while nothing is known */
	SCHED_UNMEASURED_ITEMS = 1 << 16, /* and items, when there is one */
	SCHED_GROWTH = 8,            /* each of these, times the last one */
	SCHED_CHUNK_MAX = 1 << 20,   /* items */
	SCHED_AHEAD_MAX = 64,        /* chunks at one worker */
	SCHED_AHEAD_BYTES = 48 << 10 /* a pipe holds 64 KiB */
};

struct func {
	uint64_t version; /* 0: none yet */
	uint64_t lost;    /* workers of this one or later do not inherit it;
			     0: all do */
	struct fz_blob *code;
};

/* Batches, linked by their member at `link` bytes. */
struct queue {
	struct fz_batch *head, **end;
	size_t link;
};

struct fz_sched {
	struct fz_pool_user user;
	struct fz_sched_opts opts;
	struct fz_batch *batches; /* that are not done */
	struct queue ready;       /* with items to send; in turn */
	struct queue finished;    /* that are to be told of */
	unsigned nbatches;
	unsigned nbusy; /* workers */
	bool joined;    /* the pool tells of its workers */
	uint64_t nversions;
	struct func funcs[FZ_WORKER_FUNCS];
	struct fz_defer dispatch;
	struct fz_timer look;
	struct fz_fork_hook hook;
};

#define SCHED_OF(member, ptr) FZ_CONTAINER_OF(ptr, struct fz_sched, member)

static void
queue_init(struct queue *q, size_t link)
{
	*q = (struct queue){ NULL, &q->head, link };
}

static struct fz_batch_link *
link_of(const struct queue *q, struct fz_batch *b)
{
	return (struct fz_batch_link *)((char *)b + q->link);
}

static void
queue_push(struct queue *q, struct fz_batch *b)
{
	*link_of(q, b) = (struct fz_batch_link){ NULL, q->end };
	*q->end = b;
	q->end = &link_of(q, b)->next;
}

static void
queue_remove(struct queue *q, struct fz_batch *b)
{
	struct fz_batch_link *link = link_of(q, b);

	*link->at = link->next;
	if (link->next != NULL)
		link_of(q, link->next)->at = link->at;
	else
		q->end = link->at;
	link->at = NULL;
}

static struct fz_loop *
loop_of(const struct fz_sched *s)
{
	return s->opts.engine->loop;
}

/* ---- the workers that it has -------------------------------------------- */

static struct fz_worker *
next_own(const struct fz_sched *s, struct fz_worker *w)
{
	while (w != NULL && w->owner != &s->user)
		w = w->next;
	return w;
}

static struct fz_worker *
first_own(const struct fz_sched *s)
{
	return next_own(s, fz_pool_busy(s->opts.pool));
}

/* An item takes what others took, or the one at hand has taken already. */
static int64_t
work_left(const struct fz_worker *w)
{
	int64_t n = (int64_t)(w->nitems < INT32_MAX ? w->nitems : INT32_MAX);
	int64_t each = fz_clock_ns() - w->news_ns;

	if (each < w->mean_ns)
		each = w->mean_ns;
	return each < FZ_CLOCK_NEVER / INT32_MAX ? n * each : FZ_CLOCK_NEVER;
}

/* Whether it has a job of the batch, and whether that is the one it does. */
static bool
has(const struct fz_worker *w, const struct fz_batch *b, bool *head)
{
	for (struct fz_job *job = w->head; job != NULL; job = job->next) {
		if (fz_chunk_of(job)->batch == b) {
			*head = job == w->head;
			return true;
		}
	}
	return false;
}

unsigned
fz_sched_running(const struct fz_sched *s, const struct fz_batch *b)
{
	struct fz_worker *w = first_own(s);
	unsigned n = 0;
	bool head = false;

	for (; w != NULL; w = next_own(s, w->next))
		n += has(w, b, &head) && head;
	return n;
}

/* ---- how much to send, and to whom -------------------------------------- */

/* Room for more: less than one chunk's worth of work before it. */
static bool
has_room(const struct fz_worker *w)
{
	if (w->dying || w->nbytes > SCHED_AHEAD_BYTES ||
	    w->njobs >= SCHED_AHEAD_MAX)
		return false;
	if (w->mean_ns == 0)
		return w->njobs < SCHED_UNMEASURED &&
		       w->nitems < SCHED_UNMEASURED_ITEMS;
	return work_left(w) < SCHED_CHUNK_NS;
}

static struct fz_worker *
roomy_worker(const struct fz_sched *s)
{
	struct fz_worker *best = NULL, *w = first_own(s);

	for (; w != NULL; w = next_own(s, w->next)) {
		if (has_room(w) && (best == NULL || w->nitems < best->nitems))
			best = w;
	}
	if (best == NULL || s->opts.max_tasks == 0 ||
	    best->nsent < s->opts.max_tasks)
		return best;
	return NULL;
}

static struct fz_worker *
pick(struct fz_sched *s, struct fz_err *err)
{
	struct fz_worker *w = fz_pool_take(s->opts.pool, &s->user, err);

	if (w == NULL)
		return roomy_worker(s);
	s->nbusy++;
	return w;
}

/* Of what each worker of the scheduler gets the same. */
static uint64_t
share_of(const struct fz_sched *s, uint64_t n)
{
	return (n + s->opts.workers - 1) / s->opts.workers;
}

/*
 * Items that workers have already cost nothing to send nor to take back: all
 * there are, in equal shares, until somebody is idle.
 */
static uint64_t
inherited_size(const struct fz_sched *s, struct fz_batch *b, uint64_t usual)
{
	if (b->share == 0)
		b->share = share_of(s, b->total);
	return b->mean_ns != 0 && usual < b->share ? usual : b->share;
}

/* Others cost their encoding. */
static uint64_t
sent_size(const struct fz_sched *s, const struct fz_worker *w,
    const struct fz_batch *b, uint64_t usual)
{
	uint64_t left = fz_batch_ready(b), n = usual, least = 1;

	if (b->mean_ns == 0)
		n = w->nitems * SCHED_GROWTH;
	else
		least = (uint64_t)(SCHED_LEAST_NS / b->mean_ns);
	if (n > left / (2 * s->opts.workers)) /* the tail in small ones */
		n = left / (2 * s->opts.workers);
	if (n < least)
		n = least;
	if (n > left / s->opts.workers) /* something for each */
		n = left / s->opts.workers;
	return n;
}

/* How many items the next chunk for `w` is to have. */
static uint32_t
chunk_size(
    const struct fz_sched *s, const struct fz_worker *w, struct fz_batch *b)
{
	uint64_t n = 0;

	if (b->mean_ns != 0)
		n = (uint64_t)(SCHED_CHUNK_NS / b->mean_ns);
	if (b->opts.kind & FZ_WIRE_INHERITED)
		n = inherited_size(s, b, n);
	else
		n = sent_size(s, w, b, n);
	if (b->opts.chunk != 0)
		n = b->opts.chunk;
	if (s->opts.max_tasks != 0 && n > s->opts.max_tasks - w->nsent)
		n = s->opts.max_tasks - w->nsent;
	if (n > SCHED_CHUNK_MAX)
		n = SCHED_CHUNK_MAX;
	return n != 0 ? (uint32_t)n : 1;
}

static bool
is_inherited(const struct func *func, const struct fz_worker *w)
{
	return func->version <= w->stamp &&
	       (func->lost == 0 || w->stamp < func->lost);
}

/*
 * The worker gets the function unless it has it. One without code was meant to
 * be inherited, by workers that are forked later as it is then.
 */
static int
send_func(struct fz_sched *s, struct fz_worker *w, const struct fz_batch *b,
    struct fz_err *err)
{
	const struct func *func;

	if (b->opts.kind & FZ_WIRE_INLINE)
		return 0;
	func = &s->funcs[b->opts.func];
	if (w->funcs[b->opts.func] == func->version || func->code == NULL ||
	    is_inherited(func, w))
		return 0;
	if (fz_worker_send_func(w, b->opts.func, func->code, err) != 0)
		return -1;
	w->funcs[b->opts.func] = func->version;
	return 0;
}

static void
send(struct fz_sched *s, struct fz_worker *w, struct fz_batch *b)
{
	struct fz_failure failure = { .exitcode = -1 };
	struct fz_chunk *chunk = fz_batch_cut(b, chunk_size(s, w, b));
	struct fz_worker_batch head;

	if (chunk == NULL) {
		fz_pool_untake(s->opts.pool, w);
		return;
	}
	head = (struct fz_worker_batch){ b->opts.kind, chunk->first };
	if (send_func(s, w, b, &failure.err) != 0 ||
	    fz_worker_send_batch(w, &chunk->job, &head, &chunk->part,
		chunk->part != NULL, &failure.err) != 0) {
		fz_pool_untake(s->opts.pool, w);
		fz_batch_unsent(chunk, &failure);
		return;
	}
	fz_batch_sent(chunk);
	if (b->opts.kind & FZ_WIRE_INHERITED) /* others are forked meanwhile */
		fz_worker_write(w);
}

/* ---- dispatch ----------------------------------------------------------- */

static void
push_ready(struct fz_sched *s, struct fz_batch *b)
{
	if (b->ready.at == NULL && !b->done)
		queue_push(&s->ready, b);
}

/* Take back what workers have of a batch and did not start. */
static void
recall(struct fz_sched *s, struct fz_batch *b, bool kill, enum fz_err_kind kind,
    const char *text)
{
	struct fz_worker *w = first_own(s), *next;
	bool head = false;

	for (; w != NULL; w = next) {
		next = next_own(s, w->next);
		if (!has(w, b, &head))
			continue;
		fz_worker_recall(w);
		if (kill && has(w, b, &head))
			fz_worker_kill(w, kind, text);
	}
}

/* A batch has begun to stop: its workers are to know. */
static void
tell_stopped(struct fz_sched *s, struct fz_batch *b)
{
	b->told = true;
	recall(s, b, b->opts.policy == FZ_POLICY_NOW, FZ_ERR_CANCELLED,
	    "ended because another item failed");
	fz_batch_settle(b);
}

/* Send chunks, a batch after the other, until no worker has room. */
static void
send_ready(struct fz_sched *s)
{
	while (s->ready.head != NULL) {
		struct fz_failure failure = { .exitcode = -1 };
		struct fz_batch *b = s->ready.head;
		struct fz_worker *w;

		if (b->stopping || fz_batch_ready(b) == 0) {
			queue_remove(&s->ready, b);
			if (b->stopping && !b->told)
				tell_stopped(s, b);
			continue;
		}
		w = pick(s, &failure.err);
		if (w == NULL && failure.err.kind == FZ_ERR_NONE)
			return;
		queue_remove(&s->ready, b);
		if (w != NULL)
			send(s, w, b);
		else
			fz_batch_fail_next(b, &failure);
		if (fz_batch_ready(b) != 0)
			push_ready(s, b); /* behind the others */
	}
}

/*
 * Of those that have something to give the one with the most. One that has not
 * begun keeps it: work might go from one to the other and back, and pipes fill
 * with it, faster than any of them reads what was sent.
 */
static struct fz_worker *
fullest(const struct fz_sched *s)
{
	struct fz_worker *best = NULL, *w = first_own(s);

	for (; w != NULL; w = next_own(s, w->next)) {
		if (!w->dying && w->nitems > 1 && fz_worker_has_begun(w) &&
		    (best == NULL || work_left(w) > work_left(best)))
			best = w;
	}
	return best;
}

/* With nothing to send and somebody idle, the fullest worker gives of its. */
static bool
steal(struct fz_sched *s)
{
	struct fz_worker *best = fullest(s);
	int64_t least = SCHED_STEAL_NS;

	if (best == NULL || s->nbusy >= s->opts.workers ||
	    !fz_pool_has_free(s->opts.pool))
		return false;
	fz_worker_peek(best); /* it may have done more than it told */
	if (!fz_pool_has_idle(s->opts.pool))
		least = SCHED_STEAL_FORK_NS;
	if (work_left(best) < least || fz_worker_recall(best) == 0)
		return false;
	for (struct fz_batch *b = s->ready.head; b != NULL; b = b->ready.next)
		b->share = share_of(s, fz_batch_ready(b));
	return true;
}

/* Whether one that is idle could soon be given what another has not begun. */
static bool
may_soon_steal(const struct fz_sched *s)
{
	struct fz_worker *w = first_own(s);

	for (; w != NULL; w = next_own(s, w->next)) {
		if (!w->dying && w->nitems > 1 && !fz_worker_has_begun(w))
			return true;
	}
	return false;
}

/* Come back when a worker has been silent for a while. */
static void
arm_look(struct fz_sched *s)
{
	int64_t at = FZ_CLOCK_NEVER;

	if (s->look.place != 0)
		return;
	for (struct fz_worker *w = first_own(s); w != NULL;
	     w = next_own(s, w->next)) {
		if (w->nitems > 1 && w->news_ns < at)
			at = w->news_ns;
	}
	if (at == FZ_CLOCK_NEVER)
		return;
	if (fz_clock_after(at, SCHED_LOOK_NS) < fz_clock_ns())
		at = fz_clock_ns();
	fz_loop_arm(loop_of(s), &s->look, fz_clock_after(at, SCHED_LOOK_NS));
}

static void
look(struct fz_timer *timer)
{
	struct fz_sched *s = SCHED_OF(look, timer);
	struct fz_worker *w = first_own(s), *next;
	int64_t now = fz_clock_ns();

	for (; w != NULL; w = next) {
		next = next_own(s, w->next);
		if (w->nitems > 1 && now - w->news_ns >= SCHED_LOOK_NS)
			fz_worker_peek(w);
	}
	fz_loop_defer(loop_of(s), &s->dispatch);
}

static void
dispatch(struct fz_defer *defer)
{
	struct fz_sched *s = SCHED_OF(dispatch, defer);

	send_ready(s);
	if (s->ready.head == NULL && steal(s))
		send_ready(s);
	if (s->opts.once && s->ready.head == NULL && !may_soon_steal(s))
		fz_pool_retire_idle(s->opts.pool);
	arm_look(s);
}

/* ---- what the pool tells ------------------------------------------------ */

/* An idle worker that is to leave, since another takes its place. */
static bool
is_worn(const struct fz_sched *s, const struct fz_worker *w)
{
	return !w->dying && w->njobs == 0 && s->opts.max_tasks != 0 &&
	       w->nsent >= s->opts.max_tasks;
}

static void
freed(struct fz_pool_user *user, struct fz_worker *w)
{
	struct fz_sched *s = SCHED_OF(user, user);

	if (w != NULL) {
		s->nbusy--;
		if (is_worn(s, w))
			fz_pool_retire(s->opts.pool, w);
	}
	fz_loop_defer(loop_of(s), &s->dispatch);
}

/* In a worker nothing of its parent's batches goes on. */
static void
in_child(struct fz_fork_hook *hook)
{
	struct fz_sched *s = SCHED_OF(hook, hook);

	for (struct fz_batch *b = s->batches; b != NULL; b = b->next) {
		b->done = b->stopping = b->whole_failed = true;
		b->head = b->delayed = b->local = NULL;
		b->nnews = b->news_at = 0;
		fz_err_set(&b->whole.err, FZ_ERR_CLOSED,
		    "it belongs to the process that started it");
	}
	s->batches = NULL;
	while (s->ready.head != NULL)
		queue_remove(&s->ready, s->ready.head);
	while (fz_sched_finished(s) != NULL)
		continue;
	s->nbatches = s->nbusy = 0;
	s->joined = false;
}

/* ---- life --------------------------------------------------------------- */

struct fz_sched *
fz_sched_new(const struct fz_sched_opts *opts, struct fz_err *err)
{
	struct fz_sched *s = calloc(1, sizeof(*s));

	if (s == NULL) {
		fz_err_nomem(err, "a pool");
		return NULL;
	}
	s->opts = *opts;
	s->user.freed = freed;
	queue_init(&s->ready, offsetof(struct fz_batch, ready));
	queue_init(&s->finished, offsetof(struct fz_batch, finished));
	s->dispatch.call = dispatch;
	s->look.fired = look;
	if (fz_pool_join(opts->pool, &s->user, err) != 0) {
		free(s);
		return NULL;
	}
	s->joined = true;
	s->hook.in_child = in_child;
	fz_loop_hook(loop_of(s), &s->hook);
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
	fz_pool_leave(s->opts.pool, &s->user);
	fz_loop_unhook(&s->hook);
	fz_loop_disarm(loop_of(s), &s->look);
	fz_loop_undefer(loop_of(s), &s->dispatch);
	for (unsigned i = 0; i < FZ_WORKER_FUNCS; i++)
		fz_blob_unref(s->funcs[i].code);
	free(s);
}

uint64_t
fz_sched_version(struct fz_sched *s)
{
	fz_pool_stamp(s->opts.pool, ++s->nversions);
	return s->nversions;
}

uint64_t
fz_sched_oldest(const struct fz_sched *s)
{
	return fz_pool_oldest(s->opts.pool);
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
	return fz_pool_fill(s->opts.pool, err);
}

void
fz_sched_flush(struct fz_sched *s)
{
	fz_loop_flush(loop_of(s));
}

unsigned
fz_sched_nbatches(const struct fz_sched *s)
{
	return s->nbatches;
}

struct fz_engine *
fz_sched_engine(const struct fz_sched *s)
{
	return s->opts.engine;
}

bool
fz_sched_is_local(const struct fz_sched *s)
{
	return s->opts.workers == 0;
}

void
fz_sched_add(struct fz_sched *s, struct fz_batch *b)
{
	b->next = s->batches;
	b->prev = &s->batches;
	if (b->next != NULL)
		b->next->prev = &b->next;
	s->batches = b;
	s->nbatches++;
}

/* Pieces of lines that its workers have printed: none calls anything now. */
static void
flush_output(struct fz_sched *s)
{
	fz_pool_flush(s->opts.pool);
	for (struct fz_worker *w = first_own(s); w != NULL;
	     w = next_own(s, w->next))
		fz_worker_flush(w);
}

void
fz_sched_remove(struct fz_sched *s, struct fz_batch *b)
{
	*b->prev = b->next;
	if (b->next != NULL)
		b->next->prev = b->prev;
	if (--s->nbatches == 0 && s->opts.workers != 0)
		flush_output(s);
	if (b->opts.told)
		queue_push(&s->finished, b);
	if (b->ready.at != NULL)
		queue_remove(&s->ready, b);
}

struct fz_batch *
fz_sched_finished(struct fz_sched *s)
{
	struct fz_batch *b = s->finished.head;

	if (b != NULL)
		fz_sched_forget(s, b);
	return b;
}

void
fz_sched_forget(struct fz_sched *s, struct fz_batch *b)
{
	if (b->finished.at != NULL)
		queue_remove(&s->finished, b);
}

void
fz_sched_cancel(struct fz_sched *s, const char *text)
{
	while (s->batches != NULL)
		fz_batch_cancel(s->batches, FZ_ERR_CANCELLED, text);
}

void
fz_sched_wake(struct fz_sched *s, struct fz_batch *b)
{
	if (s->opts.workers == 0)
		return;
	/* A worker has its parent's pool, but none of its workers. */
	s->joined =
	    s->joined || fz_pool_join(s->opts.pool, &s->user, NULL) == 0;
	push_ready(s, b);
	fz_loop_defer(loop_of(s), &s->dispatch);
}

/* End a worker that calls an item of the batch; false: none does. */
static bool
end_one(struct fz_sched *s, struct fz_batch *b)
{
	struct fz_worker *w = first_own(s);
	bool head = false;

	for (; w != NULL; w = next_own(s, w->next)) {
		if (has(w, b, &head)) {
			fz_worker_end(w, b->whole.err.kind, b->whole.err.text);
			return true;
		}
	}
	return false;
}

void
fz_sched_end(struct fz_sched *s, struct fz_batch *b)
{
	b->told = true;
	recall(s, b, true, b->whole.err.kind, b->whole.err.text);
	while (end_one(s, b))
		continue;
}
