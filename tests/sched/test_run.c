/*
 * Values of runs, policies, slots and local runs.
 */
/* kill and readlink are not in C11. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <dirent.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "run_test.h"
#include "sched/graph.h"
#include "sched/pool.h"
#include "sched/run.h"
#include "shared/arena.h"
#include "wire/blob.h"
#include "wire/child_port.h"
#include "wire/wire.h"
#include "world.h"

static void
test_run_values_flow(void **state)
{
	struct run_test p;
	uint32_t in, a, b, c, d, failed;

	run_test_init(&p, *state, 2, 2);
	in = run_test_input(&p);
	a = run_test_add(&p, JOB_ADD, in, FZ_GRAPH_NONE);
	b = run_test_add(&p, JOB_ADD, run_test_value(&p, a), in);
	c = run_test_add(
	    &p, JOB_ADD, run_test_value(&p, a), run_test_value(&p, a));
	d = run_test_add(
	    &p, JOB_ADD, run_test_value(&p, b), run_test_value(&p, c));
	run_test_make(&p);
	fz_run_set(p.run, in, blob_of_number(4));
	fz_run_set(p.run, in, blob_of_number(5)); /* replaces the first value */
	run_test_start(&p);
	assert_true(run_test_finishes(&p));
	assert_run_value(&p, a, 5);
	assert_run_value(&p, b, 10);
	assert_run_value(&p, c, 10);
	assert_run_value(&p, d, 20);
	assert_null(fz_run_failure(p.run, &failed));
	assert_run_ended(&p);
	for (uint32_t i = 0; i < 4; i++)
		assert_int_equal(p.starts[i], 1);
	run_test_fini(&p);
}

static void
test_run_goes_from_pool_to_pool_with_one_job_at_once(void **state)
{
	struct run_test p;
	uint32_t in, node, nodes[40];

	run_test_init(&p, *state, 3, 1);
	in = run_test_input(&p);
	for (uint32_t i = 0; i < 40; i++) {
		uint32_t from = i < 20 ? in : run_test_value(&p, nodes[i - 20]);

		node = fz_graph_node(p.graph, i / 20, JOB_COUNT, 1, NULL);
		fz_graph_feed(p.graph, node, &from, 1, NULL);
		nodes[i] = node;
	}
	run_test_begin(&p, in, 1);
	assert_true(run_test_finishes(&p));
	assert_run_value(&p, nodes[39], 1);
	assert_int_equal(atomic_load(&p.w->shared->peak), 1);
	run_test_fini(&p);
}

static void
test_run_may_be_empty(void **state)
{
	struct run_test p;

	run_test_init(&p, *state, 1, 1);
	run_test_make(&p);
	run_test_start(&p);
	assert_true(run_test_finishes(&p));
	run_test_fini(&p);
	fz_run_free(NULL);
}

static void
test_run_a_value_that_was_not_given_is_an_error(void **state)
{
	struct fz_err err = { 0 };
	struct run_test p;

	run_test_init(&p, *state, 1, 1);
	run_test_add(&p, JOB_ADD, run_test_input(&p), FZ_GRAPH_NONE);
	run_test_make(&p);
	assert_int_equal(fz_run_start(p.run, &err), -1);
	assert_int_equal(err.kind, FZ_ERR_GRAPH);
	run_test_fini(&p);
}

static void
count_release(void *owner, uint64_t offset)
{
	(void)offset;
	++*(int *)owner;
}

static void
test_run_drops_values_that_no_node_needs(void **state)
{
	struct run_test p;
	uint32_t in, a;
	int nreleased = 0;

	run_test_init(&p, *state, 1, 1);
	in = run_test_input(&p);
	a = run_test_add(&p, JOB_SEED, in, FZ_GRAPH_NONE);
	run_test_add(&p, JOB_ADD, run_test_value(&p, a), run_test_value(&p, a));
	assert_int_equal(fz_graph_freeze(p.graph, NULL), 0);
	p.run = fz_run_new(&p.opts, NULL);
	fz_run_keep(p.run, run_test_value(&p, 1));
	fz_run_set(p.run, in,
	    fz_blob_in_arena(4096, 8, count_release, &nreleased, NULL));
	run_test_start(&p);
	assert_true(run_test_finishes(&p));
	assert_int_equal(nreleased, 1);
	assert_null(fz_run_value(p.run, in));
	assert_null(fz_run_value(p.run, run_test_value(&p, a)));
	assert_non_null(fz_run_value(p.run, run_test_value(&p, 1)));
	run_test_fini(&p);
}

