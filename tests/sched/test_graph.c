/*
 * Graphs: who feeds whom, cycles, and how large they may be.
 * wrap: malloc calloc realloc
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "no_memory.h"
#include "sched/graph.h"

static int
setup(void **state)
{
	*state = fz_graph_new(NULL);
	return *state == NULL;
}

static int
teardown(void **state)
{
	fz_graph_free(*state);
	return 0;
}

static uint32_t
add(struct fz_graph *graph, uint32_t nvalues)
{
	uint32_t node = fz_graph_node(graph, 0, 0, nvalues, NULL);

	assert_int_not_equal(node, FZ_GRAPH_NONE);
	return node;
}

static void
feed(struct fz_graph *graph, uint32_t node, uint32_t a, uint32_t b)
{
	uint32_t values[] = { a, b };

	assert_int_equal(fz_graph_feed(graph, node, values,
			     b == FZ_GRAPH_NONE ? 1 : 2, NULL),
	    0);
}

static uint32_t
value(const struct fz_graph *graph, uint32_t node)
{
	return fz_graph_get(graph, node)->first_value;
}

static void
test_graph_knows_makers_and_readers(void **state)
{
	struct fz_graph *graph = *state;
	uint32_t in = fz_graph_input(graph, NULL), n;
	uint32_t a = add(graph, 2), b = add(graph, 1), c = add(graph, 0);
	uint32_t va = value(graph, a);
	const uint32_t *users;

	feed(graph, a, in, FZ_GRAPH_NONE);
	feed(graph, b, in, va);
	feed(graph, c, va, va); /* the node has the same input twice */
	assert_int_equal(fz_graph_frozen(graph), 0);
	assert_int_equal(fz_graph_freeze(graph, NULL), 0);
	assert_int_equal(fz_graph_freeze(graph, NULL), 0);
	assert_int_equal(fz_graph_frozen(graph), 1);
	assert_int_equal(fz_graph_nnodes(graph), 3);
	assert_int_equal(fz_graph_nvalues(graph), 4);
	assert_int_equal(fz_graph_maker(graph, in), FZ_GRAPH_NONE);
	assert_int_equal(fz_graph_maker(graph, va), a);
	assert_int_equal(fz_graph_maker(graph, value(graph, b)), b);
	users = fz_graph_readers(graph, in, &n);
	assert_int_equal(n, 2);
	assert_int_equal(users[0], a);
	assert_int_equal(users[1], b);
	users = fz_graph_readers(graph, va, &n);
	assert_int_equal(n, 3);
	assert_int_equal(users[0], b);
	assert_int_equal(users[1], c);
	assert_int_equal(users[2], c);
	fz_graph_readers(graph, va + 1, &n);
	assert_int_equal(n, 0);
	assert_int_equal(fz_graph_get(graph, a)->nmade, 0);
	assert_int_equal(fz_graph_get(graph, b)->nmade, 1);
	assert_int_equal(fz_graph_get(graph, c)->nmade, 2);
	assert_int_equal(fz_graph_inputs(graph, b)[1], va);
}

static void
test_graph_counts_its_pools(void **state)
{
	struct fz_graph *graph = *state;

	assert_int_equal(fz_graph_npools(graph), 0);
	fz_graph_node(graph, 4, 0, 1, NULL);
	fz_graph_node(graph, 2, 0, 1, NULL);
	assert_int_equal(fz_graph_npools(graph), 5);
}

static void
test_graph_may_be_empty(void **state)
{
	struct fz_graph *graph = *state;

	assert_int_equal(fz_graph_freeze(graph, NULL), 0);
	assert_int_equal(fz_graph_cycle(graph, NULL, NULL), 0);
	fz_graph_free(NULL);
}

