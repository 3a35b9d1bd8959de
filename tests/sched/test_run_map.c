/*
 * test_run_map.c - nodes that call their function for each element of a list.
 *
 * wrap: malloc calloc realloc mmap epoll_create1 epoll_ctl epoll_pwait fork
 * wrap: pipe2 read write pwritev2
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"
#include "batches.h"
#include "faults.h"
#include "sched/batch.h"
#include "sched/graph.h"
#include "sched/pool.h"
#include "sched/run.h"
#include "sched/run_lookup.h"
#include "sched/run_map.h"
#include "trace/job_event.h"
#include "wire/blob.h"
#include "wire/wire.h"
#include "world.h"

enum { ELEMENTS_MAX = 1000 };

/* A run whose only node is a map of a list, which is made of numbers. */
struct maps {
	struct world *w;
	struct items_home *home;
	struct fz_pool *pool;
	struct fz_graph *graph;
	struct fz_run *run;
	struct fz_run_opts opts;
	uint32_t list, extra, node;
	uint64_t items[ELEMENTS_MAX];
	uint64_t n;
	int nreaders;         /* open readers of the list */
	bool bad;             /* the list cannot be read */
	unsigned nevents[6];  /* events of elements, by kind */
	uint64_t listed;      /* length of the list in an event */
	unsigned node_events; /* events of the node itself */
};

static struct maps m;

/* Open the list, which has the bytes of its elements and nothing else. */
static int
open_list(void *ctx, struct fz_map_list *list, bool sliced,
    struct fz_failure *failure)
{
	struct maps *maps = ctx;

	(void)sliced;
	if (maps->bad)
		return fz_err_set(&failure->err, FZ_ERR_ERROR, "no list");
	list->n = list->blob->len / 8;
	list->reader = maps;
	maps->nreaders++;
	return 0;
}

static struct fz_blob *
encode_elements(
    void *reader, uint64_t first, uint32_t *n, struct fz_failure *failure)
{
	struct maps *maps = reader;
	struct fz_blob *part = items_part(maps->items + first - 1, *n);

	if (part == NULL)
		fz_err_nomem(&failure->err, "an element");
	return part;
}

static void
close_list(void *ctx, void *reader)
{
	assert_ptr_equal(ctx, reader);
	((struct maps *)ctx)->nreaders--;
}

/* Join the results to a list of numbers; 0 for an element that failed. */
static struct fz_blob *
join_results(void *ctx, const struct fz_batch_result *results, size_t nresults,
    uint64_t n, struct fz_err *err)
{
	uint64_t numbers[ELEMENTS_MAX] = { 0 };
	uint64_t last = 0;

	(void)ctx;
	for (size_t i = 0; i < nresults; i++) {
		const struct fz_batch_result *r = &results[i];

		assert_true(r->first > last); /* the results come in order */
		last = r->first + r->n - 1;
		assert_true(last <= n);
		for (uint32_t k = 0; k < r->n && r->failure == NULL; k++)
			numbers[r->first - 1 + k] = fz_le64_load(
			    r->blob->bytes + 8 * (size_t)(r->skip + k));
	}
	return fz_blob_new(numbers, 8 * n, err);
}

static const struct fz_map_ops ops = { open_list, encode_elements, close_list,
	join_results };

static int
setup(void **state)
{
	struct fz_pool_opts pool_opts = { .max = 2, .main = items_serve };
	void *w;

	memset(&m, 0, sizeof(m));
	world_setup(&w);
	m.w = w;
	m.home = items_home_new();
	pool_opts.engine = &m.w->engine;
	pool_opts.main_ctx = m.home;
	m.pool = fz_pool_new(&pool_opts, NULL);
	m.graph = fz_graph_new(NULL);
	assert_true(m.pool != NULL && m.graph != NULL);
	m.list = fz_graph_input(m.graph, NULL);
	m.extra = fz_graph_input(m.graph, NULL);
	m.node = fz_graph_node(m.graph, 0, 0, 1, NULL);
	fz_graph_set_map(m.graph, m.node);
	m.opts = (struct fz_run_opts){ .engine = &m.w->engine,
		.graph = m.graph,
		.pools = &m.pool,
		.npools = 1,
		.jobs = 2,
		.policy = FZ_POLICY_STOP,
		.deadline_ns = FZ_CLOCK_NEVER,
		.events = true,
		.limits = { .timeout_ns = FZ_CLOCK_NEVER },
		.map_ops = &ops,
		.map_ctx = &m };
	*state = &m;
	return 0;
}

