#include "sched/batch.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/container.h"
#include "sched/batch_dispatch.h"
#include "sched/batch_state.h"
#include "sched/run_step.h"
#include "worker/blob.h"
#include "worker/engine.h"
#include "worker/wire.h"

/* Work that says how long an item takes. */
#define BATCH_RECENT_NS (20 * FZ_CLOCK_MS)
/* Fewer in a chunk get no strip. */
enum { BATCH_STRIP_ITEMS = 256 };

static const struct fz_job_ops chunk_ops;

/* Of what there is no memory to keep. */
static const struct fz_failure lost = { .err = { FZ_ERR_MEMORY, 0,
					    "not enough memory to keep the "
					    "results" },
	.exitcode = -1 };

/* ---- news and events ---------------------------------------------------- */

/*
 * The list `list` of `n` elements, moved if need be, with room for one more;
 * NULL: no memory, and the list is where it was.
 */
static void *
list_room(void *list, size_t *cap, size_t n, size_t size)
{
	size_t more = *cap != 0 ? 2 * *cap : 8;

	if (n < *cap)
		return list;
	list = realloc(list, more * size);
	if (list != NULL)
		*cap = more;
	return list;
}

static void
record(struct fz_batch *b, enum fz_run_event_kind kind, uint64_t first,
    uint32_t n, pid_t pid, int64_t took_ns)
{
	struct fz_batch_event *events;

	if (!b->opts.events)
		return;
	events =
	    list_room(b->events, &b->events_cap, b->nevents, sizeof(*events));
	if (events == NULL)
		return; /* out of memory: drop this event */
	b->events = events;
	events[b->nevents++] =
	    (struct fz_batch_event){ kind, first, n, pid, took_ns };
	b->engine->news++;
}

int
fz_batch_next_event(struct fz_batch *b, struct fz_batch_event *event)
{
	if (b->event_at == b->nevents) {
		b->event_at = b->nevents = 0;
		return 0;
	}
	*event = b->events[b->event_at++];
	return 1;
}

bool
fz_batch_has_news(const struct fz_batch *b)
{
	return b->news_at != b->nnews;
}

int
fz_batch_take(struct fz_batch *b, struct fz_batch_news *news)
{
	if (b->news_at == b->nnews) {
		b->news_at = b->nnews = 0;
		return 0;
	}
	*news = b->news[b->news_at++];
	return 1;
}

static void
drop_news(struct fz_batch_news *news)
{
	fz_blob_unref(news->blob);
	if (news->failure != NULL) {
		fz_blob_unref(news->failure->value);
		free(news->failure);
	}
}

static void
lose_news(struct fz_batch *b)
{
	b->whole = lost;
	b->whole_failed = true;
}

/* Without room for the news itself all of the batch has failed. */
static bool
tell(struct fz_batch *b, const struct fz_batch_news *news)
{
	struct fz_batch_news *last = NULL, *room;

	if (b->nnews > b->news_at)
		last = &b->news[b->nnews - 1];
	b->engine->news++;
	if (last != NULL && news->blob != NULL && last->blob == news->blob &&
	    !news->whole && last->skip + last->n == news->skip &&
	    last->first + last->n == news->first) {
		last->n += news->n;
		fz_blob_unref(news->blob);
		return true;
	}
	room = list_room(b->news, &b->news_cap, b->nnews, sizeof(*room));
	if (room == NULL) {
		struct fz_batch_news gone = *news;

		drop_news(&gone);
		lose_news(b);
		return false;
	}
	b->news = room;
	room[b->nnews++] = *news;
	return true;
}

/* Of one item; takes what `failure` has. */
static bool
tell_failure(struct fz_batch *b, uint64_t item, struct fz_failure *failure)
{
	struct fz_batch_news news = { .first = item, .n = 1 };

	news.failure = malloc(sizeof(*news.failure));
	if (news.failure == NULL) {
		fz_blob_unref(failure->value);
		lose_news(b);
		return false;
	}
	*news.failure = *failure;
	return tell(b, &news);
}

/* ---- chunks ------------------------------------------------------------- */

