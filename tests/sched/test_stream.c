/*
 * Streams: many runs of one graph at the same time.
 *
 * wrap: malloc calloc realloc mmap epoll_create1 epoll_ctl epoll_pwait fork
 * wrap: pipe2 read write pwritev2
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
#include "faults.h"
#include "os/loop.h"
#include "run_test.h"
#include "sched/graph.h"
#include "sched/run.h"
#include "sched/stream.h"
#include "trace/job_event.h"
#include "wire/blob.h"
#include "world.h"

enum { ITEMS_MAX = 1000 };

/* A stream of a run's graph, and its results. */
struct flow {
	struct run_test p;
	struct fz_stream *stream;
	uint32_t in, last;           /* the input; the value that is kept */
	uint64_t indexes[ITEMS_MAX]; /* in the order of results */
	uint64_t numbers[ITEMS_MAX]; /* results by index, which begins with 1 */
	enum fz_err_kind kinds[ITEMS_MAX]; /* kinds of failures by index */
	uint32_t ntaken;
	uint32_t why; /* why the last item was skipped */
};

/* A chain of nodes with these functions; they alternate between two pools. */
static void
flow_init(struct flow *f, struct world *w, unsigned jobs,
    const enum job *jobs_of, uint32_t n)
{
	uint32_t value, node;

	*f = (struct flow){ .ntaken = 0 };
	run_test_init(&f->p, w, jobs != 0 ? jobs : 1, jobs);
	value = f->in = run_test_input(&f->p);
	for (uint32_t i = 0; i < n; i++) {
		node = fz_graph_node(
		    f->p.graph, i % 2, (uint32_t)jobs_of[i], 1, NULL);
		fz_graph_feed(f->p.graph, node, &value, 1, NULL);
		value = run_test_value(&f->p, node);
	}
	f->last = value;
	assert_int_equal(fz_graph_freeze(f->p.graph, NULL), 0);
}

static void
flow_open(struct flow *f, bool unordered)
{
	struct fz_stream_opts opts = { f->p.opts, unordered };

	f->stream = fz_stream_new(&opts, NULL);
	assert_non_null(f->stream);
	fz_stream_keep(f->stream, f->last);
}

static void
flow_fini(struct flow *f)
{
	fz_stream_free(f->stream);
	run_test_fini(&f->p);
}

static void
flow_add(struct flow *f, uint64_t number)
{
	struct fz_run *run = fz_stream_add(f->stream, NULL);

	assert_non_null(run);
	fz_run_set(run, f->in, blob_of_number(number));
	fz_stream_start(run);
}

/* Take all results that are there. */
static void
flow_take(struct flow *f)
{
	struct fz_run *run;
	uint32_t node, why;

	while ((run = fz_stream_take(f->stream)) != NULL) {
		uint64_t index = fz_stream_index(run);
		const struct fz_failure *failure = fz_run_failure(run, &node);

		f->indexes[f->ntaken++] = index;
		if (failure != NULL)
			f->kinds[index] = failure->err.kind;
		else if (fz_stream_was_skipped(run, &why))
			f->why = why;
		else
			f->numbers[index] =
			    number_of_blob(f->p.w, fz_run_value(run, f->last));
		fz_stream_release(run);
	}
}

static bool
flow_takes(struct flow *f, uint32_t n)
{
	int64_t until = in_ms(PATIENCE_MS);

	for (flow_take(f); f->ntaken < n; flow_take(f)) {
		if (!turn_until(f->p.w, until))
			return false;
	}
	return true;
}

static const enum job pass_on[] = { JOB_ADD, JOB_ECHO, JOB_ADD };

static void
test_stream_results_come_in_order(void **state)
{
	for (unsigned jobs = 1; jobs <= 4; jobs++) {
		struct flow f;

		flow_init(&f, *state, jobs, pass_on, 3);
		flow_open(&f, false);
		for (uint32_t i = 1; i < ITEMS_MAX; i++) {
			flow_add(&f, 10 * i);
			if (i > 20)
				assert_true(flow_takes(&f, i - 20));
		}
		assert_true(flow_takes(&f, ITEMS_MAX - 1));
		assert_false(fz_stream_is_busy(f.stream));
		for (uint32_t i = 1; i < ITEMS_MAX; i++) {
			assert_int_equal(f.indexes[i - 1], i);
			assert_int_equal(f.numbers[i], 10 * i);
		}
		flow_fini(&f);
	}
}