static int
teardown(void **state)
{
	void *w = m.w;

	(void)state;
	fz_run_free(m.run);
	assert_int_equal(m.nreaders, 0);
	fz_pool_free(m.pool);
	fz_graph_free(m.graph);
	items_home_free(m.home);
	return world_teardown(&w);
}

/* Start a map of `n` elements, whose results are their numbers. */
static void
start(uint64_t n, bool extra)
{
	uint32_t inputs[] = { m.list, m.extra };

	m.n = n;
	fz_graph_feed(m.graph, m.node, inputs, extra ? 2 : 1, NULL);
	assert_int_equal(fz_graph_freeze(m.graph, NULL), 0);
	m.run = fz_run_new(&m.opts, NULL);
	assert_non_null(m.run);
	fz_run_keep(m.run, fz_graph_get(m.graph, m.node)->first_value);
	fz_run_set(m.run, m.list, fz_blob_new(m.items, 8 * n, NULL));
	fz_run_set(m.run, m.extra, blob_of_number(5));
	items_forget(m.home->shared, n + 1);
	assert_int_equal(fz_run_start(m.run, NULL), 0);
}

static void
fill(uint64_t n)
{
	for (uint64_t i = 0; i < n; i++)
		m.items[i] = ITEM_OF(ITEM_KEEP, i + 1);
}

static void
take_events(void)
{
	struct fz_job_event e;

	while (fz_run_next_event(m.run, &e) == 1) {
		if (e.map == 0) {
			m.node_events++;
			continue;
		}
		assert_int_equal(e.map, m.node + 1);
		if (e.kind == FZ_JOB_EVENT_LIST)
			m.listed = e.n;
		m.nevents[e.kind] += e.n;
	}
}

static void
finish(void)
{
	int64_t until = in_ms(PATIENCE_MS);

	while (!fz_run_done(m.run))
		assert_true(turn_until(m.w, until));
	take_events();
}

/* The value of element `i`, from 1, in the list of the node. */
static uint64_t
value_at(const struct fz_blob *list, uint64_t i)
{
	assert_non_null(list);
	assert_int_equal(list->len, 8 * m.n);
	return fz_le64_load(list->bytes + 8 * (i - 1));
}

static struct fz_blob *
result(void)
{
	return fz_run_value(m.run, fz_graph_get(m.graph, m.node)->first_value);
}

static void
test_run_map_results_are_joined_in_order(void **state)
{
	uint32_t failed;

	(void)state;
	fill(ELEMENTS_MAX);
	start(ELEMENTS_MAX, false);
	finish();
	assert_null(fz_run_failure(m.run, &failed));
	for (uint64_t i = 1; i <= m.n; i++)
		assert_int_equal(value_at(result(), i), i);
	assert_int_equal(m.listed, m.n);
	assert_int_equal(m.nevents[FZ_JOB_EVENT_DONE], m.n);
	assert_int_equal(m.node_events, 1);
	assert_int_equal(fz_run_counts(m.run, 0).done, 1);
	assert_int_equal(fz_run_counts(m.run, 0).more.total, m.n - 1);
	assert_int_equal(fz_run_counts(m.run, 0).more.done, m.n - 1);
}

static void
test_run_map_of_an_empty_list_forks_nothing(void **state)
{
	(void)state;
	start(0, true);
	finish();
	assert_non_null(result());
	assert_int_equal(result()->len, 0);
	assert_int_equal(fz_pool_nworkers(m.pool), 0);
	assert_int_equal(fz_run_counts(m.run, 0).done, 1);
}

static void
test_run_map_without_a_list_fails(void **state)
{
	const struct fz_failure *failure;
	uint32_t node;

	(void)state;
	fill(3);
	m.bad = true;
	m.opts.limits.retries = 5; /* failures of this kind are not retried */
	start(3, true);
	finish();
	failure = fz_run_failure(m.run, &node);
	assert_non_null(failure);
	assert_string_equal(failure->err.text, "no list");
	assert_int_equal(node, m.node);
	assert_true(fz_run_lacks_list(m.run, node));
	assert_int_equal(fz_run_failed_element(m.run, node), 0);
}

