/*
 * Optional inputs of runs: a node runs without the value of a node that has
 * failed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdbool.h>

#include "base/err.h"
#include "run_test.h"
#include "sched/graph.h"
#include "sched/run.h"
#include "world.h"

enum { ABSENT = 100 };

static const unsigned char absent[8] = { ABSENT };

static const enum fz_policy policies[] = { FZ_POLICY_STOP, FZ_POLICY_NOW,
	FZ_POLICY_CONTINUE };

/* A run with two workers, in which a missing value is `absent`. */
static void
run_test_with_absent(struct run_test *p, struct world *w, enum fz_policy policy)
{
	run_test_init(p, w, 2, 2);
	p->opts.policy = policy;
	p->opts.absent = absent;
	p->opts.absent_len = sizeof(absent);
}

/* JOB_ADD of two values, the first of which is optional. */
static uint32_t
add_optional(struct run_test *p, uint32_t a, uint32_t b)
{
	uint32_t node = run_test_add(p, JOB_ADD, a, b);

	assert_int_equal(fz_graph_set_optional(p->graph, node, 0, NULL), 0);
	return node;
}

static void
test_run_a_missing_value_is_the_absent_one(void **state)
{
	for (int i = 0; i < 3; i++) {
		struct run_test p;
		uint32_t in, a, b, failed;

		run_test_with_absent(&p, *state, policies[i]);
		in = run_test_input(&p);
		a = run_test_add(&p, JOB_RAISE, in, FZ_GRAPH_NONE);
		b = add_optional(&p, run_test_value(&p, a), in);
		run_test_begin(&p, in, 3);
		assert_true(run_test_finishes(&p));
		assert_run_value(&p, b, ABSENT + 3);
		assert_int_equal(
		    number_of_blob(
			p.w, fz_run_value(p.run, run_test_value(&p, a))),
		    ABSENT);
		assert_null(fz_run_failure(p.run, &failed));
		assert_int_equal(fz_run_next_failed(p.run, FZ_GRAPH_NONE), a);
		assert_run_ended(&p);
		run_test_fini(&p);
	}
}

static void
test_run_a_cancelled_maker_counts_as_failed(void **state)
{
	for (int i = 0; i < 3; i++) {
		const struct fz_failure *failure;
		struct run_test p;
		uint32_t in, a, b, c, because;

		run_test_with_absent(&p, *state, policies[i]);
		in = run_test_input(&p);
		a = run_test_add(&p, JOB_RAISE, in, FZ_GRAPH_NONE);
		b = run_test_after(&p, JOB_ADD, a);
		c = add_optional(&p, run_test_value(&p, b), in);
		run_test_begin(&p, in, 3);
		assert_true(run_test_finishes(&p));
		assert_run_value(&p, c, ABSENT + 3);
		failure = fz_run_failure_of(p.run, b, &because);
		assert_int_equal(failure->err.kind, FZ_ERR_CANCELLED);
		assert_int_equal(because, a);
		assert_run_ended(&p);
		run_test_fini(&p);
	}
}

/* The failure ends the run, unless the policy is to continue. */
static void
test_run_a_reader_that_needs_the_value_is_cancelled(void **state)
{
	for (int i = 0; i < 3; i++) {
		bool goes_on = policies[i] == FZ_POLICY_CONTINUE;
		struct run_test p;
		uint32_t in, a, b, c, failed, because;

		run_test_with_absent(&p, *state, policies[i]);
		in = run_test_input(&p);
		a = run_test_add(&p, JOB_RAISE, in, FZ_GRAPH_NONE);
		b = add_optional(&p, run_test_value(&p, a), in);
		c = run_test_after(&p, JOB_ADD, a);
		run_test_begin(&p, in, 3);
		assert_true(run_test_finishes(&p));
		assert_non_null(fz_run_failure_of(p.run, c, &because));
		assert_int_equal(because, a);
		if (goes_on) {
			assert_run_value(&p, b, ABSENT + 3);
			assert_null(fz_run_failure(p.run, &failed));
		} else {
			assert_non_null(fz_run_failure(p.run, &failed));
			assert_int_equal(failed, a);
			assert_non_null(fz_run_failure_of(p.run, b, &because));
		}
		assert_run_ended(&p);
		run_test_fini(&p);
	}
}

static void
test_run_a_failure_that_no_node_reads_ends_the_run(void **state)
{
	struct run_test p;
	uint32_t in, a, b, failed;

	run_test_with_absent(&p, *state, FZ_POLICY_STOP);
	in = run_test_input(&p);
	a = run_test_add(&p, JOB_RAISE, in, FZ_GRAPH_NONE);
	b = run_test_add(&p, JOB_RAISE, run_test_value(&p, a), in);
	assert_int_equal(fz_graph_set_optional(p.graph, b, 0, NULL), 0);
	run_test_begin(&p, in, 3);
	assert_true(run_test_finishes(&p));
	assert_non_null(fz_run_failure(p.run, &failed));
	assert_int_equal(failed, b);
	assert_int_equal(fz_run_next_failed(p.run, FZ_GRAPH_NONE), a);
	assert_int_equal(fz_run_next_failed(p.run, a), b);
	assert_run_ended(&p);
	run_test_fini(&p);
}

static void
test_graph_only_the_named_inputs_are_optional(void **state)
{
	struct run_test p;
	uint32_t a, b, x, y;

	run_test_with_absent(&p, *state, FZ_POLICY_STOP);
	x = run_test_input(&p);
	y = run_test_input(&p);
	a = run_test_add(&p, JOB_ADD, x, y);
	assert_false(fz_graph_has_optional(p.graph));
	assert_int_equal(fz_graph_set_optional(p.graph, a, 1, NULL), 0);
	b = run_test_add(&p, JOB_ADD, x, y);
	assert_true(fz_graph_has_optional(p.graph));
	assert_false(fz_graph_is_optional(p.graph, a, x));
	assert_true(fz_graph_is_optional(p.graph, a, y));
	assert_false(fz_graph_is_optional(p.graph, b, x));
	assert_false(fz_graph_is_optional(p.graph, b, y));
	assert_false(fz_graph_is_optional(p.graph, b, run_test_value(&p, a)));
	run_test_fini(&p);
}

#define TEST(name) \
	cmocka_unit_test_setup_teardown(name, world_setup, world_teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_run_a_missing_value_is_the_absent_one),
		TEST(test_run_a_cancelled_maker_counts_as_failed),
		TEST(test_run_a_reader_that_needs_the_value_is_cancelled),
		TEST(test_run_a_failure_that_no_node_reads_ends_the_run),
		TEST(test_graph_only_the_named_inputs_are_optional),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
