/*
 * Jobs that travel in one frame end one by one.
 *
 * wrap: syscall
 */
/* kill is not in C11. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <signal.h>
#include <stdatomic.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "keeper.h"
#include "os/loop.h"
#include "wire/blob.h"
#include "worker/worker.h"
#include "world.h"

enum { STEPS_MAX = 100 };

/* Send a task for each number, all in one frame. */
static void
send_steps(struct keeper *k, struct task *tasks, enum job func,
    const uint64_t *numbers, uint32_t n)
{
	struct fz_job *jobs[STEPS_MAX] = { NULL };
	struct fz_blob *args[STEPS_MAX] = { NULL };

	for (uint32_t i = 0; i < n; i++) {
		uint64_t seed = tasks[i].job.seed;
		int64_t timeout_ns = tasks[i].job.timeout_ns;
		bool measured = tasks[i].job.measured;

		task_init(&tasks[i], func);
		tasks[i].job.seed = seed;
		tasks[i].job.measured = measured;
		if (timeout_ns != 0)
			tasks[i].job.timeout_ns = timeout_ns;
		jobs[i] = &tasks[i].job;
		args[i] = blob_of_number(numbers[i]);
		assert_non_null(args[i]);
	}
	assert_int_equal(
	    fz_worker_send_steps(k->worker, jobs, n, args, 1, NULL), 0);
	for (uint32_t i = 0; i < n; i++)
		fz_blob_unref(args[i]);
}

/* Peek until the task is done. False: it hangs. */
static bool
peek_until_done(struct world *w, struct keeper *k, const struct task *t)
{
	int64_t until = in_ms(PATIENCE_MS);

	while (t->ndone == 0 && fz_clock_ns() < until) {
		fz_worker_peek(k->worker);
		fz_loop_turn(w->engine.loop, in_ms(1), NULL);
	}
	return t->ndone != 0;
}

static void
test_worker_steps_have_one_value_each(void **state)
{
	struct world *w = *state;
	static struct task t[STEPS_MAX];
	uint64_t numbers[STEPS_MAX];
	struct keeper k;

	memset(t, 0, sizeof(t));
	keeper_start(w, &k);
	for (uint32_t i = 0; i < STEPS_MAX; i++)
		numbers[i] = 3 * i;
	send_steps(&k, t, JOB_ADD, numbers, STEPS_MAX);
	assert_int_equal(k.worker->njobs, STEPS_MAX);
	assert_int_equal(k.worker->nitems, STEPS_MAX);
	assert_true(keeper_settle(w, &k));
	assert_int_equal(k.worker->nbytes, 0);
	for (uint32_t i = 0; i < STEPS_MAX; i++) {
		assert_int_equal(t[i].nstarted, 1);
		assert_true(t[i].job.ended_ns >= t[i].job.started_ns);
		assert_task_done(w, &t[i], 3 * i);
	}
	assert_int_equal(k.nidle, 1);
	fz_worker_free(k.worker);
}

static void
test_worker_steps_have_seeds_of_their_own(void **state)
{
	struct world *w = *state;
	struct task t[2] = { { .job.seed = 7 }, { .job.seed = 1 } };
	uint64_t numbers[2] = { 0 };
	struct keeper k;

	keeper_start(w, &k);
	/* JOB_SEED does not read its argument. */
	send_steps(&k, t, JOB_SEED, numbers, 2);
	assert_true(keeper_settle(w, &k));
	assert_task_done(w, &t[0], 7);
	assert_task_done(w, &t[1], 1);
	fz_worker_free(k.worker);
}

static void
test_worker_steps_fail_one_by_one(void **state)
{
	struct world *w = *state;
	struct task t[3] = { { .ndone = 0 } };
	uint64_t numbers[3] = { 0 };
	struct keeper k;

	keeper_start(w, &k);
	send_steps(&k, t, JOB_RAISE, numbers, 3);
	assert_true(keeper_settle(w, &k));
	for (int i = 0; i < 3; i++)
		assert_task_failed(&t[i], FZ_ERR_ERROR);
	assert_int_equal(k.nidle, 1);
	fz_worker_free(k.worker);
}

/* Two quick jobs, a long one, and one that waits for the long one. */
static const uint64_t third_is_long[] = { 1, 2, 60000, 3 };