static void
test_run_map_sends_shared_inputs_once_to_each_worker(void **state)
{
	struct items_shared *shared = m.home->shared;

	(void)state;
	fill(ELEMENTS_MAX);
	start(ELEMENTS_MAX, true);
	finish();
	assert_non_null(result());
	assert_int_equal(
	    atomic_load(&shared->nkept), atomic_load(&shared->births));
	wait_for_count(m.w, &shared->nforgot, atomic_load(&shared->nkept));
}

static void
test_run_map_stops_at_an_element_that_fails(void **state)
{
	const struct fz_failure *failure;
	uint32_t node;

	(void)state;
	fill(ELEMENTS_MAX);
	m.items[6] = ITEM_OF(ITEM_RAISE, 0);
	start(ELEMENTS_MAX, false);
	finish();
	failure = fz_run_failure(m.run, &node);
	assert_non_null(failure);
	assert_int_equal(failure->err.kind, FZ_ERR_ERROR);
	assert_int_equal(node, m.node);
	assert_int_equal(fz_run_failed_element(m.run, node), 7);
	assert_int_equal(fz_run_element_failure(m.run, node, 0, &failure), 7);
	assert_int_equal(fz_run_element_failure(m.run, node, 1, &failure), 0);
	assert_null(result());
	assert_null(fz_run_partial(m.run, node));
}

static void
test_run_map_continues_with_other_elements(void **state)
{
	const struct fz_failure *failure;
	struct fz_run_counts counts;

	(void)state;
	fill(100);
	m.items[6] = m.items[41] = ITEM_OF(ITEM_RAISE, 0);
	m.opts.policy = FZ_POLICY_CONTINUE;
	start(100, false);
	finish();
	for (uint64_t i = 1; i <= 100; i++)
		assert_int_equal(value_at(fz_run_partial(m.run, m.node), i),
		    i == 7 || i == 42 ? 0 : i);
	assert_int_equal(fz_run_element_failure(m.run, m.node, 0, &failure), 7);
	assert_int_equal(
	    fz_run_element_failure(m.run, m.node, 1, &failure), 42);
	assert_int_equal(fz_run_element_failure(m.run, m.node, 2, &failure), 0);
	assert_null(result());
	counts = fz_run_counts(m.run, 0);
	assert_int_equal(counts.done + counts.more.done, 98);
	assert_int_equal(counts.failed + counts.more.failed, 2);
}

static void
test_run_map_retries_only_the_element_of_a_killed_worker(void **state)
{
	(void)state;
	fill(200);
	m.items[50] = ITEM_OF(ITEM_KILL_ONCE, 51);
	m.opts.limits.retries = 1;
	start(200, true);
	finish();
	for (uint64_t i = 1; i <= 200; i++) {
		assert_int_equal(value_at(result(), i), i);
		assert_int_equal(
		    atomic_load(&m.home->shared->ran[i]), i == 51 ? 2 : 1);
	}
	assert_int_equal(m.nevents[FZ_JOB_EVENT_RETRY], 1);
}

static void
test_run_map_asks_about_the_retry_of_an_element(void **state)
{
	struct fz_run_element element;
	int64_t until = in_ms(PATIENCE_MS);

	(void)state;
	fill(3);
	m.items[1] = ITEM_OF(ITEM_RAISE_ONCE, 2);
	m.opts.limits.retries = 1;
	m.opts.limits.ask = true;
	start(3, false);
	while (!fz_run_undecided_element(m.run, &element))
		assert_true(turn_until(m.w, until));
	assert_int_equal(element.node, m.node);
	assert_int_equal(element.element, 2);
	assert_int_equal(element.failure->err.kind, FZ_ERR_ERROR);
	fz_run_decide(m.run, element.node, element.element, true);
	finish();
	assert_int_equal(value_at(result(), 2), 2);
}

