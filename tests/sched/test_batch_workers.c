/*
 * The workers of batches: how many, their functions, their deaths.
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
#include <unistd.h>

#include "base/err.h"
#include "batch_test.h"
#include "batches.h"
#include "os/loop.h"
#include "sched/batch.h"
#include "sched/batch_pool.h"
#include "sched/pool.h"
#include "trace/job_event.h"
#include "wire/wire.h"
#include "worker/change.h"
#include "world.h"

static struct batch_test t, u;

static void
test_batch_a_worker_does_so_many_items_at_most(void **state)
{
	struct batch_world *b = *state;
	int sum = 0;

	b->max_tasks = 10;
	batch_test_init(&t, b, 100);
	t.opts.chunk = 4;
	batch_test_start(&t);
	assert_all_items_done(&t);
	assert_true(atomic_load(&b->home->shared->births) >= 10);
	for (int i = 0; i < ITEMS_WORKER_MAX; i++) {
		int n = atomic_load(&b->home->shared->ncalls[i]);

		assert_true(n <= 10);
		sum += n;
	}
	assert_int_equal(sum, 100);
	batch_test_fini(&t);
}

static void
test_batch_once_workers_leave_at_its_end(void **state)
{
	struct batch_world *b = *state;
	int64_t until = in_ms(PATIENCE_MS);

	b->opts.once = true;
	for (int round = 1; round <= 2; round++) {
		batch_test_init(&t, b, 100);
		batch_test_start(&t);
		assert_all_items_done(&t);
		while (fz_pool_nworkers(b->pool) != 0)
			assert_true(turn_until(b->w, until));
		assert_true(atomic_load(&b->home->shared->births) >= round);
		batch_test_fini(&t);
	}
}

/* Two of the three workers wait in the first items of their chunks. */
static void
test_batch_an_idle_worker_gets_items_of_another(void **state)
{
	struct batch_world *b = *state;
	int64_t until = in_ms(PATIENCE_MS);
	int sum = 0, most = 0;

	b->opts.workers = 3;
	batch_test_init(&t, b, 150);
	t.opts.chunk = 50;
	t.items[0] = t.items[50] = ITEM_OF(ITEM_WAIT, 0);
	batch_test_start(&t);
	while (fz_batch_counts(t.batch).done < 60)
		assert_true(turn_until(b->w, until));
	batch_test_open_gate(&t);
	assert_all_items_done(&t);
	for (int i = 0; i < 3; i++) {
		int n = atomic_load(&b->home->shared->ncalls[i]);

		sum += n;
		if (n > most)
			most = n;
	}
	assert_int_equal(sum, 150);
	assert_true(most >= 60);
	batch_test_fini(&t);
}

static void
test_batch_workers_may_all_be_forked_before(void **state)
{
	struct batch_world *b = *state;

	assert_int_equal(batch_world_open(b), 0);
	assert_false(fz_batch_pool_is_local(b->sched));
	assert_int_equal(fz_pool_prefork(b->pool, NULL), 0);
	assert_int_equal(fz_pool_nworkers(b->pool), 2);
	batch_test_init(&t, b, 100);
	batch_test_start(&t);
	fz_loop_flush(b->w->engine.loop); /* without a turn of the loop */
	while (atomic_load(&b->home->shared->ran[1]) == 0)
		usleep(100);
	assert_all_items_done(&t);
	assert_int_equal(fz_pool_nworkers(b->pool), 2);
	batch_test_fini(&t);
}

/* Run ten items with the function `number`, which adds `add`. */
static void
call_func(struct batch_world *b, uint32_t number, uint64_t add)
{
	batch_test_init(&t, b, 10);
	t.opts.func = number;
	batch_test_start(&t);
	assert_all_items_done(&t);
	for (uint64_t i = 1; i <= 10; i++)
		assert_int_equal(t.outcomes[i].value, i + add);
	batch_test_fini(&t);
}

/* Define a function. Later workers inherit it; older ones get it sent. */
static void
define(struct batch_world *b, uint32_t number, uint64_t add)
{
	b->home->funcs[number] = add;
	fz_batch_pool_func(b->sched, number, blob_of_number(add));
}

static int
nfuncs(struct batch_world *b)
{
	return atomic_load(&b->home->shared->nfuncs);
}

static void
test_batch_workers_get_functions_newer_than_they_are(void **state)
{
	struct batch_world *b = *state;

	b->opts.workers = 1;
	assert_int_equal(batch_world_open(b), 0);
	define(b, 3, 100);
	call_func(b, 3, 100); /* the worker has inherited the function */
	assert_int_equal(nfuncs(b), 0);
	define(b, 5, 1000);
	call_func(b, 5, 1000); /* only the first call sends the function */
	call_func(b, 5, 1000);
	call_func(b, 3, 100);
	assert_int_equal(nfuncs(b), 1);
	define(b, 3, 200); /* another function with the same number */
	call_func(b, 3, 200);
	assert_int_equal(nfuncs(b), 2);
	batch_test_init(&t, b, 1);
	t.items[0] = ITEM_OF(ITEM_KILL, 0);
	batch_test_start(&t);
	assert_true(batch_test_finishes(&t));
	batch_test_fini(&t);
	call_func(b, 3, 200); /* the next worker inherits both functions */
	call_func(b, 5, 1000);
	assert_int_equal(nfuncs(b), 2);
	define(b, 5, 2000);
	call_func(b, 5, 2000);
	assert_int_equal(nfuncs(b), 3);
}

