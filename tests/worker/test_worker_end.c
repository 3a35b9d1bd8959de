/*
 * Ways to end a worker, and to recall its jobs.
 *
 * wrap: syscall nanosleep
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
#include <stdbool.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "keeper.h"
#include "os/loop.h"
#include "wire/child_port.h"
#include "wire/wire.h"
#include "worker/worker.h"
#include "world.h"

/* Number of naps of 0.5 ms that this process makes to wait for a death. */
static int nnaps;

int __real_nanosleep(const struct timespec *nap, struct timespec *left);

int __wrap_nanosleep(const struct timespec *nap, struct timespec *left);

int
__wrap_nanosleep(const struct timespec *nap, struct timespec *left)
{
	nnaps += nap->tv_sec == 0 && nap->tv_nsec == 500000;
	return __real_nanosleep(nap, left);
}

/* Reply to call 0 without reading it; sleep before if START_NEVER_READS. */
static int
answer_begun(void *ctx, struct fz_port *port)
{
	const struct shared *shared = ctx;
	struct fz_call call = { .seq = 0 };

	if (shared->mode == START_NEVER_READS)
		nap(60000);
	fz_port_begin(port, &call, FZ_WIRE_RESULT, 1);
	put_number(port, 17);
	if (fz_port_send(port, NULL) != 0 || fz_port_flush(port, NULL) != 0)
		return 96;
	return 5;
}

static void
begin(struct world *w, struct keeper *k, struct task *t)
{
	struct fz_worker_opts opts = {
		.main = answer_begun,
		.main_ctx = w->shared,
		.noun = "process",
	};

	keeper_start_opts(w, k, &opts);
	task_init(t, JOB_ADD);
	fz_worker_begin(k->worker, &t->job);
}

static void
test_worker_does_a_job_that_was_begun_and_leaves(void **state)
{
	struct world *w = *state;
	struct keeper k;
	struct task t;

	begin(w, &k, &t);
	assert_int_equal(t.nstarted, 1);
	assert_true(keeper_dies(w, &k));
	assert_int_equal(k.death.exitcode, 5);
	assert_int_equal(k.death.signal, 0);
	assert_task_done(w, &t, 17);
}

/* The job fails and is not returned, however early the worker dies. */
static void
test_worker_killed_with_a_begun_job_has_failed_it(void **state)
{
	struct world *w = *state;
	struct keeper k;
	struct task t;

	w->shared->mode = START_NEVER_READS;
	begin(w, &k, &t);
	kill(k.worker->pid, SIGKILL);
	assert_true(keeper_dies(w, &k));
	assert_int_equal(k.death.signal, SIGKILL);
	assert_int_equal(t.failure.signal, SIGKILL);
	assert_non_null(strstr(t.failure.err.text, "the process died: killed"));
	assert_task_failed(&t, FZ_ERR_CRASH);
}

static void
test_worker_terminate_is_a_crash_by_sigterm(void **state)
{
	struct world *w = *state;
	struct keeper k;
	struct task t;

	w->shared->mode = START_NEVER_READS;
	begin(w, &k, &t);
	kill(k.worker->pid, SIGSTOP);
	fz_worker_terminate(k.worker);
	fz_worker_terminate(k.worker);
	assert_true(keeper_dies(w, &k));
	assert_int_equal(t.failure.signal, SIGTERM);
	assert_task_failed(&t, FZ_ERR_CRASH);
}

/* Start a worker that runs the job of `t`, while that of `u` waits. */
static void
start_two(struct world *w, struct keeper *k, struct task *t, struct task *u)
{
	keeper_start(w, k);
	task_send_number(k, t, JOB_SLEEP, 60000);
	task_send_number(k, u, JOB_ADD, 1);
	wait_for_calls(w, JOB_SLEEP, 1);
}

static void
test_worker_kill_gives_the_reason(void **state)
{
	struct world *w = *state;
	struct task t = { 0 }, u = { 0 };
	struct keeper k;

	start_two(w, &k, &t, &u);
	fz_worker_kill(k.worker, FZ_ERR_INTERRUPTED, "because");
	fz_worker_kill(k.worker, FZ_ERR_CRASH, "later ones count not");
	assert_int_equal(t.nfailed, 0);
	assert_true(keeper_dies(w, &k));
	assert_string_equal(t.failure.err.text, "because");
	assert_task_failed(&t, FZ_ERR_INTERRUPTED);
	assert_task_returned(&u);
}