static void
test_graph_without_a_cycle_has_none(void **state)
{
	struct fz_graph *graph = *state;
	uint32_t a = add(graph, 1), b = add(graph, 1), c = add(graph, 1);
	uint32_t nodes[3];

	feed(graph, b, value(graph, a), FZ_GRAPH_NONE);
	feed(graph, c, value(graph, a), value(graph, b));
	assert_int_equal(fz_graph_freeze(graph, NULL), 0);
	assert_int_equal(fz_graph_cycle(graph, nodes, NULL), 0);
}

/* Check that each node feeds the next one, and the last node the first. */
static void
assert_flows(const struct fz_graph *graph, const uint32_t *nodes, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		uint32_t next = nodes[(i + 1) % n], ninputs;
		const uint32_t *inputs = fz_graph_inputs(graph, next);
		bool feeds = false;

		ninputs = fz_graph_get(graph, next)->ninputs;
		for (uint32_t k = 0; k < ninputs; k++)
			feeds |= fz_graph_maker(graph, inputs[k]) == nodes[i];
		assert_true(feeds);
		for (size_t k = 0; k < i; k++)
			assert_int_not_equal(nodes[k], nodes[i]);
	}
}

static void
test_graph_a_node_may_feed_itself(void **state)
{
	struct fz_graph *graph = *state;
	uint32_t a = add(graph, 1), b = add(graph, 1), nodes[2];

	feed(graph, b, value(graph, a), value(graph, b));
	assert_int_equal(fz_graph_freeze(graph, NULL), 0);
	assert_int_equal(fz_graph_cycle(graph, nodes, NULL), 1);
	assert_int_equal(nodes[0], b);
}

static void
test_graph_gives_a_cycle_in_order_of_flow(void **state)
{
	struct fz_graph *graph = *state;
	uint32_t n[8], nodes[8];

	/* 0 -> 1 -> 2 -> 3 -> 1 is a cycle; 3 -> 4 -> 5 -> 6 -> 7 is not. */
	for (int i = 0; i < 8; i++)
		n[i] = add(graph, 1);
	feed(graph, n[1], value(graph, n[0]), value(graph, n[3]));
	feed(graph, n[2], value(graph, n[1]), FZ_GRAPH_NONE);
	feed(graph, n[3], value(graph, n[2]), FZ_GRAPH_NONE);
	for (int i = 4; i < 8; i++)
		feed(graph, n[i], value(graph, n[i - 1]), FZ_GRAPH_NONE);
	assert_int_equal(fz_graph_freeze(graph, NULL), 0);
	assert_int_equal(fz_graph_cycle(graph, nodes, NULL), 3);
	assert_flows(graph, nodes, 3);
}

static void
test_graph_finds_cycles_in_random_graphs(void **state)
{
	enum { N = 40 };
	uint32_t x = 99, with = 0, without = 0;

	(void)state;
	for (int round = 0; round < 500; round++) {
		struct fz_graph *graph = fz_graph_new(NULL);
		uint32_t nodes[N];
		bool forward = true;
		ptrdiff_t n;

		for (int i = 0; i < N; i++)
			add(graph, 1);
		for (uint32_t i = 0; i < N; i++) {
			x = x * 1664525 + 1013904223;
			uint32_t from = (x >> 16) % N;

			if (from >= i && x % 16 != 0)
				from = i / 2;
			if (i == 0 && from == 0)
				continue;
			forward &= from < i;
			feed(graph, i, value(graph, from), FZ_GRAPH_NONE);
		}
		assert_int_equal(fz_graph_freeze(graph, NULL), 0);
		n = fz_graph_cycle(graph, nodes, NULL);
		if (forward)
			assert_int_equal(n, 0);
		assert_flows(graph, nodes, (size_t)n);
		with += n != 0;
		without += n == 0;
		fz_graph_free(graph);
	}
	assert_true(with > 50 && without > 5);
}

static void
test_graph_a_value_that_is_not_there_is_an_error(void **state)
{
	struct fz_graph *graph = *state;
	struct fz_err err = { 0 };
	uint32_t a = add(graph, 1);

	feed(graph, a, 17, FZ_GRAPH_NONE);
	assert_int_equal(fz_graph_freeze(graph, &err), -1);
	assert_int_equal(err.kind, FZ_ERR_GRAPH);
	assert_int_equal(fz_graph_frozen(graph), 0);
	/* The missing input may be added later. */
	for (int i = 0; i < 17; i++)
		add(graph, 1);
	assert_int_equal(fz_graph_freeze(graph, NULL), 0);
}

