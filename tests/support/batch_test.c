/* kill and usleep are not in C11. */
#define _GNU_SOURCE
#include "batch_test.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"
#include "batches.h"
#include "os/loop.h"
#include "sched/batch.h"
#include "sched/batch_pool.h"
#include "sched/pool.h"
#include "shared/arena.h"
#include "trace/job_event.h"
#include "wire/blob.h"
#include "wire/wire.h"
#include "world.h"

struct result_buffers result_buffers;

int
batch_world_setup(void **state)
{
	struct batch_world *b = calloc(1, sizeof(*b));
	void *w;

	memset(&result_buffers, 0, sizeof(result_buffers));
	result_buffers.least_n = UINT64_MAX;
	world_setup(&w);
	b->w = w;
	b->home = items_home_new();
	b->opts.workers = 2;
	*state = b;
	return 0;
}

void
batch_world_close(struct batch_world *b)
{
	fz_batch_pool_free(b->sched);
	fz_pool_free(b->pool);
	b->sched = NULL;
	b->pool = NULL;
}

int
batch_world_teardown(void **state)
{
	struct batch_world *b = *state;
	void *w = b->w;

	batch_world_close(b);
	assert_int_equal(result_buffers.live, 0);
	items_home_free(b->home);
	free(b);
	return world_teardown(&w);
}

int
batch_world_open(struct batch_world *b)
{
	struct fz_pool_opts opts = { .engine = &b->w->engine,
		.max = b->opts.workers != 0 ? b->opts.workers : 1,
		.max_tasks = b->max_tasks,
		.main = items_serve,
		.main_ctx = b->home };

	b->pool = fz_pool_new(&opts, NULL);
	b->opts.engine = &b->w->engine;
	b->opts.pool = b->pool;
	if (b->pool != NULL)
		b->sched = fz_batch_pool_new(&b->opts, NULL);
	return b->sched != NULL ? 0 : -1;
}

static struct fz_blob *
batch_test_encode(
    void *ctx, uint64_t first, uint32_t *n, struct fz_failure *failure)
{
	struct batch_test *t = ctx;
	struct fz_blob *part;

	if (first == t->bad) {
		fz_err_set(&failure->err, FZ_ERR_UNSENDABLE, "it is bad");
		return NULL;
	}
	if (first < t->bad && first + *n > t->bad)
		*n = (uint32_t)(t->bad - first);
	if (t->most != 0 && *n > t->most)
		*n = t->most;
	if (t->nchunks < BATCH_TEST_CHUNKS)
		t->chunks[t->nchunks++] = *n;
	part = items_part(t->items + first - 1, *n);
	if (part == NULL)
		fz_err_nomem(&failure->err, "an item");
	return part;
}

void
batch_test_init(struct batch_test *t, struct batch_world *b, uint64_t n)
{
	memset(t, 0, sizeof(*t));
	t->world = b;
	t->opts = (struct fz_batch_opts){ .kind = FZ_WIRE_MAP,
		.n = n,
		.policy = FZ_POLICY_CONTINUE,
		.limits = { .timeout_ns = FZ_CLOCK_NEVER },
		.events = true,
		.encode = batch_test_encode,
		.ctx = t };
	for (uint64_t i = 0; i < BATCH_TEST_MAX; i++)
		t->items[i] = ITEM_OF(ITEM_KEEP, i + 1);
	items_forget(b->home->shared, BATCH_TEST_MAX + 1);
}

void
batch_test_fill(struct batch_test *t, enum item_op op, uint32_t value)
{
	for (uint64_t i = 0; i < BATCH_TEST_MAX; i++)
		t->items[i] = ITEM_OF(op, value);
}

int
batch_test_start(struct batch_test *t)
{
	if (t->world->sched == NULL)
		assert_int_equal(batch_world_open(t->world), 0);
	t->opts.owner = fz_batch_pool_owner(t->world->sched);
	t->batch = fz_batch_new(&t->opts, NULL);
	if (t->batch == NULL)
		return -1;
	result_buffers.last = t;
	fz_batch_start(t->batch);
	return 0;
}

static void
batch_test_take_values(
    struct batch_test *t, const struct fz_batch_result *result)
{
	struct fz_arena *arena = t->world->w->engine.arena;
	const unsigned char *at = fz_blob_map(result->blob, arena, NULL);

	for (uint32_t i = 0; i < result->n; i++) {
		struct outcome *o = &t->outcomes[result->first + i];

		assert_true(result->first + i <= BATCH_TEST_MAX);
		o->ndone++;
		t->ndone++;
		if (result->raw) {
			assert_non_null(at);
			assert_false(result->whole);
			o->value = items_slot(at, result->skip + i);
			o->stored = true;
			t->nraw++;
		} else if (at != NULL && result->blob->len != ITEMS_BULK)
			o->value =
			    fz_le64_load(at + 8 * (size_t)(result->skip + i));
	}
	if (at != NULL)
		fz_blob_unmap(result->blob, arena, at);
	fz_blob_unref(result->blob);
}

