/*
 * Batches whose items fail: attempts, timeouts, policies, cancels.
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

#include <stdatomic.h>

#include "base/clock.h"
#include "base/err.h"
#include "batch_test.h"
#include "batches.h"
#include "os/loop.h"
#include "sched/batch.h"
#include "sched/batch_pool.h"
#include "trace/job_event.h"
#include "worker/change.h"
#include "world.h"

static struct batch_test t, u;

static void
test_batch_items_are_tried_again(void **state)
{
	static const struct {
		enum item_op op;
		unsigned retries, attempt; /* of the last failure; 0: none */
		enum fz_err_kind kind;
	} cases[] = {
		{ ITEM_RAISE_ONCE, 0, 1, FZ_ERR_ERROR },
		{ ITEM_RAISE_ONCE, 1, 0, FZ_ERR_NONE },
		{ ITEM_RAISE, 2, 3, FZ_ERR_ERROR },
		{ ITEM_KILL_ONCE, 0, 1, FZ_ERR_CRASH },
		{ ITEM_KILL_ONCE, 1, 0, FZ_ERR_NONE },
		{ ITEM_KILL, 1, 2, FZ_ERR_CRASH },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		batch_test_init(&t, *state, 20);
		atomic_store(&t.world->home->shared->onces, 0);
		t.items[6] = ITEM_OF(cases[i].op, 7);
		t.opts.limits.retries = cases[i].retries;
		batch_test_start(&t);
		assert_true(batch_test_finishes(&t));
		assert_true(has_all_outcomes(&t));
		assert_items_done(&t, 1, 6);
		assert_items_done(&t, 8, 20);
		if (cases[i].attempt == 0)
			assert_int_equal(t.outcomes[7].value, 7);
		else
			assert_item_failed(
			    &t, 7, cases[i].kind, cases[i].attempt);
		assert_int_equal(t.nevents[FZ_JOB_EVENT_RETRY],
		    cases[i].attempt != 0 ? cases[i].attempt - 1 : 1);
		assert_int_equal(t.nevents[FZ_JOB_EVENT_FAILED] +
				     t.nevents[FZ_JOB_EVENT_DONE],
		    20);
		for (uint64_t j = 1; j <= 20; j++)
			assert_true(j == 7 || times_run(&t, j) == 1);
		batch_test_fini(&t);
	}
}

static void
test_batch_waits_before_it_tries_again(void **state)
{
	int64_t start = fz_clock_ns();

	batch_test_init(&t, *state, 3);
	t.items[1] = ITEM_OF(ITEM_RAISE, 0);
	t.opts.limits.retries = 2;
	t.opts.limits.backoff_ns = 30 * FZ_CLOCK_MS;
	batch_test_start(&t);
	assert_true(batch_test_finishes(&t));
	assert_item_failed(&t, 2, FZ_ERR_ERROR, 3);
	assert_true(fz_clock_ns() - start >= (30 + 60) * FZ_CLOCK_MS);
	batch_test_fini(&t);
}

static void
test_batch_added_items_are_tried_again_with_their_part(void **state)
{
	batch_test_init(&t, *state, 0);
	t.opts.growing = true;
	t.opts.encode = NULL;
	t.opts.limits.retries = 1;
	t.items[0] = ITEM_OF(ITEM_RAISE_ONCE, 1);
	batch_test_start(&t);
	fz_batch_add(t.batch, items_part(t.items, 1), NULL);
	fz_batch_end(t.batch);
	assert_all_items_done(&t);
	assert_int_equal(t.outcomes[1].value, 1);
	assert_int_equal(times_run(&t, 1), 2);
	batch_test_fini(&t);
}

static void
test_batch_an_item_that_cannot_be_sent_fails_alone(void **state)
{
	static const uint32_t bads[] = { 1, 5, 20 };

	for (int i = 0; i < 3; i++) {
		uint32_t bad = bads[i];

		batch_test_init(&t, *state, 20);
		t.bad = bad;
		t.opts.chunk = 10;
		t.opts.limits.retries = 5; /* not for this kind of error */
		batch_test_start(&t);
		assert_true(batch_test_finishes(&t));
		assert_true(has_all_outcomes(&t));
		assert_item_failed(&t, bad, FZ_ERR_UNSENDABLE, 1);
		assert_int_equal(times_run(&t, bad), 0);
		assert_items_done(&t, 1, bad - 1);
		assert_items_done(&t, bad + 1, 20);
		batch_test_fini(&t);
	}
}

