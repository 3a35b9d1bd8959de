/*
 * A worker that dies at any step of a job, or breaks the protocol.
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
#include <unistd.h>

#include "base/err.h"
#include "keeper.h"
#include "os/loop.h"
#include "sanitized.h"
#include "world.h"

/*
 * Send a job that succeeds, one that kills the worker in the way `how`, and two
 * that wait. The first job is done once. The last two are returned, and are
 * done by another worker.
 */
static void
kill_in_the_midst(struct world *w, enum job how, struct task *victim)
{
	struct task first = { 0 }, last[2] = { { .ndone = 0 } };
	struct keeper k;

	keeper_start(w, &k);
	task_send_number(&k, &first, JOB_ADD, 5);
	task_send_number(&k, victim, how, 3);
	task_send_number(&k, &last[0], JOB_ADD, 6);
	task_send_number(&k, &last[1], JOB_ADD, 7);
	assert_true(keeper_dies(w, &k));
	assert_int_equal(k.ndead, 1);
	assert_task_done(w, &first, 5);
	assert_task_returned(&last[0]);
	assert_task_returned(&last[1]);
	assert_int_equal(atomic_load(&w->shared->calls[JOB_ADD]), 1);
	assert_int_equal(atomic_load(&w->shared->calls[how]), 1);
}

static void
assert_crashed(struct task *t, int sig, int exitcode)
{
	assert_int_equal(t->failure.signal, sig);
	assert_int_equal(t->failure.exitcode, exitcode);
	assert_non_null(strstr(t->failure.err.text, "the worker died"));
	assert_task_failed(t, FZ_ERR_CRASH);
}

static void
test_worker_killed_in_a_job_fails_that_job_alone(void **state)
{
	struct task t = { 0 };

	kill_in_the_midst(*state, JOB_KILL, &t);
	assert_crashed(&t, SIGKILL, -1);
}

static void
test_worker_that_exits_fails_its_job(void **state)
{
	struct task t = { 0 };

	kill_in_the_midst(*state, JOB_EXIT, &t);
	assert_crashed(&t, 0, 3);
}

static void
test_worker_that_exits_with_success_fails_its_job(void **state)
{
	struct world *w = *state;
	struct task t = { 0 };
	struct keeper k;

	keeper_start(w, &k);
	task_send_number(&k, &t, JOB_EXIT, 0);
	assert_true(keeper_dies(w, &k));
	assert_crashed(&t, 0, 0);
}

static void
test_worker_killed_with_its_reply_stored_has_done_it(void **state)
{
	struct task t = { 0 };

	kill_in_the_midst(*state, JOB_KILL_STORED, &t);
	assert_task_done(*state, &t, 1);
}

static void
test_worker_killed_with_half_its_reply_written_has_done_it(void **state)
{
	struct task t = { 0 };

	kill_in_the_midst(*state, JOB_KILL_HALF, &t);
	assert_task_done(*state, &t, 1);
}

static void
test_worker_killed_before_it_notes_the_write_has_done_it_once(void **state)
{
	struct task t = { 0 };

	kill_in_the_midst(*state, JOB_KILL_WRITTEN, &t);
	assert_task_done(*state, &t, 1);
}

static void
test_worker_killed_with_half_a_big_reply_written_has_failed(void **state)
{
	struct task t = { 0 };

	kill_in_the_midst(*state, JOB_KILL_BIG_HALF, &t);
	assert_crashed(&t, SIGKILL, -1);
}

static void
test_worker_that_writes_garbage_is_ended(void **state)
{
	struct task t = { 0 };

	kill_in_the_midst(*state, JOB_GARBAGE, &t);
	assert_non_null(strstr(t.failure.err.text, "not a frame"));
	assert_task_failed(&t, FZ_ERR_CRASH);
}

static void
test_worker_that_writes_garbage_behind_a_reply_is_ended(void **state)
{
	struct task t = { 0 };

	kill_in_the_midst(*state, JOB_REPLY_GARBAGE, &t);
	assert_task_done(*state, &t, 1);
}

static void
test_worker_that_closes_its_results_is_ended(void **state)
{
	struct task t = { 0 };

	kill_in_the_midst(*state, JOB_CLOSE_OUT, &t);
	/* Without pidfds, as under valgrind, EOF counts as the death. */
	if (!on_valgrind())
		assert_non_null(strstr(t.failure.err.text, "closed its pipe"));
	assert_task_failed(&t, FZ_ERR_CRASH);
}

