/*
 * Runs without workers.
 */
/* kill and readlink are not in C11. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>

#include "base/clock.h"
#include "base/err.h"
#include "os/loop.h"
#include "run_test.h"
#include "sched/graph.h"
#include "sched/run.h"
#include "trace/job_event.h"
#include "world.h"

static void
local_done(struct run_test *p, uint32_t node, uint64_t v)
{
	struct fz_blob *blob = blob_of_number(v);

	fz_run_local_done(p->run, node, &blob, 1);
}

static uint32_t
next_node(struct fz_run *run)
{
	bool ready = fz_run_local_ready(run);
	uint32_t node = fz_run_local_next(run);

	assert_int_equal(ready, node != FZ_GRAPH_NONE);
	return node;
}

static void
test_run_local_nodes_come_in_order(void **state)
{
	struct run_test p;
	uint32_t in, node;

	run_test_init(&p, *state, 1, 0);
	in = run_test_input(&p);
	for (uint32_t i = 0; i < 200; i++)
		run_test_add(&p, JOB_ADD,
		    i % 3 == 1 ? run_test_value(&p, i - 1) : in, FZ_GRAPH_NONE);
	run_test_make(&p);
	assert_true(fz_run_is_local(p.run));
	fz_run_set(p.run, in, blob_of_number(1));
	run_test_start(&p);
	for (uint32_t i = 0; i < 200; i++) {
		const uint32_t *inputs = fz_graph_inputs(p.graph, i);

		node = next_node(p.run);
		assert_int_equal(node, i);
		assert_non_null(fz_run_value(p.run, inputs[0]));
		local_done(&p, node, i);
	}
	assert_int_equal(next_node(p.run), FZ_GRAPH_NONE);
	assert_true(run_test_finishes(&p));
	assert_run_value(&p, 199, 199);
	assert_run_ended(&p);
	run_test_fini(&p);
}

static void
test_run_local_seeds_are_those_of_workers(void **state)
{
	uint64_t seeds[30];
	struct run_test p;
	uint32_t in;

	run_test_seeds(*state, 2, false, seeds);
	run_test_init(&p, *state, 1, 0);
	in = run_test_input(&p);
	for (int i = 0; i < 30; i++)
		run_test_add(&p, JOB_SEED, in, FZ_GRAPH_NONE);
	run_test_make(&p);
	for (uint32_t i = 0; i < 30; i++)
		assert_int_equal(fz_run_local_seed(p.run, i), seeds[i]);
	run_test_fini(&p);
}

static void
test_run_local_failures_follow_the_policy(void **state)
{
	static const enum fz_policy policies[] = { FZ_POLICY_STOP,
		FZ_POLICY_NOW, FZ_POLICY_CONTINUE };

	for (int i = 0; i < 3; i++) {
		struct fz_failure failure = { .err.kind = FZ_ERR_ERROR };
		struct run_test p;
		uint32_t in, a, b, x;

		run_test_init(&p, *state, 1, 0);
		p.opts.policy = policies[i];
		in = run_test_input(&p);
		a = run_test_add(&p, JOB_ADD, in, FZ_GRAPH_NONE);
		b = run_test_after(&p, JOB_ADD, a);
		x = run_test_add(&p, JOB_ADD, in, FZ_GRAPH_NONE);
		run_test_begin(&p, in, 1);
		assert_int_equal(next_node(p.run), a);
		fz_run_local_failed(p.run, a, &failure);
		if (policies[i] == FZ_POLICY_CONTINUE) {
			assert_int_equal(next_node(p.run), x);
			local_done(&p, x, 9);
		}
		assert_int_equal(next_node(p.run), FZ_GRAPH_NONE);
		assert_true(run_test_finishes(&p));
		assert_run_failure(&p, a, FZ_ERR_ERROR, FZ_GRAPH_NONE);
		assert_run_failure(&p, b, FZ_ERR_CANCELLED, a);
		if (policies[i] == FZ_POLICY_CONTINUE)
			assert_run_value(&p, x, 9);
		else
			assert_run_failure(&p, x, FZ_ERR_CANCELLED, a);
		assert_run_ended(&p);
		run_test_fini(&p);
	}
}

static void
test_run_local_retries_wait_too(void **state)
{
	struct fz_failure failure = { .err.kind = FZ_ERR_ERROR };
	struct run_test p;
	uint32_t in, a, node;
	int64_t start = fz_clock_ns();

	run_test_init(&p, *state, 1, 0);
	p.opts.limits.retries = 1;
	p.opts.limits.backoff_ns = 20 * FZ_CLOCK_MS;
	in = run_test_input(&p);
	a = run_test_add(&p, JOB_ADD, in, FZ_GRAPH_NONE);
	run_test_begin(&p, in, 1);
	assert_int_equal(next_node(p.run), a);
	fz_run_local_failed(p.run, a, &failure);
	while ((node = next_node(p.run)) == FZ_GRAPH_NONE) {
		assert_false(fz_run_done(p.run));
		fz_loop_turn(p.w->engine.loop, in_ms(100), NULL);
	}
	assert_true(fz_clock_ns() - start >= 20 * FZ_CLOCK_MS);
	local_done(&p, node, 3);
	assert_true(run_test_finishes(&p));
	assert_run_value(&p, a, 3);
	run_test_fini(&p);
}

/* A node's own code may cancel the run, which is then freed at once. */
static void
test_run_local_may_be_cancelled_within_a_node(void **state)
{
	struct run_test p;
	uint32_t in, a;

	run_test_init(&p, *state, 1, 0);
	in = run_test_input(&p);
	a = run_test_add(&p, JOB_ADD, in, FZ_GRAPH_NONE);
	run_test_after(&p, JOB_ADD, a);
	run_test_begin(&p, in, 1);
	assert_int_equal(next_node(p.run), a);
	fz_run_cancel(p.run, FZ_ERR_CANCELLED, "within");
	assert_true(fz_run_done(p.run));
	local_done(&p, a, 1);
	assert_int_equal(next_node(p.run), FZ_GRAPH_NONE);
	run_test_take_events(&p);
	assert_run_ended(&p);
	fz_run_free(p.run);
	p.run = NULL;
	fz_loop_turn(p.w->engine.loop, 0, NULL);
	run_test_fini(&p);
}