static void
test_run_map_is_cancelled_while_elements_run(void **state)
{
	uint32_t node;

	(void)state;
	fill(50);
	m.items[0] = ITEM_OF(ITEM_WAIT, 0); /* the gate never opens */
	start(50, true);
	wait_for_count(m.w, &m.home->shared->waiting, 1);
	fz_run_cancel(m.run, FZ_ERR_CANCELLED, "enough");
	assert_true(fz_run_done(m.run));
	assert_int_equal(
	    fz_run_failure(m.run, &node)->err.kind, FZ_ERR_CANCELLED);
	assert_null(result());
}

static void
test_run_map_ends_at_the_deadline(void **state)
{
	uint32_t node;

	(void)state;
	fill(50);
	m.items[0] = ITEM_OF(ITEM_WAIT, 0);
	m.opts.deadline_ns = fz_clock_after(fz_clock_ns(), FZ_CLOCK_MS);
	start(50, false);
	finish();
	assert_int_equal(
	    fz_run_failure(m.run, &node)->err.kind, FZ_ERR_TIMEOUT);
}

static void
test_run_map_is_called_by_a_local_run(void **state)
{
	(void)state;
	fill(3);
	m.opts.jobs = 0;
	start(3, true);
	for (uint64_t i = 1; i <= 3; i++) {
		struct fz_run_map *map;
		struct fz_blob *part = NULL;

		assert_int_equal(fz_run_local_next(m.run), m.node);
		map = fz_run_local_map(m.run, m.node);
		assert_non_null(map);
		assert_int_equal(map->nshared, 1);
		assert_int_equal(fz_batch_local_next(map->batch, &part), i);
		fz_blob_unref(part);
		fz_batch_local_done(map->batch, i, blob_of_number(10 * i));
	}
	assert_int_equal(fz_run_local_next(m.run), FZ_GRAPH_NONE);
	finish();
	for (uint64_t i = 1; i <= 3; i++)
		assert_int_equal(value_at(result(), i), 10 * i);
}

/* Whether the map waits for an answer about its elements. */
static bool
is_asked(void)
{
	struct fz_lookup_at at[2];

	return fz_lookup_asked(fz_run_flow(m.run), at, 2) == 1 &&
	       at[0].item == 0 && at[0].node == m.node;
}

/* Answer that element 2 has the value 20 and element `n`, if any, 30. */
static int
answer(uint64_t n, struct fz_err *err)
{
	struct fz_lookup_at at = { 0, m.node };
	struct fz_flow *flow = fz_run_flow(m.run);
	struct fz_blob *second = blob_of_number(20), *last;
	int rc = 0;

	if (second != NULL)
		rc = fz_lookup_know(flow, at, 2, second, err);
	last = blob_of_number(30);
	if (last != NULL && fz_lookup_know(flow, at, n, last, err) != 0)
		rc = -1;
	fz_lookup_not_found(flow, at);
	return rc;
}

/* Turn the loop until the run is done. Returns how many results it records. */
static uint64_t
finish_recording(uint64_t *sum)
{
	int64_t until = in_ms(PATIENCE_MS);
	struct fz_lookup_elements e;
	struct fz_lookup_at at;
	uint64_t n = 0;

	*sum = 0;
	while (!fz_run_done(m.run)) {
		while (fz_lookup_take_elements(fz_run_flow(m.run), &e)) {
			assert_int_equal(e.at.node, m.node);
			for (uint32_t i = 0; i < e.n; i++)
				*sum += fz_le64_load(e.list->bytes + 8 * i);
			n += e.n;
			fz_blob_unref(e.list);
		}
		while (fz_lookup_made(fz_run_flow(m.run), &at))
			fz_lookup_recorded(fz_run_flow(m.run));
		assert_true(turn_until(m.w, until));
	}
	take_events();
	return n;
}

static void
start_asking(uint64_t n)
{
	assert_int_equal(fz_lookup_want(fz_run_flow(m.run), m.node, NULL), 0);
	assert_int_equal(fz_run_start(m.run, NULL), 0);
	m.n = n;
}