/* The parent sleeps until the worker is dead. */
static void
test_worker_that_closes_its_jobs_is_ended(void **state)
{
	int64_t before = cpu_ms();
	struct task t = { 0 };

	kill_in_the_midst(*state, JOB_CLOSE_IN, &t);
	assert_task_failed(&t, FZ_ERR_CRASH);
	assert_true(cpu_ms() - before < 500);
}

static void
test_worker_that_crashes_names_the_signal(void **state)
{
	struct task t = { 0 };

	kill_in_the_midst(*state, JOB_CRASH, &t);
	if (UNDER_ASAN)
		assert_task_failed(&t, FZ_ERR_CRASH); /* ASan: it exits */
	else
		assert_crashed(&t, SIGSEGV, -1);
}

/* Jobs that no worker has claimed count as never tried. */
static void
die_unclaimed(struct world *w, enum start_mode mode)
{
	struct task t[3] = { { .ndone = 0 } };
	struct keeper k;

	w->shared->mode = mode;
	keeper_start(w, &k);
	for (int i = 0; i < 3; i++)
		task_send_number(&k, &t[i], JOB_ADD, 1);
	assert_true(keeper_dies(w, &k));
	for (int i = 0; i < 3; i++)
		assert_task_returned(&t[i]);
	assert_int_equal(atomic_load(&w->shared->calls[JOB_ADD]), 0);
}

static void
test_worker_killed_before_it_reads_has_started_nothing(void **state)
{
	die_unclaimed(*state, START_FIRST_DIES_UNREAD);
}

static void
test_worker_killed_before_it_claims_has_started_nothing(void **state)
{
	die_unclaimed(*state, START_FIRST_DIES_READING);
}

static void
test_worker_killed_from_outside_at_any_time_loses_nothing(void **state)
{
	struct world *w = *state;
	int nfailed = 0;

	for (int round = 0; round < 60; round++) {
		static struct task t[KEEPER_MANY];
		struct keeper k;
		int ndone = 0, nbad = 0, nback = 0, before, ran;

		before = atomic_load(&w->shared->calls[JOB_ADD]);
		keeper_start(w, &k);
		for (int i = 0; i < KEEPER_MANY; i++) {
			t[i].job.timeout_ns = 0;
			task_send_number(&k, &t[i], JOB_ADD, 1);
		}
		fz_loop_turn(w->engine.loop, 0, NULL);
		usleep((useconds_t)(round * 37 % 700));
		kill(k.worker->pid, SIGKILL);
		assert_true(keeper_dies(w, &k));
		for (int i = 0; i < KEEPER_MANY; i++) {
			assert_one_outcome(&t[i]);
			ndone += t[i].ndone;
			nbad += t[i].nfailed;
			nback += t[i].nreturned;
			task_fini(&t[i]);
		}
		/*
		 * The jobs that ran are done, except that the one during the
		 * kill may have failed. The jobs that did not run are returned.
		 */
		ran = atomic_load(&w->shared->calls[JOB_ADD]) - before;
		assert_true(nbad <= 1);
		assert_true(ndone <= ran && ran <= ndone + nbad);
		assert_int_equal(nback, KEEPER_MANY - ndone - nbad);
		nfailed += nbad;
	}
	print_message("60 kills: %d jobs were running\n", nfailed);
}

#define TEST(name) \
	cmocka_unit_test_setup_teardown(name, world_setup, world_teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_worker_killed_in_a_job_fails_that_job_alone),
		TEST(test_worker_that_exits_fails_its_job),
		TEST(test_worker_that_exits_with_success_fails_its_job),
		TEST(test_worker_killed_with_its_reply_stored_has_done_it),
		TEST(
		    test_worker_killed_with_half_its_reply_written_has_done_it),
		TEST(
		    test_worker_killed_before_it_notes_the_write_has_done_it_once),
		TEST(
		    test_worker_killed_with_half_a_big_reply_written_has_failed),
		TEST(test_worker_that_writes_garbage_is_ended),
		TEST(test_worker_that_writes_garbage_behind_a_reply_is_ended),
		TEST(test_worker_that_closes_its_results_is_ended),
		TEST(test_worker_that_closes_its_jobs_is_ended),
		TEST(test_worker_that_crashes_names_the_signal),
		TEST(test_worker_killed_before_it_reads_has_started_nothing),
		TEST(test_worker_killed_before_it_claims_has_started_nothing),
		TEST(test_worker_killed_from_outside_at_any_time_loses_nothing),
	};

	return run_with_and_without_pidfd(
	    tests, sizeof(tests) / sizeof(*tests));
}