void
batch_test_take(struct batch_test *t)
{
	struct fz_job_event event;
	struct fz_batch_result result;

	while (fz_batch_take(t->batch, &result) == 1) {
		struct outcome *o = &t->outcomes[result.first];

		assert_true(result.n != 0);
		if (result.failure == NULL) {
			batch_test_take_values(t, &result);
			continue;
		}
		assert_int_equal(result.n, 1);
		o->nfailed++;
		t->nfailed++;
		o->kind = result.failure->err.kind;
		o->attempt = result.failure->attempt;
		fz_blob_unref(result.failure->value);
		free(result.failure);
	}
	while (fz_batch_next_event(t->batch, &event) == 1)
		t->nevents[event.kind] += event.n;
}

bool
batch_test_finishes(struct batch_test *t)
{
	int64_t until = in_ms(PATIENCE_MS);

	while (!fz_batch_done(t->batch)) {
		if (!turn_until(t->world->w, until))
			return false;
		batch_test_take(t);
	}
	batch_test_take(t);
	return true;
}

void
batch_test_fini(struct batch_test *t)
{
	fz_batch_free(t->batch);
	t->batch = NULL;
}

void
assert_items_done(struct batch_test *t, uint64_t from, uint64_t to)
{
	for (uint64_t i = from; i <= to; i++) {
		assert_int_equal(t->outcomes[i].ndone, 1);
		assert_int_equal(t->outcomes[i].nfailed, 0);
	}
}

void
assert_item_failed(struct batch_test *t, uint64_t item, enum fz_err_kind kind,
    unsigned attempt)
{
	assert_int_equal(t->outcomes[item].nfailed, 1);
	assert_int_equal(t->outcomes[item].ndone, 0);
	assert_int_equal(t->outcomes[item].kind, kind);
	assert_int_equal(t->outcomes[item].attempt, attempt);
}

bool
has_all_outcomes(struct batch_test *t)
{
	struct fz_batch_counts c = fz_batch_counts(t->batch);
	uint64_t n = 0;

	assert_int_equal(c.running, 0);
	for (uint64_t i = 1; i <= c.total; i++) {
		const struct outcome *o = &t->outcomes[i];

		assert_true(o->ndone + o->nfailed <= 1);
		n += o->ndone + o->nfailed;
	}
	return n == c.total;
}

void
assert_all_items_done(struct batch_test *t)
{
	assert_true(batch_test_finishes(t));
	assert_null(fz_batch_whole(t->batch));
	assert_items_done(t, 1, fz_batch_counts(t->batch).total);
	assert_true(has_all_outcomes(t));
}

int
times_run(struct batch_test *t, uint64_t item)
{
	return atomic_load(&t->world->home->shared->ran[item]);
}

void
batch_test_wait(struct batch_test *t, int n)
{
	wait_for_count(t->world->w, &t->world->home->shared->waiting, n);
}

void
batch_test_open_gate(struct batch_test *t)
{
	atomic_store(&t->world->home->shared->gate, true);
}

static void
give_back_buffer(void *owner, uint64_t offset)
{
	result_buffers.live--;
	result_buffers.release(owner, offset);
}

struct fz_blob *__real_fz_engine_room(
    struct fz_engine *engine, size_t len, struct fz_err *err);

struct fz_blob *__wrap_fz_engine_room(
    struct fz_engine *engine, size_t len, struct fz_err *err);

struct fz_blob *
__wrap_fz_engine_room(struct fz_engine *engine, size_t len, struct fz_err *err)
{
	struct fz_blob *blob = NULL;
	const struct batch_test *last = result_buffers.last;
	uint64_t done = last != NULL && last->batch != NULL
			    ? fz_batch_counts(last->batch).done
			    : 0;

	result_buffers.asked++;
	if (len / ITEMS_RAW < result_buffers.least_n)
		result_buffers.least_n = len / ITEMS_RAW;
	if (done > result_buffers.most_done)
		result_buffers.most_done = done;
	if (!result_buffers.fails)
		blob = __real_fz_engine_room(engine, len, err);
	if (blob != NULL) {
		result_buffers.live++;
		result_buffers.release = blob->release;
		blob->release = give_back_buffer;
	}
	return blob;
}

void
batch_test_note_pid(void *ctx, pid_t pid)
{
	*(pid_t *)ctx = pid;
}
