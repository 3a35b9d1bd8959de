/*
 * Retries, timeouts, deadlines and cancels of runs.
 */
/* kill and readlink are not in C11. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdatomic.h>
#include <stdbool.h>

#include "base/clock.h"
#include "base/err.h"
#include "run_test.h"
#include "sched/graph.h"
#include "sched/run.h"
#include "trace/job_event.h"
#include "world.h"

static void
test_run_tries_again(void **state)
{
	struct run_test p;
	uint32_t in, a;

	run_test_init(&p, *state, 2, 2);
	p.opts.limits.retries = 1;
	in = run_test_input(&p);
	a = run_test_add(&p, JOB_KILL_ONCE, in, FZ_GRAPH_NONE);
	run_test_begin(&p, in, 3);
	assert_true(run_test_finishes(&p));
	assert_run_value(&p, a, 3);
	assert_int_equal(p.retries[a], 1);
	assert_int_equal(p.starts[a], 2);
	assert_run_ended(&p);
	run_test_fini(&p);
}

static void
test_run_tries_so_often_and_waits_in_between(void **state)
{
	const struct fz_failure *failure;
	struct run_test p;
	uint32_t in, a, because;
	int64_t start = fz_clock_ns();

	run_test_init(&p, *state, 1, 1);
	p.opts.limits.retries = 2;
	p.opts.limits.backoff_ns = 20 * FZ_CLOCK_MS;
	in = run_test_input(&p);
	a = run_test_add(&p, JOB_RAISE, in, FZ_GRAPH_NONE);
	run_test_begin(&p, in, 3);
	assert_true(run_test_finishes(&p));
	assert_true(fz_clock_ns() - start >= 60 * FZ_CLOCK_MS);
	failure = fz_run_failure_of(p.run, a, &because);
	assert_int_equal(failure->attempt, 3);
	assert_int_equal(p.retries[a], 2);
	assert_int_equal(atomic_load(&p.w->shared->calls[JOB_RAISE]), 3);
	assert_run_ended(&p);
	run_test_fini(&p);
}

static void
test_run_many_retries_without_a_pause_are_fast(void **state)
{
	struct run_test p;
	uint32_t in, a, because;

	run_test_init(&p, *state, 1, 0);
	p.opts.limits.retries = 200000;
	in = run_test_input(&p);
	a = run_test_add(&p, JOB_RAISE, in, FZ_GRAPH_NONE);
	p.opts.events = false;
	run_test_begin(&p, in, 3);
	while (fz_run_local_next(p.run) == a) {
		struct fz_failure failure = { .err.kind = FZ_ERR_ERROR };

		fz_run_local_failed(p.run, a, &failure);
	}
	assert_true(run_test_finishes(&p));
	assert_int_equal(
	    fz_run_failure_of(p.run, a, &because)->attempt, 200001);
	run_test_fini(&p);
}

static void
test_run_cancel_ends_a_pause(void **state)
{
	struct run_test p;
	uint32_t in, a;
	int64_t until = in_ms(PATIENCE_MS);

	run_test_init(&p, *state, 1, 1);
	p.opts.limits.retries = 1;
	p.opts.limits.backoff_ns = 3600 * FZ_CLOCK_SECOND;
	in = run_test_input(&p);
	a = run_test_add(&p, JOB_RAISE, in, FZ_GRAPH_NONE);
	run_test_begin(&p, in, 3);
	while (p.retries[a] == 0) {
		assert_true(turn_until(p.w, until));
		run_test_take_events(&p);
	}
	fz_run_cancel(p.run, FZ_ERR_CANCELLED, "enough");
	run_test_take_events(&p);
	assert_true(fz_run_done(p.run));
	assert_run_ended(&p);
	run_test_fini(&p);
}

static void
test_run_timeouts_free_the_slot(void **state)
{
	struct run_test p;
	uint32_t in;

	run_test_init(&p, *state, 2, 2);
	p.opts.policy = FZ_POLICY_CONTINUE;
	p.opts.limits.timeout_ns = 100 * FZ_CLOCK_MS;
	in = run_test_input(&p);
	for (int i = 0; i < 4; i++)
		run_test_add(&p, JOB_SLEEP, in, FZ_GRAPH_NONE);
	run_test_begin(&p, in, 10 * PATIENCE_MS);
	assert_true(run_test_finishes(&p));
	for (uint32_t i = 0; i < 4; i++)
		assert_run_failure(&p, i, FZ_ERR_TIMEOUT, FZ_GRAPH_NONE);
	assert_run_ended(&p);
	run_test_fini(&p);
}

static void
test_run_a_node_may_have_its_own_limits(void **state)
{
	struct fz_limits limits = { .timeout_ns = 500 * FZ_CLOCK_SECOND };
	struct run_test p;
	uint32_t in, a, b;
	int64_t until;

	run_test_init(&p, *state, 2, 2);
	p.opts.policy = FZ_POLICY_CONTINUE;
	in = run_test_input(&p);
	a = run_test_add(&p, JOB_SLEEP, in, FZ_GRAPH_NONE);
	b = run_test_add(&p, JOB_SLEEP, in, FZ_GRAPH_NONE);
	run_test_make(&p);
	assert_int_equal(fz_run_limit(p.run, b, &limits, NULL), 0);
	assert_int_equal(
	    fz_run_limits_of(p.run, a)->timeout_ns, FZ_CLOCK_NEVER);
	assert_int_equal(
	    fz_run_limits_of(p.run, b)->timeout_ns, limits.timeout_ns);
	fz_run_set(p.run, in, blob_of_number(1000000));
	fz_clock_share();
	run_test_start(&p);
	wait_for_sleep(p.w, 2);
	pass_seconds(501);
	until = in_ms(PATIENCE_MS);
	while (p.ends[b] == 0) {
		assert_true(turn_until(p.w, until));
		run_test_take_events(&p);
	}
	pass_seconds(500);
	assert_true(run_test_finishes(&p));
	assert_run_value(&p, a, 1000000);
	assert_run_failure(&p, b, FZ_ERR_TIMEOUT, FZ_GRAPH_NONE);
	run_test_fini(&p);
}

/* Run with a deadline in `ms`. Returns whether the first node was started. */
static bool
ends_at_deadline(struct world *w, int64_t ms)
{
	const struct fz_failure *failure;
	struct run_test p;
	uint32_t in, a, b, failed;
	bool ran;

	run_test_init(&p, w, 2, 2);
	p.opts.deadline_ns = in_ms(ms);
	p.opts.limits.retries = 5;
	in = run_test_input(&p);
	a = run_test_add(&p, JOB_SLEEP, in, FZ_GRAPH_NONE);
	b = run_test_after(&p, JOB_ADD, a);
	run_test_begin(&p, in, 10 * PATIENCE_MS);
	assert_true(run_test_finishes(&p));
	failure = fz_run_failure(p.run, &failed);
	assert_int_equal(failure->err.kind, FZ_ERR_TIMEOUT);
	assert_int_equal(failed, FZ_GRAPH_NONE);
	ran = atomic_load(&w->shared->calls[JOB_SLEEP]) != 0;
	if (ran)
		assert_run_failure(&p, a, FZ_ERR_TIMEOUT, FZ_GRAPH_NONE);
	assert_run_failure(&p, b, FZ_ERR_CANCELLED, FZ_GRAPH_NONE);
	assert_run_ended(&p);
	run_test_fini(&p);
	return ran;
}

