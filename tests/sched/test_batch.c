/*
 * Batches: each item is called once, in chunks, in turn.
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

#include "batch_test.h"
#include "batches.h"
#include "os/loop.h"
#include "sched/batch.h"
#include "sched/batch_pool.h"
#include "trace/job_event.h"
#include "wire/wire.h"
#include "worker/change.h"
#include "world.h"

static struct batch_test t, u;

static void
test_batch_each_item_is_called_once(void **state)
{
	batch_test_init(&t, *state, BATCH_TEST_MAX);
	t.items[17] = ITEM_OF(ITEM_REPLY, 18);
	t.items[18] = ITEM_OF(ITEM_BULK, 0);
	batch_test_start(&t);
	assert_int_equal(fz_batch_pool_nbatches(t.world->sched), 1);
	assert_all_items_done(&t);
	assert_int_equal(fz_batch_pool_nbatches(t.world->sched), 0);
	for (uint64_t i = 1; i <= BATCH_TEST_MAX; i++) {
		assert_int_equal(times_run(&t, i), 1);
		if (i != 19)
			assert_int_equal(t.outcomes[i].value, i);
	}
	assert_int_equal(t.nevents[FZ_JOB_EVENT_DONE], BATCH_TEST_MAX);
	assert_true(t.nevents[FZ_JOB_EVENT_START] != 0);
	assert_int_equal(t.nevents[FZ_JOB_EVENT_FAILED], 0);
	batch_test_fini(&t);
}

static void
test_batch_of_nothing_is_done(void **state)
{
	batch_test_init(&t, *state, 0);
	batch_test_start(&t);
	assert_true(fz_batch_done(t.batch));
	assert_int_equal(atomic_load(&t.world->home->shared->births), 0);
	batch_test_fini(&t);
	fz_batch_free(NULL);
	fz_batch_pool_free(NULL);
}

static void
test_batch_workers_may_have_the_list(void **state)
{
	batch_test_init(&t, *state, 3000);
	t.opts.kind |= FZ_WIRE_INHERITED;
	batch_test_start(&t);
	assert_all_items_done(&t);
	assert_int_equal(t.nchunks, 0);
	for (uint64_t i = 1; i <= 3000; i++)
		assert_int_equal(t.outcomes[i].value, i);
	batch_test_fini(&t);
}

static void
test_batch_chunks_have_their_size(void **state)
{
	static const struct {
		uint32_t n, chunk, most; /* items; the options chunk and most */
		uint32_t first, largest; /* items in these chunks */
	} cases[] = {
		{ 100, 7, 0, 7, 7 }, { 100, 1, 0, 1, 1 },
		{ 100, 1000, 0, 100, 100 },
		{ 100, 10, 3, 3, 3 },  /* at most 3 items in a chunk */
		{ 1000, 0, 0, 1, 250 } /* small chunks at the end */
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		uint32_t sum = 0;

		batch_test_init(&t, *state, cases[i].n);
		t.opts.chunk = cases[i].chunk;
		t.most = cases[i].most;
		batch_test_start(&t);
		assert_all_items_done(&t);
		assert_int_equal(t.chunks[0], cases[i].first);
		for (uint32_t j = 0; j < t.nchunks; j++) {
			assert_true(t.chunks[j] <= cases[i].largest);
			sum += t.chunks[j];
		}
		/* Items that were recalled from a worker count twice. */
		assert_true(sum >= cases[i].n);
		batch_test_fini(&t);
		batch_world_close(*state);
	}
}

static void
test_batch_grows_while_it_runs(void **state)
{
	struct fz_blob *part;

	batch_test_init(&t, *state, 0);
	t.opts.growing = true;
	t.opts.kind = FZ_WIRE_CALL;
	t.opts.encode = NULL;
	batch_test_start(&t);
	for (uint64_t i = 0; i < 20; i++) {
		assert_false(fz_batch_done(t.batch));
		part = items_part(t.items + i, 1);
		assert_int_equal(fz_batch_add(t.batch, part, NULL), 0);
		if (i % 3 == 0)
			fz_loop_turn(t.world->w->engine.loop, in_ms(5), NULL);
	}
	while (fz_batch_counts(t.batch).done != 20)
		fz_loop_turn(t.world->w->engine.loop, in_ms(5), NULL);
	assert_false(fz_batch_done(t.batch));
	fz_batch_end(t.batch);
	assert_true(fz_batch_done(t.batch));
	assert_all_items_done(&t);
	for (uint64_t i = 1; i <= 20; i++)
		assert_int_equal(t.outcomes[i].value, i);
	/* After the end of the batch no item is added. */
	part = items_part(t.items, 1);
	assert_int_equal(fz_batch_add(t.batch, part, NULL), 0);
	assert_int_equal(fz_batch_counts(t.batch).total, 20);
	batch_test_fini(&t);
}

