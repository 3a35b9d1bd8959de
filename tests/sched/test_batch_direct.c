/*
 * Results that the workers of a batch store in shared memory.
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

#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "base/clock.h"
#include "base/err.h"
#include "batch_test.h"
#include "batches.h"
#include "os/loop.h"
#include "sched/batch.h"
#include "sched/pool.h"
#include "shared/arena.h"
#include "wire/wire.h"
#include "world.h"

static struct batch_test t;

/* A batch of `n` items in chunks of `chunk`, whose results may be raw. */
static void
place_init(struct batch_world *b, uint64_t n, uint32_t chunk)
{
	batch_test_init(&t, b, n);
	for (uint64_t i = 0; i < BATCH_TEST_MAX; i++)
		t.items[i] = ITEM_OF(ITEM_STORE, i + 1);
	t.opts.raw_size = ITEMS_RAW;
	t.opts.chunk = chunk;
}

/* Check that each item that is done has its own value, raw or not. */
static void
assert_values(struct batch_test *batch_test)
{
	for (uint64_t i = 1; i <= BATCH_TEST_MAX; i++) {
		if (batch_test->outcomes[i].ndone != 0)
			assert_int_equal(batch_test->outcomes[i].value, i);
	}
}

static void
test_batch_results_are_stored_raw(void **state)
{
	struct batch_world *b = *state;

	/* A second worker might get the rest of a chunk without a buffer. */
	b->opts.workers = 1;
	place_init(b, BATCH_TEST_MAX, 500);
	batch_test_start(&t);
	assert_all_items_done(&t);
	assert_values(&t);
	assert_int_equal(t.nraw, BATCH_TEST_MAX);
	assert_int_equal(result_buffers.asked, BATCH_TEST_MAX / 500);
	batch_test_fini(&t);
	assert_int_equal(result_buffers.live, 0);
}

static void
test_batch_results_of_an_inherited_list_are_stored_raw(void **state)
{
	struct batch_world *b = *state;

	/* A second worker might get the rest of a chunk without a buffer. */
	b->opts.workers = 1;
	place_init(b, 3000, 500);
	t.opts.kind |= FZ_WIRE_INHERITED;
	batch_test_start(&t);
	assert_all_items_done(&t);
	assert_values(&t);
	assert_int_equal(t.nraw, 3000);
	assert_true(result_buffers.least_n >= 256);
	batch_test_fini(&t);
}

static void
test_batch_only_long_chunks_have_a_result_buffer(void **state)
{
	static const struct {
		uint32_t chunk, most;
		size_t raw_size;
		bool stored;
	} cases[] = { { 256, 0, ITEMS_RAW, true }, { 255, 0, ITEMS_RAW, false },
		{ 512, 0, 0, false },
		{ 512, 255, ITEMS_RAW, false } /* chunks have 255 items */ };

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		result_buffers.asked = 0;
		place_init(*state, 1024, cases[i].chunk);
		t.opts.raw_size = cases[i].raw_size;
		t.most = cases[i].most;
		batch_test_start(&t);
		assert_all_items_done(&t);
		assert_values(&t);
		/* The recalled rest of a chunk may be too small for raw
		 * results. */
		assert_int_equal(t.nraw >= 256, cases[i].stored);
		assert_int_equal(result_buffers.asked != 0, cases[i].stored);
		assert_true(t.nraw == 0 || cases[i].stored);
		batch_test_fini(&t);
	}
}

static void
test_batch_without_memory_for_a_buffer_results_are_sent(void **state)
{
	result_buffers.fails = true;
	place_init(*state, 3000, 500);
	batch_test_start(&t);
	assert_all_items_done(&t);
	assert_values(&t);
	assert_int_equal(t.nraw, 0);
	assert_true(result_buffers.asked != 0);
	batch_test_fini(&t);
}

/* Only chunks that were sent before the first results have result buffers. */
static void
test_batch_has_no_result_buffers_if_most_results_do_not_fit(void **state)
{
	place_init(*state, BATCH_TEST_MAX, 300);
	for (uint64_t i = 0; i < BATCH_TEST_MAX; i++)
		t.items[i] =
		    ITEM_OF(i % 3 == 0 ? ITEM_STORE : ITEM_KEEP, i + 1);
	batch_test_start(&t);
	assert_all_items_done(&t);
	assert_values(&t);
	assert_true(result_buffers.asked != 0 && result_buffers.asked < 17);
	assert_true(result_buffers.most_done < 256);
	assert_true(t.nraw > 0 && t.nraw < BATCH_TEST_MAX / 3);
	batch_test_fini(&t);
}

