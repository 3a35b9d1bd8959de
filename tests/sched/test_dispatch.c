/*
 * The dispatcher: which worker gets the next job of which producer, and what a
 * producer gets back.
 *
 * wrap: malloc calloc realloc mmap epoll_create1 epoll_ctl epoll_pwait fork
 * wrap: pipe2 read write pwritev2
 */
/* kill is not in C11. */
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
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/container.h"
#include "base/err.h"
#include "faults.h"
#include "node/nodes.h"
#include "os/loop.h"
#include "sched/dispatch.h"
#include "sched/pool.h"
#include "wire/blob.h"
#include "worker/worker.h"
#include "world.h"

enum { NPOOLS = 2, TASKS_MAX = 4096, ORDER_MAX = 64 };

/* One job of a stream. */
struct task {
	struct fz_job job;
	unsigned nsent;
};

/*
 * A producer whose items arrive one after the other. At most `credit` of them
 * are under way.
 */
struct stream {
	struct fz_producer producer;
	struct bench *bench;
	enum job func;
	uint64_t arg;
	unsigned narrived, nbegun, credit;
	unsigned nway, most; /* jobs under way now; their maximum so far */
	unsigned ndone, nfailed, nreturned, nstarted;
	enum fz_err_kind kind;   /* kind of the last failure */
	struct fz_job *returned; /* jobs to be sent again */
	struct task tasks[TASKS_MAX];
};

/* Two pools, and the dispatcher that has them. */
struct bench {
	struct world *w;
	struct fz_pool *pools[NPOOLS];
	struct fz_dispatcher d;
	const struct stream *order[ORDER_MAX]; /* producers of the sent jobs */
	unsigned norder;
};

static struct stream s, t;

static struct stream *
stream_of(const struct fz_producer *producer)
{
	return FZ_CONTAINER_OF(producer, struct stream, producer);
}

static struct task *
task_of(struct fz_job *job)
{
	return FZ_CONTAINER_OF(job, struct task, job);
}

/* A job has ended: the credit may suffice for the next item. */
static void
task_ended(struct fz_job *job)
{
	struct stream *owner = stream_of(job->owner);

	owner->nway--;
	fz_producer_wake(&owner->producer);
}

static void
task_done(struct fz_job *job, struct fz_blob **values, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		fz_blob_unref(values[i]);
	stream_of(job->owner)->ndone++;
	task_ended(job);
}

static void
task_failed(struct fz_job *job, struct fz_failure *failure)
{
	struct stream *owner = stream_of(job->owner);

	fz_blob_unref(failure->value);
	owner->nfailed++;
	owner->kind = failure->err.kind;
	task_ended(job);
}

static void
task_returned(struct fz_job *job, uint32_t nitems)
{
	struct stream *owner = stream_of(job->owner);

	assert_int_equal(nitems, 1);
	assert_null(job->worker);
	owner->nreturned++;
	job->next = owner->returned;
	owner->returned = job;
	task_ended(job);
}

static void
task_started(struct fz_job *job)
{
	stream_of(job->owner)->nstarted++;
}

static const struct fz_job_ops task_ops = { task_done, task_failed,
	task_returned, task_started, NULL };

static uint64_t
nready(const struct fz_producer *producer)
{
	const struct stream *owner = stream_of(producer);

	if (owner->nway >= owner->credit)
		return 0;
	return owner->returned != NULL || owner->nbegun < owner->narrived;
}

static struct task *
next_task(struct stream *owner)
{
	struct task *task;

	if (owner->returned != NULL) {
		task = task_of(owner->returned);
		owner->returned = task->job.next;
		return task;
	}
	task = &owner->tasks[owner->nbegun++];
	*task = (struct task){ .job = { .ops = &task_ops,
				   .owner = &owner->producer,
				   .func = owner->func,
				   .nvalues = 1,
				   .timeout_ns = FZ_CLOCK_NEVER } };
	return task;
}