static void
test_run_a_large_graph_is_fast(void **state)
{
	enum { NODES = 100000, EDGES = 10 };
	struct run_test p;
	int64_t start = fz_clock_ns(), built, ran;
	uint32_t in, node, count = 0, *nodes;

	run_test_init(&p, *state, 1, 0);
	p.opts.events = false;
	nodes = calloc(NODES, sizeof(*nodes));
	in = run_test_input(&p);
	for (uint32_t i = 0; i < NODES; i++) {
		uint32_t from[EDGES];

		for (int k = 0; k < EDGES; k++)
			from[k] =
			    i == 0 ? in
				   : run_test_value(&p, run_test_random() % i);
		node = fz_graph_node(p.graph, 0, JOB_ADD, 1, NULL);
		fz_graph_feed(p.graph, node, from, EDGES, NULL);
	}
	assert_int_equal(fz_graph_freeze(p.graph, NULL), 0);
	assert_int_equal(fz_graph_cycle(p.graph, nodes, NULL), 0);
	built = fz_clock_ns();
	p.run = fz_run_new(&p.opts, NULL);
	fz_run_set(p.run, in, blob_of_number(1));
	run_test_start(&p);
	while ((node = next_node(p.run)) != FZ_GRAPH_NONE) {
		local_done(&p, node, node);
		count++;
	}
	assert_int_equal(count, NODES);
	fz_loop_turn(p.w->engine.loop, 0, NULL);
	assert_true(fz_run_done(p.run));
	ran = fz_clock_ns();
	print_message("100,000 nodes, 1,000,000 edges: built and checked in "
		      "%d ms, run here in %d ms\n",
	    (int)((built - start) / FZ_CLOCK_MS),
	    (int)((ran - built) / FZ_CLOCK_MS));
	free(nodes);
	run_test_fini(&p);
}

#define TEST(name) \
	cmocka_unit_test_setup_teardown(name, world_setup, world_teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_run_local_nodes_come_in_order),
		TEST(test_run_local_seeds_are_those_of_workers),
		TEST(test_run_local_failures_follow_the_policy),
		TEST(test_run_local_retries_wait_too),
		TEST(test_run_local_may_be_cancelled_within_a_node),
		TEST(test_run_a_large_graph_is_fast),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