static struct fz_chunk *
chunk_new(struct fz_batch *b, uint64_t first, uint32_t n, unsigned attempts)
{
	struct fz_chunk *chunk = calloc(1, sizeof(*chunk));

	if (chunk == NULL)
		return NULL;
	chunk->batch = b;
	chunk->first = first;
	chunk->n = n;
	chunk->attempts = attempts;
	chunk->job = (struct fz_job){ .ops = &chunk_ops,
		.func = b->opts.func,
		.seed = b->opts.seed,
		.memory = b->opts.limits.memory,
		.timeout_ns = b->opts.limits.timeout_ns };
	return chunk;
}

static void
chunk_free(struct fz_chunk *chunk)
{
	fz_blob_unref(chunk->part);
	fz_blob_unref(chunk->job.strip);
	free(chunk);
}

static void
push_back(struct fz_batch *b, struct fz_chunk *chunk)
{
	chunk->next = NULL;
	*b->tail = chunk;
	b->tail = &chunk->next;
	b->nwaiting += chunk->n;
}

/* Among those that wait, in the order of their items. */
static void
insert(struct fz_batch *b, struct fz_chunk *chunk)
{
	struct fz_chunk **at = &b->head;

	while (*at != NULL && (*at)->first < chunk->first)
		at = &(*at)->next;
	chunk->next = *at;
	*at = chunk;
	if (chunk->next == NULL)
		b->tail = &chunk->next;
	b->nwaiting += chunk->n;
}

static struct fz_chunk *
pop_front(struct fz_batch *b)
{
	struct fz_chunk *chunk = b->head;

	b->head = chunk->next;
	if (b->head == NULL)
		b->tail = &b->head;
	b->nwaiting -= chunk->n;
	return chunk;
}

uint64_t
fz_batch_ready(const struct fz_batch *b)
{
	if (b->stopping)
		return 0;
	return b->nwaiting + (b->total + 1 - b->uncut);
}

/* Start nothing new. */
static void
stop(struct fz_batch *b)
{
	b->stopping = true;
	b->told = false;
	while (b->head != NULL)
		chunk_free(pop_front(b));
	while (b->delayed != NULL) {
		struct fz_chunk *chunk = b->delayed;

		b->delayed = chunk->next;
		fz_loop_disarm(b->engine->loop, &chunk->delay);
		chunk_free(chunk);
	}
	fz_sched_wake(b->opts.sched, b);
}

static void
fail_whole(struct fz_batch *b, enum fz_err_kind kind, const char *text)
{
	if (!b->whole_failed)
		fz_err_set(&b->whole.err, kind, "%s", text);
	b->whole_failed = true;
	stop(b);
}

static void
delay_over(struct fz_timer *timer)
{
	struct fz_chunk *chunk = FZ_CONTAINER_OF(timer, struct fz_chunk, delay);
	struct fz_batch *b = chunk->batch;
	struct fz_chunk **at = &b->delayed;

	while (*at != chunk)
		at = &(*at)->next;
	*at = chunk->next;
	insert(b, chunk);
	fz_sched_wake(b->opts.sched, b);
}

/* Another attempt for item `item`; false where there is no memory for it. */
static bool
retry(
    struct fz_batch *b, uint64_t item, unsigned attempts, struct fz_blob *part)
{
	int64_t ns = fz_step_backoff(&b->opts.limits, attempts);
	struct fz_chunk *chunk = chunk_new(b, item, 1, attempts);

	if (chunk == NULL)
		return false;
	if (part != NULL) {
		chunk->part = fz_blob_ref(part);
		chunk->added = true;
	}
	chunk->delay.fired = delay_over;
	if (ns == 0 || fz_loop_arm(b->engine->loop, &chunk->delay,
			   fz_clock_after(fz_clock_ns(), ns)) != 0) {
		insert(b, chunk);
	} else {
		chunk->next = b->delayed;
		b->delayed = chunk;
	}
	fz_sched_wake(b->opts.sched, b);
	return true;
}

static struct fz_blob *
added_part(const struct fz_chunk *chunk)
{
	return chunk->added ? chunk->part : NULL;
}