/* Bytes of memory that the arena uses, in all slices. */
static size_t
arena_bytes(void)
{
	DIR *dir = opendir("/proc/self/fd");
	size_t bytes = 0;
	struct dirent *e;

	while ((e = readdir(dir)) != NULL) {
		char link[64] = "";
		struct stat st;

		if (readlinkat(dirfd(dir), e->d_name, link, 63) > 0 &&
		    strncmp(link, "/memfd:fzlua ", 13) == 0 &&
		    fstat(atoi(e->d_name), &st) == 0)
			bytes += (size_t)st.st_blocks * 512;
	}
	closedir(dir);
	return bytes;
}

static void
test_run_gives_the_arena_back(void **state)
{
	enum { LEN = 16 << 20 };
	struct run_test p;
	uint32_t in, a, b;

	run_test_init(&p, *state, 2, 2);
	in = run_test_input(&p);
	a = run_test_add(&p, JOB_BYTES, in, FZ_GRAPH_NONE);
	b = run_test_after(&p, JOB_ECHO, a);
	for (int round = 0; round < 12; round++) {
		run_test_begin(&p, in, LEN);
		assert_true(run_test_finishes(&p));
		assert_int_equal(
		    fz_run_value(p.run, run_test_value(&p, b))->len, LEN);
		assert_true(
		    fz_run_value(p.run, run_test_value(&p, b))->in_arena);
		assert_true(arena_bytes() < 8 * (size_t)LEN);
		if (round < 11)
			fz_run_free(p.run);
	}
	/* The workers have ended, but their values still exist. */
	fz_pool_close(p.pools[0]);
	assert_true(arena_bytes() >= 2 * (size_t)LEN);
	fz_run_free(p.run);
	p.run = NULL;
	assert_int_equal(arena_bytes(), 0);
	run_test_fini(&p);
}

static void
give_back(void *owner, uint64_t offset)
{
	fz_arena_give_back(owner, offset);
}

static void
test_run_gives_its_own_extents_back(void **state)
{
	enum { LEN = 300 << 20 }; /* more than the arena keeps for reuse */
	struct world *w = *state;
	struct fz_arena *arena = fz_engine_arena(&w->engine);
	struct run_test p;
	uint32_t in;
	uint64_t offset;

	run_test_init(&p, w, 1, 1);
	in = run_test_input(&p);
	run_test_add(&p, JOB_SEED, in, FZ_GRAPH_NONE);
	if (fz_arena_alloc(arena, LEN, &offset, NULL) != NULL) {
		assert_int_equal(fz_graph_freeze(p.graph, NULL), 0);
		p.run = fz_run_new(&p.opts, NULL);
		fz_run_set(p.run, in,
		    fz_blob_in_arena(offset, LEN, give_back, arena, NULL));
		run_test_start(&p);
		assert_true(fz_arena_held(arena) >= LEN);
		assert_true(run_test_finishes(&p));
		assert_true(fz_arena_held(arena) <= FZ_ARENA_WARM);
	}
	run_test_fini(&p);
}

/*
 * A diamond whose first node fails, beside a chain of its own:
 *   a -> b, c -> d        x -> y -> z
 */
struct diamond {
	uint32_t in, a, b, c, d, x, y, z;
};

/* Start a run. Node x goes on after node a has failed. */
static void
start_diamond(struct run_test *p, struct world *w, enum fz_policy policy,
    struct diamond *n)
{
	int64_t until = in_ms(PATIENCE_MS);

