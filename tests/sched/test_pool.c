/*
 * Pools: how many workers, who is free, and what happens without.
 * wrap: malloc calloc realloc mmap epoll_create1 epoll_ctl epoll_pwait fork
 * wrap: pipe2 read write pwritev2
 */
/* kill is POSIX, which -std=c11 hides. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/err.h"
#include "faults.h"
#include "os/loop.h"
#include "pool_user.h"
#include "run_test.h"
#include "sched/pool.h"
#include "worker/worker.h"
#include "world.h"

static void
count_pid(void *ctx, pid_t pid)
{
	(void)pid;
	++*(int *)ctx;
}

static int
npids(const struct fz_pool *pool)
{
	int n = 0;

	fz_pool_pids(pool, count_pid, &n);
	return n;
}

static void
test_pool_forks_when_needed_and_not_more_than_allowed(void **state)
{
	struct world *w = *state;
	struct fz_pool *pool = run_test_pool(w, 2);
	struct fz_err err = { 0 };
	struct fz_worker *a, *b;
	struct pool_task t[2];
	struct pool_user u;

	pool_user_init(&u);
	assert_int_equal(npids(pool), 0);
	assert_true(fz_pool_has_free(pool));
	a = fz_pool_take(pool, &u.user, &err);
	assert_int_equal(npids(pool), 1);
	b = fz_pool_take(pool, &u.user, &err);
	assert_int_equal(npids(pool), 2);
	assert_ptr_not_equal(a, b);
	assert_false(fz_pool_has_free(pool));
	assert_null(fz_pool_take(pool, &u.user, &err));
	assert_int_equal(err.kind, FZ_ERR_NONE);
	pool_user_send(a, &u, &t[0], JOB_ADD, 1);
	pool_user_send(b, &u, &t[1], JOB_ADD, 1);
	pool_user_wait(w, &u, 2);
	assert_int_equal(u.ndone, 2);
	assert_int_equal(u.nfreed, 2);
	assert_true(fz_pool_has_free(pool));
	fz_pool_free(pool);
	fz_pool_free(NULL);
}

static void
test_pool_uses_a_worker_again(void **state)
{
	struct world *w = *state;
	struct fz_pool *pool = run_test_pool(w, 4);
	struct pool_task t;
	struct pool_user u;

	pool_user_init(&u);
	for (int i = 0; i < 10; i++) {
		pool_user_send(
		    fz_pool_take(pool, &u.user, NULL), &u, &t, JOB_ADD, 1);
		pool_user_wait(w, &u, i + 1);
	}
	assert_int_equal(npids(pool), 1);
	assert_int_equal(atomic_load(&w->shared->births), 1);
	fz_pool_free(pool);
}

static void
test_pool_replaces_a_dead_worker(void **state)
{
	struct world *w = *state;
	struct fz_pool *pool = run_test_pool(w, 1);
	struct pool_task t;
	struct pool_user u;

	pool_user_init(&u);
	pool_user_send(fz_pool_take(pool, &u.user, NULL), &u, &t, JOB_KILL, 1);
	pool_user_wait(w, &u, 1);
	assert_int_equal(u.kind, FZ_ERR_CRASH);
	while (u.nfreed == 0)
		fz_loop_turn(w->engine.loop, in_ms(10), NULL);
	assert_int_equal(npids(pool), 0);
	pool_user_send(fz_pool_take(pool, &u.user, NULL), &u, &t, JOB_ADD, 1);
	pool_user_wait(w, &u, 2);
	assert_int_equal(u.ndone, 1);
	fz_pool_free(pool);
}

static void
test_pool_an_idle_worker_may_die(void **state)
{
	struct world *w = *state;
	struct fz_pool *pool = run_test_pool(w, 1);
	struct fz_worker *worker;
	struct pool_task t;
	struct pool_user u;
	int64_t until;

	pool_user_init(&u);
	worker = fz_pool_take(pool, &u.user, NULL);
	pool_user_send(worker, &u, &t, JOB_ADD, 1);
	pool_user_wait(w, &u, 1);
	kill(worker->pid, SIGKILL);
	until = in_ms(PATIENCE_MS);
	while (npids(pool) != 0)
		assert_true(turn_until(w, until));
	assert_int_equal(u.nfreed, 1);
	fz_pool_free(pool);
}

/* A worker gets a job before its death is noticed: the job is returned. */
static void
test_pool_a_dead_worker_returns_what_it_is_sent(void **state)
{
	struct world *w = *state;
	struct fz_pool *pool = run_test_pool(w, 1);
	struct fz_worker *worker;
	siginfo_t info;
	struct pool_task t;
	struct pool_user u;

	pool_user_init(&u);
	worker = fz_pool_take(pool, &u.user, NULL);
	pool_user_send(worker, &u, &t, JOB_ADD, 1);
	pool_user_wait(w, &u, 1);
	kill(worker->pid, SIGKILL);
	waitid(P_PID, (id_t)worker->pid, &info, WEXITED | WNOWAIT);
	worker = fz_pool_take(pool, &u.user, NULL);
	pool_user_send(worker, &u, &t, JOB_ADD, 1);
	pool_user_wait(w, &u, 2);
	assert_int_equal(u.nreturned, 1);
	fz_pool_free(pool);
}