/* Nanoseconds since the chunk's last news; 0 before its job has started. */
static int64_t
restart_clock(struct fz_chunk *chunk)
{
	int64_t since = chunk->job.started_ns;

	if (since == 0)
		return 0;
	if (chunk->news_ns > since)
		since = chunk->news_ns;
	chunk->news_ns = fz_clock_ns();
	return chunk->news_ns - since;
}

/* An attempt at `item` of the chunk failed. */
static void
item_failed(struct fz_chunk *chunk, uint64_t item, struct fz_failure *failure)
{
	struct fz_batch *b = chunk->batch;
	int64_t took_ns = restart_clock(chunk);
	unsigned attempts = chunk->attempts + 1;

	failure->attempt = attempts;
	if (!b->stopping &&
	    fz_step_may_retry(&b->opts.limits, attempts, failure->err.kind) &&
	    retry(b, item, attempts, added_part(chunk))) {
		fz_blob_unref(failure->value);
		record(b, FZ_RUN_EVENT_RETRY, item, 1, failure->pid, took_ns);
		return;
	}
	b->nfailed++;
	record(b, FZ_RUN_EVENT_FAILED, item, 1, failure->pid, took_ns);
	if (!tell_failure(b, item, failure) ||
	    (b->opts.policy != FZ_RUN_CONTINUE && !b->stopping))
		stop(b);
}

/* A chunk has nothing more to be told. */
static void
end_chunk(struct fz_chunk *chunk)
{
	struct fz_batch *b = chunk->batch;

	b->nsent--;
	chunk_free(chunk);
	fz_batch_settle(b);
}

static void
end_if_answered(struct fz_chunk *chunk)
{
	if (chunk->job.worker == NULL)
		end_chunk(chunk);
}

/* ---- what workers tell -------------------------------------------------- */

/* `n` items are done, which was told now. */
static void
count_done(struct fz_chunk *chunk, uint64_t first, uint32_t n)
{
	struct fz_batch *b = chunk->batch;
	int64_t took_ns = restart_clock(chunk);

	b->ndone += n;
	b->timed_ns += took_ns;
	b->ntimed += n;
	b->mean_ns = 1 + b->timed_ns / b->ntimed;
	if (b->timed_ns > BATCH_RECENT_NS) { /* what is older counts less */
		b->timed_ns /= 2;
		b->ntimed = 1 + b->ntimed / 2;
	}
	record(b, FZ_RUN_EVENT_DONE, first, n, chunk->job.pid, took_ns / n);
}

static void
job_items(struct fz_job *job, uint32_t first, uint32_t n, struct fz_blob *blob,
    uint32_t skip)
{
	struct fz_chunk *chunk = fz_chunk_of(job);
	struct fz_batch *b = chunk->batch;
	struct fz_batch_news news = {
		.first = chunk->first + first, .n = n, .skip = skip
	};

	if (blob == NULL) {
		for (uint32_t i = 0; i < n; i++) {
			struct fz_failure failure = lost;

			item_failed(chunk, news.first + i, &failure);
		}
	} else {
		news.blob = fz_blob_ref(blob);
		news.strip = blob == job->strip;
		if (news.strip)
			b->nplaced += n;
		count_done(chunk, news.first, n);
		if (!tell(b, &news))
			stop(b);
	}
	end_if_answered(chunk);
}

/* The index of the item of a chunk that was answered last. */
static uint64_t
answered(const struct fz_chunk *chunk)
{
	return chunk->first + chunk->job.ndone - 1;
}

static void
value_done(struct fz_chunk *chunk, uint64_t item, struct fz_blob *value)
{
	struct fz_batch *b = chunk->batch;
	struct fz_batch_news news = {
		.first = item, .n = 1, .whole = true, .blob = value
	};
	struct fz_failure failure;

	if (value == NULL) {
		failure = lost;
		item_failed(chunk, item, &failure);
		return;
	}
	count_done(chunk, item, 1);
	if (!tell(b, &news))
		stop(b);
}

