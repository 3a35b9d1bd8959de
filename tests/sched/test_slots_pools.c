/*
 * Slots that pools share, and what becomes of them if workers die.
 *
 * wrap: malloc calloc realloc mmap epoll_create1 epoll_ctl epoll_pwait fork
 * wrap: pipe2 read write pwritev2
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdatomic.h>
#include <stdbool.h>

#include "base/clock.h"
#include "descriptors.h"
#include "faults.h"
#include "os/loop.h"
#include "sched/pool.h"
#include "sched/slots.h"
#include "slots_test.h"
#include "world.h"

static void
test_slots_a_pool_runs_no_more_than_there_are(void **state)
{
	struct world *w = *state;
	struct fz_slots *slots = fz_slots_new(&w->engine, NULL);
	struct fz_pool *pools[2];
	struct slots_user users[2];

	assert_int_equal(fz_slots_resize(slots, 3, NULL), 0);
	for (int i = 0; i < 2; i++)
		pools[i] = slots_pool(w, 4, slots, serve, w->shared);
	fz_slots_unref(slots); /* the pools have references of their own */
	/* Fewer than three may run at once if workers start slowly. */
	for (int round = 0; atomic_load(&w->shared->peak) < 3; round++) {
		assert_true(round < 20);
		for (int i = 0; i < 2; i++)
			slots_user_begin(
			    &users[i], pools[i], 12, JOB_COUNT, 30);
		for (int i = 0; i < 2; i++)
			pool_user_wait(w, &users[i].counts, 12);
		for (int i = 0; i < 2; i++) {
			assert_int_equal(users[i].counts.ndone, 12);
			fz_pool_leave(pools[i], &users[i].counts.user);
		}
	}
	assert_int_equal(atomic_load(&w->shared->peak), 3);
	for (int i = 0; i < 2; i++)
		fz_pool_free(pools[i]);
}

static void
test_slots_a_worker_that_dies_gives_its_slot_back(void **state)
{
	static const enum job deaths[] = { JOB_KILL, JOB_EXIT, JOB_CRASH };
	struct world *w = *state;
	struct fz_slots *slots = fz_slots_new(&w->engine, NULL);
	struct slots_user u;

	assert_int_equal(fz_slots_resize(slots, 2, NULL), 0);
	for (size_t i = 0; i < sizeof(deaths) / sizeof(deaths[0]); i++) {
		struct fz_pool *pool =
		    slots_pool(w, 4, slots, serve, w->shared);

		slots_user_begin(&u, pool, 6, deaths[i], 1);
		pool_user_wait(w, &u.counts, 6);
		assert_int_equal(u.counts.nfailed, 6);
		assert_true(u.peak <= 2);
		fz_pool_leave(pool, &u.counts.user);
		fz_pool_free(pool);
		assert_int_equal(slots_free(w, slots), 2);
	}
	fz_slots_unref(slots);
}

static void
test_slots_closing_a_pool_gives_all_back(void **state)
{
	struct world *w = *state;
	struct fz_slots *slots = fz_slots_new(&w->engine, NULL);
	struct fz_pool *pool, *other;
	struct slots_user u, v;

	assert_int_equal(fz_slots_resize(slots, 2, NULL), 0);
	pool = slots_pool(w, 4, slots, serve, w->shared);
	other = slots_pool(w, 4, slots, serve, w->shared);
	slots_user_begin(&u, pool, 4, JOB_SLEEP, 60000);
	slots_user_begin(&v, other, 4, JOB_ADD, 1); /* no slot is free */
	assert_int_equal(v.nsent, 0);
	fz_pool_leave(pool, &u.counts.user);
	fz_pool_close(pool);
	pool_user_wait(w, &v.counts, 4);
	assert_int_equal(v.counts.ndone, 4);
	fz_pool_leave(other, &v.counts.user);
	fz_pool_free(other);
	fz_pool_free(pool);
	assert_int_equal(slots_free(w, slots), 2);
	fz_slots_unref(slots);
}

/* Use all functions of slots. Returns false if one of them failed. */
static bool
try_all(struct world *w)
{
	struct fz_slots *slots = fz_slots_new(&w->engine, NULL);
	struct fz_pool *pools[2] = { NULL, NULL };
	struct slots_user users[2];
	bool good = slots != NULL;

	good = good && fz_slots_resize(slots, 3, NULL) == 0;
	good = good && fz_slots_resize(slots, 2, NULL) == 0;
	for (int i = 0; i < 2 && good; i++) {
		pools[i] = slots_pool(w, 2, slots, serve, w->shared);
		good = pools[i] != NULL;
	}
	for (int i = 0; i < 2 && good; i++)
		good = slots_user_try(&users[i], pools[i], 3, JOB_ADD, 1) == 0;
	for (int i = 0; i < 2 && good; i++) {
		int64_t until = in_ms(PATIENCE_MS);

		while (pool_user_ended(&users[i].counts) < users[i].nsent &&
		       fz_clock_ns() < until)
			fz_loop_turn(w->engine.loop, in_ms(10), NULL);
		good = users[i].counts.ndone == 3;
		assert_int_equal(
		    pool_user_ended(&users[i].counts), users[i].nsent);
	}
	for (int i = 0; i < 2; i++)
		fz_pool_free(pools[i]);
	fz_slots_unref(slots);
	return good;
}

static void
test_slots_any_call_may_fail(void **state)
{
	struct world *w = *state;
	int nbad = 0, nfds;

	assert_true(try_all(w)); /* makes the arena, which the engine keeps */
	nfds = count_fds();
	for (unsigned long n = 1;; n++) {
		bool good;

		faults_at(n);
		good = try_all(w);
		nbad += !good;
		if (!faults_end()) {
			assert_true(good);
			break;
		}
		/* Fewer if the loop has closed its epoll set after a fault. */
		assert_true(count_fds() <= nfds);
		assert_no_children();
	}
	assert_true(nbad >= 4);
}

#define TEST(name) \
	cmocka_unit_test_setup_teardown(name, world_setup, world_teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_slots_a_pool_runs_no_more_than_there_are),
		TEST(test_slots_a_worker_that_dies_gives_its_slot_back),
		TEST(test_slots_closing_a_pool_gives_all_back),
		TEST(test_slots_any_call_may_fail),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
