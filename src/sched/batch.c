#include "sched/batch.h"

#include <stdlib.h>

#include "base/clock.h"
#include "base/err.h"
#include "sched/batch_state.h"
#include "wire/blob.h"
#include "worker/engine.h"

struct fz_batch *
fz_batch_new(const struct fz_batch_opts *opts, struct fz_err *err)
{
	struct fz_batch *b = calloc(1, sizeof(*b));

	if (b == NULL) {
		fz_err_nomem(err, "a batch");
		return NULL;
	}
	b->opts = *opts;
	b->engine = opts->owner->dispatcher->engine;
	fz_producer_init(&b->producer, &fz_batch_producer_ops,
	    opts->owner->dispatcher, opts->pool);
	fz_list_init(&b->waiting);
	fz_list_init(&b->delayed);
	fz_list_init(&b->undecided);
	fz_list_init(&b->local);
	b->total = opts->n;
	b->uncut = 1;
	b->growing = opts->growing;
	b->whole.exitcode = -1;
	fz_change_init(&b->change, b->engine);
	b->events.change = opts->events ? &b->change : NULL;
	if (opts->log == NULL)
		b->opts.log = &b->events;
	if (opts->trace != NULL)
		fz_event_log_trace(
		    &b->events, opts->trace, opts->trace_name, true);
	if (opts->owner->made != NULL)
		opts->owner->made(opts->owner, b);
	return b;
}

void
fz_batch_start(struct fz_batch *b)
{
	fz_batch_settle(b);
	if (!b->done)
		fz_producer_wake(&b->producer);
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
		fz_producer_wake(&b->producer);
	return 0;
}

void
fz_batch_end(struct fz_batch *b)
{
	b->growing = false;
	fz_batch_settle(b);
}

uint64_t
fz_batch_id(const struct fz_batch *b)
{
	return b->change.id;
}

bool
fz_batch_done(const struct fz_batch *b)
{
	return b->done;
}

void
fz_batch_cancel(struct fz_batch *b, enum fz_err_kind kind, const char *text)
{
	struct fz_chunk *chunk;

	if (b->done)
		return;
	fz_batch_fail_whole(b, kind, text);
	fz_producer_end(&b->producer, &b->whole.err);
	while ((chunk = fz_chunk_first(&b->local)) != NULL)
		/* now fz_batch_local_done() ignores the item */
		fz_batch_end_chunk(chunk);
	fz_batch_settle(b);
}

void
fz_batch_free(struct fz_batch *b)
{
	if (b == NULL)
		return;
	fz_batch_cancel(b, FZ_ERR_CANCELLED, "it was closed");
	fz_list_remove(&b->link);
	while (b->result_at < b->nresults)
		fz_batch_drop_result(&b->results[b->result_at++]);
	free(b->results);
	fz_event_log_fini(&b->events);
	fz_change_fini(&b->change);
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
		c.running = fz_producer_nrunning(&b->producer);
	c.waiting = c.total - c.done - c.failed - c.running;
	return c;
}

bool
fz_batch_local_ready(const struct fz_batch *b)
{
	return fz_batch_ready(b) != 0;
}

uint64_t
fz_batch_local_next(struct fz_batch *b, struct fz_blob **part)
{
	struct fz_chunk *chunk = fz_batch_cut(b, 1);

	if (chunk == NULL)
		return 0;
	b->nsent++;
	chunk->job.started_ns = fz_clock_ns();
	fz_list_push(&b->local, &chunk->link);
	*part = chunk->part != NULL ? fz_blob_ref(chunk->part) : NULL;
	fz_batch_job_started(&chunk->job);
	return chunk->first;
}

void
fz_batch_local_done(struct fz_batch *b, uint64_t item, struct fz_blob *value)
{
	struct fz_chunk *chunk = fz_chunk_find(&b->local, item);

	if (chunk == NULL) { /* the batch was cancelled during the call */
		fz_blob_unref(value);
		return;
	}
	fz_batch_value_done(chunk, item, value);
	fz_batch_end_chunk(chunk);
}

void
fz_batch_local_failed(
    struct fz_batch *b, uint64_t item, struct fz_failure *failure)
{
	struct fz_chunk *chunk = fz_chunk_find(&b->local, item);

	if (chunk == NULL) {
		fz_blob_unref(failure->value);
		return;
	}
	fz_batch_item_failed(chunk, item, failure);
	fz_batch_end_chunk(chunk);
}
