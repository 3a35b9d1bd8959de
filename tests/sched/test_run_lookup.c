/*
 * Lookups of recorded results: the run asks its caller for the values of a node
 * before the node runs, and passes the values to the caller when it has run.
 *
 * wrap: malloc calloc realloc mmap epoll_create1 epoll_ctl epoll_pwait fork
 * wrap: pipe2 read write pwritev2
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdbool.h>

#include "base/err.h"
#include "faults.h"
#include "run_test.h"
#include "sched/graph.h"
#include "sched/run.h"
#include "sched/run_lookup.h"
#include "wire/blob.h"
#include "world.h"

/* Answers that the caller of a run gives. */
struct answers {
	uint64_t known[NODES_MAX]; /* 0: the node is unknown, and runs */
	uint64_t made[NODES_MAX];
	int nasked;
};

/* The first node that waits for an answer; FZ_GRAPH_NONE: none. */
static uint32_t
asked(const struct run_test *p)
{
	struct fz_lookup_at at;

	return fz_lookup_asked(fz_run_flow(p->run), &at, 1) != 0
		   ? at.node
		   : FZ_GRAPH_NONE;
}

static uint32_t
made(const struct run_test *p)
{
	struct fz_lookup_at at;

	return fz_lookup_made(fz_run_flow(p->run), &at) ? at.node
							: FZ_GRAPH_NONE;
}

static void
found(struct run_test *p, uint32_t node, struct fz_blob **values, uint32_t n)
{
	struct fz_lookup_at at = { 0, node };

	fz_lookup_found(fz_run_flow(p->run), at, values, n);
}

static void
not_found(struct run_test *p, uint32_t node)
{
	struct fz_lookup_at at = { 0, node };

	fz_lookup_not_found(fz_run_flow(p->run), at);
}

static void
record_made(struct run_test *p, struct answers *a)
{
	uint32_t node;

	while ((node = made(p)) != FZ_GRAPH_NONE) {
		a->made[node] = number_of_blob(
		    p->w, fz_lookup_made_value(fz_run_flow(p->run), 0));
		fz_lookup_recorded(fz_run_flow(p->run));
	}
}

/* Turn the loop until the run is done, with these answers. False: it hangs. */
static bool
finishes(struct run_test *p, struct answers *a)
{
	int64_t until = in_ms(PATIENCE_MS);
	uint32_t node;

	do {
		record_made(p, a);
		while ((node = asked(p)) != FZ_GRAPH_NONE) {
			struct fz_blob *blob = NULL;

			a->nasked++;
			if (a->known[node] != 0)
				blob = blob_of_number(a->known[node]);
			if (blob != NULL)
				found(p, node, &blob, 1);
			else
				not_found(p, node);
		}
		if (fz_run_done(p->run)) {
			record_made(p, a);
			run_test_take_events(p);
			return true;
		}
	} while (turn_until(p->w, until));
	return false;
}

/* Check the value of a node, which was known or computed. */
static void
assert_value(struct run_test *p, uint32_t node, uint64_t expected)
{
	struct fz_blob *blob = fz_run_value(p->run, run_test_value(p, node));

	assert_non_null(blob);
	assert_int_equal(number_of_blob(p->w, blob), expected);
}

/* in -> a -> b -> c, and all but `in` are looked up. */
static void
chain_of_three(
    struct run_test *p, struct world *w, unsigned jobs, uint32_t nodes[3])
{
	uint32_t in;

	run_test_init(p, w, 2, jobs);
	in = run_test_input(p);
	nodes[0] = run_test_add(p, JOB_ADD, in, in);
	nodes[1] = run_test_add(p, JOB_ADD, run_test_value(p, nodes[0]), in);
	nodes[2] = run_test_add(p, JOB_ADD, run_test_value(p, nodes[1]), in);
	run_test_make(p);
	fz_run_set(p->run, in, blob_of_number(1));
	for (int i = 0; i < 3; i++)
		assert_int_equal(
		    fz_lookup_want(fz_run_flow(p->run), nodes[i], NULL), 0);
	run_test_start(p);
}

static void
test_run_asks_for_each_node_and_keeps_what_is_made(void **state)
{
	struct answers a = { .nasked = 0 };
	struct run_test p;
	uint32_t nodes[3];

	chain_of_three(&p, *state, 2, nodes);
	assert_true(finishes(&p, &a));
	assert_int_equal(a.nasked, 3);
	for (int i = 0; i < 3; i++) {
		assert_value(&p, nodes[i], (uint64_t)i + 2);
		assert_int_equal(a.made[nodes[i]], i + 2);
		assert_int_equal(p.starts[nodes[i]], 1);
	}
	assert_run_ended(&p);
	run_test_fini(&p);
}