static bool
send(struct fz_producer *producer, struct fz_worker *w, uint32_t max)
{
	struct stream *owner = stream_of(producer);
	struct task *task = next_task(owner);
	struct fz_blob *arg = blob_of_number(owner->arg);
	int rc = -1;

	assert_true(max != 0);
	if (arg != NULL)
		rc = fz_worker_send(w, &task->job, &arg, 1, NULL);
	fz_blob_unref(arg);
	if (rc != 0) {
		owner->nfailed++;
		return false;
	}
	task->nsent++;
	owner->nway++;
	if (owner->nway > owner->most)
		owner->most = owner->nway;
	if (owner->bench->norder < ORDER_MAX)
		owner->bench->order[owner->bench->norder++] = owner;
	return true;
}

static void
fail_next(struct fz_producer *producer, const struct fz_failure *failure)
{
	struct stream *owner = stream_of(producer);

	next_task(owner);
	owner->nfailed++;
	owner->kind = failure->err.kind;
}

static const struct fz_producer_ops stream_ops = { nready, send, fail_next,
	NULL };

static void
stream_init(struct stream *owner, struct bench *b, uint32_t pool, enum job func,
    uint64_t arg)
{
	memset(owner, 0, sizeof(*owner));
	owner->bench = b;
	owner->func = func;
	owner->arg = arg;
	owner->credit = TASKS_MAX;
	fz_producer_init(&owner->producer, &stream_ops, &b->d, pool);
}

static void
stream_add(struct stream *owner, unsigned n)
{
	owner->narrived += n;
	fz_producer_wake(&owner->producer);
}

/* Returns 0, or -1 if there is no memory. */
static int
bench_open(struct bench *b, unsigned max, unsigned max_busy)
{
	struct fz_pool_opts opts = { .engine = &b->w->engine,
		.max = max,
		.main = serve,
		.main_ctx = b->w->shared };

	for (int i = 0; i < NPOOLS; i++) {
		b->pools[i] = fz_pool_new(&opts, NULL);
		if (b->pools[i] == NULL)
			return -1;
	}
	if (fz_dispatcher_init(
		&b->d, &b->w->engine, b->pools, NPOOLS, max_busy, NULL) != 0)
		return -1;
	return fz_dispatcher_join(&b->d, NULL);
}

static void
bench_close(struct bench *b)
{
	if (b->d.engine != NULL)
		fz_dispatcher_fini(&b->d);
	for (int i = 0; i < NPOOLS; i++) {
		fz_pool_free(b->pools[i]);
		b->pools[i] = NULL;
	}
	b->d.engine = NULL;
}

static int
setup(void **state)
{
	struct bench *b = calloc(1, sizeof(*b));
	void *w;

	world_setup(&w);
	b->w = w;
	*state = b;
	return 0;
}

static int
teardown(void **state)
{
	struct bench *b = *state;
	void *w = b->w;

	bench_close(b);
	free(b);
	return world_teardown(&w);
}

/* Turn the loop until `n` jobs of the stream have ended. */
static void
turn_until_ended(const struct stream *owner, unsigned n)
{
	int64_t until = in_ms(PATIENCE_MS);

	while (owner->ndone + owner->nfailed < n)
		assert_true(turn_until(owner->bench->w, until));
}

static unsigned
count_busy(const struct bench *b, uint32_t pool)
{
	unsigned n = 0;

	for (struct fz_worker *w = fz_pool_busy(b->pools[pool]); w != NULL;
	     w = w->next)
		n++;
	return n;
}

static void
test_dispatch_sends_what_arrives_within_the_credit(void **state)
{
	struct bench *b = *state;

	bench_open(b, 2, 2);
	stream_init(&s, b, 0, JOB_ADD, 1);
	s.credit = 3;
	stream_add(&s, 100);
	turn_until_ended(&s, 100);
	assert_int_equal(s.most, 3);
	assert_int_equal(s.nway, 0);
	assert_int_equal(count_busy(b, 0), 0);
	stream_add(&s, 100); /* the producer had no items until now */
	turn_until_ended(&s, 200);
	assert_int_equal(s.ndone, 200);
	assert_int_equal(s.most, 3);
	for (unsigned i = 0; i < 200; i++)
		assert_int_equal(s.tasks[i].nsent, 1);
}