static void
test_batch_has_result_buffers_if_most_results_fit(void **state)
{
	struct batch_world *b = *state;

	/* A second worker might get the rest of a chunk with a new buffer. */
	b->opts.workers = 1;
	place_init(b, BATCH_TEST_MAX, 300);
	for (uint64_t i = 0; i < BATCH_TEST_MAX; i++)
		t.items[i] =
		    ITEM_OF(i % 3 != 0 ? ITEM_STORE : ITEM_KEEP, i + 1);
	batch_test_start(&t);
	assert_all_items_done(&t);
	assert_values(&t);
	/* The last chunk has 200 items, which are too few for a buffer. */
	assert_int_equal(result_buffers.asked, 16);
	assert_true(result_buffers.most_done > 256);
	batch_test_fini(&t);
}

static void
test_batch_raw_and_other_results_can_alternate(void **state)
{
	struct batch_world *b = *state;

	/* A second worker might get the rest of a chunk without a buffer. */
	b->opts.workers = 1;
	place_init(b, BATCH_TEST_MAX, 1000);
	for (uint64_t i = 0; i < BATCH_TEST_MAX; i += 10)
		t.items[i] = ITEM_OF(ITEM_REPLY, i + 1);
	for (uint64_t i = 5; i < BATCH_TEST_MAX; i += 10)
		t.items[i] = ITEM_OF(ITEM_KEEP, i + 1);
	for (uint64_t i = 7; i < BATCH_TEST_MAX; i += 100)
		t.items[i] = ITEM_OF(ITEM_RAISE, i + 1);
	t.items[1000] = ITEM_OF(ITEM_FLUSH, 1001);
	t.opts.limits.retries = 1;
	batch_test_start(&t);
	assert_true(batch_test_finishes(&t));
	assert_true(has_all_outcomes(&t));
	assert_values(&t);
	for (uint64_t i = 0; i < BATCH_TEST_MAX; i++) {
		assert_int_equal(t.outcomes[i + 1].nfailed, i % 100 == 7);
		assert_int_equal(
		    t.outcomes[i + 1].stored, i % 5 != 0 && i % 100 != 7);
	}
	batch_test_fini(&t);
}

/*
 * Result buffers are freed with the results, even if the caller has not taken
 * the results.
 */
static void
test_batch_frees_its_result_buffers_however_it_ends(void **state)
{
	struct batch_world *b = *state;
	size_t held = 0;

	for (int i = 0; i < 60; i++) {
		items_forget(b->home->shared, BATCH_TEST_MAX + 1);
		atomic_store(&b->home->shared->gate, false);
		atomic_store(&b->home->shared->waiting, 0);
		place_init(b, BATCH_TEST_MAX, 1000);
		t.opts.limits.retries = 3;
		if (i % 6 == 0) /* the batch is cancelled while it runs */
			t.items[1500] = ITEM_OF(ITEM_WAIT, 1501);
		if (i % 6 == 1)
			t.items[1500] = ITEM_OF(ITEM_KILL_ONCE, 1501);
		if (i % 6 == 2) /* an item times out and its worker is killed */
			t.items[1500] = ITEM_OF(ITEM_SLEEP, 60000);
		if (i % 6 == 2)
			t.opts.limits.timeout_ns = 5 * FZ_CLOCK_MS;
		if (i % 6 == 2)
			t.opts.limits.retries = 0;
		if (i % 6 == 3) { /* an error stops the batch */
			t.items[1500] = ITEM_OF(ITEM_RAISE, 1501);
			t.opts.policy = FZ_POLICY_NOW;
			t.opts.limits.retries = 0;
		}
		atomic_store(&b->home->shared->onces, 0);
		batch_test_start(&t);
		if (i % 6 == 0) {
			batch_test_wait(&t, 1);
			fz_batch_cancel(t.batch, FZ_ERR_CANCELLED, "by hand");
		} else if (i % 6 == 4) { /* the batch is freed before its end */
			for (int j = 0; j < i; j++)
				fz_loop_turn(b->w->engine.loop, in_ms(1), NULL);
		} else {
			assert_true(batch_test_finishes(&t));
		}
		if (i % 6 != 4)
			batch_test_take(&t);
		assert_values(&t);
		batch_test_fini(&t);
		assert_int_equal(result_buffers.live, 0);
		if (i == 11)
			held = fz_arena_held(b->w->engine.arena);
	}
	assert_true(result_buffers.asked > 60);
	/* A leak would show: each of the more than 60 buffers has 16 kB. */
	assert_true(fz_arena_held(b->w->engine.arena) <= held + (64 << 10));
}