static void
test_batch_a_timeout_is_of_one_item(void **state)
{
	batch_test_init(&t, *state, 20);
	t.items[3] = ITEM_OF(ITEM_SLEEP, 60000);
	t.opts.chunk = 10;
	t.opts.limits.timeout_ns = 2 * FZ_CLOCK_SECOND;
	batch_test_start(&t);
	assert_true(batch_test_finishes(&t));
	assert_true(has_all_outcomes(&t));
	assert_item_failed(&t, 4, FZ_ERR_TIMEOUT, 1);
	assert_items_done(&t, 1, 3);
	assert_items_done(&t, 5, 20);
	batch_test_fini(&t);
}

/*
 * The first item waits at the gate, the second one fails, and each other item
 * takes a moment.
 */
static void
start_policy(struct batch_world *b, enum fz_policy policy)
{
	int64_t until = in_ms(PATIENCE_MS);

	batch_test_init(&t, b, 1000);
	batch_test_fill(&t, ITEM_SLEEP, 1);
	t.items[0] = ITEM_OF(ITEM_WAIT, 0);
	t.items[1] = ITEM_OF(ITEM_RAISE_LATE, 0);
	t.opts.chunk = 1;
	t.opts.policy = policy;
	batch_test_start(&t);
	while (t.nfailed == 0) {
		assert_true(turn_until(b->w, until));
		batch_test_take(&t);
	}
	assert_item_failed(&t, 2, FZ_ERR_ERROR, 1);
}

static void
test_batch_policy_stop_waits_for_running_items(void **state)
{
	start_policy(*state, FZ_POLICY_STOP);
	assert_false(fz_batch_done(t.batch));
	batch_test_open_gate(&t);
	assert_true(batch_test_finishes(&t));
	assert_items_done(&t, 1, 1);
	assert_false(has_all_outcomes(&t));
	assert_true(t.ndone < 500);
	assert_int_equal(t.nfailed, 1);
	assert_null(fz_batch_whole(t.batch));
	for (uint64_t i = 3; i <= 1000; i++)
		assert_int_equal(times_run(&t, i), t.outcomes[i].ndone);
	batch_test_fini(&t);
}

static void
test_batch_policy_now_ends_running_items(void **state)
{
	start_policy(*state, FZ_POLICY_NOW);
	assert_true(batch_test_finishes(&t));
	assert_item_failed(&t, 1, FZ_ERR_CANCELLED, 1);
	assert_false(has_all_outcomes(&t));
	assert_null(fz_batch_whole(t.batch));
	batch_test_fini(&t);
}

static void
test_batch_policy_continue_calls_all(void **state)
{
	start_policy(*state, FZ_POLICY_CONTINUE);
	batch_test_open_gate(&t);
	assert_true(batch_test_finishes(&t));
	assert_true(has_all_outcomes(&t));
	assert_int_equal(t.ndone, 999);
	batch_test_fini(&t);
}

static void
test_batch_cancel_ends_all_at_once(void **state)
{
	const struct fz_failure *whole;
	uint64_t first;

	batch_test_init(&t, *state, 100);
	batch_test_init(&u, *state, 50);
	batch_test_fill(&t, ITEM_WAIT, 0);
	t.opts.limits.retries = 3;
	batch_test_start(&t);
	batch_test_wait(&t, 2);
	batch_test_start(&u); /* `u` waits for the end of `t` */
	fz_batch_cancel(t.batch, FZ_ERR_INTERRUPTED, "by hand");
	assert_true(fz_batch_done(t.batch));
	whole = fz_batch_whole(t.batch);
	assert_int_equal(whole->err.kind, FZ_ERR_INTERRUPTED);
	assert_string_equal(whole->err.text, "by hand");
	fz_batch_cancel(t.batch, FZ_ERR_CANCELLED, "again");
	assert_int_equal(whole->err.kind, FZ_ERR_INTERRUPTED);
	batch_test_take(&t);
	assert_int_equal(t.nfailed, 2);
	assert_int_equal(t.ndone, 0);
	for (first = 1; t.outcomes[first].nfailed == 0; first++)
		continue;
	assert_item_failed(&t, first, FZ_ERR_INTERRUPTED, 1);
	batch_test_open_gate(&t);
	assert_all_items_done(&u);
	batch_test_fini(&t);
	batch_test_fini(&u);
}

static void
test_batch_cancel_while_it_waits_for_another_attempt(void **state)
{
	int64_t until = in_ms(PATIENCE_MS);

	batch_test_init(&t, *state, 1);
	t.items[0] = ITEM_OF(ITEM_RAISE, 0);
	t.opts.limits.retries = 1;
	t.opts.limits.backoff_ns = 600 * FZ_CLOCK_SECOND;
	batch_test_start(&t);
	while (t.nevents[FZ_JOB_EVENT_RETRY] == 0) {
		assert_true(turn_until(t.world->w, until));
		batch_test_take(&t);
	}
	assert_false(fz_batch_done(t.batch));
	fz_batch_pool_cancel(t.world->sched, "all of it");
	assert_true(fz_batch_done(t.batch));
	assert_string_equal(fz_batch_whole(t.batch)->err.text, "all of it");
	batch_test_fini(&t);
}

