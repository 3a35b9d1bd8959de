#include "sched/batch.h"

#include <stdlib.h>

#include "base/clock.h"
#include "base/container.h"
#include "base/vec.h"
#include "os/loop.h"
#include "sched/batch_state.h"
#include "sched/retry.h"
#include "wire/blob.h"
#include "worker/engine.h"

/* The mean time of an item counts recent items that took this time in all. */
#define BATCH_RECENT_NS (20 * FZ_CLOCK_MS)

/* The failure of an item whose result was lost for lack of memory. */
static const struct fz_failure lost = { .err = { FZ_ERR_MEMORY, 0,
					    "not enough memory to keep the "
					    "results" },
	.exitcode = -1 };

/* An event of `n` items of a batch, the first of which is `first`. */
static struct fz_job_event
event_of(const struct fz_batch *b, uint64_t first, uint32_t n, pid_t pid)
{
	struct fz_job_event event;

	fz_job_event_init(&event, FZ_JOB_EVENT_DONE, first, n, pid);
	event.item = b->opts.item;
	event.map = b->opts.map;
	return event;
}

static void
add_event(struct fz_batch *b, enum fz_job_event_kind kind,
    const struct fz_job_event *event, const struct fz_failure *failure)
{
	struct fz_job_event copy = *event;

	copy.kind = kind;
	fz_event_log_add(b->opts.log, &copy, failure);
}

int
fz_batch_next_event(struct fz_batch *b, struct fz_job_event *event)
{
	return fz_event_log_next(&b->events, event);
}

bool
fz_batch_has_result(const struct fz_batch *b)
{
	return b->result_at != b->nresults;
}

int
fz_batch_take(struct fz_batch *b, struct fz_batch_result *result)
{
	if (b->result_at == b->nresults) {
		b->result_at = b->nresults = 0;
		return 0;
	}
	*result = b->results[b->result_at++];
	return 1;
}

void
fz_batch_drop_result(struct fz_batch_result *result)
{
	fz_blob_unref(result->blob);
	if (result->failure != NULL) {
		fz_blob_unref(result->failure->value);
		free(result->failure);
	}
}

static void
lose_result(struct fz_batch *b)
{
	if (!b->whole_failed) /* keep an earlier failure */
		b->whole = lost;
	b->whole_failed = true;
}

/* Add a result. False if there is no memory; then the whole batch fails. */
static bool
report(struct fz_batch *b, const struct fz_batch_result *result)
{
	struct fz_batch_result *last = NULL, *room;

	if (b->nresults > b->result_at)
		last = &b->results[b->nresults - 1];
	fz_changed(&b->change);
	if (b->opts.owner->answered != NULL)
		b->opts.owner->answered(b->opts.owner);
	if (last != NULL && result->blob != NULL &&
	    last->blob == result->blob && !result->whole &&
	    last->skip + last->n == result->skip &&
	    last->first + last->n == result->first) {
		last->n += result->n;
		fz_blob_unref(result->blob);
		return true;
	}
	room = fz_vec_room(
	    b->results, &b->results_cap, b->nresults + 1, sizeof(*room));
	if (room == NULL) {
		struct fz_batch_result gone = *result;

		fz_batch_drop_result(&gone);
		lose_result(b);
		return false;
	}
	b->results = room;
	room[b->nresults++] = *result;
	return true;
}

/* Add the failure of an item as report() does. Takes `failure->value`. */
static bool
report_failure(struct fz_batch *b, uint64_t item, struct fz_failure *failure)
{
	struct fz_batch_result result = { .first = item, .n = 1 };

	result.failure = malloc(sizeof(*result.failure));
	if (result.failure == NULL) {
		fz_blob_unref(failure->value);
		lose_result(b);
		return false;
	}
	*result.failure = *failure;
	return report(b, &result);
}

static void
delay_over(struct fz_timer *timer)
{
	struct fz_chunk *chunk = FZ_CONTAINER_OF(timer, struct fz_chunk, delay);
	struct fz_batch *b = chunk->batch;

	fz_list_remove(&chunk->link);
	fz_batch_insert(b, chunk);
	fz_producer_wake(&b->producer);
}

/* A chunk for another attempt of an item. NULL if there is no memory. */
static struct fz_chunk *
chunk_again(const struct fz_chunk *failed, uint64_t item)
{
	struct fz_chunk *chunk =
	    fz_batch_chunk_new(failed->batch, item, 1, failed->attempts + 1);

	if (chunk != NULL)
		chunk->job.alone = failed->job.alone;
	if (chunk != NULL && failed->added) {
		chunk->part = fz_blob_ref(failed->part);
		chunk->added = true;
	}
	return chunk;
}