static void
test_pool_notifies_its_clients_of_a_free_worker(void **state)
{
	struct world *w = *state;
	struct fz_pool *pool = run_test_pool(w, 1);
	struct pool_user u, other, gone;
	struct pool_task t;

	pool_user_init(&u);
	pool_user_init(&other);
	pool_user_init(&gone);
	assert_int_equal(fz_pool_join(pool, &u.user, NULL), 0);
	assert_int_equal(fz_pool_join(pool, &gone.user, NULL), 0);
	assert_int_equal(fz_pool_join(pool, &other.user, NULL), 0);
	fz_pool_leave(pool, &gone.user);
	pool_user_send(fz_pool_take(pool, &u.user, NULL), &u, &t, JOB_ADD, 1);
	pool_user_wait(w, &u, 1);
	assert_int_equal(u.nfreed, 1);
	assert_int_equal(other.nothers, 1);
	assert_int_equal(gone.nothers, 0);
	fz_pool_leave(pool, &u.user);
	fz_pool_leave(pool, &other.user);
	fz_pool_free(pool);
}

static void
test_pool_takes_back_a_worker_that_got_no_job(void **state)
{
	struct world *w = *state;
	struct fz_pool *pool = run_test_pool(w, 1);
	struct fz_worker *worker;
	struct pool_user u;

	pool_user_init(&u);
	worker = fz_pool_take(pool, &u.user, NULL);
	assert_false(fz_pool_has_free(pool));
	fz_pool_put_back(pool, worker);
	assert_int_equal(u.nfreed, 1);
	assert_ptr_equal(fz_pool_take(pool, &u.user, NULL), worker);
	fz_pool_put_back(pool, worker);
	fz_pool_free(pool);
}

static void
test_pool_a_fork_that_fails_is_an_error_only_without_workers(void **state)
{
	struct world *w = *state;
	struct fz_pool *pool = run_test_pool(w, 2);
	struct fz_err err = { 0 };
	struct fz_worker *a;
	struct pool_user u;

	pool_user_init(&u);
	faults_at(0);
	faults.fork_error = EAGAIN;
	assert_null(fz_pool_take(pool, &u.user, &err));
	assert_int_equal(err.code, EAGAIN);
	faults_end();
	a = fz_pool_take(pool, &u.user, NULL);
	assert_non_null(a);
	err = (struct fz_err){ 0 };
	faults_at(0);
	faults.fork_error = EAGAIN;
	assert_null(fz_pool_take(pool, &u.user, &err));
	assert_int_equal(err.kind, FZ_ERR_NONE);
	faults_end();
	fz_pool_put_back(pool, a);
	fz_pool_free(pool);
}

/* A caller that retries while the pool reports a free worker must end. */
static void
test_pool_has_no_free_worker_for_a_while_after_a_fork_failed(void **state)
{
	struct world *w = *state;
	struct fz_pool *pool = run_test_pool(w, 2);
	int64_t until = in_ms(PATIENCE_MS);
	struct fz_worker *a, *b;
	struct pool_user u;

	pool_user_init(&u);
	fz_pool_join(pool, &u.user, NULL);
	a = fz_pool_take(pool, &u.user, NULL);
	assert_non_null(a);
	assert_true(fz_pool_has_free(pool));
	faults_at(0);
	faults.fork_error = EAGAIN;
	assert_null(fz_pool_take(pool, &u.user, NULL));
	assert_false(fz_pool_has_free(pool));
	faults_end();
	assert_null(fz_pool_take(pool, &u.user, NULL)); /* it does not fork */
	u.nothers = 0;
	while (u.nothers == 0)
		assert_true(turn_until(w, until));
	assert_true(fz_pool_has_free(pool));
	b = fz_pool_take(pool, &u.user, NULL);
	assert_non_null(b);
	fz_pool_put_back(pool, a);
	fz_pool_put_back(pool, b);
	fz_pool_leave(pool, &u.user);
	fz_pool_free(pool);
}