static void
test_run_a_deadline_ends_all(void **state)
{
	for (int64_t ms = 100; !ends_at_deadline(*state, ms); ms *= 4)
		assert_true(ms < PATIENCE_MS);
}

static void
test_run_cancel_returns_when_all_has_ended(void **state)
{
	struct run_test p;
	uint32_t in, failed;

	run_test_init(&p, *state, 3, 3);
	in = run_test_input(&p);
	for (int i = 0; i < 30; i++)
		run_test_add(&p, JOB_SLEEP, in, FZ_GRAPH_NONE);
	run_test_begin(&p, in, 60000);
	wait_for_calls(p.w, JOB_SLEEP, 3);
	fz_run_cancel(p.run, FZ_ERR_INTERRUPTED, "interrupted");
	assert_true(fz_run_done(p.run));
	assert_no_children();
	fz_run_cancel(p.run, FZ_ERR_CANCELLED, "later ones do nothing");
	assert_int_equal(
	    fz_run_failure(p.run, &failed)->err.kind, FZ_ERR_INTERRUPTED);
	run_test_take_events(&p);
	assert_run_ended(&p);
	assert_int_equal(atomic_load(&p.w->shared->calls[JOB_SLEEP]), 3);
	run_test_fini(&p);
}

static void
test_run_cancel_before_the_start(void **state)
{
	struct run_test p;
	uint32_t in;

	run_test_init(&p, *state, 1, 1);
	in = run_test_input(&p);
	run_test_add(&p, JOB_ADD, in, FZ_GRAPH_NONE);
	run_test_make(&p);
	fz_run_set(p.run, in, blob_of_number(1));
	fz_run_cancel(p.run, FZ_ERR_CANCELLED, "never");
	assert_true(fz_run_done(p.run));
	run_test_fini(&p);
}