/*
 * In a worker: returns 7 if all batches of the parent are done there, and the
 * worker can run batches of its own.
 */
static uint64_t
probe_child(void *ctx)
{
	struct batch_world *b = ctx;

	if (!fz_batch_done(t.batch) || fz_batch_pool_nbatches(b->sched) != 0 ||
	    fz_change_take(&b->w->engine) != 0)
		return 1;
	if (fz_batch_whole(t.batch)->err.kind != FZ_ERR_CLOSED)
		return 2;
	fz_batch_free(t.batch);
	batch_test_init(&u, b, 5);
	if (batch_test_start(&u) != 0 || !batch_test_finishes(&u) ||
	    u.ndone != 5)
		return 3;
	batch_test_fini(&u);
	batch_world_close(b);
	return 7;
}

static void
test_batch_of_the_parent_is_closed_in_a_worker(void **state)
{
	struct batch_world *b = *state;

	b->home->probe = probe_child;
	b->home->probe_ctx = b;
	b->opts.workers = 1;
	batch_test_init(&u, b, 0);
	batch_test_start(&u); /* `u` is done, but its change is still pending */
	batch_test_init(&t, b, 3);
	t.items[0] = ITEM_OF(ITEM_PROBE, 0);
	t.opts.limits.retries = 1;
	batch_test_start(&t);
	assert_all_items_done(&t);
	assert_int_equal(t.outcomes[1].value, 7);
	assert_int_equal(fz_change_take(&b->w->engine), fz_batch_id(u.batch));
	batch_test_fini(&u);
	batch_test_fini(&t);
}

/* If the function is sent with the items, no other function is sent. */
static void
test_batch_a_function_may_be_in_the_part(void **state)
{
	struct batch_world *b = *state;

	b->opts.workers = 1;
	assert_int_equal(batch_world_open(b), 0);
	assert_int_equal(fz_pool_prefork(b->pool, NULL), 0);
	define(b, 0, 100);
	batch_test_init(&t, b, 10);
	t.opts.kind |= FZ_WIRE_INLINE;
	batch_test_start(&t);
	assert_all_items_done(&t);
	assert_int_equal(nfuncs(b), 0);
	batch_test_fini(&t);
	call_func(b, 0, 100);
	assert_int_equal(nfuncs(b), 1);
}

/* Kill a worker each time further items are done, at most `most` times. */
static int
run_killing(struct batch_world *b, int most)
{
	uint64_t before = 0;
	int nkills = 0;

	batch_test_init(&t, b, BATCH_TEST_MAX);
	for (int i = 0; i < BATCH_TEST_MAX; i += 3)
		t.items[i] = ITEM_OF(ITEM_SLEEP, 1);
	t.opts.limits.retries = UINT32_MAX - 1;
	batch_test_start(&t);
	while (!fz_batch_done(t.batch)) {
		pid_t pid = 0;

		fz_loop_turn(b->w->engine.loop, in_ms(1), NULL);
		batch_test_take(&t);
		if (nkills == most || t.ndone == before)
			continue;
		before = t.ndone;
		fz_pool_pids(b->pool, batch_test_note_pid, &pid);
		if (pid != 0)
			nkills += kill(pid, SIGKILL) == 0;
	}
	return nkills;
}

/* More batches are needed if this process gets few turns in each. */
static void
test_batch_workers_killed_200_times_lose_nothing(void **state)
{
	for (int left = 200; left > 0;) {
		int nkills = run_killing(*state, left);
		unsigned nretried;

		left -= nkills;
		assert_all_items_done(&t);
		nretried = t.nevents[FZ_JOB_EVENT_RETRY];
		print_message(
		    "%d kills: %u items were tried again\n", nkills, nretried);
		assert_true(nretried <= (unsigned)nkills);
		for (uint64_t i = 1; i <= BATCH_TEST_MAX; i++)
			assert_true(times_run(&t, i) >= 1);
		batch_test_fini(&t);
	}
}

#define TEST(name)                       \
	cmocka_unit_test_setup_teardown( \
	    name, batch_world_setup, batch_world_teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_batch_a_worker_does_so_many_items_at_most),
		TEST(test_batch_once_workers_leave_at_its_end),
		TEST(test_batch_an_idle_worker_gets_items_of_another),
		TEST(test_batch_workers_may_all_be_forked_before),
		TEST(test_batch_workers_get_functions_newer_than_they_are),
		TEST(test_batch_of_the_parent_is_closed_in_a_worker),
		TEST(test_batch_a_function_may_be_in_the_part),
		TEST(test_batch_workers_killed_200_times_lose_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