/* A map of `n` elements that has not started. */
static void
prepare_map(uint64_t n)
{
	uint32_t inputs[] = { m.list };

	fill(n);
	fz_graph_feed(m.graph, m.node, inputs, 1, NULL);
	assert_int_equal(fz_graph_freeze(m.graph, NULL), 0);
	m.run = fz_run_new(&m.opts, NULL);
	assert_non_null(m.run);
	fz_run_keep(m.run, fz_graph_get(m.graph, m.node)->first_value);
	fz_run_set(m.run, m.list, fz_blob_new(m.items, 8 * n, NULL));
	items_forget(m.home->shared, n + 1);
}

static void
test_run_map_takes_known_elements_and_returns_the_others(void **state)
{
	uint64_t sum, n = 100;

	(void)state;
	prepare_map(n);
	start_asking(n);
	assert_true(is_asked());
	assert_int_equal(answer(n, NULL), 0);
	assert_int_equal(finish_recording(&sum), n - 2);
	assert_int_equal(sum, n * (n + 1) / 2 - 2 - n);
	for (uint64_t i = 1; i <= n; i++)
		assert_int_equal(value_at(result(), i), i == 2   ? 20
							: i == n ? 30
								 : i);
	assert_int_equal(m.nevents[FZ_JOB_EVENT_CACHED], 2);
	assert_int_equal(m.nevents[FZ_JOB_EVENT_DONE], n - 2);
	assert_int_equal(fz_run_counts(m.run, 0).more.done, n - 1);
}

static void
test_run_map_is_done_if_all_elements_are_known(void **state)
{
	uint64_t sum;

	(void)state;
	prepare_map(2);
	start_asking(2);
	assert_int_equal(
	    fz_lookup_know(fz_run_flow(m.run),
		(struct fz_lookup_at){ 0, m.node }, 1, blob_of_number(7), NULL),
	    0);
	assert_int_equal(answer(3, NULL), 0); /* element 3 does not exist */
	assert_int_equal(finish_recording(&sum), 0);
	assert_int_equal(value_at(result(), 1), 7);
	assert_int_equal(value_at(result(), 2), 20);
	assert_int_equal(fz_pool_nworkers(m.pool), 0);
}

static void
test_run_map_may_end_before_its_elements_are_recorded(void **state)
{
	int64_t until = in_ms(PATIENCE_MS);
	uint32_t node;

	(void)state;
	prepare_map(10);
	start_asking(10);
	assert_int_equal(answer(10, NULL), 0);
	while (fz_run_counts(m.run, 0).more.done < 9)
		assert_true(turn_until(m.w, until));
	assert_false(fz_run_done(m.run));
	fz_run_cancel(m.run, FZ_ERR_CANCELLED, "cancelled");
	assert_non_null(fz_run_failure(m.run, &node));
}

static void
test_run_map_any_allocation_for_known_elements_may_fail(void **state)
{
	struct fz_err err = { 0 };
	uint32_t failed;
	uint64_t sum;
	bool came = true;

	for (unsigned long n = 1; came; n++) {
		prepare_map(20);
		start_asking(20);
		faults_at(n);
		if (answer(20, &err) != 0)
			assert_int_equal(err.kind, FZ_ERR_MEMORY);
		came = faults_end();
		finish_recording(&sum);
		if (fz_run_failure(m.run, &failed) == NULL)
			assert_int_equal(value_at(result(), 3), 3);
		teardown(state);
		setup(state);
	}
}

int
main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_run_map_results_are_joined_in_order),
		TEST(test_run_map_of_an_empty_list_forks_nothing),
		TEST(test_run_map_without_a_list_fails),
		TEST(test_run_map_sends_shared_inputs_once_to_each_worker),
		TEST(test_run_map_stops_at_an_element_that_fails),
		TEST(test_run_map_continues_with_other_elements),
		TEST(test_run_map_retries_only_the_element_of_a_killed_worker),
		TEST(test_run_map_asks_about_the_retry_of_an_element),
		TEST(test_run_map_is_cancelled_while_elements_run),
		TEST(test_run_map_ends_at_the_deadline),
		TEST(test_run_map_is_called_by_a_local_run),
		TEST(test_run_map_takes_known_elements_and_returns_the_others),
		TEST(test_run_map_is_done_if_all_elements_are_known),
		TEST(test_run_map_may_end_before_its_elements_are_recorded),
		TEST(test_run_map_any_allocation_for_known_elements_may_fail),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