static void
test_dispatch_producers_of_a_pool_take_turns(void **state)
{
	struct bench *b = *state;

	bench_open(b, 1, 1);
	stream_init(&s, b, 0, JOB_ADD, 1);
	stream_init(&t, b, 0, JOB_ADD, 1);
	stream_add(&s, 20);
	stream_add(&t, 20);
	turn_until_ended(&s, 20);
	turn_until_ended(&t, 20);
	for (unsigned i = 0; i < 20; i++)
		assert_ptr_equal(b->order[i], i % 2 == 0 ? &s : &t);
}

static void
test_dispatch_the_last_pool_comes_first(void **state)
{
	struct bench *b = *state;

	bench_open(b, 1, 1);
	stream_init(&s, b, 0, JOB_ADD, 1);
	stream_init(&t, b, 1, JOB_ADD, 1);
	stream_add(&s, 2);
	stream_add(&t, 2);
	turn_until_ended(&s, 2);
	turn_until_ended(&t, 2);
	assert_ptr_equal(b->order[0], &t);
	assert_ptr_equal(b->order[1], &t);
	assert_ptr_equal(b->order[2], &s);
}

static void
end_by_hand(struct stream *stream)
{
	fz_producer_end(&stream->producer,
	    &(struct fz_err){ FZ_ERR_CANCELLED, 0, "by hand" });
}

/* The first worker is forked at once, others if no job ends for a time. */
static void
test_dispatch_sparing_gives_slow_jobs_more_workers(void **state)
{
	struct bench *b = *state;

	bench_open(b, 4, 4);
	b->d.sparing = true;
	stream_init(&s, b, 0, JOB_SLEEP, 60000);
	stream_add(&s, 8);
	fz_loop_flush(b->w->engine.loop);
	assert_int_equal(fz_pool_nworkers(b->pools[0]), 1);
	wait_for_calls(b->w, JOB_SLEEP, 4);
	end_by_hand(&s);
}

static void
test_dispatch_sparing_pools_work_at_the_same_time(void **state)
{
	struct bench *b = *state;

	bench_open(b, 1, 2);
	b->d.sparing = true;
	stream_init(&s, b, 0, JOB_SLEEP, 60000);
	stream_init(&t, b, 1, JOB_SLEEP, 60000);
	stream_add(&s, 2);
	stream_add(&t, 2);
	wait_for_calls(b->w, JOB_SLEEP, 2);
	end_by_hand(&s);
	end_by_hand(&t);
}

static void
test_dispatch_a_worker_that_was_not_measured_gets_four_jobs(void **state)
{
	struct bench *b = *state;
	struct fz_worker *w;

	bench_open(b, 2, 2);
	stream_init(&s, b, 0, JOB_SLEEP, 60000);
	stream_add(&s, 20);
	wait_for_calls(b->w, JOB_SLEEP, 2);
	for (w = fz_pool_busy(b->pools[0]); w != NULL; w = w->next)
		assert_int_equal(w->njobs, 4);
	assert_int_equal(s.nway, 8);
	assert_int_equal(fz_producer_nrunning(&s.producer), 2);
	fz_producer_end(
	    &s.producer, &(struct fz_err){ FZ_ERR_CANCELLED, 0, "" });
}

static void
test_dispatch_short_jobs_are_sent_further_ahead_than_long_ones(void **state)
{
	struct bench *b = *state;

	bench_open(b, 1, 1);
	stream_init(&s, b, 0, JOB_SLEEP, 20);
	stream_add(&s, 8);
	turn_until_ended(&s, 4);
	s.most = s.nway; /* the time of a job is known now */
	turn_until_ended(&s, 8);
	assert_true(s.most <= 4);
	bench_close(b);
	bench_open(b, 1, 1);
	stream_init(&s, b, 0, JOB_ADD, 1);
	stream_add(&s, 200);
	turn_until_ended(&s, 200);
	assert_true(s.most > 4);
}