static void
test_worker_steps_a_death_fails_the_running_one(void **state)
{
	struct world *w = *state;
	struct task t[4] = { { .ndone = 0 } };
	struct keeper k;

	keeper_start(w, &k);
	send_steps(&k, t, JOB_SLEEP, third_is_long, 4);
	assert_true(peek_until_done(w, &k, &t[1]));
	wait_for_calls(w, JOB_SLEEP, 3);
	kill(k.worker->pid, SIGKILL);
	assert_true(keeper_dies(w, &k));
	assert_task_done(w, &t[0], 1);
	assert_task_done(w, &t[1], 2);
	assert_task_failed(&t[2], FZ_ERR_CRASH);
	assert_task_returned(&t[3]);
}

static void
test_worker_steps_a_timeout_is_of_one(void **state)
{
	struct world *w = *state;
	struct task t[4] = { { .job.timeout_ns = 50 * FZ_CLOCK_SECOND } };
	struct keeper k;

	for (int i = 1; i < 4; i++)
		t[i].job.timeout_ns = t[0].job.timeout_ns;
	fz_clock_share();
	keeper_start(w, &k);
	send_steps(&k, t, JOB_SLEEP, third_is_long, 4);
	wait_for_sleep(w, 3);
	pass_seconds(51);
	assert_true(keeper_dies(w, &k));
	assert_task_done(w, &t[0], 1);
	assert_task_done(w, &t[1], 2);
	assert_task_failed(&t[2], FZ_ERR_TIMEOUT);
	assert_task_returned(&t[3]);
}

static void
test_worker_steps_a_recall_returns_what_has_not_started(void **state)
{
	static const uint64_t numbers[] = { 1, 1000000, 3, 4 };
	struct world *w = *state;
	struct task t[4] = { { .ndone = 0 } }, after = { 0 };
	struct keeper k;

	fz_clock_share();
	keeper_start(w, &k);
	send_steps(&k, t, JOB_SLEEP, numbers, 4);
	fz_worker_write(k.worker);
	wait_for_sleep(w, 2);
	assert_int_equal(fz_worker_recall(k.worker), 2);
	assert_task_returned(&t[2]);
	assert_task_returned(&t[3]);
	task_send_number(&k, &after, JOB_ADD, 9);
	pass_seconds(1000);
	assert_true(keeper_settle(w, &k));
	assert_task_done(w, &t[0], 1);
	assert_task_done(w, &t[1], 1000000);
	assert_task_done(w, &after, 9);
	assert_int_equal(atomic_load(&w->shared->calls[JOB_SLEEP]), 2);
	fz_worker_free(k.worker);
}

/* The parent reads all replies together, but each has its own times. */
static void
test_worker_steps_have_times_of_their_own(void **state)
{
	enum { N = 4, MS = 5 };
	static const uint64_t numbers[N] = { MS, MS, MS, MS };
	struct world *w = *state;
	struct task t[N + 1] = { { .ndone = 0 } };
	int64_t at_ns = fz_clock_ns();
	struct keeper k;

	for (int i = 0; i < N; i++)
		t[i].job.measured = true;
	keeper_start(w, &k);
	send_steps(&k, t, JOB_SLEEP, numbers, N);
	task_send_number(&k, &t[N], JOB_COUNT, 0);
	fz_worker_write(k.worker);
	wait_for_calls(w, JOB_COUNT, 1);
	assert_true(keeper_settle(w, &k));
	for (int i = 0; i < N; i++) {
		const struct fz_used *used = &t[i].job.used;

		assert_true(used->took_ns >= MS * FZ_CLOCK_MS);
		assert_true(used->started_ns >= at_ns);
		assert_true(used->peak_rss > 100000);
		at_ns = used->started_ns + used->took_ns;
		assert_true(at_ns <= t[i].job.ended_ns);
		assert_task_done(w, &t[i], MS);
	}
	assert_int_equal(t[N].job.used.started_ns, 0);
	task_fini(&t[N]);
	fz_worker_free(k.worker);
}

#define TEST(name) \
	cmocka_unit_test_setup_teardown(name, world_setup, world_teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_worker_steps_have_one_value_each),
		TEST(test_worker_steps_have_seeds_of_their_own),
		TEST(test_worker_steps_have_times_of_their_own),
		TEST(test_worker_steps_fail_one_by_one),
		TEST(test_worker_steps_a_death_fails_the_running_one),
		TEST(test_worker_steps_a_timeout_is_of_one),
		TEST(test_worker_steps_a_recall_returns_what_has_not_started),
	};

	return run_with_and_without_pidfd(
	    tests, sizeof(tests) / sizeof(*tests));
}
