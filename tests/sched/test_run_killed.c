/*
 * Runs whose workers die, and calls that fail.
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

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "base/clock.h"
#include "base/err.h"
#include "faults.h"
#include "os/loop.h"
#include "run_test.h"
#include "sched/graph.h"
#include "sched/pool.h"
#include "sched/run.h"
#include "trace/job_event.h"
#include "wire/blob.h"
#include "world.h"

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

static int
kill_any(const struct fz_pool *pool)
{
	struct pick pick = { .n = 0 };

	fz_pool_pids(pool, note_pid, &pick);
	if (pick.n == 0)
		return 0;
	return kill(pick.pids[run_test_random() % pick.n], SIGKILL) == 0;
}

/*
 * Whether one more worker may be killed. At most five are killed while no job
 * begins, because a pool fails its jobs after ten workers that died before
 * their first job.
 */
static bool
may_kill(const struct shared *shared)
{
	static int begun, nkills;
	int now = atomic_load(&shared->calls[JOB_ADD]) +
		  atomic_load(&shared->calls[JOB_COUNT]);

	nkills = now != begun ? 1 : nkills + 1;
	begun = now;
	return nkills <= 5;
}

static void
test_run_a_thousand_kills_lose_nothing(void **state)
{
	enum { KILLS = 1000, NODES = 300 };
	struct world *w = *state;
	int nkills = 0, nfailed = 0, nretries = 0, nnodes = 0;
	struct fz_pool *pool = run_test_pool(w, 4);

	while (nkills < KILLS) {
		struct run_test p;
		uint32_t in, because;
		int64_t until = in_ms(PATIENCE_MS);

		run_test_init(&p, w, 1, 4);
		fz_pool_free(p.pools[0]);
		p.pools[0] = pool;
		p.opts.policy = FZ_POLICY_CONTINUE;
		p.opts.limits.retries = 1;
		in = run_test_input(&p);
		for (uint32_t i = 0; i < NODES; i++)
			run_test_add(&p, i % 8 ? JOB_ADD : JOB_COUNT,
			    i < 20 ? in : run_test_value(&p, i - 20),
			    FZ_GRAPH_NONE);
		run_test_begin(&p, in, 1);
		while (!fz_run_done(p.run)) {
			assert_true(turn_until(w, until));
			run_test_take_events(&p);
			if (nkills < KILLS && run_test_random() % 4 == 0 &&
			    may_kill(w->shared))
				nkills += kill_any(pool);
		}
		run_test_take_events(&p);
		assert_run_ended(&p);
		for (uint32_t i = 0; i < NODES; i++) {
			const struct fz_failure *f =
			    fz_run_failure_of(p.run, i, &because);

			nretries += p.retries[i];
			if (f == NULL) {
				assert_run_value(&p, i, 1);
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
		run_test_fini(&p);
	}
	print_message("%d kills among %d nodes: %d tried again, %d failed\n",
	    nkills, nnodes, nretries, nfailed);
	fz_pool_free(pool);
}

static void
test_run_another_worker_does_a_job_that_one_read_half_of(void **state)
{
	struct world *w = *state;
	struct run_test p;
	uint32_t in, a;

	w->engine.arena_tried = true;
	w->shared->mode = START_FIRST_DIES_HALFWAY;
	run_test_init(&p, w, 1, 1);
	in = run_test_input(&p);
	a = run_test_add(&p, JOB_ECHO, in, FZ_GRAPH_NONE);
	run_test_make(&p);
	fz_run_set(p.run, in, blob_of_bytes(bulk_size()));
	run_test_start(&p);
	assert_true(run_test_finishes(&p));
	assert_int_equal(
	    fz_run_value(p.run, run_test_value(&p, a))->len, bulk_size());
	assert_int_equal(p.retries[a], 0);
	assert_int_equal(atomic_load(&w->shared->births), 2);
	run_test_fini(&p);
}

static void
test_run_ends_when_workers_die_at_once(void **state)
{
	struct world *w = *state;
	struct run_test p;
	uint32_t in;

	w->shared->mode = START_ALL_DIE;
	run_test_init(&p, w, 2, 2);
	p.opts.policy = FZ_POLICY_CONTINUE;
	in = run_test_input(&p);
	for (int i = 0; i < 5; i++)
		run_test_add(&p, JOB_ADD, in, FZ_GRAPH_NONE);
	run_test_begin(&p, in, 1);
	assert_true(run_test_finishes(&p));
	for (uint32_t i = 0; i < 5; i++)
		assert_run_failure(&p, i, FZ_ERR_CRASH, FZ_GRAPH_NONE);
	assert_true(atomic_load(&w->shared->births) < 60);
	run_test_fini(&p);
}

static void
test_run_ends_when_no_worker_can_be_forked(void **state)
{
	struct run_test p;
	uint32_t in;

	run_test_init(&p, *state, 2, 2);
	p.opts.policy = FZ_POLICY_CONTINUE;
	p.opts.limits.retries = 2;
	in = run_test_input(&p);
	for (int i = 0; i < 5; i++)
		run_test_add(&p, JOB_ADD, in, FZ_GRAPH_NONE);
	run_test_begin(&p, in, 1);
	faults_at(0);
	faults.fork_error = EAGAIN;
	assert_true(run_test_finishes(&p));
	faults_end();
	for (uint32_t i = 0; i < 5; i++)
		assert_run_failure(&p, i, FZ_ERR_ERROR, FZ_GRAPH_NONE);
	run_test_fini(&p);
}

static void
test_run_goes_on_with_the_workers_there_are(void **state)
{
	struct run_test p;
	uint32_t in;

	run_test_init(&p, *state, 4, 4);
	in = run_test_input(&p);
	for (int i = 0; i < 50; i++)
		run_test_add(&p, JOB_COUNT, in, FZ_GRAPH_NONE);
	run_test_make(&p);
	fz_run_set(p.run, in, blob_of_number(1));
	fz_pool_put_back(p.pools[0], fz_pool_take(p.pools[0], NULL, NULL));
	run_test_start(&p);
	faults_at(0);
	faults.fork_error = EAGAIN;
	assert_true(run_test_finishes(&p));
	faults_end();
	assert_int_equal(atomic_load(&p.w->shared->births), 1);
	assert_run_ended(&p);
	assert_run_value(&p, 49, 1);
	run_test_fini(&p);
}

static void
test_run_ends_when_its_pool_is_closed(void **state)
{
	struct run_test p;
	uint32_t in, because;

	run_test_init(&p, *state, 2, 2);
	p.opts.policy = FZ_POLICY_CONTINUE;
	p.opts.limits.retries = UINT32_MAX - 1;
	in = run_test_input(&p);
	for (int i = 0; i < 20; i++)
		run_test_add(&p, JOB_SLEEP, in, FZ_GRAPH_NONE);
	run_test_begin(&p, in, 60000);
	wait_for_calls(p.w, JOB_SLEEP, 2);
	fz_pool_close(p.pools[0]);
	assert_no_children();
	assert_true(run_test_finishes(&p));
	for (uint32_t i = 0; i < 20; i++) {
		enum fz_err_kind kind =
		    fz_run_failure_of(p.run, i, &because)->err.kind;

		assert_true(kind == FZ_ERR_CLOSED || kind == FZ_ERR_CANCELLED);
	}
	assert_run_ended(&p);
	run_test_fini(&p);
}

/*
 * A small diamond with a big value. Returns 0, or -1 if something failed. Each
 * node ends once in any case.
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
		.deadline_ns = in_ms(PATIENCE_MS),
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
		fz_loop_turn(w->engine.loop, in_ms(PATIENCE_MS), NULL);
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

	world_spare_valgrind(w);

	do {
		struct fz_pool *pool = run_test_pool(w, 2);

		faults_at(++n);
		rc = scenario(w, pool, 2);
		came = faults_end();
		nfailed += rc != 0;
		/* Afterwards the pool still works. */
		assert_int_equal(scenario(w, pool, 2), 0);
		fz_pool_free(pool);
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
		TEST(test_run_a_thousand_kills_lose_nothing),
		TEST(test_run_another_worker_does_a_job_that_one_read_half_of),
		TEST(test_run_ends_when_workers_die_at_once),
		TEST(test_run_ends_when_no_worker_can_be_forked),
		TEST(test_run_goes_on_with_the_workers_there_are),
		TEST(test_run_ends_when_its_pool_is_closed),
		TEST(test_run_any_call_may_fail),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