/* Let a chunk wait for the pause of its attempt, and then be sent. */
static void
retry(struct fz_chunk *chunk)
{
	struct fz_batch *b = chunk->batch;

	chunk->delay.fired = delay_over;
	if (fz_retry_arm(b->engine->loop, &chunk->delay, &b->opts.limits,
		chunk->attempts))
		fz_list_push(&b->delayed, &chunk->link);
	else
		fz_batch_insert(b, chunk);
	fz_producer_wake(&b->producer);
}

/* Let the item wait for fz_batch_decide(). False if there is no memory. */
static bool
ask(struct fz_chunk *chunk, const struct fz_failure *failure,
    const struct fz_job_event *event)
{
	chunk->undecided = malloc(sizeof(*chunk->undecided));
	if (chunk->undecided == NULL)
		return false;
	*chunk->undecided = (struct fz_undecided){ *failure, *event };
	fz_list_push(&chunk->batch->undecided, &chunk->link);
	fz_changed(&chunk->batch->change);
	if (chunk->batch->opts.owner->asked != NULL)
		chunk->batch->opts.owner->asked(chunk->batch->opts.owner);
	return true;
}

/*
 * Try an item again, or ask the caller about that first. False if there is no
 * memory.
 */
static bool
try_again(const struct fz_chunk *failed, uint64_t item,
    const struct fz_failure *failure, const struct fz_job_event *event)
{
	struct fz_batch *b = failed->batch;
	struct fz_chunk *chunk = chunk_again(failed, item);

	if (chunk == NULL)
		return false;
	if (b->opts.limits.ask) {
		if (ask(chunk, failure, event))
			return true;
		fz_batch_free_chunk(chunk);
		return false;
	}
	add_event(b, FZ_JOB_EVENT_RETRY, event, failure);
	fz_blob_unref(failure->value);
	retry(chunk);
	return true;
}

/*
 * Note that the chunk has an answer now. Returns the time since the answer
 * before, or since the start of the job if that is later; 0 if the job has not
 * started.
 */
static int64_t
restart_clock(struct fz_chunk *chunk)
{
	int64_t since = chunk->job.started_ns;

	if (since == 0)
		return 0;
	if (chunk->answered_ns > since)
		since = chunk->answered_ns;
	chunk->answered_ns = fz_clock_ns();
	return chunk->answered_ns - since;
}

/* Set the times that the worker measured, else those of this process. */
static void
set_times(const struct fz_chunk *chunk, struct fz_job_event *event)
{
	const struct fz_used *used = &chunk->job.used;

	event->ended_ns = chunk->answered_ns;
	if (used->started_ns == 0)
		return;
	event->ended_ns = used->started_ns + used->took_ns;
	event->took_ns = used->took_ns / event->n;
}

/* Fail an item finally. Takes over the reference `failure->value`. */
static void
fail_item(struct fz_batch *b, uint64_t item, struct fz_failure *failure,
    const struct fz_job_event *event)
{
	b->nfailed++;
	add_event(b, FZ_JOB_EVENT_FAILED, event, failure);
	if (b->opts.owner->failed != NULL)
		b->opts.owner->failed(b->opts.owner, item, failure);
	if (!report_failure(b, item, failure) ||
	    (b->opts.policy != FZ_POLICY_CONTINUE && !b->stopping))
		fz_batch_stop(b);
}

void
fz_batch_item_failed(
    struct fz_chunk *chunk, uint64_t item, struct fz_failure *failure)
{
	struct fz_batch *b = chunk->batch;
	struct fz_job_event event = event_of(b, item, 1, failure->pid);
	unsigned attempts = chunk->attempts + 1;

	failure->attempt = attempts;
	event.took_ns = restart_clock(chunk);
	set_times(chunk, &event);
	fz_event_log_describe(b->opts.log, &event, &chunk->job, failure);
	if (b->stopping ||
	    !fz_retry_may(&b->opts.limits, attempts, failure->err.kind) ||
	    !try_again(chunk, item, failure, &event))
		fail_item(b, item, failure, &event);
}

uint64_t
fz_batch_undecided(const struct fz_batch *b, const struct fz_failure **failure)
{
	const struct fz_chunk *chunk = fz_chunk_first(&b->undecided);

	if (chunk == NULL)
		return 0;
	*failure = &chunk->undecided->failure;
	return chunk->first;
}