/* The way there and back takes as long as five of the jobs. */
static void
test_dispatch_more_is_sent_ahead_to_a_node_far_away(void **state)
{
	struct bench *b = *state;
	struct fz_node node = { .slots = 1, .way_ns = 100 * FZ_CLOCK_MS };
	struct fz_worker *w;

	bench_open(b, 1, 1);
	stream_init(&s, b, 0, JOB_SLEEP, 20);
	stream_add(&s, 8);
	fz_loop_flush(b->w->engine.loop);
	w = fz_pool_busy(b->pools[0]);
	turn_until_ended(&s, 8);
	w->mean_ns = 20 * FZ_CLOCK_MS;
	w->node = &node;
	s.most = 0;
	stream_add(&s, 20);
	fz_loop_flush(b->w->engine.loop);
	assert_int_equal(s.most, 6);
	w->node = NULL;
	turn_until_ended(&s, 28);
}

static void
test_dispatch_an_idle_worker_gets_what_another_has_not_begun(void **state)
{
	struct bench *b = *state;

	bench_open(b, 2, 2);
	stream_init(&s, b, 0, JOB_SLEEP, 1);
	stream_init(&t, b, 0, JOB_SLEEP, 60000);
	stream_add(&t, 1);
	wait_for_calls(b->w, JOB_SLEEP, 1);
	stream_add(&s, 7); /* to both workers; one is busy */
	turn_until_ended(&s, 7);
	assert_int_equal(s.ndone, 7);
	assert_true(s.nreturned != 0);
	assert_int_equal(t.ndone, 0);
	fz_producer_end(
	    &t.producer, &(struct fz_err){ FZ_ERR_CANCELLED, 0, "" });
	assert_int_equal(t.nfailed, 1);
}

static void
stop_process(void *ctx, pid_t pid)
{
	*(pid_t *)ctx = pid;
	kill(pid, SIGSTOP);
}

static void
test_dispatch_results_come_although_the_next_job_is_long(void **state)
{
	struct bench *b = *state;
	int64_t until;
	pid_t pid = 0;

	bench_open(b, 1, 1);
	assert_int_equal(fz_pool_prefork(b->pools[0], NULL), 0);
	fz_pool_pids(b->pools[0], stop_process, &pid);
	stream_init(&s, b, 0, JOB_ADD, 1);
	stream_add(&s, 3);
	fz_loop_flush(b->w->engine.loop);
	stream_init(&t, b, 0, JOB_SLEEP, 60000);
	stream_add(&t, 1);
	fz_loop_flush(b->w->engine.loop);
	assert_int_equal(s.nway + t.nway, 4);
	/* Checks before the worker begins do not use up the later checks. */
	for (until = in_ms(20); turn_until(b->w, until);)
		continue;
	kill(pid, SIGCONT);
	turn_until_ended(&s, 3);
	assert_int_equal(s.ndone, 3);
	assert_int_equal(t.ndone, 0);
	fz_producer_end(
	    &t.producer, &(struct fz_err){ FZ_ERR_CANCELLED, 0, "" });
}

static void
test_dispatch_a_stopped_producer_gets_back_what_was_not_begun(void **state)
{
	struct bench *b = *state;

	fz_clock_share();
	bench_open(b, 2, 1);
	stream_init(&s, b, 0, JOB_SLEEP, 1000000);
	stream_add(&s, 4);
	wait_for_sleep(b->w, 1);
	s.credit = 0;
	fz_producer_stop(&s.producer, NULL);
	pass_seconds(1000);
	turn_until_ended(&s, 1);
	assert_int_equal(s.ndone, 1);
	assert_int_equal(s.nreturned, 3);
	assert_int_equal(s.nway, 0);
}

static void
test_dispatch_a_stopped_producer_may_have_its_workers_killed(void **state)
{
	static const struct fz_err why = { FZ_ERR_TIMEOUT, 0, "over" };
	struct bench *b = *state;

	bench_open(b, 2, 2);
	stream_init(&s, b, 0, JOB_SLEEP, 60000);
	stream_init(&t, b, 0, JOB_SLEEP, 50);
	stream_add(&t, 1);
	wait_for_calls(b->w, JOB_SLEEP, 1);
	s.credit = 1;
	stream_add(&s, 1);
	wait_for_calls(b->w, JOB_SLEEP, 2);
	s.credit = 0;
	fz_producer_stop(&s.producer, &why);
	turn_until_ended(&s, 1);
	assert_int_equal(s.nfailed, 1);
	assert_int_equal(s.kind, FZ_ERR_TIMEOUT);
	turn_until_ended(&t, 1);
	assert_int_equal(t.ndone, 1); /* another producer's job goes on */
}

