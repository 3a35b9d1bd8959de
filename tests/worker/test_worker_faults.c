/*
 * Any call to the system fails while a worker does its jobs.
 *
 * wrap: malloc calloc realloc mmap epoll_create1 epoll_ctl epoll_wait fork
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
#include "worker/blob.h"
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

		keeper_start(w, &k, NULL);
		faults_at(0);
		faults.most = 7;
		faults.odd_every = 3;
		faults.odd_error = errors[round];
		for (uint64_t i = 0; i < 20; i++)
			task_send_number(&k, &t[i], JOB_ADD, i);
		assert_true(keeper_settle(w, &k, 20000));
		assert_true(faults.nodd != 0);
		faults_end();
		for (uint64_t i = 0; i < 20; i++)
			assert_task_done(w, &t[i], i);
		fz_worker_free(k.worker);
	}
}

/*
 * Two jobs, one with a big result. Every job is told once, whatever fails.
 * Returns 0, or -1 where something could not be done.
 */
static int
scenario(struct world *w)
{
	struct task t[3];
	struct keeper k;
	struct fz_blob *arg;
	int rc = 0, nsent = 0;

	if (keeper_start(w, &k, NULL) == NULL)
		return -1;
	arg = blob_of_number(300000);
	for (int i = 0; i < 3 && arg != NULL; i++) {
		task_init(&t[i], i == 1 ? JOB_BYTES : JOB_ADD);
		t[i].job.timeout_ns = 20 * FZ_CLOCK_SECOND;
		if (fz_worker_send(k.worker, &t[i].job, &arg, 1, NULL) != 0)
			break;
		nsent++;
	}
	fz_blob_unref(arg);
	while (k.worker != NULL && k.worker->njobs != 0)
		fz_loop_step(w->engine.loop, in_ms(5000), NULL);
	if (k.worker != NULL)
		fz_worker_free(k.worker);
	for (int i = 0; i < nsent; i++) {
		assert_int_equal(t[i].ndone + t[i].nfailed + t[i].nreturned, 1);
		if (t[i].ndone != 1 || t[i].value == NULL)
			rc = -1;
		task_fini(&t[i]);
	}
	return nsent == 3 ? rc : -1;
}

static void
test_worker_any_call_may_fail(void **state)
{
	struct world *w = *state;
	unsigned long n = 0;
	int rc, nfailed = 0;

	do {
		faults_at(++n);
		rc = scenario(w);
		nfailed += rc != 0;
		assert_no_children();
	} while (faults_end());
	assert_int_equal(rc, 0);
	assert_true(nfailed > 10);
	print_message("%lu calls, %d failures\n", n, nfailed);
}

/* With no timer armed before, and no memory for one. */
static void
test_worker_any_call_may_fail_when_it_dies(void **state)
{
	struct world *w = *state;
	unsigned long n = 0;

	do {
		int64_t until = in_ms(5000);
		struct task t = { 0 };
		struct keeper k;

		keeper_start(w, &k, NULL);
		task_send_number(&k, &t, JOB_KILL, 0);
		faults_at(++n);
		while (k.worker != NULL && fz_clock_ns() < until)
			fz_loop_step(w->engine.loop, until, NULL);
		assert_null(k.worker);
		assert_int_equal(t.nfailed + t.nreturned, 1);
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
