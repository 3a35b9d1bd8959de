/*
 * Jobs that their owner does not want any more, beside jobs of another owner.
 *
 * wrap: malloc calloc realloc syscall
 */
#define _GNU_SOURCE /* usleep */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdatomic.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "keeper.h"
#include "no_memory.h"
#include "os/fd.h"
#include "wire/child_port.h"
#include "wire/wire.h"
#include "worker/link.h"
#include "worker/worker.h"
#include "world.h"

static const struct fz_err why = { .kind = FZ_ERR_CANCELLED,
	.text = "cancelled" };

static int mine, other; /* the owners */

static void
send(struct keeper *k, struct task *t, enum job func, uint64_t arg, void *owner)
{
	task_send_number(k, t, func, arg);
	t->job.owner = owner;
}

/* Wait without reading replies. */
static void
wait_unread(struct world *w, struct keeper *k, enum job func)
{
	fz_worker_write(k->worker);
	while (atomic_load(&w->shared->calls[func]) == 0)
		usleep(1000);
}

static void
refuse(struct keeper *k, void *owner)
{
	fz_worker_recall(k->worker);
	fz_worker_refuse(k->worker, owner, &why);
}

/* The first job has ended, although this process does not know it. */
static void
test_unwanted_job_that_has_ended_costs_no_other_job(void **state)
{
	struct world *w = *state;
	struct task t[3] = { 0 };
	struct keeper k;

	keeper_start(w, &k);
	send(&k, &t[0], JOB_ADD, 1, &mine);
	send(&k, &t[1], JOB_SLEEP, 100, &other);
	send(&k, &t[2], JOB_ADD, 2, &mine);
	wait_unread(w, &k, JOB_SLEEP);
	refuse(&k, &mine);
	assert_false(k.worker->dying);
	assert_task_returned(&t[2]);
	assert_true(fz_worker_abandon(k.worker, &mine));
	assert_task_returned(&t[0]);
	assert_true(keeper_settle(w, &k));
	assert_task_done(w, &t[1], 100);
	fz_worker_free(k.worker);
}

/* Turn the loop and look into the mailbox until the worker is killed. */
static void
await_kill(struct world *w, struct keeper *k)
{
	for (int64_t until = in_ms(PATIENCE_MS); !k->worker->dying;) {
		assert_true(turn_until(w, until));
		fz_worker_peek(k->worker);
	}
}

/* The worker is killed once the reply to the job in front has come. */
static void
test_unwanted_job_that_runs_costs_no_job_in_front(void **state)
{
	struct world *w = *state;
	struct task t[2] = { 0 };
	struct keeper k;

	keeper_start(w, &k);
	send(&k, &t[0], JOB_ADD, 1, &other);
	send(&k, &t[1], JOB_SLEEP, 10 * PATIENCE_MS, &mine);
	wait_unread(w, &k, JOB_SLEEP);
	refuse(&k, &mine);
	assert_false(k.worker->dying);
	await_kill(w, &k);
	assert_task_done(w, &t[0], 1);
	assert_true(keeper_dies(w, &k));
	assert_task_failed(&t[1], FZ_ERR_CANCELLED);
}

/* A timer reads the last reply in front; the worker sends nothing more. */
static void
test_unwanted_job_ends_after_a_timer_has_read_the_reply_in_front(void **state)
{
	struct world *w = *state;
	struct task t[3] = { { .job.timeout_ns = 60 * FZ_CLOCK_SECOND },
		{ .job.timeout_ns = 60 * FZ_CLOCK_SECOND } };
	struct keeper k;

	fz_clock_share();
	keeper_start(w, &k);
	send(&k, &t[0], JOB_ADD, 1, &other);
	send(&k, &t[1], JOB_ADD, 2, &other);
	send(&k, &t[2], JOB_SLEEP, 10000000, &mine);
	fz_worker_write(k.worker);
	for (int64_t until = in_ms(PATIENCE_MS);
	     atomic_load(&w->shared->sleeping) == 0; usleep(1000))
		assert_true(fz_clock_ns() < until);
	/* The first reply comes, and the second one usually waits. */
	while (t[0].ndone == 0)
		assert_true(turn_until(w, in_ms(PATIENCE_MS)));
	refuse(&k, &mine);
	pass_seconds(100);
	assert_true(keeper_dies(w, &k));
	assert_task_done(w, &t[0], 1);
	assert_task_done(w, &t[1], 2);
	assert_task_failed(&t[2], FZ_ERR_CANCELLED);
}

