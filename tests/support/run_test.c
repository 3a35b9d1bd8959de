/* kill and readlink are not in C11. */
#define _GNU_SOURCE
#include "run_test.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "sched/graph.h"
#include "sched/pool.h"
#include "sched/run.h"
#include "trace/job_event.h"
#include "world.h"

struct fz_pool_opts
run_test_pool_opts(struct world *w, unsigned max)
{
	return (struct fz_pool_opts){ .engine = &w->engine,
		.max = max,
		.main = serve,
		.main_ctx = w->shared };
}

struct fz_pool *
run_test_pool(struct world *w, unsigned max)
{
	struct fz_pool_opts opts = run_test_pool_opts(w, max);

	return fz_pool_new(&opts, NULL);
}

void
run_test_init(struct run_test *p, struct world *w, unsigned max, unsigned jobs)
{
	memset(p, 0, sizeof(*p));
	p->w = w;
	p->graph = fz_graph_new(NULL);
	assert_non_null(p->graph);
	for (int i = 0; i < NPOOLS; i++) {
		p->pools[i] = run_test_pool(w, max);
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

void
run_test_fini(struct run_test *p)
{
	fz_run_free(p->run);
	for (int i = 0; i < NPOOLS; i++)
		fz_pool_free(p->pools[i]);
	fz_graph_free(p->graph);
}

uint32_t
run_test_value(struct run_test *p, uint32_t node)
{
	return fz_graph_get(p->graph, node)->first_value;
}

uint32_t
run_test_add(struct run_test *p, enum job func, uint32_t a, uint32_t b)
{
	uint32_t node = fz_graph_node(p->graph, 0, func, 1, NULL);
	uint32_t values[] = { a, b };

	assert_int_not_equal(node, FZ_GRAPH_NONE);
	assert_int_equal(fz_graph_feed(p->graph, node, values,
			     b == FZ_GRAPH_NONE ? 1 : 2, NULL),
	    0);
	return node;
}

uint32_t
run_test_after(struct run_test *p, enum job func, uint32_t node)
{
	return run_test_add(p, func, run_test_value(p, node), FZ_GRAPH_NONE);
}

uint32_t
run_test_input(struct run_test *p)
{
	uint32_t value = fz_graph_input(p->graph, NULL);

	assert_int_not_equal(value, FZ_GRAPH_NONE);
	return value;
}

void
run_test_make(struct run_test *p)
{
	assert_int_equal(fz_graph_freeze(p->graph, NULL), 0);
	p->run = fz_run_new(&p->opts, NULL);
	assert_non_null(p->run);
	for (uint32_t v = 0; v < fz_graph_nvalues(p->graph); v++)
		fz_run_keep(p->run, v);
}

void
run_test_start(struct run_test *p)
{
	assert_int_equal(fz_run_start(p->run, NULL), 0);
}

void
run_test_begin(struct run_test *p, uint32_t input, uint64_t number)
{
	run_test_make(p);
	fz_run_set(p->run, input, blob_of_number(number));
	run_test_start(p);
}

void
run_test_take_events(struct run_test *p)
{
	struct fz_job_event e;

	while (fz_run_next_event(p->run, &e) == 1) {
		assert_true(e.first < NODES_MAX);
		p->last[e.first] = e.kind;
		if (e.kind == FZ_JOB_EVENT_START)
			p->starts[e.first]++;
		else if (e.kind == FZ_JOB_EVENT_RETRY)
			p->retries[e.first]++;
		else
			p->ends[e.first]++;
	}
}

bool
run_test_finishes(struct run_test *p)
{
	int64_t until = in_ms(PATIENCE_MS);

	while (!fz_run_done(p->run)) {
		run_test_take_events(p);
		if (!turn_until(p->w, until))
			return false;
	}
	run_test_take_events(p);
	return true;
}

void
assert_run_ended(const struct run_test *p)
{
	for (uint32_t i = 0; i < fz_graph_nnodes(p->graph); i++) {
		assert_int_equal(p->ends[i], 1);
		assert_true(p->last[i] == FZ_JOB_EVENT_DONE ||
			    p->last[i] == FZ_JOB_EVENT_FAILED);
	}
}

void
assert_run_value(struct run_test *p, uint32_t node, uint64_t expected)
{
	struct fz_blob *blob = fz_run_value(p->run, run_test_value(p, node));
	uint32_t because;

	assert_non_null(blob);
	assert_int_equal(number_of_blob(p->w, blob), expected);
	assert_null(fz_run_failure_of(p->run, node, &because));
	assert_int_equal(p->last[node], FZ_JOB_EVENT_DONE);
}

void
assert_run_failure(
    struct run_test *p, uint32_t node, enum fz_err_kind kind, uint32_t expected)
{
	const struct fz_failure *failure;
	uint32_t because;

	failure = fz_run_failure_of(p->run, node, &because);
	assert_non_null(failure);
	assert_int_equal(failure->err.kind, kind);
	assert_int_equal(because, expected);
	assert_int_equal(p->last[node], FZ_JOB_EVENT_FAILED);
	assert_null(fz_run_value(p->run, run_test_value(p, node)));
}

void
run_test_seeds(struct world *w, unsigned jobs, bool kill_some, uint64_t *seeds)
{
	struct run_test p;
	uint32_t in;

	atomic_store(&w->shared->kills, 0);
	run_test_init(&p, w, jobs, jobs);
	p.opts.limits.retries = 3;
	in = run_test_input(&p);
	for (int i = 0; i < 30; i++)
		run_test_add(&p, JOB_SEED, in, FZ_GRAPH_NONE);
	if (kill_some)
		run_test_add(&p, JOB_KILL_ONCE, in, FZ_GRAPH_NONE);
	run_test_begin(&p, in, 3);
	assert_true(run_test_finishes(&p));
	for (uint32_t i = 0; i < 30; i++)
		seeds[i] = number_of_blob(
		    w, fz_run_value(p.run, run_test_value(&p, i)));
	run_test_fini(&p);
}

uint32_t
run_test_random(void)
{
	static uint32_t x = 2463534242;

	x ^= x << 13;
	x ^= x >> 17;
	x ^= x << 5;
	return x;
}
