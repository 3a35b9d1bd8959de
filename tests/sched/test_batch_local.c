/*
 * Batches without workers.
 *
 * wrap: fz_engine_room
 */
/* kill and usleep are not in C11. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdatomic.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"
#include "batch_test.h"
#include "batches.h"
#include "os/loop.h"
#include "sched/batch.h"
#include "sched/batch_pool.h"
#include "trace/job_event.h"
#include "wire/blob.h"
#include "wire/wire.h"
#include "world.h"

static struct batch_test t;

static uint64_t
next_item(struct fz_batch *batch, struct fz_blob **part)
{
	bool ready = fz_batch_local_ready(batch);
	uint64_t item = fz_batch_local_next(batch, part);

	assert_int_equal(ready, item != 0);
	return item;
}

static void
test_batch_local_items_are_called_by_their_caller(void **state)
{
	struct batch_world *b = *state;
	struct fz_failure failure = { .err.kind = FZ_ERR_ERROR };
	struct fz_blob *part;

	b->opts.workers = 0;
	batch_test_init(&t, b, 3);
	batch_test_start(&t);
	assert_true(fz_batch_pool_is_local(b->sched));
	for (uint64_t i = 1; i <= 3; i++) {
		part = NULL;
		assert_int_equal(next_item(t.batch, &part), i);
		assert_int_equal(fz_le64_load(part->bytes), t.items[i - 1]);
		if (i == 2)
			fz_batch_local_failed(t.batch, i, &failure);
		else
			fz_batch_local_done(t.batch, i, fz_blob_ref(part));
		fz_blob_unref(part);
	}
	assert_int_equal(next_item(t.batch, &part), 0);
	assert_true(fz_batch_done(t.batch));
	assert_true(batch_test_finishes(&t));
	assert_true(has_all_outcomes(&t));
	assert_items_done(&t, 1, 1);
	assert_item_failed(&t, 2, FZ_ERR_ERROR, 1);
	assert_items_done(&t, 3, 3);
	assert_int_equal(t.nevents[FZ_JOB_EVENT_START], 3);
	assert_int_equal(atomic_load(&b->home->shared->births), 0);
	batch_test_fini(&t);
}

static void
test_batch_local_retries_wait_too(void **state)
{
	struct batch_world *b = *state;
	struct fz_failure failure = { .err.kind = FZ_ERR_ERROR };
	int64_t start = fz_clock_ns();
	struct fz_blob *part = NULL;
	uint64_t item;

	b->opts.workers = 0;
	batch_test_init(&t, b, 1);
	t.opts.kind |= FZ_WIRE_INHERITED;
	t.opts.limits.retries = 1;
	t.opts.limits.backoff_ns = 20 * FZ_CLOCK_MS;
	batch_test_start(&t);
	assert_int_equal(next_item(t.batch, &part), 1);
	assert_null(part);
	fz_batch_local_failed(t.batch, 1, &failure);
	while ((item = next_item(t.batch, &part)) == 0) {
		assert_false(fz_batch_done(t.batch));
		fz_loop_turn(b->w->engine.loop, in_ms(100), NULL);
	}
	assert_true(fz_clock_ns() - start >= 20 * FZ_CLOCK_MS);
	fz_batch_local_done(t.batch, item, blob_of_number(9));
	assert_all_items_done(&t);
	assert_int_equal(t.outcomes[1].value, 9);
	batch_test_fini(&t);
}

/* An item may cancel its own batch; the item then has no result. */
static void
test_batch_local_may_be_cancelled_within_an_item(void **state)
{
	struct batch_world *b = *state;
	struct fz_failure failure = { .err.kind = FZ_ERR_ERROR };
	struct fz_blob *part = NULL;

	b->opts.workers = 0;
	batch_test_init(&t, b, 5);
	t.opts.kind |= FZ_WIRE_INHERITED;
	batch_test_start(&t);
	assert_int_equal(next_item(t.batch, &part), 1);
	assert_int_equal(next_item(t.batch, &part), 2);
	assert_int_equal(next_item(t.batch, &part), 3);
	fz_batch_local_done(t.batch, 1, blob_of_number(1));
	assert_int_equal(fz_batch_counts(t.batch).done, 1);
	fz_batch_cancel(t.batch, FZ_ERR_CANCELLED, "within");
	assert_true(fz_batch_done(t.batch));
	fz_batch_local_done(t.batch, 2, blob_of_number(1));
	failure.value = blob_of_number(1);
	fz_batch_local_failed(t.batch, 3, &failure);
	assert_int_equal(next_item(t.batch, &part), 0);
	assert_true(batch_test_finishes(&t));
	assert_int_equal(t.ndone, 1);
	assert_int_equal(t.nfailed, 0);
	batch_test_fini(&t);
}

#define TEST(name)                       \
	cmocka_unit_test_setup_teardown( \
	    name, batch_world_setup, batch_world_teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_batch_local_items_are_called_by_their_caller),
		TEST(test_batch_local_retries_wait_too),
		TEST(test_batch_local_may_be_cancelled_within_an_item),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