static void
job_done(struct fz_job *job, struct fz_blob **values, uint32_t n)
{
	struct fz_chunk *chunk = fz_chunk_of(job);

	for (uint32_t i = 1; i < n; i++)
		fz_blob_unref(values[i]);
	value_done(chunk, answered(chunk), n != 0 ? values[0] : NULL);
	end_if_answered(chunk);
}

static void
job_failed(struct fz_job *job, struct fz_failure *failure)
{
	struct fz_chunk *chunk = fz_chunk_of(job);

	item_failed(chunk, answered(chunk), failure);
	end_if_answered(chunk);
}

/* What can be encoded again need not be kept. */
static void
drop_part(struct fz_chunk *chunk)
{
	if (chunk->added)
		return;
	fz_blob_unref(chunk->part);
	chunk->part = NULL;
}

static void
job_returned(struct fz_job *job, uint32_t nitems)
{
	struct fz_chunk *chunk = fz_chunk_of(job), *rest = chunk;
	struct fz_batch *b = chunk->batch;
	bool untouched = chunk->job.worker == NULL && chunk->job.ndone == 0;

	if (b->stopping) {
		end_if_answered(chunk);
		return;
	}
	if (!untouched) {
		rest = chunk_new(
		    b, chunk->first + job->nitems, nitems, chunk->attempts);
		if (rest == NULL)
			fail_whole(b, FZ_ERR_MEMORY,
			    "no memory for items that came back");
	} else {
		b->nsent--;
		drop_part(chunk); /* it may be cut another way now */
		fz_blob_unref(job->strip);
		job->strip = NULL;
	}
	if (rest != NULL) {
		insert(b, rest);
		fz_sched_wake(b->opts.sched, b);
	}
	if (!untouched)
		end_if_answered(chunk);
}

static void
job_started(struct fz_job *job)
{
	struct fz_chunk *chunk = fz_chunk_of(job);

	record(chunk->batch, FZ_RUN_EVENT_START, chunk->first + job->ndone, 1,
	    job->pid, 0);
}

static const struct fz_job_ops chunk_ops = { job_done, job_failed, job_returned,
	job_started, job_items };

/* ---- what the scheduler asks -------------------------------------------- */

/* The chunk's part, for as many of its items as go together. */
static bool
encode_part(struct fz_chunk *chunk)
{
	struct fz_batch *b = chunk->batch;
	struct fz_failure failure = { .exitcode = -1 };
	uint32_t n = chunk->n;

	if (chunk->part != NULL || (b->opts.kind & FZ_WIRE_INHERITED))
		return true;
	chunk->part = b->opts.encode(b->opts.ctx, chunk->first, &n, &failure);
	if (chunk->part == NULL) {
		uint64_t item = chunk->first;

		chunk->first++;
		chunk->n--;
		item_failed(chunk, item, &failure);
		return false;
	}
	if (n < chunk->n) {
		struct fz_chunk *rest = chunk_new(
		    b, chunk->first + n, chunk->n - n, chunk->attempts);

		if (rest == NULL) {
			fail_whole(b, FZ_ERR_MEMORY, "no memory for a map");
			return false;
		}
		chunk->n = n;
		insert(b, rest);
	}
	return true;
}

/* The next chunk as it waits, or a new one; NULL: none, or no memory. */
static struct fz_chunk *
next_chunk(struct fz_batch *b, uint32_t max)
{
	struct fz_chunk *chunk;
	uint64_t n = b->total + 1 - b->uncut;

	if (b->head != NULL) {
		chunk = pop_front(b);
		if (chunk->n <= max || chunk->part != NULL)
			return chunk;
		chunk->first += max; /* its end waits on */
		chunk->n -= max;
		insert(b, chunk);
		return chunk_new(b, chunk->first - max, max, chunk->attempts);
	}
	if (n > max)
		n = max;
	chunk = chunk_new(b, b->uncut, (uint32_t)n, 0);
	b->uncut += n;
	return chunk;
}

/*
 * Slots for the results, where they pay: without memory for them, or where
 * most results do not fit one, they come as bytes.
 */
