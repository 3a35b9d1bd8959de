#include "sched/batch.h"

#include <stdlib.h>

#include "base/clock.h"
#include "base/err.h"
#include "os/loop.h"
#include "sched/batch_state.h"
#include "sched/retry.h"
#include "wire/blob.h"
#include "wire/wire.h"
#include "worker/engine.h"

/* minimum number of items for which a chunk gets a result buffer */
enum { BATCH_RAW_MIN = 256 };

static const struct fz_err another_failed = { FZ_ERR_CANCELLED, 0,
	"ended because another item failed" };

struct fz_chunk *
fz_batch_chunk_new(
    struct fz_batch *b, uint64_t first, uint32_t n, unsigned attempts)
{
	struct fz_chunk *chunk = calloc(1, sizeof(*chunk));

	if (chunk == NULL)
		return NULL;
	chunk->batch = b;
	chunk->first = chunk->told = first;
	chunk->n = n;
	chunk->attempts = attempts;
	chunk->job = (struct fz_job){ .ops = &fz_batch_chunk_ops,
		.owner = &b->producer,
		.func = b->opts.func,
		.seed = b->opts.seed,
		.memory = b->opts.limits.memory,
		.timeout_ns = b->opts.limits.timeout_ns };
	chunk->job.repeats =
	    fz_retry_may(&b->opts.limits, attempts + 1, FZ_ERR_CRASH);
	chunk->job.measured = b->opts.log->trace != NULL;
	if (chunk->job.measured)
		chunk->job.queued_ns = fz_clock_ns();
	return chunk;
}

void
fz_batch_free_chunk(struct fz_chunk *chunk)
{
	fz_list_remove(&chunk->link);
	fz_blob_unref(chunk->part);
	fz_blob_unref(chunk->job.result_buffer);
	free(chunk);
}

void
fz_batch_insert(struct fz_batch *b, struct fz_chunk *chunk)
{
	struct fz_list *before = &b->waiting;

	/* search from the end, because most chunks belong there */
	while (before->prev != &b->waiting &&
	       FZ_CONTAINER_OF(before->prev, struct fz_chunk, link)->first >
		   chunk->first)
		before = before->prev;
	fz_list_push(before, &chunk->link);
	b->nwaiting += chunk->n;
}

static struct fz_chunk *
pop_waiting(struct fz_batch *b)
{
	struct fz_chunk *chunk = fz_chunk_first(&b->waiting);

	if (chunk == NULL)
		return NULL;
	fz_list_remove(&chunk->link);
	b->nwaiting -= chunk->n;
	return chunk;
}

bool
fz_batch_next_is_alone(const struct fz_batch *b)
{
	const struct fz_chunk *chunk = fz_chunk_first(&b->waiting);

	return chunk != NULL && chunk->job.alone;
}

uint64_t
fz_batch_ready(const struct fz_batch *b)
{
	if (b->stopping)
		return 0;
	return b->nwaiting + (b->total + 1 - b->uncut);
}

void
fz_batch_stop(struct fz_batch *b)
{
	struct fz_chunk *chunk;

	b->stopping = true;
	while ((chunk = pop_waiting(b)) != NULL)
		fz_batch_free_chunk(chunk);
	while ((chunk = fz_chunk_first(&b->delayed)) != NULL) {
		fz_loop_disarm(b->engine->loop, &chunk->delay);
		fz_batch_free_chunk(chunk);
	}
	while ((chunk = fz_chunk_first(&b->undecided)) != NULL)
		fz_batch_refuse(chunk);
	fz_producer_stop(&b->producer,
	    b->opts.policy == FZ_POLICY_NOW ? &another_failed : NULL);
}

void
fz_batch_fail_whole(struct fz_batch *b, enum fz_err_kind kind, const char *text)
{
	if (!b->whole_failed)
		fz_err_set(&b->whole.err, kind, "%s", text);
	b->whole_failed = true;
	fz_batch_stop(b);
}

void
fz_batch_drop_part(struct fz_chunk *chunk)
{
	if (chunk->added)
		return;
	fz_blob_unref(chunk->part);
	chunk->part = NULL;
}

void
fz_batch_end_chunk(struct fz_chunk *chunk)
{
	struct fz_batch *b = chunk->batch;

	b->nsent--;
	fz_batch_free_chunk(chunk);
	fz_batch_settle(b);
}

/*
 * Encode the items of a chunk, or the first ones if not all fit together: the
 * rest becomes another chunk. False if none can be encoded.
 */
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

		chunk->told = ++chunk->first;
		chunk->n--;
		fz_batch_item_failed(chunk, item, &failure);
		return false;
	}
	if (n < chunk->n) {
		struct fz_chunk *rest = fz_batch_chunk_new(
		    b, chunk->first + n, chunk->n - n, chunk->attempts);

		if (rest == NULL) {
			fz_batch_fail_whole(
			    b, FZ_ERR_MEMORY, "no memory for a map");
			return false;
		}
		rest->job.alone = chunk->job.alone;
		chunk->n = n;
		fz_batch_insert(b, rest);
	}
	return true;
}

/*
 * Split a chunk: return a new chunk of the first `n` items, and put the rest
 * into the list of waiting chunks. NULL if there is no memory.
 */