/* The rest of a chunk goes to another worker, and has a buffer of its own. */
static void
test_batch_rest_of_a_chunk_has_its_own_result_buffer(void **state)
{
	struct batch_world *b = *state;

	for (int i = 0; i < 10; i++) {
		items_forget(b->home->shared, BATCH_TEST_MAX + 1);
		place_init(
		    b, BATCH_TEST_MAX, i % 2 != 0 ? BATCH_TEST_MAX : 2500);
		for (uint64_t j = 0; j < BATCH_TEST_MAX; j += 100)
			t.items[j] = ITEM_OF(ITEM_NAP_STORE, j + 1);
		batch_test_start(&t);
		assert_all_items_done(&t);
		assert_values(&t);
		for (uint64_t j = 1; j <= BATCH_TEST_MAX; j++)
			assert_int_equal(times_run(&t, j), 1);
		batch_test_fini(&t);
		assert_int_equal(result_buffers.live, 0);
	}
	assert_true(atomic_load(&b->home->shared->births) >= 2);
}

/* Without this, a chunk could pass from worker to worker and never begin. */
static void
test_batch_workers_keep_chunks_that_they_have_not_begun(void **state)
{
	int64_t until = in_ms(PATIENCE_MS);

	for (int i = 0; i < 10; i++) {
		place_init(*state, BATCH_TEST_MAX, BATCH_TEST_MAX);
		for (uint64_t j = 0; j < BATCH_TEST_MAX; j += 100)
			t.items[j] = ITEM_OF(ITEM_NAP_STORE, j + 1);
		batch_test_start(&t);
		while (!fz_batch_done(t.batch)) {
			assert_true(turn_until(t.world->w, until));
			assert_true(t.nchunks < BATCH_TEST_CHUNKS);
			batch_test_take(&t);
		}
		assert_all_items_done(&t);
		batch_test_fini(&t);
	}
}

static void
test_batch_workers_killed_while_they_store_lose_nothing(void **state)
{
	struct batch_world *b = *state;
	uint64_t before = 0;
	int nkills = 0;

	/* More rounds are needed if this process gets few turns in each. */
	for (int round = 0; round < 20 || nkills <= 20; round++) {
		place_init(b, BATCH_TEST_MAX, 700);
		for (uint64_t i = 0; i < BATCH_TEST_MAX; i += 50)
			t.items[i] = ITEM_OF(ITEM_NAP_STORE, i + 1);
		t.opts.limits.retries = UINT32_MAX - 1;
		batch_test_start(&t);
		before = 0;
		while (!fz_batch_done(t.batch)) {
			pid_t pid = 0;

			fz_loop_turn(b->w->engine.loop, in_ms(1), NULL);
			batch_test_take(&t);
			if (nkills >= 10 * (round + 1) || t.ndone == before)
				continue;
			before = t.ndone;
			fz_pool_pids(b->pool, batch_test_note_pid, &pid);
			if (pid != 0)
				nkills += kill(pid, SIGKILL) == 0;
		}
		assert_all_items_done(&t);
		assert_values(&t);
		batch_test_fini(&t);
		assert_int_equal(result_buffers.live, 0);
	}
	print_message("%d kills, %u buffers\n", nkills, result_buffers.asked);
}

#define TEST(name)                       \
	cmocka_unit_test_setup_teardown( \
	    name, batch_world_setup, batch_world_teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_batch_results_are_stored_raw),
		TEST(test_batch_results_of_an_inherited_list_are_stored_raw),
		TEST(test_batch_only_long_chunks_have_a_result_buffer),
		TEST(test_batch_without_memory_for_a_buffer_results_are_sent),
		TEST(
		    test_batch_has_no_result_buffers_if_most_results_do_not_fit),
		TEST(test_batch_has_result_buffers_if_most_results_fit),
		TEST(test_batch_raw_and_other_results_can_alternate),
		TEST(test_batch_frees_its_result_buffers_however_it_ends),
		TEST(test_batch_rest_of_a_chunk_has_its_own_result_buffer),
		TEST(test_batch_workers_keep_chunks_that_they_have_not_begun),
		TEST(test_batch_workers_killed_while_they_store_lose_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