static void
lay_strip(struct fz_chunk *chunk)
{
	struct fz_batch *b = chunk->batch;
	size_t len = chunk->n * b->opts.slot;
	bool fit = b->ndone < BATCH_STRIP_ITEMS || b->nplaced > b->ndone / 2;

	if (len != 0 && chunk->n >= BATCH_STRIP_ITEMS && fit)
		chunk->job.strip = fz_engine_room(b->engine, len, NULL);
}

struct fz_chunk *
fz_batch_cut(struct fz_batch *b, uint32_t max)
{
	struct fz_chunk *chunk;

	while (fz_batch_ready(b) != 0) {
		chunk = next_chunk(b, max);
		if (chunk == NULL) {
			fail_whole(b, FZ_ERR_MEMORY, "no memory for a map");
			break;
		}
		if (encode_part(chunk)) {
			chunk->job.nitems = chunk->n;
			lay_strip(chunk);
			return chunk;
		}
		if (chunk->n != 0 && !b->stopping)
			insert(b, chunk);
		else
			chunk_free(chunk);
	}
	fz_batch_settle(b);
	return NULL;
}

void
fz_batch_sent(struct fz_chunk *chunk)
{
	chunk->batch->nsent++;
	if (chunk->part != NULL && !chunk->part->in_shm)
		drop_part(chunk); /* the frame has a copy */
}

void
fz_batch_unsent(struct fz_chunk *chunk, struct fz_failure *failure)
{
	struct fz_batch *b = chunk->batch;

	for (uint32_t i = 0; i < chunk->n; i++) {
		struct fz_failure copy = *failure;

		item_failed(chunk, chunk->first + i, &copy);
	}
	chunk_free(chunk);
	fz_batch_settle(b);
}

void
fz_batch_fail_next(struct fz_batch *b, struct fz_failure *failure)
{
	struct fz_chunk *chunk = next_chunk(b, 1);

	if (chunk != NULL) {
		fz_batch_unsent(chunk, failure);
		return;
	}
	fail_whole(b, FZ_ERR_MEMORY, "no memory for a map");
	fz_batch_settle(b);
}

void
fz_batch_settle(struct fz_batch *b)
{
	bool more = fz_batch_ready(b) != 0 || b->delayed != NULL ||
		    (b->growing && !b->stopping);

	if (b->done || b->nsent != 0 || more)
		return;
	b->done = true;
	b->engine->news++;
	fz_sched_remove(b->opts.sched, b);
}

/* ---- life --------------------------------------------------------------- */

struct fz_batch *
fz_batch_new(const struct fz_batch_opts *opts, struct fz_err *err)
{
	struct fz_batch *b = calloc(1, sizeof(*b));

	if (b == NULL) {
		fz_err_nomem(err, "a batch");
		return NULL;
	}
	b->opts = *opts;
	b->engine = fz_sched_engine(opts->sched);
	b->tail = &b->head;
	b->total = opts->n;
	b->uncut = 1;
	b->growing = opts->growing;
	b->whole.exitcode = -1;
	fz_sched_add(opts->sched, b);
	return b;
}

void
fz_batch_start(struct fz_batch *b)
{
	fz_batch_settle(b);
	if (!b->done)
		fz_sched_wake(b->opts.sched, b);
}

int
fz_batch_grow(struct fz_batch *b, uint64_t n, struct fz_err *err)
{
	if (n > UINT64_MAX - 1 - b->total) {
		fz_err_set(err, FZ_ERR_ERROR, "too many items");
		return -1;
	}
	b->total += n;
	if (!b->done)
		fz_sched_wake(b->opts.sched, b);
	return 0;
}

int64_t
fz_batch_mean_ns(const struct fz_batch *b)
{
	return b->mean_ns;
}

/* Put the items that are in no chunk behind those that wait. */
static int
cut_rest(struct fz_batch *b)
{
	while (b->uncut <= b->total) {
		uint64_t n = b->total + 1 - b->uncut;
		struct fz_chunk *chunk;

		if (n > UINT32_MAX)
			n = UINT32_MAX;
		chunk = chunk_new(b, b->uncut, (uint32_t)n, 0);
		if (chunk == NULL)
			return -1;
		push_back(b, chunk);
		b->uncut += n;
	}
	return 0;
}

