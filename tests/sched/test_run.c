/*
 * Runs: order, policies, retries, limits, events, and a thousand kills.
 * wrap: malloc calloc realloc mmap epoll_create1 epoll_ctl epoll_wait fork
 * wrap: pipe2 read write pwritev2
 */
/* kill and readlink are not in C11. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/err.h"
#include "faults.h"
#include "os/loop.h"
#include "sched/event.h"
#include "sched/graph.h"
#include "sched/pool.h"
#include "sched/run.h"
#include "shared/arena.h"
#include "worker/blob.h"
#include "worker/child_port.h"
#include "worker/wire.h"
#include "world.h"

enum { NPOOLS = 2, NODES_MAX = 512 };

/* One run, what it needs, and the events it told of each node. */
struct plan {
	struct world *w;
	struct fz_graph *graph;
	struct fz_pool *pools[NPOOLS];
	struct fz_run *run;
	struct fz_run_opts opts;
	int starts[NODES_MAX], ends[NODES_MAX], retries[NODES_MAX];
	enum fz_event_kind last[NODES_MAX];
};

static struct fz_pool *
pool_of(struct world *w, unsigned max)
{
	struct fz_pool_opts opts = { .engine = &w->engine,
		.max = max,
		.main = serve,
		.main_ctx = w->shared };

	return fz_pool_new(&opts, NULL);
}

/* Pools with `max` workers each; at most `jobs` at once, 0: local. */
static void
plan_init(struct plan *p, struct world *w, unsigned max, unsigned jobs)
{
	memset(p, 0, sizeof(*p));
	p->w = w;
	p->graph = fz_graph_new(NULL);
	assert_non_null(p->graph);
	for (int i = 0; i < NPOOLS; i++) {
		p->pools[i] = pool_of(w, max);
		assert_non_null(p->pools[i]);
	}
	p->opts = (struct fz_run_opts){ .engine = &w->engine,
		.graph = p->graph,
		.pools = p->pools,
		.npools = NPOOLS,
		.jobs = jobs,
		.policy = FZ_POLICY_STOP,
		.seed = 7,
		.deadline_ns = FZ_CLOCK_NEVER,
		.events = true,
		.limits = { .timeout_ns = FZ_CLOCK_NEVER } };
}

static void
plan_fini(struct plan *p)
{
	fz_run_free(p->run);
	for (int i = 0; i < NPOOLS; i++)
		fz_pool_free(p->pools[i]);
	fz_graph_free(p->graph);
}

static uint32_t
value_of(struct plan *p, uint32_t node)
{
	return fz_graph_get(p->graph, node)->first_value;
}

/* A node with one value, fed by values. */
static uint32_t
add(struct plan *p, enum job func, uint32_t a, uint32_t b)
{
	uint32_t node = fz_graph_node(p->graph, 0, func, 1, NULL);
	uint32_t values[] = { a, b };

	assert_int_not_equal(node, FZ_GRAPH_NONE);
	assert_int_equal(fz_graph_feed(p->graph, node, values,
			     b == FZ_GRAPH_NONE ? 1 : 2, NULL),
	    0);
	return node;
}

/* One fed by another node. */
static uint32_t
after(struct plan *p, enum job func, uint32_t node)
{
	return add(p, func, value_of(p, node), FZ_GRAPH_NONE);
}

static uint32_t
input(struct plan *p)
{
	uint32_t value = fz_graph_input(p->graph, NULL);

	assert_int_not_equal(value, FZ_GRAPH_NONE);
	return value;
}

/* The run, with all values kept; inputs are still to be set. */
static void
plan_run(struct plan *p)
{
	assert_int_equal(fz_graph_freeze(p->graph, NULL), 0);
	p->run = fz_run_new(&p->opts, NULL);
	assert_non_null(p->run);
	for (uint32_t v = 0; v < fz_graph_nvalues(p->graph); v++)
		fz_run_keep(p->run, v);
}

static void
plan_start(struct plan *p)
{
	assert_int_equal(fz_run_start(p->run, NULL), 0);
}

static void
take_events(struct plan *p)
{
	struct fz_event e;

	while (fz_run_next_event(p->run, &e) == 1) {
		assert_true(e.first < NODES_MAX);
		p->last[e.first] = e.kind;
		if (e.kind == FZ_EVENT_START)
			p->starts[e.first]++;
		else if (e.kind == FZ_EVENT_RETRY)
			p->retries[e.first]++;
		else
			p->ends[e.first]++;
	}
}

static bool
finishes(struct plan *p, int64_t ms)
{
	int64_t until = in_ms(ms);

	while (!fz_run_done(p->run)) {
		take_events(p);
		if (!step_until(p->w, until))
			return false;
	}
	take_events(p);
	return true;
}

/* Every node ended once, whatever came before. */
static void
assert_all_ended(const struct plan *p)
{
	for (uint32_t i = 0; i < fz_graph_nnodes(p->graph); i++) {
		assert_int_equal(p->ends[i], 1);
		assert_true(p->last[i] == FZ_EVENT_DONE ||
			    p->last[i] == FZ_EVENT_FAILED);
	}
}

static void
assert_value(struct plan *p, uint32_t node, uint64_t expected)
{
	struct fz_blob *blob = fz_run_value(p->run, value_of(p, node));
	uint32_t because;

	assert_non_null(blob);
	assert_int_equal(number_of_blob(p->w, blob), expected);
	assert_null(fz_run_failure_of(p->run, node, &because));
	assert_int_equal(p->last[node], FZ_EVENT_DONE);
}

static void
assert_failure(
    struct plan *p, uint32_t node, enum fz_err_kind kind, uint32_t expected)
{
	const struct fz_failure *failure;
	uint32_t because;

	failure = fz_run_failure_of(p->run, node, &because);
	assert_non_null(failure);
	assert_int_equal(failure->err.kind, kind);
	assert_int_equal(because, expected);
	assert_int_equal(p->last[node], FZ_EVENT_FAILED);
	assert_null(fz_run_value(p->run, value_of(p, node)));
}

/* ---- values ------------------------------------------------------------- */

static void
test_run_values_flow(void **state)
{
	struct plan p;
	uint32_t in, a, b, c, d, failed;

	plan_init(&p, *state, 2, 2);
	in = input(&p);
	a = add(&p, JOB_ADD, in, FZ_GRAPH_NONE);
	b = add(&p, JOB_ADD, value_of(&p, a), in);
	c = add(&p, JOB_ADD, value_of(&p, a), value_of(&p, a));
	d = add(&p, JOB_ADD, value_of(&p, b), value_of(&p, c));
	plan_run(&p);
	fz_run_set(p.run, in, blob_of_number(4));
	fz_run_set(p.run, in, blob_of_number(5)); /* the last one counts */
	plan_start(&p);
	assert_true(finishes(&p, 10000));
	assert_value(&p, a, 5);
	assert_value(&p, b, 10);
	assert_value(&p, c, 10);
	assert_value(&p, d, 20);
	assert_null(fz_run_failure(p.run, &failed));
	assert_all_ended(&p);
	for (uint32_t i = 0; i < 4; i++)
		assert_int_equal(p.starts[i], 1);
	plan_fini(&p);
}