static void
test_stream_unordered_results_do_not_wait(void **state)
{
	static const enum job jobs_of[] = { JOB_SLEEP };
	struct flow f;

	flow_init(&f, *state, 2, jobs_of, 1);
	flow_open(&f, true);
	flow_add(&f, 60000);
	for (uint32_t i = 0; i < 20; i++)
		flow_add(&f, 1);
	assert_true(flow_takes(&f, 20));
	for (uint32_t i = 0; i < 20; i++)
		assert_int_not_equal(f.indexes[i], 1);
	assert_true(fz_stream_is_busy(f.stream));
	flow_fini(&f);
	assert_no_children();
}

static void
test_stream_a_failed_item_stops_those_after_it(void **state)
{
	static const enum job jobs_of[] = { JOB_KILL_ONCE, JOB_COUNT };
	struct flow f;

	flow_init(&f, *state, 1, jobs_of, 2);
	flow_open(&f, false);
	for (uint32_t i = 0; i < 10; i++)
		flow_add(&f, 0);
	assert_true(flow_takes(&f, 1));
	assert_int_equal(f.kinds[1], FZ_ERR_CRASH);
	assert_true(fz_stream_is_stopped(f.stream));
	assert_true(flow_takes(&f, 10));
	assert_int_equal(atomic_load(&f.p.w->shared->calls[JOB_COUNT]), 0);
	flow_fini(&f);
}

static void
test_stream_continue_keeps_the_failure_at_its_item(void **state)
{
	static const enum job jobs_of[] = { JOB_KILL_ONCE, JOB_ADD };
	struct flow f;

	flow_init(&f, *state, 1, jobs_of, 2);
	f.p.opts.policy = FZ_POLICY_CONTINUE;
	flow_open(&f, false);
	for (uint32_t i = 1; i <= 10; i++)
		flow_add(&f, i);
	assert_true(flow_takes(&f, 10));
	assert_false(fz_stream_is_stopped(f.stream));
	for (uint32_t i = 1; i <= 10; i++) {
		assert_int_equal(f.indexes[i - 1], i);
		assert_int_equal(
		    f.kinds[i], i == 1 ? FZ_ERR_CRASH : FZ_ERR_NONE);
		assert_int_equal(f.numbers[i], i == 1 ? 0 : i);
	}
	flow_fini(&f);
}

static void
test_stream_now_makes_a_failure_the_next_result(void **state)
{
	static const enum job jobs_of[] = { JOB_SLEEP };
	struct flow f;

	flow_init(&f, *state, 2, jobs_of, 1);
	f.p.opts.policy = FZ_POLICY_NOW;
	f.p.opts.limits.timeout_ns = 2 * FZ_CLOCK_SECOND;
	flow_open(&f, false);
	flow_add(&f, 1);
	flow_add(&f, 60000);
	flow_add(&f, 60000);
	assert_true(flow_takes(&f, 2));
	assert_int_equal(f.indexes[0], 1);
	assert_int_equal(f.kinds[f.indexes[1]], FZ_ERR_TIMEOUT);
	flow_fini(&f);
}

static void
test_stream_a_skipped_item_has_its_turn(void **state)
{
	struct flow f;

	flow_init(&f, *state, 2, pass_on, 3);
	f.p.opts.policy = FZ_POLICY_CONTINUE;
	flow_open(&f, false);
	flow_add(&f, 5);
	fz_stream_skip(fz_stream_add(f.stream, NULL), 7);
	flow_add(&f, 7);
	assert_true(flow_takes(&f, 3));
	for (uint32_t i = 1; i <= 3; i++)
		assert_int_equal(f.indexes[i - 1], i);
	assert_int_equal(f.numbers[1] + f.numbers[2] + f.numbers[3], 12);
	assert_int_equal(f.why, 7);
	flow_fini(&f);
}