	run_test_init(p, w, 2, 2);
	p->opts.policy = policy;
	n->in = run_test_input(p);
	/* x sleeps for 1,000 s, and is the first node that is ready. */
	n->x = run_test_add(p, JOB_SLEEP, n->in, FZ_GRAPH_NONE);
	n->a = run_test_add(p, JOB_RAISE_LATE, n->in, FZ_GRAPH_NONE);
	n->b = run_test_after(p, JOB_ADD, n->a);
	n->c = run_test_after(p, JOB_ADD, n->a);
	n->d = run_test_add(
	    p, JOB_ADD, run_test_value(p, n->b), run_test_value(p, n->c));
	n->y = run_test_after(p, JOB_ADD, n->x);
	n->z = run_test_after(p, JOB_ADD, n->y);
	fz_clock_share();
	run_test_begin(p, n->in, 1000000);
	while (p->ends[n->a] == 0) {
		assert_true(turn_until(w, until));
		run_test_take_events(p);
	}
	wait_for_sleep(w, 1);
	pass_seconds(1000);
}

static void
assert_a_failed(struct run_test *p, const struct diamond *n)
{
	const struct fz_failure *failure;
	uint32_t failed, because;

	failure = fz_run_failure_of(p->run, n->a, &because);
	assert_int_equal(failure->err.kind, FZ_ERR_ERROR);
	assert_memory_equal(failure->value->bytes, "raised", 6);
	assert_int_equal(failure->attempt, 1);
	assert_int_equal(because, FZ_GRAPH_NONE);
	assert_run_failure(p, n->b, FZ_ERR_CANCELLED, n->a);
	assert_run_failure(p, n->c, FZ_ERR_CANCELLED, n->a);
	assert_run_failure(p, n->d, FZ_ERR_CANCELLED, n->a);
	assert_run_ended(p);
	failure = fz_run_failure(p->run, &failed);
	if (p->opts.policy == FZ_POLICY_CONTINUE) {
		assert_null(failure);
	} else {
		assert_non_null(failure);
		assert_int_equal(failed, n->a);
	}
}

static void
test_run_policy_stop_waits_for_running_nodes(void **state)
{
	struct diamond n;
	struct run_test p;

	start_diamond(&p, *state, FZ_POLICY_STOP, &n);
	assert_true(run_test_finishes(&p));
	assert_a_failed(&p, &n);
	assert_run_value(&p, n.x, 1000000);
	assert_run_failure(&p, n.y, FZ_ERR_CANCELLED, n.a);
	assert_run_failure(&p, n.z, FZ_ERR_CANCELLED, n.a);
	assert_int_equal(atomic_load(&p.w->shared->calls[JOB_ADD]), 0);
	run_test_fini(&p);
}

static void
test_run_policy_now_ends_running_nodes(void **state)
{
	const struct fz_failure *failure;
	struct diamond n;
	struct run_test p;
	uint32_t because, failed;

	run_test_init(&p, *state, 2, 2);
	p.opts.policy = FZ_POLICY_NOW;
	n.in = run_test_input(&p);
	n.x = run_test_add(&p, JOB_SLEEP, n.in, FZ_GRAPH_NONE);
	n.a = run_test_add(&p, JOB_EXIT, n.in, FZ_GRAPH_NONE);
	run_test_begin(&p, n.in, 10 * PATIENCE_MS);
	assert_true(run_test_finishes(&p));
	failure = fz_run_failure_of(p.run, n.x, &because);
	assert_int_equal(failure->err.kind, FZ_ERR_CANCELLED);
	assert_int_equal(
	    fz_run_failure_of(p.run, n.a, &because)->err.kind, FZ_ERR_CRASH);
	assert_non_null(fz_run_failure(p.run, &failed));
	assert_run_ended(&p);
	run_test_fini(&p);
}

static void
test_run_policy_continue_does_independent_nodes(void **state)
{
	struct diamond n;
	struct run_test p;

	start_diamond(&p, *state, FZ_POLICY_CONTINUE, &n);
	assert_true(run_test_finishes(&p));
	assert_a_failed(&p, &n);
	assert_run_value(&p, n.x, 1000000);
	assert_run_value(&p, n.y, 1000000);
	assert_run_value(&p, n.z, 1000000);
	run_test_fini(&p);
}