static void
test_run_goes_from_pool_to_pool_with_one_job_at_once(void **state)
{
	struct plan p;
	uint32_t in, node, nodes[40];

	plan_init(&p, *state, 3, 1);
	in = input(&p);
	for (uint32_t i = 0; i < 40; i++) {
		uint32_t from = i < 20 ? in : value_of(&p, nodes[i - 20]);

		node = fz_graph_node(p.graph, i / 20, JOB_COUNT, 1, NULL);
		fz_graph_feed(p.graph, node, &from, 1, NULL);
		nodes[i] = node;
	}
	plan_run(&p);
	fz_run_set(p.run, in, blob_of_number(1));
	plan_start(&p);
	assert_true(finishes(&p, 10000));
	assert_value(&p, nodes[39], 1);
	assert_int_equal(atomic_load(&p.w->shared->peak), 1);
	plan_fini(&p);
}

static void
test_run_may_be_empty(void **state)
{
	struct plan p;

	plan_init(&p, *state, 1, 1);
	plan_run(&p);
	plan_start(&p);
	assert_true(finishes(&p, 1000));
	plan_fini(&p);
	fz_run_free(NULL);
}

static void
test_run_a_value_that_was_not_given_is_an_error(void **state)
{
	struct fz_err err = { 0 };
	struct plan p;

	plan_init(&p, *state, 1, 1);
	add(&p, JOB_ADD, input(&p), FZ_GRAPH_NONE);
	plan_run(&p);
	assert_int_equal(fz_run_start(p.run, &err), -1);
	assert_int_equal(err.kind, FZ_ERR_GRAPH);
	plan_fini(&p);
}

static void
count_release(void *owner, uint64_t offset)
{
	(void)offset;
	++*(int *)owner;
}

static void
test_run_drops_what_nobody_needs(void **state)
{
	struct plan p;
	uint32_t in, a;
	int nreleased = 0;

	plan_init(&p, *state, 1, 1);
	in = input(&p);
	a = add(&p, JOB_SEED, in, FZ_GRAPH_NONE);
	add(&p, JOB_ADD, value_of(&p, a), value_of(&p, a));
	assert_int_equal(fz_graph_freeze(p.graph, NULL), 0);
	p.run = fz_run_new(&p.opts, NULL);
	fz_run_keep(p.run, value_of(&p, 1));
	fz_run_set(p.run, in,
	    fz_blob_in_shm(4096, 8, count_release, &nreleased, NULL));
	plan_start(&p);
	assert_true(finishes(&p, 10000));
	assert_int_equal(nreleased, 1);
	assert_null(fz_run_value(p.run, in));
	assert_null(fz_run_value(p.run, value_of(&p, a)));
	assert_non_null(fz_run_value(p.run, value_of(&p, 1)));
	plan_fini(&p);
}

/* Bytes of memory behind the arena, all slices. */
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
	struct plan p;
	uint32_t in, a, b;

	plan_init(&p, *state, 2, 2);
	in = input(&p);
	a = add(&p, JOB_BYTES, in, FZ_GRAPH_NONE);
	b = after(&p, JOB_ECHO, a);
	for (int round = 0; round < 12; round++) {
		plan_run(&p);
		fz_run_set(p.run, in, blob_of_number(LEN));
		plan_start(&p);
		assert_true(finishes(&p, 10000));
		assert_int_equal(
		    fz_run_value(p.run, value_of(&p, b))->len, LEN);
		assert_true(fz_run_value(p.run, value_of(&p, b))->in_shm);
		assert_true(arena_bytes() < 8 * (size_t)LEN);
		if (round < 11)
			fz_run_free(p.run);
	}
	/* The workers are gone, what they made is still there. */
	fz_pool_close(p.pools[0]);
	assert_true(arena_bytes() >= 2 * (size_t)LEN);
	fz_run_free(p.run);
	p.run = NULL;
	assert_int_equal(arena_bytes(), 0);
	plan_fini(&p);
}

static void
give_back(void *owner, uint64_t offset)
{
	fz_arena_give_back(owner, offset);
}

static void
test_run_gives_its_own_extents_back(void **state)
{
	enum { LEN = 300 << 20 }; /* more than is kept warm */
	struct world *w = *state;
	struct fz_arena *shm = fz_engine_arena(&w->engine);
	struct plan p;
	uint32_t in;
	uint64_t offset;

	plan_init(&p, w, 1, 1);
	in = input(&p);
	add(&p, JOB_SEED, in, FZ_GRAPH_NONE);
	if (fz_arena_alloc(shm, LEN, &offset, NULL) != NULL) {
		assert_int_equal(fz_graph_freeze(p.graph, NULL), 0);
		p.run = fz_run_new(&p.opts, NULL);
		fz_run_set(p.run, in,
		    fz_blob_in_shm(offset, LEN, give_back, shm, NULL));
		plan_start(&p);
		assert_true(fz_arena_held(shm) >= LEN);
		assert_true(finishes(&p, 10000));
		assert_true(fz_arena_held(shm) <= FZ_ARENA_WARM);
	}
	plan_fini(&p);
}

/* ---- policies ----------------------------------------------------------- */

/*
 * A diamond whose first node fails, beside a chain of its own:
 *   a -> b, c -> d        x -> y -> z
 */
struct diamond {
	uint32_t in, a, b, c, d, x, y, z;
};

static void
start_diamond(
    struct plan *p, struct world *w, enum fz_policy policy, struct diamond *n)
{
	plan_init(p, w, 2, 2);
	p->opts.policy = policy;
	n->in = input(p);
	/* Sleeps 100 ms, is ready first. */
	n->x = add(p, JOB_SLEEP, n->in, FZ_GRAPH_NONE);
	n->a = add(p, JOB_RAISE_LATE, n->in, FZ_GRAPH_NONE);
	n->b = after(p, JOB_ADD, n->a);
	n->c = after(p, JOB_ADD, n->a);
	n->d = add(p, JOB_ADD, value_of(p, n->b), value_of(p, n->c));
	n->y = after(p, JOB_ADD, n->x);
	n->z = after(p, JOB_ADD, n->y);
	plan_run(p);
	fz_run_set(p->run, n->in, blob_of_number(100));
	plan_start(p);
}

static void
assert_a_failed(struct plan *p, const struct diamond *n)
{
	const struct fz_failure *failure;
	uint32_t failed, because;

	failure = fz_run_failure_of(p->run, n->a, &because);
	assert_int_equal(failure->err.kind, FZ_ERR_ERROR);
	assert_memory_equal(failure->value->bytes, "raised", 6);
	assert_int_equal(failure->attempt, 1);
	assert_int_equal(because, FZ_GRAPH_NONE);
	assert_failure(p, n->b, FZ_ERR_CANCELLED, n->a);
	assert_failure(p, n->c, FZ_ERR_CANCELLED, n->a);
	assert_failure(p, n->d, FZ_ERR_CANCELLED, n->a);
	assert_all_ended(p);
	failure = fz_run_failure(p->run, &failed);
	if (p->opts.policy == FZ_POLICY_CONTINUE) {
		assert_null(failure);
	} else {
		assert_non_null(failure);
		assert_int_equal(failed, n->a);
	}
}