/* Turn the loop until a node waits for a decision. */
static uint32_t
wait_for_question(struct run_test *p)
{
	int64_t until = in_ms(PATIENCE_MS);

	while (fz_run_undecided(p->run) == FZ_GRAPH_NONE)
		assert_true(turn_until(p->w, until));
	return fz_run_undecided(p->run);
}

static void
test_run_the_caller_decides_about_each_retry(void **state)
{
	const struct fz_failure *failure;
	struct run_test p;
	uint32_t in, a, b, because;

	run_test_init(&p, *state, 1, 1);
	p.opts.policy = FZ_POLICY_CONTINUE;
	p.opts.limits = (struct fz_limits){
		.timeout_ns = FZ_CLOCK_NEVER, .retries = 9, .ask = true
	};
	in = run_test_input(&p);
	a = run_test_add(&p, JOB_RAISE, in, FZ_GRAPH_NONE);
	b = run_test_after(&p, JOB_ADD, a);
	run_test_begin(&p, in, 3);
	for (unsigned attempt = 1; attempt <= 3; attempt++) {
		assert_int_equal(wait_for_question(&p), a);
		failure = fz_run_failure_of(p.run, a, &because);
		assert_int_equal(failure->attempt, attempt);
		fz_run_decide(p.run, b, 0, true); /* b waits for no decision */
		fz_run_decide(p.run, a, 0, attempt < 3);
		fz_run_decide(p.run, a, 0, true);
	}
	assert_true(run_test_finishes(&p));
	assert_int_equal(p.retries[a], 2);
	assert_run_failure(&p, a, FZ_ERR_ERROR, FZ_GRAPH_NONE);
	assert_run_failure(&p, b, FZ_ERR_CANCELLED, a);
	assert_run_ended(&p);
	run_test_fini(&p);
}

static void
test_run_only_a_failure_with_attempts_left_is_a_question(void **state)
{
	struct run_test p;
	uint32_t in, a, failed;

	run_test_init(&p, *state, 1, 1);
	p.opts.limits.ask = true;
	in = run_test_input(&p);
	a = run_test_add(&p, JOB_RAISE, in, FZ_GRAPH_NONE);
	run_test_begin(&p, in, 3);
	assert_true(run_test_finishes(&p));
	assert_int_equal(fz_run_undecided(p.run), FZ_GRAPH_NONE);
	assert_non_null(fz_run_failure(p.run, &failed));
	assert_int_equal(failed, a);
	run_test_fini(&p);
}

/*
 * While the retry of a node is undecided, another node fails and stops the run,
 * or the run is cancelled.
 */
static void
test_run_an_open_question_is_a_failure_when_the_run_stops(void **state)
{
	for (int cancels = 0; cancels < 2; cancels++) {
		struct run_test p;
		uint32_t in, a, b, failed;

		run_test_init(&p, *state, 2, 2);
		p.opts.limits.retries = 1;
		p.opts.limits.ask = true;
		in = run_test_input(&p);
		a = run_test_add(&p, JOB_RAISE, in, FZ_GRAPH_NONE);
		b = run_test_add(&p, JOB_RAISE, in, FZ_GRAPH_NONE);
		run_test_begin(&p, in, 3);
		failed = wait_for_question(&p);
		if (cancels) {
			fz_run_cancel(p.run, FZ_ERR_CANCELLED, "enough");
		} else {
			fz_run_decide(p.run, failed, 0, false);
			assert_non_null(fz_run_failure(p.run, &in));
			assert_int_equal(in, failed);
		}
		assert_true(run_test_finishes(&p));
		assert_int_equal(fz_run_undecided(p.run), FZ_GRAPH_NONE);
		assert_run_failure(&p, failed, FZ_ERR_ERROR, FZ_GRAPH_NONE);
		assert_int_equal(p.retries[a] + p.retries[b], 0);
		assert_run_ended(&p);
		run_test_fini(&p);
	}
}

#define TEST(name) \
	cmocka_unit_test_setup_teardown(name, world_setup, world_teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_run_tries_again),
		TEST(test_run_tries_so_often_and_waits_in_between),
		TEST(test_run_many_retries_without_a_pause_are_fast),
		TEST(test_run_cancel_ends_a_pause),
		TEST(test_run_timeouts_free_the_slot),
		TEST(test_run_a_node_may_have_its_own_limits),
		TEST(test_run_a_deadline_ends_all),
		TEST(test_run_cancel_returns_when_all_has_ended),
		TEST(test_run_cancel_before_the_start),
		TEST(test_run_the_caller_decides_about_each_retry),
		TEST(test_run_only_a_failure_with_attempts_left_is_a_question),
		TEST(test_run_an_open_question_is_a_failure_when_the_run_stops),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