static void
assert_counts(const struct run_test *p, uint32_t pool, uint32_t done,
    uint32_t failed, uint32_t running, uint32_t waiting)
{
	struct fz_run_counts counts = fz_run_counts(p->run, pool);

	assert_int_equal(counts.done, done);
	assert_int_equal(counts.failed, failed);
	assert_int_equal(counts.running, running);
	assert_int_equal(counts.waiting, waiting);
}

static void
test_run_counts_the_nodes_of_each_pool(void **state)
{
	struct run_test p;
	uint32_t in, raises, from;

	run_test_init(&p, *state, 2, 1);
	p.opts.policy = FZ_POLICY_CONTINUE;
	in = run_test_input(&p);
	run_test_add(&p, JOB_SLEEP, in, FZ_GRAPH_NONE);
	raises = run_test_add(&p, JOB_RAISE, in, FZ_GRAPH_NONE);
	from = run_test_value(&p, raises);
	fz_graph_feed(p.graph, fz_graph_node(p.graph, 1, JOB_ADD, 1, NULL),
	    &from, 1, NULL);
	fz_clock_share();
	run_test_begin(&p, in, 1000000);
	assert_counts(&p, 0, 0, 0, 0, 2);
	assert_counts(&p, 1, 0, 0, 0, 0); /* no input yet */
	while (fz_run_counts(p.run, 0).running == 0)
		assert_int_not_equal(
		    fz_loop_turn(p.w->engine.loop, FZ_CLOCK_NEVER, NULL), -1);
	assert_counts(&p, 0, 0, 0, 1, 1);
	wait_for_sleep(p.w, 1);
	pass_seconds(1000);
	assert_true(run_test_finishes(&p));
	assert_counts(&p, 0, 1, 1, 0, 0);
	assert_counts(&p, 1, 0, 0, 0, 0); /* the node of pool 1 was cancelled */
	run_test_fini(&p);
}

static void
test_run_a_worker_that_answers_nonsense_fails_its_node(void **state)
{
	static const enum job jobs[] = { JOB_GARBAGE, JOB_TOO_MANY, JOB_TOO_FEW,
		JOB_CLOSE_OUT, JOB_CLOSE_IN };
	struct run_test p;
	uint32_t in, failed, because;

	run_test_init(&p, *state, 5, 5);
	p.opts.policy = FZ_POLICY_CONTINUE;
	in = run_test_input(&p);
	for (int i = 0; i < 5; i++)
		run_test_add(&p, jobs[i], in, FZ_GRAPH_NONE);
	run_test_add(&p, JOB_ADD, in, FZ_GRAPH_NONE);
	run_test_begin(&p, in, 1);
	assert_true(run_test_finishes(&p));
	for (uint32_t i = 0; i < 5; i++)
		assert_non_null(fz_run_failure_of(p.run, i, &because));
	assert_run_value(&p, 5, 1);
	assert_null(fz_run_failure(p.run, &failed));
	assert_run_ended(&p);
	run_test_fini(&p);
}

/*
 * The worker sends garbage just after its last reply, and is killed after the
 * run was freed.
 */
static void
test_run_may_end_before_its_last_worker_is_dead(void **state)
{
	struct run_test p;
	uint32_t in, a;

	run_test_init(&p, *state, 1, 1);
	in = run_test_input(&p);
	a = run_test_add(&p, JOB_REPLY_GARBAGE, in, FZ_GRAPH_NONE);
	run_test_begin(&p, in, 1);
	assert_true(run_test_finishes(&p));
	assert_run_value(&p, a, 1);
	fz_run_free(p.run);
	/* The next run gets a new worker. */
	fz_graph_free(p.graph);
	p.graph = fz_graph_new(NULL);
	p.opts.graph = p.graph;
	in = run_test_input(&p);
	a = run_test_add(&p, JOB_ADD, in, FZ_GRAPH_NONE);
	run_test_begin(&p, in, 2);
	assert_true(run_test_finishes(&p));
	assert_run_value(&p, a, 2);
	run_test_fini(&p);
}