/* Remove an undecided chunk from its list. Returns the failure of its item. */
static struct fz_undecided
end_question(struct fz_chunk *chunk)
{
	struct fz_undecided undecided = *chunk->undecided;

	free(chunk->undecided);
	chunk->undecided = NULL;
	fz_list_remove(&chunk->link);
	return undecided;
}

void
fz_batch_refuse(struct fz_chunk *chunk)
{
	struct fz_batch *b = chunk->batch;
	uint64_t item = chunk->first;
	struct fz_undecided undecided = end_question(chunk);

	fz_batch_free_chunk(chunk);
	fail_item(b, item, &undecided.failure, &undecided.event);
}

void
fz_batch_decide(struct fz_batch *b, uint64_t item, bool again)
{
	struct fz_chunk *chunk = fz_chunk_find(&b->undecided, item);

	if (chunk == NULL)
		return;
	if (again) {
		struct fz_undecided undecided = end_question(chunk);

		add_event(b, FZ_JOB_EVENT_RETRY, &undecided.event,
		    &undecided.failure);
		fz_blob_unref(undecided.failure.value);
		retry(chunk);
		return;
	}
	fz_batch_refuse(chunk);
	fz_batch_settle(b);
}

static void
end_if_answered(struct fz_chunk *chunk)
{
	fz_producer_wake(&chunk->batch->producer);
	if (chunk->job.worker == NULL)
		fz_batch_end_chunk(chunk);
}

/*
 * Record the starts of the items below `end` whose starts are not recorded yet.
 * If a worker answers several items together, only the start of the first is
 * recorded before. An item that was returned after its start was recorded is
 * not recorded again.
 */
static void
tell_starts(struct fz_chunk *chunk, uint64_t end)
{
	struct fz_batch *b = chunk->batch;
	struct fz_job_event event;

	if (chunk->told >= end ||
	    !fz_event_log_wants(b->opts.log, FZ_JOB_EVENT_START))
		return;
	event = event_of(
	    b, chunk->told, (uint32_t)(end - chunk->told), chunk->job.pid);
	add_event(b, FZ_JOB_EVENT_START, &event, NULL);
	chunk->told = end;
}

/*
 * Record that `n` items have ended. They took `took_ns` together, and their
 * results have `nreceived` bytes.
 */
static void
add_done(struct fz_chunk *chunk, uint64_t first, uint32_t n, int64_t took_ns,
    size_t nreceived)
{
	struct fz_batch *b = chunk->batch;
	struct fz_job_event event;

	if (!fz_event_log_wanted(b->opts.log))
		return;
	tell_starts(chunk, first + n);
	event = event_of(b, first, n, chunk->job.pid);
	event.took_ns = took_ns / n;
	set_times(chunk, &event);
	event.attempt = chunk->attempts + 1;
	fz_event_log_describe(b->opts.log, &event, &chunk->job, NULL);
	event.nreceived = nreceived;
	if (first != chunk->first)
		event.nsent = 0; /* all bytes count for the first items */
	add_event(b, FZ_JOB_EVENT_DONE, &event, NULL);
}

/* Count `n` items, the first of which is `first`, as answered now. */
static void
count_done(struct fz_chunk *chunk, uint64_t first, uint32_t n, size_t nreceived)
{
	struct fz_batch *b = chunk->batch;
	int64_t took_ns = restart_clock(chunk);

	b->ndone += n;
	b->timed_ns += took_ns;
	b->ntimed += n;
	b->mean_ns = 1 + b->timed_ns / b->ntimed;
	if (b->timed_ns > BATCH_RECENT_NS) { /* older items count half */
		b->timed_ns /= 2;
		b->ntimed = 1 + b->ntimed / 2;
	}
	add_done(chunk, first, n, took_ns, nreceived);
}

/*
 * The size of the results in bytes. If several results have the same blob, its
 * whole size counts for the first of them.
 */
static size_t
bytes_of(const struct fz_batch *b, const struct fz_batch_result *result)
{
	if (result->raw)
		return result->n * b->opts.raw_size;
	return result->skip == 0 ? result->blob->len : 0;
}