static void
test_run_stop_lets_what_runs_end(void **state)
{
	struct diamond n;
	struct plan p;

	start_diamond(&p, *state, FZ_POLICY_STOP, &n);
	assert_true(finishes(&p, 10000));
	assert_a_failed(&p, &n);
	assert_value(&p, n.x, 100);
	assert_failure(&p, n.y, FZ_ERR_CANCELLED, n.a);
	assert_failure(&p, n.z, FZ_ERR_CANCELLED, n.a);
	assert_int_equal(atomic_load(&p.w->shared->calls[JOB_ADD]), 0);
	plan_fini(&p);
}

static void
test_run_now_ends_what_runs(void **state)
{
	const struct fz_failure *failure;
	struct diamond n;
	struct plan p;
	uint32_t because, failed;
	int64_t start;

	plan_init(&p, *state, 2, 2);
	p.opts.policy = FZ_POLICY_NOW;
	n.in = input(&p);
	n.x = add(&p, JOB_SLEEP, n.in, FZ_GRAPH_NONE);
	n.a = add(&p, JOB_EXIT, n.in, FZ_GRAPH_NONE);
	plan_run(&p);
	fz_run_set(p.run, n.in, blob_of_number(30000));
	start = fz_clock_ns();
	plan_start(&p);
	assert_true(finishes(&p, 10000));
	assert_true(fz_clock_ns() - start < 5 * FZ_CLOCK_SECOND);
	failure = fz_run_failure_of(p.run, n.x, &because);
	assert_int_equal(failure->err.kind, FZ_ERR_CANCELLED);
	assert_int_equal(
	    fz_run_failure_of(p.run, n.a, &because)->err.kind, FZ_ERR_CRASH);
	assert_non_null(fz_run_failure(p.run, &failed));
	assert_all_ended(&p);
	plan_fini(&p);
}

static void
test_run_continue_does_what_does_not_depend(void **state)
{
	struct diamond n;
	struct plan p;

	start_diamond(&p, *state, FZ_POLICY_CONTINUE, &n);
	assert_true(finishes(&p, 10000));
	assert_a_failed(&p, &n);
	assert_value(&p, n.x, 100);
	assert_value(&p, n.y, 100);
	assert_value(&p, n.z, 100);
	plan_fini(&p);
}

static void
test_run_a_worker_that_answers_nonsense_fails_its_node(void **state)
{
	static const enum job jobs[] = { JOB_GARBAGE, JOB_TOO_MANY, JOB_TOO_FEW,
		JOB_CLOSE_OUT, JOB_CLOSE_IN };
	struct plan p;
	uint32_t in, failed, because;

	plan_init(&p, *state, 5, 5);
	p.opts.policy = FZ_POLICY_CONTINUE;
	in = input(&p);
	for (int i = 0; i < 5; i++)
		add(&p, jobs[i], in, FZ_GRAPH_NONE);
	add(&p, JOB_ADD, in, FZ_GRAPH_NONE);
	plan_run(&p);
	fz_run_set(p.run, in, blob_of_number(1));
	plan_start(&p);
	assert_true(finishes(&p, 20000));
	for (uint32_t i = 0; i < 5; i++)
		assert_non_null(fz_run_failure_of(p.run, i, &because));
	assert_value(&p, 5, 1);
	assert_null(fz_run_failure(p.run, &failed));
	assert_all_ended(&p);
	plan_fini(&p);
}

/* The last reply and garbage at once: the worker dies when the run is gone. */
static void
test_run_may_end_before_its_last_worker_is_dead(void **state)
{
	struct plan p;
	uint32_t in, a;

	plan_init(&p, *state, 1, 1);
	in = input(&p);
	a = add(&p, JOB_REPLY_GARBAGE, in, FZ_GRAPH_NONE);
	plan_run(&p);
	fz_run_set(p.run, in, blob_of_number(1));
	plan_start(&p);
	assert_true(finishes(&p, 10000));
	assert_value(&p, a, 1);
	fz_run_free(p.run);
	/* The next run gets a worker that is well. */
	fz_graph_free(p.graph);
	p.graph = fz_graph_new(NULL);
	p.opts.graph = p.graph;
	in = input(&p);
	a = add(&p, JOB_ADD, in, FZ_GRAPH_NONE);
	plan_run(&p);
	fz_run_set(p.run, in, blob_of_number(2));
	plan_start(&p);
	assert_true(finishes(&p, 10000));
	assert_value(&p, a, 2);
	plan_fini(&p);
}

/* ---- retries and limits ------------------------------------------------- */

static void
test_run_tries_again(void **state)
{
	struct plan p;
	uint32_t in, a;

	plan_init(&p, *state, 2, 2);
	p.opts.limits.retries = 1;
	in = input(&p);
	a = add(&p, JOB_KILL_ONCE, in, FZ_GRAPH_NONE);
	plan_run(&p);
	fz_run_set(p.run, in, blob_of_number(3));
	plan_start(&p);
	assert_true(finishes(&p, 10000));
	assert_value(&p, a, 3);
	assert_int_equal(p.retries[a], 1);
	assert_int_equal(p.starts[a], 2);
	assert_all_ended(&p);
	plan_fini(&p);
}

static void
test_run_tries_so_often_and_waits_in_between(void **state)
{
	const struct fz_failure *failure;
	struct plan p;
	uint32_t in, a, because;
	int64_t start = fz_clock_ns();

	plan_init(&p, *state, 1, 1);
	p.opts.limits.retries = 2;
	p.opts.limits.backoff_ns = 20 * FZ_CLOCK_MS;
	in = input(&p);
	a = add(&p, JOB_RAISE, in, FZ_GRAPH_NONE);
	plan_run(&p);
	fz_run_set(p.run, in, blob_of_number(3));
	plan_start(&p);
	assert_true(finishes(&p, 10000));
	assert_true(fz_clock_ns() - start >= 60 * FZ_CLOCK_MS);
	failure = fz_run_failure_of(p.run, a, &because);
	assert_int_equal(failure->attempt, 3);
	assert_int_equal(p.retries[a], 2);
	assert_int_equal(atomic_load(&p.w->shared->calls[JOB_RAISE]), 3);
	assert_all_ended(&p);
	plan_fini(&p);
}

static void
test_run_many_retries_without_a_pause_are_fast(void **state)
{
	struct plan p;
	uint32_t in, a, because;

	plan_init(&p, *state, 1, 0);
	p.opts.limits.retries = 200000;
	in = input(&p);
	a = add(&p, JOB_RAISE, in, FZ_GRAPH_NONE);
	p.opts.events = false;
	plan_run(&p);
	fz_run_set(p.run, in, blob_of_number(3));
	plan_start(&p);
	while (fz_run_local_next(p.run) == a) {
		struct fz_failure failure = { .err.kind = FZ_ERR_ERROR };

		fz_run_local_failed(p.run, a, &failure);
	}
	assert_true(finishes(&p, 1000));
	assert_int_equal(
	    fz_run_failure_of(p.run, a, &because)->attempt, 200001);
	plan_fini(&p);
}