/* Turn the loop until an item waits for a decision. */
static void
wait_for_questions(void)
{
	const struct fz_failure *failure;
	int64_t until = in_ms(PATIENCE_MS);

	while (fz_batch_undecided(t.batch, &failure) == 0) {
		assert_true(turn_until(t.world->w, until));
		batch_test_take(&t);
	}
}

static void
test_batch_the_caller_decides_about_each_retry(void **state)
{
	const struct fz_failure *failure;

	batch_test_init(&t, *state, 20);
	t.items[6] = ITEM_OF(ITEM_RAISE, 0);
	t.opts.limits.retries = 9;
	t.opts.limits.ask = true;
	batch_test_start(&t);
	for (unsigned attempt = 1; attempt <= 3; attempt++) {
		wait_for_questions();
		assert_int_equal(fz_batch_undecided(t.batch, &failure), 7);
		assert_int_equal(failure->attempt, attempt);
		fz_batch_decide(t.batch, 8, true); /* nothing to decide */
		fz_batch_decide(t.batch, 7, attempt < 3);
		fz_batch_decide(t.batch, 7, true);
	}
	assert_true(batch_test_finishes(&t));
	assert_true(has_all_outcomes(&t));
	assert_item_failed(&t, 7, FZ_ERR_ERROR, 3);
	assert_int_equal(t.nevents[FZ_JOB_EVENT_RETRY], 2);
	assert_int_equal(t.nevents[FZ_JOB_EVENT_FAILED], 1);
	batch_test_fini(&t);
}

static void
test_batch_open_questions_fail_when_it_stops(void **state)
{
	for (int cancels = 0; cancels < 2; cancels++) {
		const struct fz_failure *failure;
		uint64_t first;

		batch_test_init(&t, *state, 2);
		batch_test_fill(&t, ITEM_RAISE, 0);
		t.opts.chunk = 1;
		t.opts.policy = FZ_POLICY_STOP;
		t.opts.limits.retries = 1;
		t.opts.limits.ask = true;
		batch_test_start(&t);
		wait_for_questions();
		first = fz_batch_undecided(t.batch, &failure);
		if (cancels)
			fz_batch_pool_cancel(t.world->sched, "all of it");
		else
			fz_batch_decide(t.batch, first, false);
		assert_int_equal(fz_batch_undecided(t.batch, &failure), 0);
		assert_true(batch_test_finishes(&t));
		assert_item_failed(&t, first, FZ_ERR_ERROR, 1);
		assert_int_equal(t.nevents[FZ_JOB_EVENT_RETRY], 0);
		batch_test_fini(&t);
	}
}

/* A batch is freed before its results were taken: no change of it remains. */
static void
test_batch_may_be_freed_at_any_time(void **state)
{
	for (int i = 0; i < 10; i++) {
		uint64_t id, changed;

		batch_test_init(&t, *state, 2000);
		t.items[3] = ITEM_OF(ITEM_RAISE, 0);
		batch_test_start(&t);
		for (int j = 0; j < i; j++)
			fz_loop_turn(t.world->w->engine.loop, in_ms(1), NULL);
		id = fz_batch_id(t.batch);
		batch_test_fini(&t);
		assert_int_equal(fz_batch_pool_nbatches(t.world->sched), 0);
		while ((changed = fz_change_take(&t.world->w->engine)) != 0)
			assert_true(changed != id);
	}
}

#define TEST(name)                       \
	cmocka_unit_test_setup_teardown( \
	    name, batch_world_setup, batch_world_teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_batch_items_are_tried_again),
		TEST(test_batch_waits_before_it_tries_again),
		TEST(test_batch_added_items_are_tried_again_with_their_part),
		TEST(test_batch_an_item_that_cannot_be_sent_fails_alone),
		TEST(test_batch_a_timeout_is_of_one_item),
		TEST(test_batch_policy_stop_waits_for_running_items),
		TEST(test_batch_policy_now_ends_running_items),
		TEST(test_batch_policy_continue_calls_all),
		TEST(test_batch_cancel_ends_all_at_once),
		TEST(test_batch_cancel_while_it_waits_for_another_attempt),
		TEST(test_batch_the_caller_decides_about_each_retry),
		TEST(test_batch_open_questions_fail_when_it_stops),
		TEST(test_batch_may_be_freed_at_any_time),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