static struct fz_chunk *
cut_front(struct fz_chunk *chunk, uint32_t n)
{
	struct fz_chunk *front =
	    fz_batch_chunk_new(chunk->batch, chunk->first, n, chunk->attempts);

	if (front != NULL) {
		front->told = chunk->told;
		front->job.alone = chunk->job.alone;
	}
	chunk->first += n;
	chunk->n -= n;
	if (chunk->told < chunk->first)
		chunk->told = chunk->first;
	fz_batch_insert(chunk->batch, chunk);
	return front;
}

struct fz_chunk *
fz_batch_next_chunk(struct fz_batch *b, uint32_t max)
{
	struct fz_chunk *chunk = pop_waiting(b);
	uint64_t n = b->total + 1 - b->uncut;

	if (chunk != NULL) {
		if (chunk->job.alone)
			max = 1;
		if (chunk->n <= max || chunk->part != NULL)
			return chunk;
		return cut_front(chunk, max);
	}
	if (n > max)
		n = max;
	chunk = fz_batch_chunk_new(b, b->uncut, (uint32_t)n, 0);
	b->uncut += n;
	return chunk;
}

/*
 * Allocate a buffer for raw results if the chunk is long, and if most results
 * so far could be stored raw. Without a buffer, results are sent as bytes.
 */
static void
add_result_buffer(struct fz_chunk *chunk)
{
	struct fz_batch *b = chunk->batch;
	size_t len = chunk->n * b->opts.raw_size;
	bool fit = b->ndone < BATCH_RAW_MIN || b->nraw > b->ndone / 2;

	if (len != 0 && chunk->n >= BATCH_RAW_MIN && fit)
		chunk->job.result_buffer = fz_engine_room(b->engine, len, NULL);
}

struct fz_chunk *
fz_batch_cut(struct fz_batch *b, uint32_t max)
{
	struct fz_chunk *chunk;

	while (fz_batch_ready(b) != 0) {
		chunk = fz_batch_next_chunk(b, max);
		if (chunk == NULL) {
			fz_batch_fail_whole(
			    b, FZ_ERR_MEMORY, "no memory for a map");
			break;
		}
		if (encode_part(chunk)) {
			chunk->job.nitems = chunk->n;
			add_result_buffer(chunk);
			return chunk;
		}
		if (chunk->n != 0 && !b->stopping)
			fz_batch_insert(b, chunk);
		else
			fz_batch_free_chunk(chunk);
	}
	fz_batch_settle(b);
	return NULL;
}

void
fz_batch_unsent(struct fz_chunk *chunk, const struct fz_failure *failure)
{
	struct fz_batch *b = chunk->batch;

	for (uint32_t i = 0; i < chunk->n; i++) {
		struct fz_failure copy = *failure;

		fz_batch_item_failed(chunk, chunk->first + i, &copy);
	}
	fz_batch_free_chunk(chunk);
	fz_batch_settle(b);
}

void
fz_batch_settle(struct fz_batch *b)
{
	bool more = fz_batch_ready(b) != 0 ||
		    fz_list_first(&b->delayed) != NULL ||
		    fz_list_first(&b->undecided) != NULL ||
		    (b->growing && !b->stopping);

	if (b->done || b->nsent != 0 || more)
		return;
	b->done = true;
	fz_changed(&b->change);
	fz_list_remove(&b->producer.link);
	b->opts.owner->done(b->opts.owner, b);
}

/* Make waiting chunks of all items up to `last` that are in no chunk yet. */
static int
cut_until(struct fz_batch *b, uint64_t last)
{
	while (b->uncut <= last) {
		uint64_t n = last + 1 - b->uncut;
		struct fz_chunk *chunk;

		if (n > UINT32_MAX)
			n = UINT32_MAX;
		chunk = fz_batch_chunk_new(b, b->uncut, (uint32_t)n, 0);
		if (chunk == NULL)
			return -1;
		fz_batch_insert(b, chunk);
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
		return 0; /* a batch that stops starts no more items */
	}
	chunk = cut_until(b, b->total) == 0
		    ? fz_batch_chunk_new(b, b->total + 1, 1, 0)
		    : NULL;
	if (chunk == NULL) {
		fz_blob_unref(part);
		return fz_err_nomem(err, "an item");
	}
	chunk->part = part;
	chunk->added = true;
	b->total++;
	b->uncut++;
	fz_batch_insert(b, chunk);
	fz_producer_wake(&b->producer);
	return 0;
}

int
fz_batch_skip(struct fz_batch *b, struct fz_err *err)
{
	struct fz_job_event event = { .kind = FZ_JOB_EVENT_FAILED, .n = 1 };

	if (b->done || b->stopping)
		return 0;
	if (cut_until(b, b->total) != 0)
		return fz_err_nomem(err, "an item");
	b->total++;
	b->uncut++;
	b->nfailed++;
	event.first = b->total;
	fz_event_log_add(b->opts.log, &event, NULL);
	return 0;
}

int
fz_batch_know(struct fz_batch *b, uint64_t item, struct fz_blob *value,
    struct fz_err *err)
{
	if (b->done || b->stopping || item < b->uncut ||
	    item > b->total + b->growing) {
		fz_blob_unref(value);
		return 0;
	}
	if (cut_until(b, item - 1) != 0) {
		fz_blob_unref(value);
		return fz_err_nomem(err, "an item");
	}
	if (item > b->total)
		b->total = item;
	b->uncut = item + 1;
	fz_batch_value_known(b, item, value);
	return 0;
}