static void
test_run_cancel_ends_a_pause(void **state)
{
	struct plan p;
	uint32_t in, a;
	int64_t until = in_ms(5000);

	plan_init(&p, *state, 1, 1);
	p.opts.limits.retries = 1;
	p.opts.limits.backoff_ns = 3600 * FZ_CLOCK_SECOND;
	in = input(&p);
	a = add(&p, JOB_RAISE, in, FZ_GRAPH_NONE);
	plan_run(&p);
	fz_run_set(p.run, in, blob_of_number(3));
	plan_start(&p);
	while (p.retries[a] == 0) {
		assert_true(step_until(p.w, until));
		take_events(&p);
	}
	fz_run_cancel(p.run, FZ_ERR_CANCELLED, "enough");
	take_events(&p);
	assert_true(fz_run_done(p.run));
	assert_all_ended(&p);
	plan_fini(&p);
}

static void
test_run_timeouts_free_the_slot(void **state)
{
	struct plan p;
	uint32_t in;
	int64_t start = fz_clock_ns();

	plan_init(&p, *state, 2, 2);
	p.opts.policy = FZ_POLICY_CONTINUE;
	p.opts.limits.timeout_ns = 100 * FZ_CLOCK_MS;
	in = input(&p);
	for (int i = 0; i < 4; i++)
		add(&p, JOB_SLEEP, in, FZ_GRAPH_NONE);
	plan_run(&p);
	fz_run_set(p.run, in, blob_of_number(60000));
	plan_start(&p);
	assert_true(finishes(&p, 10000));
	assert_true(fz_clock_ns() - start < 3 * FZ_CLOCK_SECOND);
	for (uint32_t i = 0; i < 4; i++)
		assert_failure(&p, i, FZ_ERR_TIMEOUT, FZ_GRAPH_NONE);
	assert_all_ended(&p);
	plan_fini(&p);
}

static void
test_run_a_node_may_have_its_own_limits(void **state)
{
	struct fz_limits limits = { .timeout_ns = 50 * FZ_CLOCK_MS };
	struct plan p;
	uint32_t in, a, b;

	plan_init(&p, *state, 2, 2);
	p.opts.policy = FZ_POLICY_CONTINUE;
	in = input(&p);
	a = add(&p, JOB_SLEEP, in, FZ_GRAPH_NONE);
	b = add(&p, JOB_SLEEP, in, FZ_GRAPH_NONE);
	plan_run(&p);
	assert_int_equal(fz_run_limit(p.run, b, &limits, NULL), 0);
	assert_int_equal(
	    fz_run_limits_of(p.run, a)->timeout_ns, FZ_CLOCK_NEVER);
	assert_int_equal(
	    fz_run_limits_of(p.run, b)->timeout_ns, limits.timeout_ns);
	fz_run_set(p.run, in, blob_of_number(200));
	plan_start(&p);
	assert_true(finishes(&p, 10000));
	assert_value(&p, a, 200);
	assert_failure(&p, b, FZ_ERR_TIMEOUT, FZ_GRAPH_NONE);
	plan_fini(&p);
}

static void
test_run_a_deadline_ends_all(void **state)
{
	const struct fz_failure *failure;
	struct plan p;
	uint32_t in, a, b, failed;

	plan_init(&p, *state, 2, 2);
	p.opts.deadline_ns = in_ms(100);
	p.opts.limits.retries = 5;
	in = input(&p);
	a = add(&p, JOB_SLEEP, in, FZ_GRAPH_NONE);
	b = after(&p, JOB_ADD, a);
	plan_run(&p);
	fz_run_set(p.run, in, blob_of_number(60000));
	plan_start(&p);
	assert_true(finishes(&p, 5000));
	failure = fz_run_failure(p.run, &failed);
	assert_int_equal(failure->err.kind, FZ_ERR_TIMEOUT);
	assert_int_equal(failed, FZ_GRAPH_NONE);
	assert_failure(&p, a, FZ_ERR_TIMEOUT, FZ_GRAPH_NONE);
	assert_failure(&p, b, FZ_ERR_CANCELLED, FZ_GRAPH_NONE);
	assert_all_ended(&p);
	plan_fini(&p);
}

static void
test_run_cancel_waits_until_all_has_ended(void **state)
{
	struct plan p;
	uint32_t in, failed;
	int64_t until = in_ms(5000);

	plan_init(&p, *state, 3, 3);
	in = input(&p);
	for (int i = 0; i < 30; i++)
		add(&p, JOB_SLEEP, in, FZ_GRAPH_NONE);
	plan_run(&p);
	fz_run_set(p.run, in, blob_of_number(60000));
	plan_start(&p);
	while (atomic_load(&p.w->shared->calls[JOB_SLEEP]) < 3)
		assert_true(step_until(p.w, until));
	fz_run_cancel(p.run, FZ_ERR_INTERRUPTED, "interrupted");
	assert_true(fz_run_done(p.run));
	assert_no_children();
	fz_run_cancel(p.run, FZ_ERR_CANCELLED, "later ones do nothing");
	assert_int_equal(
	    fz_run_failure(p.run, &failed)->err.kind, FZ_ERR_INTERRUPTED);
	take_events(&p);
	assert_all_ended(&p);
	assert_int_equal(atomic_load(&p.w->shared->calls[JOB_SLEEP]), 3);
	plan_fini(&p);
}

static void
test_run_cancel_before_the_start(void **state)
{
	struct plan p;
	uint32_t in;

	plan_init(&p, *state, 1, 1);
	in = input(&p);
	add(&p, JOB_ADD, in, FZ_GRAPH_NONE);
	plan_run(&p);
	fz_run_set(p.run, in, blob_of_number(1));
	fz_run_cancel(p.run, FZ_ERR_CANCELLED, "never");
	assert_true(fz_run_done(p.run));
	plan_fini(&p);
}

/* ---- slots -------------------------------------------------------------- */

static void
test_run_never_runs_more_than_its_jobs(void **state)
{
	for (unsigned jobs = 1; jobs <= 4; jobs++) {
		struct world *w = *state;
		struct plan p;
		uint32_t in;

		atomic_store(&w->shared->peak, 0);
		plan_init(&p, w, 4, jobs);
		in = input(&p);
		for (uint32_t i = 0; i < 60; i++) {
			uint32_t node = fz_graph_node(
			    p.graph, i % NPOOLS, JOB_COUNT, 1, NULL);

			fz_graph_feed(p.graph, node, &in, 1, NULL);
		}
		plan_run(&p);
		fz_run_set(p.run, in, blob_of_number(3));
		plan_start(&p);
		assert_true(finishes(&p, 20000));
		assert_in_range(atomic_load(&w->shared->peak), 1, jobs);
		assert_all_ended(&p);
		plan_fini(&p);
	}
}

static void
seeds_of_a_run(struct world *w, unsigned jobs, bool kill_some, uint64_t *seeds)
{
	struct plan p;
	uint32_t in;

	atomic_store(&w->shared->kills, 0);
	plan_init(&p, w, jobs, jobs);
	p.opts.limits.retries = 3;
	in = input(&p);
	for (int i = 0; i < 30; i++)
		add(&p, JOB_SEED, in, FZ_GRAPH_NONE);
	if (kill_some)
		add(&p, JOB_KILL_ONCE, in, FZ_GRAPH_NONE);
	plan_run(&p);
	fz_run_set(p.run, in, blob_of_number(3));
	plan_start(&p);
	assert_true(finishes(&p, 10000));
	for (uint32_t i = 0; i < 30; i++)
		seeds[i] =
		    number_of_blob(w, fz_run_value(p.run, value_of(&p, i)));
	plan_fini(&p);
}