static void
test_pool_without_workers_forks_at_once_after_a_failed_fork(void **state)
{
	struct world *w = *state;
	struct fz_pool *pool = run_test_pool(w, 2);
	struct fz_worker *a;
	struct pool_user u;

	pool_user_init(&u);
	a = fz_pool_take(pool, &u.user, NULL);
	faults_at(0);
	faults.fork_error = EAGAIN;
	assert_null(fz_pool_take(pool, &u.user, NULL));
	faults_end();
	fz_worker_end(a, FZ_ERR_CANCELLED, "ended");
	assert_true(fz_pool_has_free(pool));
	a = fz_pool_take(pool, &u.user, NULL);
	assert_non_null(a);
	fz_pool_put_back(pool, a);
	fz_pool_free(pool);
}

static void
test_pool_may_be_closed_after_a_failed_fork(void **state)
{
	struct world *w = *state;
	struct fz_pool *pool = run_test_pool(w, 2);
	unsigned nwatched = fz_loop_nwatched(w->engine.loop);
	struct pool_user u;

	pool_user_init(&u);
	assert_non_null(fz_pool_take(pool, &u.user, NULL));
	faults_at(0);
	faults.fork_error = EAGAIN;
	assert_null(fz_pool_take(pool, &u.user, NULL));
	faults_end();
	fz_pool_free(pool);
	fz_loop_flush(w->engine.loop);
	assert_int_equal(fz_loop_nwatched(w->engine.loop), nwatched);
}

static void
test_pool_stops_forking_workers_that_die_at_once(void **state)
{
	struct world *w = *state;
	struct fz_pool *pool = run_test_pool(w, 2);
	struct fz_err err = { 0 };
	int64_t until = in_ms(PATIENCE_MS);
	static struct pool_task t[100];
	struct pool_user u;
	int n = 0;

	pool_user_init(&u);
	w->shared->mode = START_ALL_DIE;
	while (err.kind == FZ_ERR_NONE) {
		struct fz_worker *worker = fz_pool_take(pool, &u.user, &err);

		if (worker != NULL)
			pool_user_send(worker, &u, &t[n++], JOB_ADD, 1);
		assert_true(n < 50);
		if (err.kind == FZ_ERR_NONE)
			assert_true(turn_until(w, until));
	}
	assert_int_equal(err.kind, FZ_ERR_CRASH);
	/* The pool starts workers again, because the failures may end. */
	w->shared->mode = START_NORMAL;
	while (npids(pool) != 0)
		assert_true(turn_until(w, until));
	u.nreturned = 0;
	pool_user_send(
	    fz_pool_take(pool, &u.user, NULL), &u, &t[0], JOB_ADD, 1);
	pool_user_wait(w, &u, 1);
	assert_int_equal(u.ndone, 1);
	fz_pool_free(pool);
}

static void
test_pool_close_cancels_running_jobs(void **state)
{
	struct world *w = *state;
	struct fz_pool *pool = run_test_pool(w, 3);
	struct fz_err err = { 0 };
	struct fz_worker *a, *b, *c;
	struct pool_task t[4];
	struct pool_user u;

	pool_user_init(&u);
	a = fz_pool_take(pool, &u.user, NULL);
	b = fz_pool_take(pool, &u.user, NULL);
	c = fz_pool_take(pool, &u.user, NULL);
	pool_user_send(a, &u, &t[0], JOB_SLEEP, 60000);
	pool_user_send(a, &u, &t[1], JOB_ADD, 1);
	pool_user_send(b, &u, &t[2], JOB_SLEEP, 60000);
	pool_user_send(c, &u, &t[3], JOB_ADD, 1);
	pool_user_wait(w, &u, 1);
	wait_for_calls(w, JOB_SLEEP, 2);
	fz_pool_close(pool);
	assert_int_equal(u.ndone, 1);
	assert_int_equal(u.nfailed, 2);
	assert_int_equal(u.nreturned, 1);
	assert_int_equal(u.kind, FZ_ERR_CANCELLED);
	assert_int_equal(u.nfreed, 3);
	assert_no_children();
	assert_null(fz_pool_take(pool, &u.user, &err));
	assert_int_equal(err.kind, FZ_ERR_CLOSED);
	fz_pool_close(pool);
	fz_pool_free(pool);
}