/* The parent does not wait for the end; it sends SIGKILL later or at once. */
static void
test_worker_kill_never_waits(void **state)
{
	static const enum job wedged[] = { JOB_SLEEP, JOB_IGNORE, JOB_BLOCK };
	struct world *w = *state;
	struct task t = { 0 };
	struct keeper k;

	for (int i = 0; i < 3; i++) {
		keeper_start(w, &k);
		task_send_number(&k, &t, wedged[i], 60000);
		wait_for_calls(w, wedged[i], 1);
		wait_for_count(w, &w->shared->deaf, i);
		nnaps = 0;
		fz_worker_kill(k.worker, FZ_ERR_CANCELLED, "no longer wanted");
		assert_non_null(k.worker);
		assert_true(keeper_dies(w, &k));
		assert_int_equal(nnaps, 0);
		assert_task_failed(&t, FZ_ERR_CANCELLED);
	}
}

/* All workers have the same time to end by themselves. */
static void
test_worker_several_that_ignore_signals_end_together(void **state)
{
	enum { N = 6 };
	struct world *w = *state;
	struct task t[N] = { 0 };
	struct keeper k[N];

	for (int i = 0; i < N; i++) {
		keeper_start(w, &k[i]);
		task_send_number(&k[i], &t[i], JOB_IGNORE, 60000);
	}
	wait_for_count(w, &w->shared->deaf, N);
	nnaps = 0;
	for (int i = 0; i < N; i++)
		fz_worker_kill(k[i].worker, FZ_ERR_CANCELLED, "all of them");
	for (int i = 0; i < N; i++)
		fz_worker_end(k[i].worker, FZ_ERR_CANCELLED, "all of them");
	assert_true(nnaps <= 501); /* at most the time for one worker */
	for (int i = 0; i < N; i++)
		assert_task_failed(&t[i], FZ_ERR_CANCELLED);
}

static void
test_worker_end_returns_when_all_jobs_have_ended(void **state)
{
	struct world *w = *state;
	struct task t = { 0 }, u = { 0 };
	struct keeper k;

	start_two(w, &k, &t, &u);
	fz_worker_end(k.worker, FZ_ERR_CANCELLED, "stop");
	assert_int_equal(k.ndead, 1);
	assert_task_failed(&t, FZ_ERR_CANCELLED);
	assert_task_returned(&u);
}

static void
test_worker_recall_takes_back_what_has_not_started(void **state)
{
	struct world *w = *state;
	struct task t = { 0 }, u[3] = { { .ndone = 0 } }, v = { 0 };
	struct keeper k;

	fz_clock_share();
	keeper_start(w, &k);
	task_send_number(&k, &t, JOB_SLEEP, 1000000);
	for (int i = 0; i < 3; i++)
		task_send_number(&k, &u[i], JOB_ADD, 1);
	wait_for_sleep(w, 1);
	assert_int_equal(fz_worker_recall(k.worker), 3);
	assert_int_equal(fz_worker_recall(k.worker), 0);
	assert_int_equal(k.worker->njobs, 1);
	for (int i = 0; i < 3; i++)
		assert_task_returned(&u[i]);
	/* The worker does a job that is sent later, but no recalled one. */
	task_send_number(&k, &v, JOB_ADD, 9);
	pass_seconds(1000);
	assert_true(keeper_settle(w, &k));
	assert_task_done(w, &t, 1000000);
	assert_task_done(w, &v, 9);
	assert_int_equal(atomic_load(&w->shared->calls[JOB_ADD]), 1);
	assert_int_equal(k.nidle, 1);
	fz_worker_free(k.worker);
}

static void
test_worker_recall_of_all_makes_it_idle(void **state)
{
	struct world *w = *state;
	struct task t = { 0 }, u = { 0 };
	struct keeper k;

	keeper_start(w, &k);
	task_send_number(&k, &t, JOB_ADD, 1);
	assert_int_equal(fz_worker_recall(k.worker), 1);
	assert_task_returned(&t);
	assert_int_equal(k.nidle, 1);
	assert_int_equal(k.worker->nbytes, 0);
	task_send_number(&k, &u, JOB_ADD, 2);
	assert_true(keeper_settle(w, &k));
	assert_task_done(w, &u, 2);
	fz_worker_free(k.worker);
}