static void
test_batch_skipped_items_have_numbers_and_no_results(void **state)
{
	batch_test_init(&t, *state, 0);
	t.opts.growing = true;
	t.opts.kind = FZ_WIRE_CALL;
	t.opts.encode = NULL;
	batch_test_start(&t);
	for (uint64_t i = 0; i < 9; i++) {
		if (i % 3 == 1)
			assert_int_equal(fz_batch_skip(t.batch, NULL), 0);
		else
			assert_int_equal(fz_batch_add(t.batch,
					     items_part(t.items + i, 1), NULL),
			    0);
	}
	fz_batch_end(t.batch);
	assert_true(batch_test_finishes(&t));
	for (uint64_t i = 1; i <= 9; i++) {
		assert_int_equal(t.outcomes[i].ndone, i % 3 != 2);
		assert_int_equal(t.outcomes[i].value, i % 3 != 2 ? i : 0);
		assert_int_equal(t.outcomes[i].nfailed, 0);
	}
	assert_int_equal(fz_batch_counts(t.batch).failed, 3);
	assert_int_equal(fz_batch_skip(t.batch, NULL), 0);
	assert_int_equal(fz_batch_counts(t.batch).total, 9);
	batch_test_fini(&t);
}

static void
test_batch_counts_running_and_waiting_items(void **state)
{
	struct fz_batch_counts c;

	batch_test_init(&t, *state, 10);
	t.opts.chunk = 1;
	t.items[0] = t.items[1] = ITEM_OF(ITEM_WAIT, 0);
	batch_test_start(&t);
	c = fz_batch_counts(t.batch);
	assert_int_equal(c.total, 10);
	assert_int_equal(c.waiting, 10);
	batch_test_wait(&t, 2);
	c = fz_batch_counts(t.batch);
	assert_int_equal(c.running, 2);
	assert_int_equal(c.waiting, 8);
	batch_test_open_gate(&t);
	assert_all_items_done(&t);
	c = fz_batch_counts(t.batch);
	assert_int_equal(c.done, 10);
	assert_int_equal(c.running + c.waiting + c.failed, 0);
	batch_test_fini(&t);
}

static void
test_batch_two_of_them_go_in_turn(void **state)
{
	batch_test_init(&t, *state, 100);
	batch_test_init(&u, *state, 100);
	batch_test_fill(&t, ITEM_SLEEP, 1);
	batch_test_fill(&u, ITEM_SLEEP, 1);
	t.opts.chunk = u.opts.chunk = 2;
	batch_test_start(&t);
	batch_test_start(&u);
	assert_int_equal(fz_batch_pool_nbatches(t.world->sched), 2);
	assert_true(batch_test_finishes(&t));
	assert_true(fz_batch_counts(u.batch).done > 50);
	assert_all_items_done(&u);
	assert_items_done(&t, 1, 100);
	batch_test_fini(&t);
	batch_test_fini(&u);
}

/* Take all changes. Returns whether the object with this id has changed. */
static bool
has_changed(struct fz_engine *engine, uint64_t id)
{
	bool found = false;

	for (uint64_t i = 1; i != 0; found = found || i == id)
		i = fz_change_take(engine);
	return found;
}

static void
test_batch_has_changed_when_it_is_done(void **state)
{
	struct fz_engine *engine;

	batch_test_init(&t, *state, 5);
	batch_test_init(&u, *state, 5);
	t.items[0] = ITEM_OF(ITEM_SLEEP, 100);
	t.opts.chunk = u.opts.chunk = 1;
	batch_test_start(&t);
	batch_test_start(&u);
	engine = &t.world->w->engine;
	assert_int_equal(fz_change_take(engine), 0);
	assert_all_items_done(&u);
	assert_true(has_changed(engine, fz_batch_id(u.batch)));
	assert_false(has_changed(engine, fz_batch_id(u.batch)));
	assert_all_items_done(&t);
	batch_test_fini(&t); /* drops the pending change of this batch */
	assert_int_equal(fz_change_take(engine), 0);
	batch_test_fini(&u);
}

#define TEST(name)                       \
	cmocka_unit_test_setup_teardown( \
	    name, batch_world_setup, batch_world_teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_batch_each_item_is_called_once),
		TEST(test_batch_of_nothing_is_done),
		TEST(test_batch_workers_may_have_the_list),
		TEST(test_batch_chunks_have_their_size),
		TEST(test_batch_grows_while_it_runs),
		TEST(test_batch_skipped_items_have_numbers_and_no_results),
		TEST(test_batch_counts_running_and_waiting_items),
		TEST(test_batch_two_of_them_go_in_turn),
		TEST(test_batch_has_changed_when_it_is_done),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