static void
test_run_seeds_do_not_depend_on_jobs_or_attempts(void **state)
{
	uint64_t one[30], four[30], killed[30];

	seeds_of_a_run(*state, 1, false, one);
	seeds_of_a_run(*state, 4, false, four);
	seeds_of_a_run(*state, 3, true, killed);
	assert_memory_equal(one, four, sizeof(one));
	assert_memory_equal(one, killed, sizeof(one));
	for (int i = 1; i < 30; i++)
		assert_int_not_equal(one[i], one[i - 1]);
}

/* Jobs that were sent behind a long one go to another worker. */
static void
test_run_jobs_do_not_wait_behind_a_long_one(void **state)
{
	struct plan p;
	uint32_t in, ms;
	int64_t start;

	plan_init(&p, *state, 2, 2);
	in = input(&p);
	ms = input(&p);
	for (int i = 0; i < 3; i++)
		add(&p, JOB_ADD, in, FZ_GRAPH_NONE);
	add(&p, JOB_SLEEP, ms, FZ_GRAPH_NONE);
	for (int i = 4; i < 100; i++)
		add(&p, JOB_ADD, in, FZ_GRAPH_NONE);
	plan_run(&p);
	fz_run_set(p.run, in, blob_of_number(1));
	fz_run_set(p.run, ms, blob_of_number(600));
	plan_start(&p);
	start = fz_clock_ns();
	for (int n = 0; n < 99;) {
		assert_true(step_until(p.w, start + 500 * FZ_CLOCK_MS));
		take_events(&p);
		n = 0;
		for (int i = 0; i < 100; i++)
			n += p.ends[i];
	}
	assert_int_equal(p.ends[3], 0);
	assert_true(finishes(&p, 10000));
	assert_all_ended(&p);
	plan_fini(&p);
}

static void
test_run_two_may_share_a_pool(void **state)
{
	struct plan p, q;
	uint32_t in, last = 0, in2, last2 = 0;
	int64_t until = in_ms(20000);

	plan_init(&p, *state, 2, 2);
	plan_init(&q, *state, 1, 2);
	fz_pool_free(q.pools[0]);
	q.pools[0] = p.pools[0];
	in = input(&p);
	in2 = input(&q);
	for (int i = 0; i < 200; i++) {
		last = add(&p, JOB_ADD, i % 2 ? value_of(&p, last) : in, in);
		last2 = add(&q, i == 77 ? JOB_KILL_ONCE : JOB_ADD,
		    i % 2 ? value_of(&q, last2) : in2, in2);
	}
	q.opts.limits.retries = 1;
	plan_run(&p);
	plan_run(&q);
	fz_run_set(p.run, in, blob_of_number(1));
	fz_run_set(q.run, in2, blob_of_number(10));
	plan_start(&p);
	plan_start(&q);
	while (!fz_run_done(p.run) || !fz_run_done(q.run))
		assert_true(step_until(p.w, until));
	take_events(&p);
	take_events(&q);
	assert_value(&p, last, 3);
	assert_value(&q, last2, 30);
	assert_all_ended(&p);
	assert_all_ended(&q);
	/* One ends with workers busy for it, the other goes on. */
	fz_run_free(p.run);
	p.run = NULL;
	q.pools[0] = NULL;
	plan_fini(&q);
	plan_fini(&p);
}

static void
test_run_the_end_of_one_does_not_disturb_the_other(void **state)
{
	struct plan p, q;
	uint32_t in, in2;
	int64_t until = in_ms(5000);

	plan_init(&p, *state, 2, 1);
	plan_init(&q, *state, 1, 1);
	fz_pool_free(q.pools[0]);
	q.pools[0] = p.pools[0];
	in = input(&p);
	in2 = input(&q);
	add(&p, JOB_SLEEP, in, FZ_GRAPH_NONE);
	add(&q, JOB_SLEEP, in2, FZ_GRAPH_NONE);
	plan_run(&p);
	plan_run(&q);
	fz_run_set(p.run, in, blob_of_number(60000));
	fz_run_set(q.run, in2, blob_of_number(200));
	plan_start(&p);
	plan_start(&q);
	while (atomic_load(&p.w->shared->calls[JOB_SLEEP]) < 2)
		assert_true(step_until(p.w, until));
	fz_run_cancel(p.run, FZ_ERR_CANCELLED, "enough");
	assert_true(finishes(&q, 5000));
	assert_value(&q, 0, 200);
	q.pools[0] = NULL;
	plan_fini(&q);
	plan_fini(&p);
}

/* ---- kills -------------------------------------------------------------- */

struct pick {
	pid_t pids[16];
	unsigned n;
};

static void
note_pid(void *ctx, pid_t pid)
{
	struct pick *pick = ctx;

	if (pick->n < 16)
		pick->pids[pick->n++] = pid;
}

static uint32_t
next_random(void)
{
	static uint32_t x = 2463534242;

	x ^= x << 13;
	x ^= x >> 17;
	x ^= x << 5;
	return x;
}

static int
kill_somebody(const struct fz_pool *pool)
{
	struct pick pick = { .n = 0 };

	fz_pool_pids(pool, note_pid, &pick);
	if (pick.n == 0)
		return 0;
	return kill(pick.pids[next_random() % pick.n], SIGKILL) == 0;
}

static void
test_run_a_thousand_kills_lose_nothing(void **state)
{
	enum { KILLS = 1000, NODES = 300 };
	struct world *w = *state;
	int nkills = 0, nfailed = 0, nretries = 0, nnodes = 0;
	struct fz_pool *pool = pool_of(w, 4);

	while (nkills < KILLS) {
		struct plan p;
		uint32_t in, because;
		int64_t until = in_ms(60000);

		plan_init(&p, w, 1, 4);
		fz_pool_free(p.pools[0]);
		p.pools[0] = pool;
		p.opts.policy = FZ_POLICY_CONTINUE;
		p.opts.limits.retries = 1;
		in = input(&p);
		for (uint32_t i = 0; i < NODES; i++)
			add(&p, i % 8 ? JOB_ADD : JOB_COUNT,
			    i < 20 ? in : value_of(&p, i - 20), FZ_GRAPH_NONE);
		plan_run(&p);
		fz_run_set(p.run, in, blob_of_number(1));
		plan_start(&p);
		while (!fz_run_done(p.run)) {
			assert_true(step_until(w, until));
			take_events(&p);
			if (nkills < KILLS && next_random() % 4 == 0)
				nkills += kill_somebody(pool);
		}
		take_events(&p);
		assert_all_ended(&p);
		for (uint32_t i = 0; i < NODES; i++) {
			const struct fz_failure *f =
			    fz_run_failure_of(p.run, i, &because);

			nretries += p.retries[i];
			if (f == NULL) {
				assert_value(&p, i, 1);
			} else if (f->err.kind == FZ_ERR_CRASH) {
				nfailed++;
				assert_int_equal(f->attempt, 2);
				assert_int_equal(f->signal, SIGKILL);
			} else {
				assert_int_equal(f->err.kind, FZ_ERR_CANCELLED);
				assert_int_not_equal(because, FZ_GRAPH_NONE);
			}
		}
		nnodes += NODES;
		p.pools[0] = NULL;
		plan_fini(&p);
	}
	print_message("%d kills among %d nodes: %d tried again, %d failed\n",
	    nkills, nnodes, nretries, nfailed);
	fz_pool_free(pool);
}