static void
test_dispatch_the_end_of_a_producer_is_waited_for(void **state)
{
	static const struct fz_err why = { FZ_ERR_CANCELLED, 0, "cancelled" };
	struct bench *b = *state;

	bench_open(b, 3, 3);
	stream_init(&s, b, 0, JOB_IGNORE, 0);
	stream_add(&s, 5);
	wait_for_calls(b->w, JOB_IGNORE, 3);
	s.credit = 0;
	fz_producer_end(&s.producer, &why);
	assert_int_equal(s.nfailed, 3);
	assert_int_equal(s.kind, FZ_ERR_CANCELLED);
	assert_int_equal(s.nreturned, 2);
	assert_int_equal(fz_pool_nworkers(b->pools[0]), 0);
	assert_no_children();
}

static void
test_dispatch_without_a_worker_jobs_fail(void **state)
{
	struct bench *b = *state;

	bench_open(b, 2, 2);
	stream_init(&s, b, 0, JOB_ADD, 1);
	faults_at(0);
	faults.fork_error = EAGAIN;
	stream_add(&s, 3);
	turn_until_ended(&s, 3);
	faults_end();
	assert_int_equal(s.nfailed, 3);
	assert_int_not_equal(s.kind, FZ_ERR_NONE);
	stream_add(&s, 3); /* for later jobs forks are tried again */
	turn_until_ended(&s, 6);
	assert_int_equal(s.ndone, 3);
}

static void
test_dispatch_a_worker_that_dies_costs_one_job(void **state)
{
	struct bench *b = *state;

	bench_open(b, 2, 2);
	stream_init(&s, b, 0, JOB_KILL_ONCE, 1);
	stream_add(&s, 100);
	turn_until_ended(&s, 100);
	assert_int_equal(s.nfailed, 1);
	assert_int_equal(s.kind, FZ_ERR_CRASH);
	assert_int_equal(s.ndone, 99);
}

/* Run jobs of two pools. Returns 0, or -1 if a call failed. */
static int
scenario(void *ctx)
{
	struct bench *b = ctx;
	int rc = -1;

	if (bench_open(b, 2, 2) != 0)
		goto out;
	stream_init(&s, b, 0, JOB_ADD, 1);
	stream_init(&t, b, 1, JOB_ADD, 1);
	stream_add(&s, 5);
	stream_add(&t, 5);
	while (s.ndone + s.nfailed + t.ndone + t.nfailed < 10)
		fz_loop_turn(b->w->engine.loop, in_ms(PATIENCE_MS), NULL);
	if (s.nfailed + t.nfailed == 0)
		rc = 0;
out:
	bench_close(b);
	return rc;
}

static void
test_dispatch_any_call_may_fail(void **state)
{
	assert_true(faults_at_each(scenario, *state) > 5);
}

#define T(f)                                 \
	{                                    \
#f, f, setup, teardown, NULL \
	}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_dispatch_sends_what_arrives_within_the_credit),
		T(test_dispatch_producers_of_a_pool_take_turns),
		T(test_dispatch_the_last_pool_comes_first),
		T(test_dispatch_sparing_gives_slow_jobs_more_workers),
		T(test_dispatch_sparing_pools_work_at_the_same_time),
		T(test_dispatch_a_worker_that_was_not_measured_gets_four_jobs),
		T(test_dispatch_short_jobs_are_sent_further_ahead_than_long_ones),
		T(test_dispatch_more_is_sent_ahead_to_a_node_far_away),
		T(test_dispatch_an_idle_worker_gets_what_another_has_not_begun),
		T(test_dispatch_results_come_although_the_next_job_is_long),
		T(test_dispatch_a_stopped_producer_gets_back_what_was_not_begun),
		T(test_dispatch_a_stopped_producer_may_have_its_workers_killed),
		T(test_dispatch_the_end_of_a_producer_is_waited_for),
		T(test_dispatch_without_a_worker_jobs_fail),
		T(test_dispatch_a_worker_that_dies_costs_one_job),
		T(test_dispatch_any_call_may_fail),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