static void
test_graph_has_a_largest_size(void **state)
{
	struct fz_graph *graph = *state;
	struct fz_err err = { 0 };

	assert_int_equal(
	    fz_graph_node(graph, 0, 0, UINT32_MAX, &err), FZ_GRAPH_NONE);
	assert_int_equal(err.kind, FZ_ERR_GRAPH);
	assert_int_equal(fz_graph_nnodes(graph), 0);
	assert_int_equal(fz_graph_nvalues(graph), 0);
}

/* Freeze and check a chain of `n` nodes. Returns 0, or -1 if a call failed. */
static int
scenario(uint32_t n, uint32_t *nodes)
{
	struct fz_graph *graph = fz_graph_new(NULL);
	int rc = -1;

	if (graph == NULL || fz_graph_input(graph, NULL) == FZ_GRAPH_NONE)
		goto out;
	for (uint32_t i = 0; i < n; i++) {
		if (fz_graph_node(graph, 0, 0, 1, NULL) != i ||
		    fz_graph_feed(graph, i, &i, 1, NULL) != 0 ||
		    (i % 2 != 0 &&
			fz_graph_set_optional(graph, i, 0, NULL) != 0))
			goto out;
	}
	if (fz_graph_freeze(graph, NULL) != 0)
		goto out;
	if (fz_graph_cycle(graph, nodes, NULL) == 0)
		rc = 0;
out:
	fz_graph_free(graph);
	return rc;
}

static void
test_graph_any_allocation_may_fail(void **state)
{
	uint32_t nodes[40];
	int n = 0, rc;

	(void)state;
	do {
		good_mallocs = n++;
		rc = scenario(40, nodes);
	} while (good_mallocs == -1);
	good_mallocs = -1;
	assert_int_equal(rc, 0);
	assert_true(n > 8);
}

static void
test_graph_a_large_one_is_fast(void **state)
{
	enum { NODES = 100000, EDGES = 10 };
	struct fz_graph *graph = *state;
	uint32_t *nodes = calloc(NODES, sizeof(*nodes));
	int64_t start = fz_clock_ns(), built;
	uint32_t x = 7;

	for (uint32_t i = 0; i < NODES; i++) {
		uint32_t from[EDGES];

		add(graph, 1);
		for (int k = 0; k < EDGES && i > 0; k++) {
			x = x * 1664525 + 1013904223;
			from[k] = (uint32_t)((uint64_t)x * i >> 32);
		}
		if (i > 0)
			fz_graph_feed(graph, i, from, EDGES, NULL);
	}
	assert_int_equal(fz_graph_freeze(graph, NULL), 0);
	built = fz_clock_ns();
	assert_int_equal(fz_graph_cycle(graph, nodes, NULL), 0);
	print_message("100,000 nodes, 1,000,000 edges: built in %d ms, "
		      "checked in %d ms\n",
	    (int)((built - start) / FZ_CLOCK_MS),
	    (int)((fz_clock_ns() - built) / FZ_CLOCK_MS));
	free(nodes);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_graph_knows_makers_and_readers),
		TEST(test_graph_counts_its_pools),
		TEST(test_graph_may_be_empty),
		TEST(test_graph_without_a_cycle_has_none),
		TEST(test_graph_a_node_may_feed_itself),
		TEST(test_graph_gives_a_cycle_in_order_of_flow),
		TEST(test_graph_finds_cycles_in_random_graphs),
		TEST(test_graph_a_value_that_is_not_there_is_an_error),
		TEST(test_graph_has_a_largest_size),
		TEST(test_graph_any_allocation_may_fail),
		TEST(test_graph_a_large_one_is_fast),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
