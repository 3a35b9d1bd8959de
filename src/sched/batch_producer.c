#include "sched/batch_state.h"

#include "base/clock.h"
#include "base/container.h"
#include "base/err.h"
#include "wire/blob.h"
#include "wire/wire.h"

/* Intended time of a chunk. */
#define BATCH_CHUNK_NS (5 * FZ_CLOCK_MS)
/*
 * Minimum time of a chunk of encoded items, if there are enough items for such
 * a chunk for every worker.
 */
#define BATCH_LEAST_NS (FZ_CLOCK_MS / 10)

enum {
	BATCH_CHUNK_MAX = 1 << 20, /* maximum number of items in a chunk */
	/*
	 * While the time of an item is unknown: the next chunk for a worker has
	 * this many times the number of items that the worker has now.
	 */
	BATCH_GROWTH = 8
};

static unsigned
nworkers(const struct fz_batch *b)
{
	return b->producer.dispatcher->max;
}

/*
 * Items that workers have inherited cost nothing to send or recall. So each
 * worker gets an equal share of all items at once. When a worker becomes idle,
 * items of others are recalled and divided again.
 */
static uint64_t
inherited_size(struct fz_batch *b, uint64_t usual)
{
	if (b->share == 0)
		b->share = (fz_batch_ready(b) + nworkers(b) - 1) / nworkers(b);
	return b->mean_ns != 0 && usual < b->share ? usual : b->share;
}

/* The size of a chunk for `w` of items that must be encoded. */
static uint64_t
sent_size(const struct fz_batch *b, const struct fz_worker *w, uint64_t usual)
{
	uint64_t left = fz_batch_ready(b), n = usual, least = 1;

	if (b->mean_ns == 0)
		n = w->nitems * BATCH_GROWTH;
	else
		least = (uint64_t)(BATCH_LEAST_NS / b->mean_ns);
	if (n > left / (2 * nworkers(b))) /* smaller chunks near the end */
		n = left / (2 * nworkers(b));
	if (n < least)
		n = least;
	if (n > left / nworkers(b)) /* leave items for the other workers */
		n = left / nworkers(b);
	return n;
}

/* The number of items in the next chunk for `w`. */
static uint32_t
chunk_size(struct fz_batch *b, const struct fz_worker *w, uint32_t max)
{
	uint64_t n = 0;

	if (b->mean_ns != 0)
		n = (uint64_t)(BATCH_CHUNK_NS / b->mean_ns);
	if ((b->opts.kind & FZ_WIRE_INHERITED) && w->recalls)
		n = inherited_size(b, n);
	else
		n = sent_size(b, w, n);
	if (b->opts.chunk != 0)
		n = b->opts.chunk;
	if (n > max)
		n = max;
	if (n > BATCH_CHUNK_MAX)
		n = BATCH_CHUNK_MAX;
	return n != 0 ? (uint32_t)n : 1;
}

static int
send_chunk(struct fz_chunk *chunk, struct fz_worker *w, struct fz_err *err)
{
	const struct fz_batch_opts *opts = &chunk->batch->opts;
	struct fz_worker_chunk head = { opts->kind, chunk->first };

	if (!(opts->kind & FZ_WIRE_INLINE) &&
	    opts->owner->prepare(opts->owner, w, opts->func, err) != 0)
		return -1;
	return fz_worker_send_chunk(
	    w, &chunk->job, &head, &chunk->part, chunk->part != NULL, err);
}

static uint64_t
nready(const struct fz_producer *producer)
{
	return fz_batch_ready(
	    FZ_CONTAINER_OF(producer, const struct fz_batch, producer));
}

static bool
send(struct fz_producer *producer, struct fz_worker *w, uint32_t max)
{
	struct fz_batch *b =
	    FZ_CONTAINER_OF(producer, struct fz_batch, producer);
	struct fz_failure failure = { .exitcode = -1 };
	struct fz_chunk *chunk = fz_batch_cut(b, chunk_size(b, w, max));

	if (chunk == NULL)
		return false;
	if (send_chunk(chunk, w, &failure.err) != 0) {
		fz_batch_unsent(chunk, &failure);
		return false;
	}
	b->nsent++;
	if (chunk->part != NULL && !chunk->part->in_arena)
		/* the frame has a copy of the part */
		fz_batch_drop_part(chunk);
	/* write now: the worker can then start while others are being forked */
	if (b->opts.kind & FZ_WIRE_INHERITED)
		fz_worker_write(w);
	return true;
}

static void
fail_next(struct fz_producer *producer, const struct fz_failure *failure)
{
	struct fz_batch *b =
	    FZ_CONTAINER_OF(producer, struct fz_batch, producer);
	struct fz_chunk *chunk = fz_batch_next_chunk(b, 1);

	if (chunk != NULL) {
		fz_batch_unsent(chunk, failure);
		return;
	}
	fz_batch_fail_whole(b, FZ_ERR_MEMORY, "no memory for a map");
	fz_batch_settle(b);
}

static bool
next_is_alone(const struct fz_producer *producer)
{
	return fz_batch_next_is_alone(
	    FZ_CONTAINER_OF(producer, const struct fz_batch, producer));
}

const struct fz_producer_ops fz_batch_producer_ops = { nready, send, fail_next,
	next_is_alone };