static void
test_run_never_runs_more_than_its_jobs(void **state)
{
	for (unsigned jobs = 1; jobs <= 4; jobs++) {
		struct world *w = *state;
		struct run_test p;
		uint32_t in;

		atomic_store(&w->shared->peak, 0);
		run_test_init(&p, w, 4, jobs);
		in = run_test_input(&p);
		for (uint32_t i = 0; i < 60; i++) {
			uint32_t node = fz_graph_node(
			    p.graph, i % NPOOLS, JOB_COUNT, 1, NULL);

			fz_graph_feed(p.graph, node, &in, 1, NULL);
		}
		run_test_begin(&p, in, 3);
		assert_true(run_test_finishes(&p));
		assert_in_range(atomic_load(&w->shared->peak), 1, jobs);
		assert_run_ended(&p);
		run_test_fini(&p);
	}
}

static void
test_run_seeds_do_not_depend_on_jobs_or_attempts(void **state)
{
	uint64_t one[30], four[30], killed[30];

	run_test_seeds(*state, 1, false, one);
	run_test_seeds(*state, 4, false, four);
	run_test_seeds(*state, 3, true, killed);
	assert_memory_equal(one, four, sizeof(one));
	assert_memory_equal(one, killed, sizeof(one));
	for (int i = 1; i < 30; i++)
		assert_int_not_equal(one[i], one[i - 1]);
}

/* Jobs that were sent after a long one are recalled for another worker. */
static void
test_run_jobs_do_not_wait_behind_a_long_one(void **state)
{
	struct run_test p;
	uint32_t in, ms;
	int64_t until = in_ms(PATIENCE_MS);

	run_test_init(&p, *state, 2, 2);
	in = run_test_input(&p);
	ms = run_test_input(&p);
	for (int i = 0; i < 3; i++)
		run_test_add(&p, JOB_ADD, in, FZ_GRAPH_NONE);
	run_test_add(&p, JOB_SLEEP, ms, FZ_GRAPH_NONE);
	for (int i = 4; i < 100; i++)
		run_test_add(&p, JOB_ADD, in, FZ_GRAPH_NONE);
	run_test_make(&p);
	fz_run_set(p.run, in, blob_of_number(1));
	fz_run_set(p.run, ms, blob_of_number(1000000));
	fz_clock_share();
	run_test_start(&p);
	for (int n = 0; n < 99;) {
		assert_true(turn_until(p.w, until));
		run_test_take_events(&p);
		n = 0;
		for (int i = 0; i < 100; i++)
			n += p.ends[i];
	}
	assert_int_equal(p.ends[3], 0);
	wait_for_sleep(p.w, 1);
	pass_seconds(1000);
	assert_true(run_test_finishes(&p));
	assert_run_ended(&p);
	run_test_fini(&p);
}

static void
test_run_two_may_share_a_pool(void **state)
{
	struct run_test p, q;
	uint32_t in, last = 0, in2, last2 = 0;
	int64_t until = in_ms(PATIENCE_MS);

	run_test_init(&p, *state, 2, 2);
	run_test_init(&q, *state, 1, 2);
	fz_pool_free(q.pools[0]);
	q.pools[0] = p.pools[0];
	in = run_test_input(&p);
	in2 = run_test_input(&q);
	for (int i = 0; i < 200; i++) {
		last = run_test_add(
		    &p, JOB_ADD, i % 2 ? run_test_value(&p, last) : in, in);
		last2 = run_test_add(&q, i == 77 ? JOB_KILL_ONCE : JOB_ADD,
		    i % 2 ? run_test_value(&q, last2) : in2, in2);
	}
	q.opts.limits.retries = 1;
	run_test_make(&p);
	run_test_make(&q);
	fz_run_set(p.run, in, blob_of_number(1));
	fz_run_set(q.run, in2, blob_of_number(10));
	run_test_start(&p);
	run_test_start(&q);
	while (!fz_run_done(p.run) || !fz_run_done(q.run))
		assert_true(turn_until(p.w, until));
	run_test_take_events(&p);
	run_test_take_events(&q);
	assert_run_value(&p, last, 3);
	assert_run_value(&q, last2, 30);
	assert_run_ended(&p);
	assert_run_ended(&q);
	/* One run is freed, and then the other with the shared pool. */
	fz_run_free(p.run);
	p.run = NULL;
	q.pools[0] = NULL;
	run_test_fini(&q);
	run_test_fini(&p);
}