static void
test_run_takes_known_values_without_a_call(void **state)
{
	struct answers a = { .nasked = 0 };
	struct run_test p;
	uint32_t nodes[3];

	chain_of_three(&p, *state, 2, nodes);
	a.known[nodes[1]] = 50;
	assert_true(finishes(&p, &a));
	assert_int_equal(a.nasked, 3);
	assert_value(&p, nodes[1], 50);
	assert_value(&p, nodes[2], 51);
	assert_int_equal(p.starts[nodes[1]], 0);
	assert_int_equal(a.made[nodes[1]], 0);
	assert_int_equal(a.made[nodes[2]], 51);
	assert_int_equal(fz_run_counts(p.run, 0).done, 3);
	run_test_fini(&p);
}

static void
test_run_is_done_if_all_values_are_known(void **state)
{
	struct answers a = { .nasked = 0 };
	struct run_test p;
	uint32_t nodes[3];

	chain_of_three(&p, *state, 2, nodes);
	for (int i = 0; i < 3; i++)
		a.known[nodes[i]] = 10 + (uint64_t)i;
	assert_true(finishes(&p, &a));
	assert_value(&p, nodes[2], 12);
	assert_no_children();
	run_test_fini(&p);
}

static void
test_run_ignores_wrong_answers(void **state)
{
	struct answers a = { .nasked = 0 };
	struct fz_blob *two[2];
	struct run_test p;
	uint32_t nodes[3];

	chain_of_three(&p, *state, 2, nodes);
	assert_int_equal(asked(&p), nodes[0]);
	two[0] = blob_of_number(7);
	two[1] = blob_of_number(7);
	found(&p, nodes[0], two, 2);
	assert_int_equal(asked(&p), nodes[0]);
	two[0] = blob_of_number(7);
	found(&p, nodes[2], two, 1); /* the run has not asked */
	not_found(&p, nodes[2]);
	fz_lookup_recorded(fz_run_flow(p.run)); /* nothing to record */
	assert_true(finishes(&p, &a));
	assert_value(&p, nodes[2], 4);
	run_test_fini(&p);
}

static void
test_run_may_stop_while_it_asks(void **state)
{
	struct run_test p;
	uint32_t nodes[3], because;

	chain_of_three(&p, *state, 2, nodes);
	assert_int_equal(asked(&p), nodes[0]);
	fz_run_cancel(p.run, FZ_ERR_CANCELLED, "cancelled");
	assert_int_equal(asked(&p), FZ_GRAPH_NONE);
	assert_non_null(fz_run_failure_of(p.run, nodes[0], &because));
	run_test_fini(&p);
	chain_of_three(&p, *state, 2, nodes);
	run_test_fini(&p); /* the run is freed before the answer */
}

static void
test_run_frees_values_that_were_not_recorded(void **state)
{
	int64_t until = in_ms(PATIENCE_MS);
	struct run_test p;
	uint32_t nodes[3];

	chain_of_three(&p, *state, 2, nodes);
	not_found(&p, nodes[0]);
	while (made(&p) == FZ_GRAPH_NONE)
		assert_true(turn_until(p.w, until));
	assert_int_equal(made(&p), nodes[0]);
	run_test_fini(&p);
}

/* Run while call `n` fails. Returns whether the result was recorded. */
static bool
is_recorded(struct world *w, unsigned long n, bool *came)
{
	struct answers a = { .nasked = 0 };
	struct fz_err err = { 0 };
	struct run_test p;
	uint32_t in, node;
	bool recorded = false;

	run_test_init(&p, w, 1, 1);
	in = run_test_input(&p);
	node = run_test_add(&p, JOB_ADD, in, in);
	run_test_make(&p);
	fz_run_set(p.run, in, blob_of_number(1));
	faults_at(n);
	if (fz_lookup_want(fz_run_flow(p.run), node, &err) == 0 &&
	    fz_run_start(p.run, &err) == 0) {
		assert_true(finishes(&p, &a));
		recorded = a.made[node] == 2;
		if (recorded)
			assert_value(&p, node, 2);
	} else {
		assert_int_not_equal(err.kind, FZ_ERR_NONE);
	}
	*came = faults_end();
	run_test_fini(&p);
	assert_no_children();
	return recorded;
}

static void
test_run_any_call_of_a_lookup_may_fail(void **state)
{
	bool came = true, recorded = false;
	int nlost = 0;

	for (unsigned long n = 1; came; n++) {
		recorded = is_recorded(*state, n, &came);
		nlost += !recorded;
	}
	assert_true(recorded);
	assert_true(nlost >= 2); /* two failed calls belong to the lookup */
}

#define TEST(name) \
	cmocka_unit_test_setup_teardown(name, world_setup, world_teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_run_asks_for_each_node_and_keeps_what_is_made),
		TEST(test_run_takes_known_values_without_a_call),
		TEST(test_run_is_done_if_all_values_are_known),
		TEST(test_run_ignores_wrong_answers),
		TEST(test_run_may_stop_while_it_asks),
		TEST(test_run_frees_values_that_were_not_recorded),
		TEST(test_run_any_call_of_a_lookup_may_fail),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