/* The worker claims jobs during a recall: each is done or returned, once. */
static void
test_worker_recall_races_with_claims(void **state)
{
	struct world *w = *state;
	struct keeper k;

	keeper_start(w, &k);
	for (int round = 0; round < 200; round++) {
		static struct task t[KEEPER_MANY];
		int before = atomic_load(&w->shared->calls[JOB_ADD]);
		int ndone = 0, nback = 0;

		for (int i = 0; i < KEEPER_MANY; i++) {
			t[i].job.timeout_ns = 0;
			task_send_number(&k, &t[i], JOB_ADD, 1);
		}
		fz_loop_turn(w->engine.loop, 0, NULL);
		usleep((useconds_t)(round % 40));
		fz_worker_recall(k.worker);
		assert_true(keeper_settle(w, &k));
		for (int i = 0; i < KEEPER_MANY; i++) {
			assert_one_outcome(&t[i]);
			ndone += t[i].ndone;
			nback += t[i].nreturned;
			task_fini(&t[i]);
		}
		assert_int_equal(ndone + nback, KEEPER_MANY);
		assert_int_equal(
		    atomic_load(&w->shared->calls[JOB_ADD]) - before, ndone);
	}
	fz_worker_free(k.worker);
}

static void
test_worker_peek_takes_replies_that_wait_behind_a_long_job(void **state)
{
	struct world *w = *state;
	struct task t[4] = { { .ndone = 0 } };
	int64_t until = in_ms(PATIENCE_MS);
	struct keeper k;

	keeper_start(w, &k);
	for (int i = 0; i < 3; i++)
		task_send_number(&k, &t[i], JOB_ADD, 1);
	task_send_number(&k, &t[3], JOB_SLEEP, 60000);
	wait_for_calls(w, JOB_SLEEP, 1);
	/* A slow worker may have written some of the replies to its pipe. */
	while (k.worker->njobs != 1) {
		assert_true(fz_clock_ns() < until);
		fz_worker_peek(k.worker);
		fz_loop_turn(w->engine.loop, 0, NULL);
	}
	fz_worker_peek(k.worker);
	for (int i = 0; i < 3; i++)
		assert_task_done(w, &t[i], 1);
	assert_int_equal(t[3].nstarted, 1);
	fz_worker_end(k.worker, FZ_ERR_CANCELLED, "enough");
	assert_task_failed(&t[3], FZ_ERR_CANCELLED);
}

/* The parent copies replies while the worker overwrites them. */
static void
test_worker_peek_never_takes_a_torn_reply(void **state)
{
	struct world *w = *state;
	static struct task t[2000];
	struct keeper k;
	int64_t until = in_ms(PATIENCE_MS);

	keeper_start(w, &k);
	for (uint64_t i = 0; i < 2000; i++) {
		t[i].job.timeout_ns = 0;
		task_send_number(&k, &t[i], JOB_ADD, i);
	}
	while (k.worker->njobs != 0) {
		fz_worker_peek(k.worker);
		if (k.worker->njobs != 0)
			assert_true(turn_until(w, until));
	}
	for (uint64_t i = 0; i < 2000; i++)
		assert_task_done(w, &t[i], i);
	fz_worker_free(k.worker);
}

#define TEST(name) \
	cmocka_unit_test_setup_teardown(name, world_setup, world_teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_worker_does_a_job_that_was_begun_and_leaves),
		TEST(test_worker_killed_with_a_begun_job_has_failed_it),
		TEST(test_worker_terminate_is_a_crash_by_sigterm),
		TEST(test_worker_kill_gives_the_reason),
		TEST(test_worker_kill_never_waits),
		TEST(test_worker_several_that_ignore_signals_end_together),
		TEST(test_worker_end_returns_when_all_jobs_have_ended),
		TEST(test_worker_recall_takes_back_what_has_not_started),
		TEST(test_worker_recall_of_all_makes_it_idle),
		TEST(test_worker_recall_races_with_claims),
		TEST(
		    test_worker_peek_takes_replies_that_wait_behind_a_long_job),
		TEST(test_worker_peek_never_takes_a_torn_reply),
	};

	return run_with_and_without_pidfd(
	    tests, sizeof(tests) / sizeof(*tests));
}
