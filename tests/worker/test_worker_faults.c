/*
 * Any call to the system fails while a worker does its jobs.
 *
 * wrap: malloc calloc realloc mmap epoll_create1 epoll_ctl epoll_pwait fork
 * wrap: pipe2 read write pwritev2 syscall
 */
/* kill, syscall and usleep are not in C11. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>

#include "base/clock.h"
#include "faults.h"
#include "keeper.h"
#include "os/loop.h"
#include "wire/blob.h"
#include "worker/worker.h"
#include "world.h"

static void
test_worker_short_and_interrupted_calls_lose_nothing(void **state)
{
	static const int errors[] = { EINTR, EAGAIN };
	struct world *w = *state;

	for (int round = 0; round < 2; round++) {
		struct task t[20] = { { .ndone = 0 } };
		struct keeper k;

		keeper_start(w, &k);
		faults_at(0);
		faults.most = 7;
		faults.odd_every = 3;
		faults.odd_error = errors[round];
		for (uint64_t i = 0; i < 20; i++)
			task_send_number(&k, &t[i], JOB_ADD, i);
		assert_true(keeper_settle(w, &k));
		assert_true(faults.nodd != 0);
		faults_end();
		for (uint64_t i = 0; i < 20; i++)
			assert_task_done(w, &t[i], i);
		fz_worker_free(k.worker);
	}
}

static int
scenario(void *ctx)
{
	struct world *w = ctx;
	struct fz_worker_opts opts = { .main = serve, .main_ctx = w->shared };

	return keeper_try_jobs(w, &opts, false);
}

static void
test_worker_any_call_may_fail(void **state)
{
	assert_true(faults_at_each(scenario, *state) > 10);
}

/* The call that fails may be the allocation for the first timer. */
static void
test_worker_any_call_may_fail_when_it_dies(void **state)
{
	struct world *w = *state;
	unsigned long n = 0;

	do {
		int64_t until = in_ms(PATIENCE_MS);
		struct task t = { 0 };
		struct keeper k;

		keeper_start(w, &k);
		task_send_number(&k, &t, JOB_KILL, 0);
		faults_at(++n);
		while (k.worker != NULL && fz_clock_ns() < until)
			fz_loop_turn(w->engine.loop, until, NULL);
		assert_null(k.worker);
		assert_one_outcome(&t);
		task_fini(&t);
		assert_no_children();
	} while (faults_end());
	assert_true(n > 3);
}

#define TEST(name) \
	cmocka_unit_test_setup_teardown(name, world_setup, world_teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_worker_short_and_interrupted_calls_lose_nothing),
		TEST(test_worker_any_call_may_fail),
		TEST(test_worker_any_call_may_fail_when_it_dies),
	};

	return run_with_and_without_pidfd(
	    tests, sizeof(tests) / sizeof(*tests));
}