static void
test_run_the_end_of_one_does_not_disturb_the_other(void **state)
{
	struct run_test p, q;
	uint32_t in, in2;

	run_test_init(&p, *state, 2, 1);
	run_test_init(&q, *state, 1, 1);
	fz_pool_free(q.pools[0]);
	q.pools[0] = p.pools[0];
	in = run_test_input(&p);
	in2 = run_test_input(&q);
	run_test_add(&p, JOB_SLEEP, in, FZ_GRAPH_NONE);
	run_test_add(&q, JOB_SLEEP, in2, FZ_GRAPH_NONE);
	run_test_make(&p);
	run_test_make(&q);
	fz_run_set(p.run, in, blob_of_number(60000));
	fz_run_set(q.run, in2, blob_of_number(200));
	run_test_start(&p);
	run_test_start(&q);
	wait_for_calls(p.w, JOB_SLEEP, 2);
	fz_run_cancel(p.run, FZ_ERR_CANCELLED, "enough");
	assert_true(run_test_finishes(&q));
	assert_run_value(&q, 0, 200);
	q.pools[0] = NULL;
	run_test_fini(&q);
	run_test_fini(&p);
}

/* In a worker: a run with a pool of its own, on the loop it has inherited. */
static int
nest(void *ctx, struct fz_port *port)
{
	struct world *w = ctx;
	struct fz_call call;

	while (fz_port_next(port, &call, NULL) == 1) {
		struct run_test p;
		uint32_t in, a;

		run_test_init(&p, w, 2, 2);
		in = run_test_input(&p);
		a = run_test_add(&p, JOB_ADD, in, in);
		run_test_begin(&p, in, next_number(port, &call));
		if (!run_test_finishes(&p))
			return 80;
		fz_port_begin(port, &call, FZ_WIRE_RESULT, 1);
		put_number(port, number_of_blob(w, fz_run_value(p.run,
						       run_test_value(&p, a))));
		run_test_fini(&p);
		if (fz_port_send(port, NULL) != 0)
			return 81;
	}
	return 0;
}

static void
test_run_a_worker_may_have_workers(void **state)
{
	struct world *w = *state;
	struct fz_pool_opts opts = {
		.engine = &w->engine, .max = 2, .main = nest, .main_ctx = w
	};
	struct run_test p;
	uint32_t in;

	run_test_init(&p, w, 2, 2);
	fz_pool_free(p.pools[0]);
	p.pools[0] = fz_pool_new(&opts, NULL);
	in = run_test_input(&p);
	for (int i = 0; i < 6; i++)
		run_test_add(&p, JOB_ADD, in, FZ_GRAPH_NONE);
	run_test_begin(&p, in, 21);
	assert_true(run_test_finishes(&p));
	for (uint32_t i = 0; i < 6; i++)
		assert_run_value(&p, i, 42);
	run_test_fini(&p);
}

#define TEST(name) \
	cmocka_unit_test_setup_teardown(name, world_setup, world_teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_run_values_flow),
		TEST(test_run_goes_from_pool_to_pool_with_one_job_at_once),
		TEST(test_run_may_be_empty),
		TEST(test_run_a_value_that_was_not_given_is_an_error),
		TEST(test_run_drops_values_that_no_node_needs),
		TEST(test_run_gives_the_arena_back),
		TEST(test_run_gives_its_own_extents_back),
		TEST(test_run_policy_stop_waits_for_running_nodes),
		TEST(test_run_policy_now_ends_running_nodes),
		TEST(test_run_policy_continue_does_independent_nodes),
		TEST(test_run_counts_the_nodes_of_each_pool),
		TEST(test_run_a_worker_that_answers_nonsense_fails_its_node),
		TEST(test_run_may_end_before_its_last_worker_is_dead),
		TEST(test_run_never_runs_more_than_its_jobs),
		TEST(test_run_seeds_do_not_depend_on_jobs_or_attempts),
		TEST(test_run_jobs_do_not_wait_behind_a_long_one),
		TEST(test_run_two_may_share_a_pool),
		TEST(test_run_the_end_of_one_does_not_disturb_the_other),
		TEST(test_run_a_worker_may_have_workers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