static void
job_items(struct fz_job *job, uint32_t first, uint32_t n, struct fz_blob *blob,
    uint32_t skip)
{
	struct fz_chunk *chunk = fz_chunk_of(job);
	struct fz_batch *b = chunk->batch;
	struct fz_batch_result result = {
		.first = chunk->first + first, .n = n, .skip = skip
	};

	if (blob == NULL) {
		for (uint32_t i = 0; i < n; i++) {
			struct fz_failure failure = lost;

			fz_batch_item_failed(chunk, result.first + i, &failure);
		}
	} else {
		result.blob = fz_blob_ref(blob);
		result.raw = blob == job->result_buffer;
		if (result.raw)
			b->nraw += n;
		count_done(chunk, result.first, n, bytes_of(b, &result));
		if (!report(b, &result))
			fz_batch_stop(b);
	}
	end_if_answered(chunk);
}

/* The index of the item that the chunk's last answer was for. */
static uint64_t
answered(const struct fz_chunk *chunk)
{
	return chunk->first + chunk->job.ndone - 1;
}

void
fz_batch_value_done(
    struct fz_chunk *chunk, uint64_t item, struct fz_blob *value)
{
	struct fz_batch *b = chunk->batch;
	struct fz_batch_result result = {
		.first = item, .n = 1, .whole = true, .blob = value
	};
	struct fz_failure failure;

	if (value == NULL) {
		failure = lost;
		fz_batch_item_failed(chunk, item, &failure);
		return;
	}
	count_done(chunk, item, 1, value->len);
	if (!report(b, &result))
		fz_batch_stop(b);
}

void
fz_batch_value_known(struct fz_batch *b, uint64_t item, struct fz_blob *value)
{
	struct fz_batch_result result = { .first = item,
		.n = 1,
		.whole = true,
		.known = true,
		.blob = value };
	struct fz_job_event event = event_of(b, item, 1, 0);

	b->ndone++;
	if (fz_event_log_wanted(b->opts.log)) {
		event.ended_ns = fz_clock_ns();
		event.nreceived = value->len;
		event.exitcode = -1;
		add_event(b, FZ_JOB_EVENT_CACHED, &event, NULL);
	}
	if (!report(b, &result))
		fz_batch_stop(b);
}

static void
job_done(struct fz_job *job, struct fz_blob **values, uint32_t n)
{
	struct fz_chunk *chunk = fz_chunk_of(job);

	for (uint32_t i = 1; i < n; i++)
		fz_blob_unref(values[i]);
	fz_batch_value_done(chunk, answered(chunk), n != 0 ? values[0] : NULL);
	end_if_answered(chunk);
}

/*
 * Send an item again in a chunk of its own, because the worker could not decode
 * all items of the chunk together.
 */
static void
send_apart(struct fz_chunk *together, uint64_t item)
{
	struct fz_batch *b = together->batch;
	struct fz_chunk *chunk;

	if (b->stopping)
		return;
	chunk = fz_batch_chunk_new(b, item, 1, together->attempts);
	if (chunk == NULL) {
		fz_batch_fail_whole(b, FZ_ERR_MEMORY,
		    "not enough memory to send an item again");
		return;
	}
	chunk->told = item + 1;
	fz_batch_insert(b, chunk);
}

static void
job_failed(struct fz_job *job, struct fz_failure *failure)
{
	struct fz_chunk *chunk = fz_chunk_of(job);

	tell_starts(chunk, answered(chunk) + 1);
	if (failure->apart && chunk->n > 1) {
		fz_blob_unref(failure->value);
		send_apart(chunk, answered(chunk));
	} else {
		fz_batch_item_failed(chunk, answered(chunk), failure);
	}
	end_if_answered(chunk);
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
		rest = fz_batch_chunk_new(
		    b, chunk->first + job->nitems, nitems, chunk->attempts);
		if (rest == NULL)
			fz_batch_fail_whole(b, FZ_ERR_MEMORY,
			    "not enough memory to send items again");
		else
			rest->job.alone = job->alone;
		if (rest != NULL && chunk->told > rest->first)
			rest->told = chunk->told;
	} else {
		b->nsent--;
		/* other chunks may be made of these items now */
		fz_batch_drop_part(chunk);
		fz_blob_unref(job->result_buffer);
		job->result_buffer = NULL;
	}
	b->share = 0; /* must be computed again */
	if (rest != NULL) {
		fz_batch_insert(b, rest);
		fz_producer_wake_again(&b->producer);
	}
	if (!untouched)
		end_if_answered(chunk);
}

void
fz_batch_job_started(struct fz_job *job)
{
	struct fz_chunk *chunk = fz_chunk_of(job);

	tell_starts(chunk, chunk->first + job->ndone + 1);
}

const struct fz_job_ops fz_batch_chunk_ops = { job_done, job_failed,
	job_returned, fz_batch_job_started, job_items };