static void
test_stream_retries_are_those_of_one_item(void **state)
{
	static const enum job jobs_of[] = { JOB_RAISE };
	struct fz_job_event e;
	int retries[4] = { 0 };
	struct flow f;

	flow_init(&f, *state, 2, jobs_of, 1);
	f.p.opts.policy = FZ_POLICY_CONTINUE;
	f.p.opts.limits.retries = 2;
	f.p.opts.limits.backoff_ns = FZ_CLOCK_MS;
	flow_open(&f, false);
	for (uint32_t i = 1; i <= 3; i++)
		flow_add(&f, i);
	assert_true(flow_takes(&f, 3));
	while (fz_stream_next_event(f.stream, &e) == 1)
		retries[e.item] += e.kind == FZ_JOB_EVENT_RETRY;
	for (uint32_t i = 1; i <= 3; i++) {
		assert_int_equal(f.kinds[i], FZ_ERR_ERROR);
		assert_int_equal(retries[i], 2);
	}
	flow_fini(&f);
}

static void
test_stream_seeds_depend_on_the_item(void **state)
{
	static const enum job jobs_of[] = { JOB_SEED };
	uint64_t first[5];

	for (unsigned jobs = 1; jobs <= 3; jobs++) {
		struct flow f;

		flow_init(&f, *state, jobs, jobs_of, 1);
		flow_open(&f, jobs == 2);
		for (uint32_t i = 1; i < 5; i++)
			flow_add(&f, 0);
		assert_true(flow_takes(&f, 4));
		for (uint32_t i = 1; i < 5; i++) {
			if (jobs == 1)
				first[i] = f.numbers[i];
			assert_int_equal(f.numbers[i], first[i]);
			assert_true(i == 1 || first[i] != first[1]);
		}
		flow_fini(&f);
	}
}

static void
test_stream_a_deadline_fails_it_as_a_whole(void **state)
{
	static const enum job jobs_of[] = { JOB_SLEEP };
	struct flow f;

	flow_init(&f, *state, 2, jobs_of, 1);
	f.p.opts.deadline_ns = in_ms(100);
	flow_open(&f, false);
	flow_add(&f, 60000);
	assert_true(flow_takes(&f, 1));
	assert_int_equal(f.kinds[1], FZ_ERR_TIMEOUT);
	flow_add(&f, 1); /* the deadline is over, so this item does not start */
	assert_true(flow_takes(&f, 2));
	assert_int_equal(f.kinds[2], FZ_ERR_TIMEOUT);
	flow_fini(&f);
}

static void
test_stream_cancel_waits_until_all_has_ended(void **state)
{
	static const enum job jobs_of[] = { JOB_SLEEP, JOB_SLEEP };
	int64_t until = in_ms(PATIENCE_MS);
	struct flow f;

	flow_init(&f, *state, 3, jobs_of, 2);
	flow_open(&f, false);
	for (uint32_t i = 0; i < 30; i++)
		flow_add(&f, 60000);
	while (atomic_load(&f.p.w->shared->calls[JOB_SLEEP]) < 3)
		assert_true(turn_until(f.p.w, until));
	fz_stream_cancel(f.stream, FZ_ERR_CANCELLED, "enough");
	assert_no_children();
	assert_false(fz_stream_is_busy(f.stream));
	assert_null(fz_stream_add(f.stream, NULL));
	assert_true(flow_takes(&f, 30));
	fz_stream_cancel(f.stream, FZ_ERR_CANCELLED, "later ones do nothing");
	flow_fini(&f);
}

static void
test_stream_local_items_go_on_in_order(void **state)
{
	struct flow f;
	struct fz_run *run;
	uint32_t node;

	flow_init(&f, *state, 0, pass_on, 3);
	flow_open(&f, false);
	for (uint32_t i = 1; i <= 3; i++)
		flow_add(&f, i);
	for (uint32_t i = 0; i < 9; i++) {
		struct fz_blob *blob = blob_of_number(100 + i);

		assert_true(fz_stream_local_ready(f.stream));
		run = fz_stream_local_next(f.stream, &node);
		assert_non_null(run);
		assert_int_equal(fz_stream_index(run), i / 3 + 1);
		assert_int_equal(node, i % 3);
		fz_run_local_done(run, node, &blob, 1);
	}
	assert_false(fz_stream_local_ready(f.stream));
	assert_null(fz_stream_local_next(f.stream, &node));
	assert_true(flow_takes(&f, 3));
	assert_int_equal(f.numbers[3], 108);
	flow_fini(&f);
}