int
fz_batch_add(struct fz_batch *b, struct fz_blob *part, struct fz_err *err)
{
	struct fz_chunk *chunk;

	if (b->done || b->stopping) {
		fz_blob_unref(part);
		return 0; /* it would never be called */
	}
	chunk = cut_rest(b) == 0 ? chunk_new(b, b->total + 1, 1, 0) : NULL;
	if (chunk == NULL) {
		fz_blob_unref(part);
		return fz_err_nomem(err, "an item");
	}
	chunk->part = part;
	chunk->added = true;
	b->total++;
	b->uncut++;
	push_back(b, chunk);
	fz_sched_wake(b->opts.sched, b);
	return 0;
}

void
fz_batch_end(struct fz_batch *b)
{
	b->growing = false;
	fz_batch_settle(b);
}

void *
fz_batch_ctx(const struct fz_batch *b)
{
	return b->opts.ctx;
}

bool
fz_batch_done(const struct fz_batch *b)
{
	return b->done;
}

void
fz_batch_cancel(struct fz_batch *b, enum fz_err_kind kind, const char *text)
{
	if (b->done)
		return;
	fail_whole(b, kind, text);
	fz_sched_end(b->opts.sched, b);
	while (b->local != NULL) { /* what calls it will find it gone */
		struct fz_chunk *chunk = b->local;

		b->local = chunk->next;
		end_chunk(chunk);
	}
	fz_batch_settle(b);
}

void
fz_batch_free(struct fz_batch *b)
{
	if (b == NULL)
		return;
	fz_batch_cancel(b, FZ_ERR_CANCELLED, "it was closed");
	if (b->finished.at != NULL) /* the scheduler may be gone otherwise */
		fz_sched_forget(b->opts.sched, b);
	while (b->news_at < b->nnews)
		drop_news(&b->news[b->news_at++]);
	free(b->news);
	free(b->events);
	free(b);
}

const struct fz_failure *
fz_batch_whole(const struct fz_batch *b)
{
	return b->whole_failed ? &b->whole : NULL;
}

struct fz_batch_counts
fz_batch_counts(const struct fz_batch *b)
{
	struct fz_batch_counts c = {
		.total = b->total, .done = b->ndone, .failed = b->nfailed
	};

	if (!b->done)
		c.running = fz_sched_running(b->opts.sched, b);
	c.waiting = c.total - c.done - c.failed - c.running;
	return c;
}

/* ---- without workers ---------------------------------------------------- */

uint64_t
fz_batch_local_next(struct fz_batch *b, struct fz_blob **part)
{
	struct fz_chunk *chunk = fz_batch_cut(b, 1);

	if (chunk == NULL)
		return 0;
	b->nsent++;
	chunk->job.started_ns = fz_clock_ns();
	chunk->next = b->local;
	b->local = chunk;
	*part = chunk->part != NULL ? fz_blob_ref(chunk->part) : NULL;
	job_started(&chunk->job);
	return chunk->first;
}

/* The chunk of `item`, NULL where it was cancelled meanwhile. */
static struct fz_chunk *
take_local(struct fz_batch *b, uint64_t item)
{
	struct fz_chunk **at = &b->local, *chunk;

	while (*at != NULL && (*at)->first != item)
		at = &(*at)->next;
	chunk = *at;
	if (chunk != NULL)
		*at = chunk->next;
	return chunk;
}

void
fz_batch_local_done(struct fz_batch *b, uint64_t item, struct fz_blob *value)
{
	struct fz_chunk *chunk = take_local(b, item);

	if (chunk == NULL) {
		fz_blob_unref(value);
		return;
	}
	value_done(chunk, item, value);
	end_chunk(chunk);
}

void
fz_batch_local_failed(
    struct fz_batch *b, uint64_t item, struct fz_failure *failure)
{
	struct fz_chunk *chunk = take_local(b, item);

	if (chunk == NULL) {
		fz_blob_unref(failure->value);
		return;
	}
	item_failed(chunk, item, failure);
	end_chunk(chunk);
}