static void
test_pool_idle_workers_leave_by_themselves(void **state)
{
	struct world *w = *state;
	struct fz_pool *pool = run_test_pool(w, 8);
	struct fz_worker *all[8];
	struct pool_user u;

	pool_user_init(&u);
	for (int i = 0; i < 8; i++)
		all[i] = fz_pool_take(pool, &u.user, NULL);
	for (int i = 0; i < 8; i++)
		fz_pool_put_back(pool, all[i]);
	fz_pool_dismiss_idle(pool);
	wait_for_count(w, &w->shared->leaves, 8);
	fz_pool_free(pool);
}

/* Numbers of workers that have left are reused. */
static void
test_pool_numbers_its_workers_from_1(void **state)
{
	struct world *w = *state;
	struct fz_pool *pool = run_test_pool(w, 3);
	int64_t until = in_ms(PATIENCE_MS);
	struct fz_worker *a, *b, *c;
	struct pool_user u;

	pool_user_init(&u);
	a = fz_pool_take(pool, &u.user, NULL);
	b = fz_pool_take(pool, &u.user, NULL);
	assert_int_equal(a->number, 1);
	assert_int_equal(b->number, 2);
	kill(a->pid, SIGKILL);
	while (fz_pool_nworkers(pool) == 2)
		assert_true(turn_until(w, until));
	a = fz_pool_take(pool, &u.user, NULL);
	c = fz_pool_take(pool, &u.user, NULL);
	assert_int_equal(a->number, 1);
	assert_int_equal(c->number, 3);
	fz_pool_free(pool);
}

static void
test_pool_ends_workers_that_are_idle_for_long(void **state)
{
	struct world *w = *state;
	struct fz_pool_opts opts = run_test_pool_opts(w, 2);
	int64_t until = in_ms(PATIENCE_MS);
	struct fz_worker *busy;
	struct fz_pool *pool;
	struct pool_user u;

	pool_user_init(&u);
	opts.idle_ns = 50 * FZ_CLOCK_MS;
	pool = fz_pool_new(&opts, NULL);
	assert_int_equal(fz_pool_prefork(pool, NULL), 0);
	busy = fz_pool_take(pool, &u.user, NULL);
	while (fz_pool_nworkers(pool) == 2)
		assert_true(turn_until(w, until));
	assert_int_equal(npids(pool), 1);
	fz_pool_put_back(pool, busy);
	while (fz_pool_nworkers(pool) == 1)
		assert_true(turn_until(w, until));
	assert_int_equal(w->shared->leaves, 2);
	fz_pool_free(pool);
}

/* Only idle workers leave; a worker with a job continues. */
static void
test_pool_may_dismiss_all_idle_workers(void **state)
{
	struct world *w = *state;
	struct fz_pool *pool = run_test_pool(w, 3);
	int64_t until = in_ms(PATIENCE_MS);
	struct pool_task tasks[3];
	struct pool_user u;

	fz_clock_share();
	pool_user_init(&u);
	assert_false(fz_pool_has_idle(pool));
	fz_pool_dismiss_idle(pool); /* no effect: no worker is idle */
	for (int i = 0; i < 3; i++) {
		struct fz_worker *worker = fz_pool_take(pool, &u.user, NULL);

		assert_non_null(worker);
		assert_int_equal(pool_user_send(worker, &u, &tasks[i],
				     i == 0 ? JOB_SLEEP : JOB_ADD, 1000000),
		    0);
	}
	assert_false(fz_pool_has_idle(pool));
	pool_user_wait(w, &u, 2);
	assert_true(fz_pool_has_idle(pool));
	assert_true(fz_pool_has_free(pool));
	fz_pool_dismiss_idle(pool);
	assert_false(fz_pool_has_idle(pool));
	while (fz_pool_nworkers(pool) != 1)
		assert_true(turn_until(w, until));
	assert_int_equal(atomic_load(&w->shared->leaves), 2);
	wait_for_sleep(w, 1);
	pass_seconds(1000);
	pool_user_wait(w, &u, 3);
	assert_int_equal(u.ndone, 3);
	assert_true(fz_pool_has_idle(pool));
	fz_pool_put_back(pool, fz_pool_take(pool, &u.user, NULL));
	assert_int_equal(atomic_load(&w->shared->births), 3);
	fz_pool_free(pool);
}

static void
compare_mask(void *ctx, pid_t pid)
{
	cpu_set_t mask;

	assert_int_equal(sched_getaffinity(pid, sizeof(mask), &mask), 0);
	assert_true(CPU_EQUAL(&mask, (cpu_set_t *)ctx));
}