/* A job that is sent behind an unwanted one is taken back before the kill. */
static void
test_unwanted_job_is_killed_after_a_recall_of_later_jobs(void **state)
{
	struct world *w = *state;
	struct task t[3] = { 0 };
	struct keeper k;

	keeper_start(w, &k);
	send(&k, &t[0], JOB_ADD, 1, &other);
	send(&k, &t[1], JOB_SLEEP, 10 * PATIENCE_MS, &mine);
	wait_unread(w, &k, JOB_SLEEP);
	refuse(&k, &mine);
	send(&k, &t[2], JOB_ADD, 2, &other);
	await_kill(w, &k);
	assert_int_equal(t[2].nreturned, 1);
	assert_task_done(w, &t[0], 1);
	assert_true(keeper_dies(w, &k));
	assert_task_failed(&t[1], FZ_ERR_CANCELLED);
	assert_task_returned(&t[2]);
}

static void
test_unwanted_jobs_alone_end_their_worker(void **state)
{
	struct world *w = *state;
	struct task t[2] = { 0 };
	struct keeper k;

	keeper_start(w, &k);
	send(&k, &t[0], JOB_SLEEP, 10 * PATIENCE_MS, &mine);
	send(&k, &t[1], JOB_ADD, 1, &mine);
	wait_unread(w, &k, JOB_SLEEP);
	refuse(&k, &mine);
	assert_true(k.worker->dying);
	assert_task_returned(&t[1]);
	assert_false(fz_worker_abandon(k.worker, &mine));
	assert_true(keeper_dies(w, &k));
	assert_task_failed(&t[0], FZ_ERR_CANCELLED);
}

/* A stream worker that runs job 0, answers a RECALL, and never replies. */
static int
answer_recall(void *ctx, struct fz_port *port)
{
	struct fz_buf *out = &port->frame;
	struct fz_frame frame = { .type = FZ_WIRE_NTYPES };

	(void)ctx;
	fz_wire_begin(out, FZ_WIRE_STARTED, 0, 0);
	fz_buf_put_u32(out, 1);
	fz_wire_end(out, 0);
	fz_fd_write_all(port->out, out->data, out->len);
	while (frame.type != FZ_WIRE_RECALL) {
		if (fz_wire_next(&port->wire, &frame, NULL) != 1 &&
		    fz_wire_fill(&port->wire, port->in) <= 0)
			return 1;
	}
	fz_buf_clear(out);
	fz_wire_begin(out, FZ_WIRE_RECALLED, 0, frame.seq);
	fz_buf_put_u32(out, 0);
	fz_wire_end(out, 0);
	fz_fd_write_all(port->out, out->data, out->len);
	nap(10 * PATIENCE_MS);
	return 1;
}

static void
start_stream(struct world *w, struct keeper *k, fz_worker_main start)
{
	const struct fz_worker_opts opts = {
		.main = start, .main_ctx = w->shared, .link = &fz_link_stream
	};

	assert_non_null(keeper_start_opts(w, k, &opts));
}

