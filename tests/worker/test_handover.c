/*
 * Which worker is expected to get the next call, and when the parent keeps its
 * processor.
 *
 * wrap: syscall
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "keeper.h"
#include "os/cpus.h"
#include "worker/link.h"
#include "worker/worker_state.h"
#include "world.h"

/* The links that were notified, in order. */
static const struct fz_link *expected[8];
static int nexpected;

static void
note_expect(struct fz_link *link)
{
	if (nexpected < 8)
		expected[nexpected++] = link;
}

static int cpu_of_worker;

static int
say_cpu(const struct fz_link *link)
{
	(void)link;
	return cpu_of_worker;
}

static void
start(struct world *w, struct keeper *k)
{
	static struct fz_link_ops ops;

	ops = fz_link_fork;
	ops.expect = note_expect;
	ops.cpu = say_cpu;
	assert_non_null(keeper_start(w, k));
	k->worker->private->link->ops = &ops;
}

static void
start_both(struct world *w, struct keeper *first, struct keeper *second)
{
	nexpected = 0;
	start(w, first);
	start(w, second);
}

/* Run a job in the worker. */
static void
work(struct world *w, struct keeper *k)
{
	struct task t = { .ndone = 0 };

	task_send_number(k, &t, JOB_ADD, 5);
	assert_true(keeper_settle(w, k));
	assert_task_done(w, &t, 5);
}

static void
test_handover_expects_the_worker_that_followed(void **state)
{
	struct world *w = *state;
	struct keeper first, second;

	start_both(w, &first, &second);
	work(w, &first);
	work(w, &second);
	assert_int_equal(nexpected, 0); /* no follower is known yet */
	work(w, &first);
	work(w, &second);
	work(w, &first);
	assert_int_equal(nexpected, 3);
	assert_ptr_equal(expected[0], second.worker->private->link);
	assert_ptr_equal(expected[1], first.worker->private->link);
	assert_ptr_equal(expected[2], second.worker->private->link);
	fz_worker_free(first.worker);
	fz_worker_free(second.worker);
}

static void
test_handover_expects_no_worker_that_is_busy_or_the_same(void **state)
{
	struct world *w = *state;
	struct task t = { .ndone = 0 };
	struct keeper first, second;

	start_both(w, &first, &second);
	work(w, &first);
	work(w, &first);
	work(w, &first);
	assert_int_equal(nexpected, 0);
	task_send_number(&second, &t, JOB_SLEEP, 60000);
	work(w, &first);
	assert_int_equal(nexpected, 0);
	fz_worker_free(second.worker);
	task_fini(&t);
	fz_worker_free(first.worker);
}

static void
test_handover_forgets_a_worker_that_is_freed(void **state)
{
	struct world *w = *state;
	struct keeper first, second;

	start_both(w, &first, &second);
	work(w, &first);
	work(w, &second);
	fz_worker_free(second.worker);
	work(w, &first);
	work(w, &first);
	assert_int_equal(nexpected, 0);
	fz_worker_free(first.worker);
	assert_null(w->engine.replied);
}

/* The first worker still needs the processor itself. */
static void
test_handover_expects_no_worker_before_the_last_reply(void **state)
{
	struct world *w = *state;
	struct task quick = { .ndone = 0 }, slow = { .ndone = 0 };
	int64_t until_ns = in_ms(PATIENCE_MS);
	struct keeper first, second;

	start_both(w, &first, &second);
	work(w, &first);
	work(w, &second);
	task_send_number(&first, &quick, JOB_ADD, 5);
	task_send_number(&first, &slow, JOB_SLEEP, 60000);
	while (quick.ndone == 0 && turn_until(w, until_ns))
		fz_worker_peek(first.worker);
	assert_task_done(w, &quick, 5);
	assert_int_equal(nexpected, 0);
	fz_worker_free(first.worker);
	task_fini(&slow);
	fz_worker_free(second.worker);
}

/* A third worker needs the processor. */
static void
test_handover_expects_no_worker_while_another_is_busy(void **state)
{
	struct world *w = *state;
	struct task t = { .ndone = 0 };
	struct keeper first, second, third;

	start_both(w, &first, &second);
	start(w, &third);
	work(w, &first);
	work(w, &second);
	work(w, &first);
	assert_int_equal(nexpected, 1);
	task_send_number(&third, &t, JOB_SLEEP, 60000);
	work(w, &second);
	work(w, &first);
	work(w, &second);
	work(w, &first);
	assert_int_equal(nexpected, 1);
	fz_worker_free(third.worker);
	task_fini(&t);
	fz_worker_free(first.worker);
	fz_worker_free(second.worker);
}

static int64_t
hold_until(const struct keeper *k, int cpu)
{
	const struct fz_awaited *awaited = &k->worker->private->awaited;

	cpu_of_worker = cpu;
	return awaited->hold_until(awaited);
}

static void
test_handover_holds_a_processor_that_the_worker_does_not_need(void **state)
{
	struct world *w = *state;
	struct task t = { .ndone = 0 };
	struct keeper k;
	int64_t before_ns, begun_ns;

	cpu_of_worker = -1;
	start(w, &k);
	work(w, &k);
	assert_int_equal(hold_until(&k, 1 << 20), 0); /* it has no job */
	task_send_number(&k, &t, JOB_SLEEP, 60000);
	assert_int_equal(hold_until(&k, -1), 0);
	before_ns = hold_until(&k, 1 << 20);
	wait_for_calls(w, JOB_SLEEP, 1);
	begun_ns = hold_until(&k, 1 << 20);
	assert_true(k.worker->news_ns < before_ns && before_ns < begun_ns);
	cpu_of_worker = -1;
	fz_worker_free(k.worker);
	task_fini(&t);
}

#define TEST(name) \
	cmocka_unit_test_setup_teardown(name, world_setup, world_teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_handover_expects_the_worker_that_followed),
		TEST(test_handover_expects_no_worker_that_is_busy_or_the_same),
		TEST(test_handover_expects_no_worker_before_the_last_reply),
		TEST(test_handover_expects_no_worker_while_another_is_busy),
		TEST(test_handover_forgets_a_worker_that_is_freed),
		TEST(
		    test_handover_holds_a_processor_that_the_worker_does_not_need),
	};

	return run_with_and_without_pidfd(
	    tests, sizeof(tests) / sizeof(*tests));
}