static void
test_run_another_worker_ends_what_one_read_half_of(void **state)
{
	struct world *w = *state;
	struct plan p;
	uint32_t in, a;

	w->engine.shm_tried = true;
	w->shared->mode = START_FIRST_DIES_HALFWAY;
	plan_init(&p, w, 1, 1);
	in = input(&p);
	a = add(&p, JOB_ECHO, in, FZ_GRAPH_NONE);
	plan_run(&p);
	fz_run_set(p.run, in, blob_of_bytes(bulk_size()));
	plan_start(&p);
	assert_true(finishes(&p, 60000));
	assert_int_equal(
	    fz_run_value(p.run, value_of(&p, a))->len, bulk_size());
	assert_int_equal(p.retries[a], 0);
	assert_int_equal(atomic_load(&w->shared->births), 2);
	plan_fini(&p);
}

static void
test_run_ends_when_workers_die_at_once(void **state)
{
	struct world *w = *state;
	struct plan p;
	uint32_t in;

	w->shared->mode = START_ALL_DIE;
	plan_init(&p, w, 2, 2);
	p.opts.policy = FZ_POLICY_CONTINUE;
	in = input(&p);
	for (int i = 0; i < 5; i++)
		add(&p, JOB_ADD, in, FZ_GRAPH_NONE);
	plan_run(&p);
	fz_run_set(p.run, in, blob_of_number(1));
	plan_start(&p);
	assert_true(finishes(&p, 20000));
	for (uint32_t i = 0; i < 5; i++)
		assert_failure(&p, i, FZ_ERR_CRASH, FZ_GRAPH_NONE);
	assert_true(atomic_load(&w->shared->births) < 60);
	plan_fini(&p);
}

static void
test_run_ends_when_no_worker_can_be_forked(void **state)
{
	struct plan p;
	uint32_t in;

	plan_init(&p, *state, 2, 2);
	p.opts.policy = FZ_POLICY_CONTINUE;
	p.opts.limits.retries = 2;
	in = input(&p);
	for (int i = 0; i < 5; i++)
		add(&p, JOB_ADD, in, FZ_GRAPH_NONE);
	plan_run(&p);
	fz_run_set(p.run, in, blob_of_number(1));
	plan_start(&p);
	faults_at(0);
	faults.fork_error = EAGAIN;
	assert_true(finishes(&p, 10000));
	faults_end();
	for (uint32_t i = 0; i < 5; i++)
		assert_failure(&p, i, FZ_ERR_ERROR, FZ_GRAPH_NONE);
	plan_fini(&p);
}

static void
test_run_goes_on_with_the_workers_there_are(void **state)
{
	struct plan p;
	uint32_t in;

	plan_init(&p, *state, 4, 4);
	in = input(&p);
	for (int i = 0; i < 50; i++)
		add(&p, JOB_COUNT, in, FZ_GRAPH_NONE);
	plan_run(&p);
	fz_run_set(p.run, in, blob_of_number(1));
	fz_pool_put_back(p.pools[0], fz_pool_take(p.pools[0], NULL, NULL));
	plan_start(&p);
	faults_at(0);
	faults.fork_error = EAGAIN;
	assert_true(finishes(&p, 10000));
	faults_end();
	assert_int_equal(atomic_load(&p.w->shared->births), 1);
	assert_all_ended(&p);
	assert_value(&p, 49, 1);
	plan_fini(&p);
}

static void
test_run_ends_when_its_pool_is_closed(void **state)
{
	struct plan p;
	uint32_t in, because;
	int64_t until = in_ms(5000);

	plan_init(&p, *state, 2, 2);
	p.opts.policy = FZ_POLICY_CONTINUE;
	p.opts.limits.retries = UINT32_MAX - 1;
	in = input(&p);
	for (int i = 0; i < 20; i++)
		add(&p, JOB_SLEEP, in, FZ_GRAPH_NONE);
	plan_run(&p);
	fz_run_set(p.run, in, blob_of_number(60000));
	plan_start(&p);
	while (atomic_load(&p.w->shared->calls[JOB_SLEEP]) < 2)
		assert_true(step_until(p.w, until));
	fz_pool_close(p.pools[0]);
	assert_no_children();
	assert_true(finishes(&p, 5000));
	for (uint32_t i = 0; i < 20; i++) {
		enum fz_err_kind kind =
		    fz_run_failure_of(p.run, i, &because)->err.kind;

		assert_true(kind == FZ_ERR_CLOSED || kind == FZ_ERR_CANCELLED);
	}
	assert_all_ended(&p);
	plan_fini(&p);
}

/* ---- a worker with workers of its own ----------------------------------- */