/* Pass some items through two pools. Returns 0, or -1 if a call failed. */
static int
scenario(struct world *w, struct fz_pool *const *pools)
{
	struct fz_stream_opts opts = {
		{ .engine = &w->engine,
		    .pools = pools,
		    .npools = 2,
		    .jobs = 2,
		    .policy = FZ_POLICY_CONTINUE,
		    .deadline_ns = in_ms(PATIENCE_MS),
		    .events = true,
		    .limits = { .timeout_ns = FZ_CLOCK_NEVER, .retries = 1 } },
		false
	};
	struct fz_graph *graph = fz_graph_new(NULL);
	struct fz_stream *stream = NULL;
	struct fz_run *run;
	uint32_t in, a, b, value = 1, node, ntaken = 0;
	int rc = -1;

	atomic_store(&w->shared->kills, 0);
	if (graph == NULL ||
	    (in = fz_graph_input(graph, NULL)) == FZ_GRAPH_NONE ||
	    (a = fz_graph_node(graph, 0, JOB_KILL_ONCE, 1, NULL)) ==
		FZ_GRAPH_NONE ||
	    (b = fz_graph_node(graph, 1, JOB_ADD, 1, NULL)) == FZ_GRAPH_NONE ||
	    fz_graph_feed(graph, a, &in, 1, NULL) != 0 ||
	    fz_graph_feed(graph, b, &value, 1, NULL) != 0 ||
	    fz_graph_freeze(graph, NULL) != 0)
		goto out;
	opts.run.graph = graph;
	stream = fz_stream_new(&opts, NULL);
	if (stream == NULL)
		goto out;
	fz_stream_keep(stream, 2);
	rc = 0;
	for (uint64_t i = 1; i <= 3; i++) {
		struct fz_blob *blob = blob_of_number(i);

		run = blob != NULL ? fz_stream_add(stream, NULL) : NULL;
		if (run == NULL) {
			fz_blob_unref(blob);
			rc = -1;
			break;
		}
		fz_run_set(run, in, blob);
		fz_stream_start(run);
	}
	while (fz_stream_is_busy(stream))
		fz_loop_turn(w->engine.loop, in_ms(5000), NULL);
	while ((run = fz_stream_take(stream)) != NULL) {
		assert_int_equal(fz_stream_index(run), ++ntaken);
		if (fz_run_failure(run, &node) != NULL)
			rc = -1;
		else
			assert_int_equal(
			    number_of_blob(w, fz_run_value(run, 2)), ntaken);
		fz_stream_release(run);
	}
out:
	fz_stream_free(stream);
	fz_graph_free(graph);
	return rc;
}

static void
test_stream_any_call_may_fail(void **state)
{
	struct world *w = *state;
	unsigned long n = 0;
	int rc, nfailed = 0;
	bool came;

	world_spare_valgrind(w);
	do {
		struct fz_pool *pools[] = { run_test_pool(w, 2),
			run_test_pool(w, 2) };

		faults_at(++n);
		rc = scenario(w, pools);
		came = faults_end();
		nfailed += rc != 0;
		assert_int_equal(scenario(w, pools), 0);
		fz_pool_free(pools[0]);
		fz_pool_free(pools[1]);
		assert_no_children();
	} while (came);
	assert_int_equal(rc, 0);
	assert_true(nfailed > 20);
	print_message("%lu calls, %d failures\n", n, nfailed);
}

#define TEST(name) \
	cmocka_unit_test_setup_teardown(name, world_setup, world_teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_stream_results_come_in_order),
		TEST(test_stream_unordered_results_do_not_wait),
		TEST(test_stream_a_failed_item_stops_those_after_it),
		TEST(test_stream_continue_keeps_the_failure_at_its_item),
		TEST(test_stream_now_makes_a_failure_the_next_result),
		TEST(test_stream_a_skipped_item_has_its_turn),
		TEST(test_stream_retries_are_those_of_one_item),
		TEST(test_stream_seeds_depend_on_the_item),
		TEST(test_stream_a_deadline_fails_it_as_a_whole),
		TEST(test_stream_cancel_waits_until_all_has_ended),
		TEST(test_stream_local_items_go_on_in_order),
		TEST(test_stream_any_call_may_fail),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