/* Workers begin on different processors, and may use all of them later. */
static void
test_pool_workers_that_are_spread_have_our_processors(void **state)
{
	struct world *w = *state;
	struct fz_pool_opts opts = { .engine = &w->engine,
		.max = 5,
		.spread = true,
		.main = serve,
		.main_ctx = w->shared };
	struct fz_pool *pool = fz_pool_new(&opts, NULL);
	struct pool_task task;
	cpu_set_t mask;
	struct pool_user u;

	pool_user_init(&u);
	assert_int_equal(sched_getaffinity(0, sizeof(mask), &mask), 0);
	assert_int_equal(fz_pool_prefork(pool, NULL), 0);
	assert_int_equal(npids(pool), 5);
	fz_pool_pids(pool, compare_mask, &mask);
	assert_int_equal(pool_user_send(fz_pool_take(pool, &u.user, NULL), &u,
			     &task, JOB_ADD, 1),
	    0);
	pool_user_wait(w, &u, 1);
	assert_int_equal(u.ndone, 1);
	fz_pool_free(pool);
}

static void
test_pool_workers_do_not_hold_each_others_pipes(void **state)
{
	struct world *w = *state;
	struct fz_pool *pool = run_test_pool(w, 4),
		       *other = run_test_pool(w, 1);
	struct pool_task t[4];
	struct pool_user u;

	pool_user_init(&u);
	fz_pool_put_back(other, fz_pool_take(other, &u.user, NULL));
	for (int i = 0; i < 4; i++)
		pool_user_send(fz_pool_take(pool, &u.user, NULL), &u, &t[i],
		    JOB_SLEEP, 60000);
	wait_for_calls(w, JOB_SLEEP, 4);
	/* The worker would not leave if other workers had its pipe open. */
	fz_pool_dismiss_idle(other);
	wait_for_count(w, &w->shared->leaves, 1);
	fz_pool_free(other);
	fz_pool_free(pool);
}

/* Run three jobs on two workers. Returns 0, or -1 if a call failed. */
static int
scenario(void *ctx)
{
	struct world *w = ctx;
	struct fz_pool *pool = run_test_pool(w, 2);
	struct pool_task t[3];
	struct pool_user u;
	int nsent = 0;

	pool_user_init(&u);
	if (pool == NULL)
		return -1;
	if (fz_pool_join(pool, &u.user, NULL) != 0)
		goto out;
	for (int i = 0; i < 3; i++) {
		struct fz_worker *worker;
		struct fz_err err = { 0 };

		worker = fz_pool_take(pool, &u.user, &err);
		if (worker == NULL)
			worker = fz_pool_busy(pool);
		if (worker == NULL)
			continue;
		if (pool_user_send(worker, &u, &t[i], JOB_ADD, 1) == 0)
			nsent++;
		else
			fz_pool_put_back(pool, worker);
	}
	while (pool_user_ended(&u) < nsent)
		fz_loop_turn(w->engine.loop, in_ms(PATIENCE_MS), NULL);
	fz_pool_leave(pool, &u.user);
out:
	fz_pool_free(pool);
	return u.ndone == 3 ? 0 : -1;
}

static void
test_pool_any_call_may_fail(void **state)
{
	assert_true(faults_at_each(scenario, *state) > 10);
}

#define TEST(name) \
	cmocka_unit_test_setup_teardown(name, world_setup, world_teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_pool_forks_when_needed_and_not_more_than_allowed),
		TEST(test_pool_uses_a_worker_again),
		TEST(test_pool_replaces_a_dead_worker),
		TEST(test_pool_an_idle_worker_may_die),
		TEST(test_pool_a_dead_worker_returns_what_it_is_sent),
		TEST(test_pool_notifies_its_clients_of_a_free_worker),
		TEST(test_pool_takes_back_a_worker_that_got_no_job),
		TEST(
		    test_pool_a_fork_that_fails_is_an_error_only_without_workers),
		TEST(
		    test_pool_has_no_free_worker_for_a_while_after_a_fork_failed),
		TEST(
		    test_pool_without_workers_forks_at_once_after_a_failed_fork),
		TEST(test_pool_may_be_closed_after_a_failed_fork),
		TEST(test_pool_stops_forking_workers_that_die_at_once),
		TEST(test_pool_close_cancels_running_jobs),
		TEST(test_pool_idle_workers_leave_by_themselves),
		TEST(test_pool_workers_do_not_hold_each_others_pipes),
		TEST(test_pool_any_call_may_fail),
		TEST(test_pool_numbers_its_workers_from_1),
		TEST(test_pool_ends_workers_that_are_idle_for_long),
		TEST(test_pool_may_dismiss_all_idle_workers),
		TEST(test_pool_workers_that_are_spread_have_our_processors),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