/* In a worker: a run with a pool of its own, on the loop it has inherited. */
static int
nest(void *ctx, struct fz_port *port)
{
	struct world *w = ctx;
	struct fz_call call;

	while (fz_port_next(port, &call, NULL) == 1) {
		struct plan p;
		uint32_t in, a;

		plan_init(&p, w, 2, 2);
		in = input(&p);
		a = add(&p, JOB_ADD, in, in);
		plan_run(&p);
		fz_run_set(p.run, in, blob_of_number(next_number(port, &call)));
		plan_start(&p);
		if (!finishes(&p, 10000))
			return 80;
		fz_port_begin(port, &call, FZ_WIRE_RESULT, 1);
		put_number(port,
		    number_of_blob(w, fz_run_value(p.run, value_of(&p, a))));
		plan_fini(&p);
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
	struct plan p;
	uint32_t in;

	plan_init(&p, w, 2, 2);
	fz_pool_free(p.pools[0]);
	p.pools[0] = fz_pool_new(&opts, NULL);
	in = input(&p);
	for (int i = 0; i < 6; i++)
		add(&p, JOB_ADD, in, FZ_GRAPH_NONE);
	plan_run(&p);
	fz_run_set(p.run, in, blob_of_number(21));
	plan_start(&p);
	assert_true(finishes(&p, 20000));
	for (uint32_t i = 0; i < 6; i++)
		assert_value(&p, i, 42);
	plan_fini(&p);
}

/* ---- local runs --------------------------------------------------------- */

static void
local_done(struct plan *p, uint32_t node, uint64_t v)
{
	struct fz_blob *blob = blob_of_number(v);

	fz_run_local_done(p->run, node, &blob, 1);
}

static void
test_run_local_nodes_come_in_order(void **state)
{
	struct plan p;
	uint32_t in, node;

	plan_init(&p, *state, 1, 0);
	in = input(&p);
	for (uint32_t i = 0; i < 200; i++)
		add(&p, JOB_ADD, i % 3 == 1 ? value_of(&p, i - 1) : in,
		    FZ_GRAPH_NONE);
	plan_run(&p);
	assert_true(fz_run_is_local(p.run));
	fz_run_set(p.run, in, blob_of_number(1));
	plan_start(&p);
	for (uint32_t i = 0; i < 200; i++) {
		const uint32_t *inputs = fz_graph_inputs(p.graph, i);

		node = fz_run_local_next(p.run);
		assert_int_equal(node, i);
		assert_non_null(fz_run_value(p.run, inputs[0]));
		local_done(&p, node, i);
	}
	assert_int_equal(fz_run_local_next(p.run), FZ_GRAPH_NONE);
	assert_true(finishes(&p, 1000));
	assert_value(&p, 199, 199);
	assert_all_ended(&p);
	plan_fini(&p);
}

static void
test_run_local_seeds_are_those_of_workers(void **state)
{
	uint64_t seeds[30];
	struct plan p;
	uint32_t in;

	seeds_of_a_run(*state, 2, false, seeds);
	plan_init(&p, *state, 1, 0);
	in = input(&p);
	for (int i = 0; i < 30; i++)
		add(&p, JOB_SEED, in, FZ_GRAPH_NONE);
	plan_run(&p);
	for (uint32_t i = 0; i < 30; i++)
		assert_int_equal(fz_run_local_seed(p.run, i), seeds[i]);
	plan_fini(&p);
}

static void
test_run_local_failures_follow_the_policy(void **state)
{
	static const enum fz_policy policies[] = { FZ_POLICY_STOP,
		FZ_POLICY_NOW, FZ_POLICY_CONTINUE };

	for (int i = 0; i < 3; i++) {
		struct fz_failure failure = { .err.kind = FZ_ERR_ERROR };
		struct plan p;
		uint32_t in, a, b, x;

		plan_init(&p, *state, 1, 0);
		p.opts.policy = policies[i];
		in = input(&p);
		a = add(&p, JOB_ADD, in, FZ_GRAPH_NONE);
		b = after(&p, JOB_ADD, a);
		x = add(&p, JOB_ADD, in, FZ_GRAPH_NONE);
		plan_run(&p);
		fz_run_set(p.run, in, blob_of_number(1));
		plan_start(&p);
		assert_int_equal(fz_run_local_next(p.run), a);
		fz_run_local_failed(p.run, a, &failure);
		if (policies[i] == FZ_POLICY_CONTINUE) {
			assert_int_equal(fz_run_local_next(p.run), x);
			local_done(&p, x, 9);
		}
		assert_int_equal(fz_run_local_next(p.run), FZ_GRAPH_NONE);
		assert_true(finishes(&p, 1000));
		assert_failure(&p, a, FZ_ERR_ERROR, FZ_GRAPH_NONE);
		assert_failure(&p, b, FZ_ERR_CANCELLED, a);
		if (policies[i] == FZ_POLICY_CONTINUE)
			assert_value(&p, x, 9);
		else
			assert_failure(&p, x, FZ_ERR_CANCELLED, a);
		assert_all_ended(&p);
		plan_fini(&p);
	}
}

static void
test_run_local_retries_wait_too(void **state)
{
	struct fz_failure failure = { .err.kind = FZ_ERR_ERROR };
	struct plan p;
	uint32_t in, a, node;
	int64_t start = fz_clock_ns();

	plan_init(&p, *state, 1, 0);
	p.opts.limits.retries = 1;
	p.opts.limits.backoff_ns = 20 * FZ_CLOCK_MS;
	in = input(&p);
	a = add(&p, JOB_ADD, in, FZ_GRAPH_NONE);
	plan_run(&p);
	fz_run_set(p.run, in, blob_of_number(1));
	plan_start(&p);
	assert_int_equal(fz_run_local_next(p.run), a);
	fz_run_local_failed(p.run, a, &failure);
	while ((node = fz_run_local_next(p.run)) == FZ_GRAPH_NONE) {
		assert_false(fz_run_done(p.run));
		fz_loop_step(p.w->engine.loop, in_ms(100), NULL);
	}
	assert_true(fz_clock_ns() - start >= 20 * FZ_CLOCK_MS);
	local_done(&p, node, 3);
	assert_true(finishes(&p, 1000));
	assert_value(&p, a, 3);
	plan_fini(&p);
}

/* A node's own code may cancel the run, which is then freed at once. */
static void
test_run_local_may_be_cancelled_within_a_node(void **state)
{
	struct plan p;
	uint32_t in, a;

	plan_init(&p, *state, 1, 0);
	in = input(&p);
	a = add(&p, JOB_ADD, in, FZ_GRAPH_NONE);
	after(&p, JOB_ADD, a);
	plan_run(&p);
	fz_run_set(p.run, in, blob_of_number(1));
	plan_start(&p);
	assert_int_equal(fz_run_local_next(p.run), a);
	fz_run_cancel(p.run, FZ_ERR_CANCELLED, "within");
	assert_true(fz_run_done(p.run));
	local_done(&p, a, 1);
	assert_int_equal(fz_run_local_next(p.run), FZ_GRAPH_NONE);
	take_events(&p);
	assert_all_ended(&p);
	fz_run_free(p.run);
	p.run = NULL;
	fz_loop_step(p.w->engine.loop, 0, NULL);
	plan_fini(&p);
}

static void
test_run_a_large_graph_is_fast(void **state)
{
	enum { NODES = 100000, EDGES = 10 };
	struct plan p;
	int64_t start = fz_clock_ns(), built, ran;
	uint32_t in, node, count = 0, *nodes;

	plan_init(&p, *state, 1, 0);
	p.opts.events = false;
	nodes = calloc(NODES, sizeof(*nodes));
	in = input(&p);
	for (uint32_t i = 0; i < NODES; i++) {
		uint32_t from[EDGES];

		for (int k = 0; k < EDGES; k++)
			from[k] = i == 0 ? in : value_of(&p, next_random() % i);
		node = fz_graph_node(p.graph, 0, JOB_ADD, 1, NULL);
		fz_graph_feed(p.graph, node, from, EDGES, NULL);
	}
	assert_int_equal(fz_graph_freeze(p.graph, NULL), 0);
	assert_int_equal(fz_graph_cycle(p.graph, nodes, NULL), 0);
	built = fz_clock_ns();
	p.run = fz_run_new(&p.opts, NULL);
	fz_run_set(p.run, in, blob_of_number(1));
	plan_start(&p);
	while ((node = fz_run_local_next(p.run)) != FZ_GRAPH_NONE) {
		local_done(&p, node, node);
		count++;
	}
	assert_int_equal(count, NODES);
	fz_loop_step(p.w->engine.loop, 0, NULL);
	assert_true(fz_run_done(p.run));
	ran = fz_clock_ns();
	print_message("100,000 nodes, 1,000,000 edges: built and checked in "
		      "%d ms, run here in %d ms\n",
	    (int)((built - start) / FZ_CLOCK_MS),
	    (int)((ran - built) / FZ_CLOCK_MS));
	free(nodes);
	plan_fini(&p);
}

/* ---- calls that fail ---------------------------------------------------- */

/*
 * A small diamond with a big value and two pools' worth of calls; 0, or -1
 * where something could not be done. Every node ends once, whatever fails.
 */
static int
scenario(struct world *w, struct fz_pool *pool, unsigned jobs)
{
	struct fz_limits limits = { .timeout_ns = 20 * FZ_CLOCK_SECOND,
		.retries = 1,
		.backoff_ns = FZ_CLOCK_MS };
	struct fz_run_opts opts = { .engine = &w->engine,
		.pools = &pool,
		.npools = 1,
		.jobs = jobs,
		.deadline_ns = in_ms(20000),
		.events = true,
		.limits = { .timeout_ns = FZ_CLOCK_NEVER } };
	struct fz_graph *graph = fz_graph_new(NULL);
	struct fz_run *run = NULL;
	struct fz_blob *blob;
	uint32_t in, node[4], values[2], failed;
	static const enum job jobs_of[] = { JOB_BYTES, JOB_ADD, JOB_KILL_ONCE,
		JOB_ECHO };
	int rc = -1;

	atomic_store(&w->shared->kills, 0);
	if (graph == NULL ||
	    (in = fz_graph_input(graph, NULL)) == FZ_GRAPH_NONE)
		goto out;
	for (int i = 0; i < 4; i++) {
		node[i] = fz_graph_node(graph, 0, jobs_of[i], 1, NULL);
		values[0] = i < 3 ? in : 1;
		values[1] = 2;
		if (node[i] == FZ_GRAPH_NONE ||
		    fz_graph_feed(
			graph, node[i], values, i < 3 ? 1 : 2, NULL) != 0)
			goto out;
	}
	if (fz_graph_freeze(graph, NULL) != 0)
		goto out;
	opts.graph = graph;
	run = fz_run_new(&opts, NULL);
	blob = blob_of_number(200000);
	if (run == NULL || blob == NULL ||
	    fz_run_limit(run, 2, &limits, NULL) != 0) {
		fz_blob_unref(blob);
		goto out;
	}
	fz_run_set(run, in, blob);
	fz_run_keep(run, 3);
	if (fz_run_start(run, NULL) != 0)
		goto out;
	while (!fz_run_done(run))
		fz_loop_step(w->engine.loop, in_ms(5000), NULL);
	if (fz_run_failure(run, &failed) == NULL) {
		assert_int_equal(
		    number_of_blob(w, fz_run_value(run, 3)), 200000);
		rc = 0;
	}
out:
	fz_run_free(run);
	fz_graph_free(graph);
	return rc;
}

static void
test_run_any_call_may_fail(void **state)
{
	struct world *w = *state;
	unsigned long n = 0;
	int rc, nfailed = 0;
	bool came;

	/* It would search a worker's whole slice when that kills itself. */
	if (on_valgrind())
		w->engine.shm_tried = true;

	do {
		struct fz_pool *pool = pool_of(w, 2);

		faults_at(++n);
		rc = scenario(w, pool, 2);
		came = faults_end();
		nfailed += rc != 0;
		/* Afterwards the pool is as good as ever. */
		assert_int_equal(scenario(w, pool, 2), 0);
		fz_pool_free(pool);
		assert_no_children();
	} while (came);
	assert_int_equal(rc, 0);
	assert_true(nfailed > 20);
	print_message("%lu calls, %d failures\n", n, nfailed);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
		    test_run_values_flow, world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(
		    test_run_goes_from_pool_to_pool_with_one_job_at_once,
		    world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(
		    test_run_may_be_empty, world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(
		    test_run_a_value_that_was_not_given_is_an_error,
		    world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(
		    test_run_drops_what_nobody_needs, world_setup,
		    world_teardown),
		cmocka_unit_test_setup_teardown(
		    test_run_gives_the_arena_back, world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(
		    test_run_gives_its_own_extents_back, world_setup,
		    world_teardown),
		cmocka_unit_test_setup_teardown(
		    test_run_stop_lets_what_runs_end, world_setup,
		    world_teardown),
		cmocka_unit_test_setup_teardown(
		    test_run_now_ends_what_runs, world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(
		    test_run_continue_does_what_does_not_depend, world_setup,
		    world_teardown),
		cmocka_unit_test_setup_teardown(
		    test_run_a_worker_that_answers_nonsense_fails_its_node,
		    world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(
		    test_run_may_end_before_its_last_worker_is_dead,
		    world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(
		    test_run_tries_again, world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(
		    test_run_tries_so_often_and_waits_in_between, world_setup,
		    world_teardown),
		cmocka_unit_test_setup_teardown(
		    test_run_many_retries_without_a_pause_are_fast, world_setup,
		    world_teardown),
		cmocka_unit_test_setup_teardown(
		    test_run_cancel_ends_a_pause, world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(test_run_timeouts_free_the_slot,
		    world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(
		    test_run_a_node_may_have_its_own_limits, world_setup,
		    world_teardown),
		cmocka_unit_test_setup_teardown(
		    test_run_a_deadline_ends_all, world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(
		    test_run_cancel_waits_until_all_has_ended, world_setup,
		    world_teardown),
		cmocka_unit_test_setup_teardown(
		    test_run_cancel_before_the_start, world_setup,
		    world_teardown),
		cmocka_unit_test_setup_teardown(
		    test_run_never_runs_more_than_its_jobs, world_setup,
		    world_teardown),
		cmocka_unit_test_setup_teardown(
		    test_run_seeds_do_not_depend_on_jobs_or_attempts,
		    world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(
		    test_run_jobs_do_not_wait_behind_a_long_one, world_setup,
		    world_teardown),
		cmocka_unit_test_setup_teardown(
		    test_run_two_may_share_a_pool, world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(
		    test_run_the_end_of_one_does_not_disturb_the_other,
		    world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(
		    test_run_a_thousand_kills_lose_nothing, world_setup,
		    world_teardown),
		cmocka_unit_test_setup_teardown(
		    test_run_another_worker_ends_what_one_read_half_of,
		    world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(
		    test_run_ends_when_workers_die_at_once, world_setup,
		    world_teardown),
		cmocka_unit_test_setup_teardown(
		    test_run_ends_when_no_worker_can_be_forked, world_setup,
		    world_teardown),
		cmocka_unit_test_setup_teardown(
		    test_run_goes_on_with_the_workers_there_are, world_setup,
		    world_teardown),
		cmocka_unit_test_setup_teardown(
		    test_run_ends_when_its_pool_is_closed, world_setup,
		    world_teardown),
		cmocka_unit_test_setup_teardown(
		    test_run_a_worker_may_have_workers, world_setup,
		    world_teardown),
		cmocka_unit_test_setup_teardown(
		    test_run_local_nodes_come_in_order, world_setup,
		    world_teardown),
		cmocka_unit_test_setup_teardown(
		    test_run_local_seeds_are_those_of_workers, world_setup,
		    world_teardown),
		cmocka_unit_test_setup_teardown(
		    test_run_local_failures_follow_the_policy, world_setup,
		    world_teardown),
		cmocka_unit_test_setup_teardown(test_run_local_retries_wait_too,
		    world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(
		    test_run_local_may_be_cancelled_within_a_node, world_setup,
		    world_teardown),
		cmocka_unit_test_setup_teardown(test_run_a_large_graph_is_fast,
		    world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(
		    test_run_any_call_may_fail, world_setup, world_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
