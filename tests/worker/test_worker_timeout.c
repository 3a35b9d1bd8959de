/*
 * Timeouts of the jobs of a worker.
 *
 * wrap: syscall
 */
/* kill, syscall and usleep are not in C11. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/err.h"
#include "keeper.h"
#include "os/loop.h"
#include "worker/worker.h"
#include "world.h"

static void
test_worker_a_timeout_ends_the_job(void **state)
{
	struct world *w = *state;
	struct task t = { .job.timeout_ns = 50 * FZ_CLOCK_MS }, u = { 0 };
	int64_t start = fz_clock_ns();
	struct keeper k;

	keeper_start(w, &k);
	task_send_number(&k, &t, JOB_SLEEP, 60000);
	task_send_number(&k, &u, JOB_ADD, 1);
	assert_true(keeper_dies(w, &k));
	assert_true(fz_clock_ns() - start >= 50 * FZ_CLOCK_MS);
	assert_non_null(strstr(t.failure.err.text, "0.05 s"));
	assert_task_failed(&t, FZ_ERR_TIMEOUT);
	assert_task_returned(&u);
}

/*
 * Send the jobs, and wait until the worker sleeps until a fixed time. Replies
 * that stay in the mailbox are not taken.
 */
static void
await_sleep(struct world *w)
{
	int64_t until = in_ms(PATIENCE_MS);

	fz_loop_turn(w->engine.loop, 0, NULL);
	while (atomic_load(&w->shared->sleeping) == 0) {
		assert_true(fz_clock_ns() < until);
		usleep(100);
	}
	while (fz_loop_turn(w->engine.loop, 0, NULL) > 0)
		continue;
}

static void
test_worker_a_timeout_counts_from_the_start_of_the_job(void **state)
{
	struct world *w = *state;
	struct task t = { 0 }, u = { .job.timeout_ns = 20 * FZ_CLOCK_SECOND };
	struct keeper k;

	fz_clock_share();
	keeper_start(w, &k);
	task_send_number(&k, &t, JOB_SLEEP, 1000000);
	task_send_number(&k, &u, JOB_ADD, 20);
	await_sleep(w);
	pass_seconds(1000);
	assert_true(keeper_settle(w, &k));
	assert_task_done(w, &t, 1000000);
	assert_task_done(w, &u, 20);
	fz_worker_free(k.worker);
}

/*
 * A job with a timeout is done, its reply is in the mailbox, and the job after
 * it takes long: no job has exceeded its timeout.
 */
static void
test_worker_a_timeout_does_not_hit_the_job_behind(void **state)
{
	struct world *w = *state;
	struct task t[3] = { { .job.timeout_ns = 60 * FZ_CLOCK_SECOND },
		{ .job.timeout_ns = 60 * FZ_CLOCK_SECOND },
		{ .job.timeout_ns = FZ_CLOCK_NEVER } };
	struct keeper k;

	fz_clock_share();
	keeper_start(w, &k);
	task_send_number(&k, &t[0], JOB_ADD, 1);
	task_send_number(&k, &t[1], JOB_ADD, 2);
	task_send_number(&k, &t[2], JOB_SLEEP, 1000000);
	await_sleep(w);
	pass_seconds(100);
	for (int64_t until = in_ms(50); turn_until(w, until);)
		continue;
	pass_seconds(900);
	assert_true(keeper_settle(w, &k));
	assert_task_done(w, &t[0], 1);
	assert_task_done(w, &t[1], 2);
	assert_task_done(w, &t[2], 1000000);
	fz_worker_free(k.worker);
}

static void
test_worker_a_timeout_is_not_put_off_by_replies_that_wait(void **state)
{
	struct world *w = *state;
	struct task t[3] = { { .job.timeout_ns = 1000 * FZ_CLOCK_SECOND },
		{ .job.timeout_ns = 1000 * FZ_CLOCK_SECOND },
		{ .job.timeout_ns = 1000 * FZ_CLOCK_SECOND } };
	struct keeper k;

	fz_clock_share();
	keeper_start(w, &k);
	task_send_number(&k, &t[0], JOB_ADD, 1);
	task_send_number(&k, &t[1], JOB_ADD, 2);
	task_send_number(&k, &t[2], JOB_SLEEP, 10000000);
	await_sleep(w);
	pass_seconds(1001);
	assert_true(keeper_dies(w, &k)); /* no second timeout passes */
	assert_task_done(w, &t[0], 1);
	assert_task_done(w, &t[1], 2);
	assert_task_failed(&t[2], FZ_ERR_TIMEOUT);
}

static void
test_worker_a_timeout_holds_after_a_recall(void **state)
{
	struct world *w = *state;
	struct task t = { .job.timeout_ns = 1000 * FZ_CLOCK_SECOND }, u = { 0 };
	struct keeper k;

	fz_clock_share();
	keeper_start(w, &k);
	task_send_number(&k, &t, JOB_SLEEP, 10000000);
	task_send_number(&k, &u, JOB_ADD, 1);
	await_sleep(w);
	fz_worker_recall(k.worker);
	fz_worker_recall(k.worker);
	pass_seconds(1001);
	assert_true(keeper_dies(w, &k));
	assert_task_failed(&t, FZ_ERR_TIMEOUT);
	assert_task_returned(&u);
}

/* Stop a child, and wait until it has stopped. */
static void
stop(pid_t pid)
{
	siginfo_t info;

	assert_int_equal(kill(pid, SIGSTOP), 0);
	assert_int_equal(
	    waitid(P_PID, (id_t)pid, &info, WSTOPPED | WNOWAIT), 0);
}

/* One worker does not read. The other one is stopped, and has jobs. */
static void
test_worker_a_timeout_holds_for_a_job_that_is_not_begun(void **state)
{
	struct world *w = *state;
	struct task t = { .job.timeout_ns = 10 * FZ_CLOCK_MS }, u = { 0 };
	struct keeper k;

	for (int stopped = 0; stopped < 2; stopped++) {
		w->shared->mode = stopped ? START_NORMAL : START_NEVER_READS;
		t.job.timeout_ns = 10 * FZ_CLOCK_MS;
		keeper_start(w, &k);
		if (stopped) {
			task_send_number(&k, &u, JOB_ADD, 7);
			assert_true(keeper_settle(w, &k));
			assert_task_done(w, &u, 7);
			stop(k.worker->pid);
		}
		task_send_number(&k, &t, JOB_ADD, 1);
		task_send_number(&k, &u, JOB_ADD, 2);
		assert_true(keeper_dies(w, &k));
		assert_non_null(strstr(t.failure.err.text, "did not start"));
		assert_task_failed(&t, FZ_ERR_TIMEOUT);
		assert_task_returned(&u);
		assert_int_equal(
		    atomic_load(&w->shared->calls[JOB_ADD]), stopped);
	}
}

#define TEST(name) \
	cmocka_unit_test_setup_teardown(name, world_setup, world_teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_worker_a_timeout_ends_the_job),
		TEST(test_worker_a_timeout_counts_from_the_start_of_the_job),
		TEST(test_worker_a_timeout_does_not_hit_the_job_behind),
		TEST(test_worker_a_timeout_is_not_put_off_by_replies_that_wait),
		TEST(test_worker_a_timeout_holds_after_a_recall),
		TEST(test_worker_a_timeout_holds_for_a_job_that_is_not_begun),
	};

	return run_with_and_without_pidfd(
	    tests, sizeof(tests) / sizeof(*tests));
}