static void
test_unwanted_job_on_a_stream_ends_its_worker_after_the_recall(void **state)
{
	struct world *w = *state;
	struct task t[2] = { 0 };
	struct keeper k;

	start_stream(w, &k, answer_recall);
	send(&k, &t[0], JOB_ADD, 1, &mine);
	send(&k, &t[1], JOB_ADD, 2, &other);
	while (!fz_worker_has_begun(k.worker))
		assert_true(turn_until(w, in_ms(PATIENCE_MS)));
	refuse(&k, &mine);
	assert_false(k.worker->dying);
	assert_true(fz_worker_abandon(k.worker, &mine));
	assert_task_returned(&t[0]);
	assert_true(keeper_dies(w, &k));
	assert_task_returned(&t[1]);
}

/* The worker answers the RECALL after its first job. */
static void
test_unwanted_job_behind_one_on_a_stream_is_dropped(void **state)
{
	struct world *w = *state;
	struct task t[3] = { 0 };
	struct keeper k;

	start_stream(w, &k, serve);
	send(&k, &t[0], JOB_SLEEP, 100, &other);
	send(&k, &t[1], JOB_ADD, 1, &mine);
	send(&k, &t[2], JOB_ADD, 2, &other);
	wait_unread(w, &k, JOB_SLEEP);
	refuse(&k, &mine);
	assert_true(fz_worker_abandon(k.worker, &mine));
	assert_task_returned(&t[1]);
	assert_true(keeper_settle(w, &k));
	assert_task_done(w, &t[0], 100);
	assert_one_outcome(&t[2]);
	fz_worker_free(k.worker);
}

/* The results, errors and items of jobs without an owner are dropped. */
static void
test_unwanted_results_are_freed(void **state)
{
	static const enum job funcs[] = { JOB_ADD, JOB_BYTES, JOB_RAISE };
	enum { N = sizeof(funcs) / sizeof(*funcs) };
	struct world *w = *state;
	struct task t[N] = { 0 }, last = { 0 };
	struct keeper k;

	keeper_start(w, &k);
	for (int i = 0; i < N; i++)
		send(&k, &t[i], funcs[i], 1000, &mine);
	send(&k, &last, JOB_SLEEP, 20, &other);
	wait_unread(w, &k, JOB_SLEEP);
	refuse(&k, &mine);
	assert_true(fz_worker_abandon(k.worker, &mine));
	assert_true(keeper_settle(w, &k));
	for (int i = 0; i < N; i++)
		assert_task_returned(&t[i]);
	assert_task_done(w, &last, 20);
	fz_worker_free(k.worker);
}

static void
test_unwanted_jobs_stay_if_there_is_no_memory(void **state)
{
	struct world *w = *state;
	struct task t[2] = { 0 };
	struct keeper k;
	bool abandoned;

	keeper_start(w, &k);
	send(&k, &t[0], JOB_ADD, 1, &mine);
	send(&k, &t[1], JOB_SLEEP, 20, &other);
	wait_unread(w, &k, JOB_SLEEP);
	refuse(&k, &mine);
	no_memory = true;
	abandoned = fz_worker_abandon(k.worker, &mine);
	no_memory = false;
	assert_false(abandoned);
	assert_true(keeper_settle(w, &k));
	assert_task_done(w, &t[0], 1);
	assert_task_done(w, &t[1], 20);
	fz_worker_free(k.worker);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, world_setup, world_teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_unwanted_job_that_has_ended_costs_no_other_job),
		TEST(test_unwanted_job_that_runs_costs_no_job_in_front),
		TEST(
		    test_unwanted_job_ends_after_a_timer_has_read_the_reply_in_front),
		TEST(test_unwanted_job_is_killed_after_a_recall_of_later_jobs),
		TEST(test_unwanted_jobs_alone_end_their_worker),
		TEST(
		    test_unwanted_job_on_a_stream_ends_its_worker_after_the_recall),
		TEST(test_unwanted_job_behind_one_on_a_stream_is_dropped),
		TEST(test_unwanted_results_are_freed),
		TEST(test_unwanted_jobs_stay_if_there_is_no_memory),
	};

	return run_with_and_without_pidfd(
	    tests, sizeof(tests) / sizeof(tests[0]));
}
