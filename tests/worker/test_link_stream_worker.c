/*
 * A worker behind one byte stream, as its parent sees it.
 *
 * wrap: malloc calloc realloc mmap epoll_create1 epoll_ctl epoll_pwait fork
 * wrap: pipe2 read write pwritev2 syscall
 */
/* kill and usleep are not in C11. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "faults.h"
#include "keeper.h"
#include "node/nodes.h"
#include "os/fd.h"
#include "os/loop.h"
#include "wire/blob.h"
#include "wire/child_port.h"
#include "worker/link.h"
#include "worker/link_stream.h"
#include "worker/worker_state.h"
#include "world.h"

static struct fz_worker *
keep_main(struct world *w, struct keeper *k, fz_worker_main main, void *ctx)
{
	struct fz_worker_opts opts = {
		.main = main, .main_ctx = ctx, .link = &fz_link_stream
	};

	return keeper_start_opts(w, k, &opts);
}

static struct fz_worker *
keep(struct world *w, struct keeper *k)
{
	return keep_main(w, k, serve, w->shared);
}

static void
assert_failed(struct task *t, enum fz_err_kind kind)
{
	assert_string_not_equal(t->failure.err.text, "");
	assert_task_failed(t, kind);
}

static void
test_link_stream_worker_does_jobs_in_order(void **state)
{
	enum { N = 500 };
	static struct task t[N];
	struct world *w = *state;
	struct keeper k;

	assert_non_null(keep(w, &k));
	assert_false(k.worker->recalls);
	assert_null(fz_worker_account(k.worker));
	for (uint64_t i = 0; i < N; i++)
		task_send_number(&k, &t[i], JOB_ADD, i);
	assert_true(keeper_settle(w, &k));
	for (uint64_t i = 0; i < N; i++)
		assert_task_done(w, &t[i], i);
	fz_worker_free(k.worker);
}

/* The first job does not count, because it includes the worker's start. */
static void
test_link_stream_worker_shows_how_far_its_node_is(void **state)
{
	struct world *w = *state;
	struct fz_node node = { .slots = 1 };
	struct task t = { 0 };
	struct keeper k;

	assert_non_null(keep(w, &k));
	k.worker->node = &node;
	for (int i = 0; i < 2; i++) {
		assert_int_equal(node.way_ns, 0);
		task_send_number(&k, &t, JOB_SLEEP, 5);
		assert_true(keeper_settle(w, &k));
		task_fini(&t);
	}
	assert_true(node.way_ns > 0);
	fz_worker_free(k.worker);
}

static void
test_link_stream_the_way_to_a_node_is_the_least_one_lately(void **state)
{
	struct fz_node node = { .slots = 1 };

	(void)state;
	fz_node_note_way(&node, 50 * FZ_CLOCK_MS);
	fz_node_note_way(&node, 40 * FZ_CLOCK_MS);
	assert_int_equal(node.way_ns, 40 * FZ_CLOCK_MS);
	fz_node_note_way(&node, 48 * FZ_CLOCK_MS);
	assert_int_equal(node.way_ns, 41 * FZ_CLOCK_MS);
	fz_node_note_way(&node, FZ_CLOCK_NEVER);
	assert_true(node.way_ns < 100 * FZ_CLOCK_MS);
}

static void
test_link_stream_worker_leaves_when_it_is_dismissed(void **state)
{
	struct world *w = *state;
	struct task t = { 0 };
	struct keeper k;

	assert_non_null(keep(w, &k));
	task_send_number(&k, &t, JOB_ADD, 1);
	assert_true(keeper_settle(w, &k));
	assert_task_done(w, &t, 1);
	fz_worker_dismiss(k.worker);
	assert_true(keeper_dies(w, &k));
	assert_int_equal(atomic_load(&w->shared->leaves), 1);
}

static void
test_link_stream_big_values_go_there_and_back(void **state)
{
	struct world *w = *state;
	size_t len = bulk_size() / 4;
	struct keeper k;
	struct task t = { 0 };

	assert_non_null(keep(w, &k));
	for (int i = 0; i < 3; i++) {
		task_send_blob(&k, &t, JOB_ECHO, blob_of_bytes(len));
		assert_true(keeper_settle(w, &k));
		assert_int_equal(t.ndone, 1);
		assert_int_equal(t.nfailed + t.nreturned, 0);
		assert_int_equal(t.value->len, len);
		assert_false(t.value->in_arena);
		assert_int_equal(t.value->bytes[len - 1], 'x');
		task_fini(&t);
	}
	fz_worker_free(k.worker);
}

/* The first job fails; the jobs after it have not begun, and are returned. */
static void
test_link_stream_a_lost_worker_costs_what_it_had_begun(void **state)
{
	const enum job ways[] = { JOB_CRASH, JOB_KILL, JOB_GARBAGE,
		JOB_CLOSE_OUT, JOB_CLOSE_IN };
	struct world *w = *state;

	for (size_t i = 0; i < sizeof(ways) / sizeof(*ways); i++) {
		struct task t[3] = { { .ndone = 0 } };
		struct keeper k;

		assert_non_null(keep(w, &k));
		task_send_number(&k, &t[0], ways[i], 0);
		task_send_number(&k, &t[1], JOB_ADD, 1);
		task_send_number(&k, &t[2], JOB_ADD, 2);
		assert_true(keeper_dies(w, &k));
		assert_failed(&t[0], FZ_ERR_CRASH);
		assert_task_returned(&t[1]);
		assert_task_returned(&t[2]);
	}
	assert_int_equal(atomic_load(&w->shared->calls[JOB_ADD]), 0);
}

static void
test_link_stream_a_reply_counts_whatever_follows_it(void **state)
{
	const enum job ways[] = { JOB_KILL_WRITTEN, JOB_REPLY_GARBAGE,
		JOB_LATE_GARBAGE, JOB_KILL_STORED, JOB_KILL_HALF };
	struct world *w = *state;

	for (size_t i = 0; i < sizeof(ways) / sizeof(*ways); i++) {
		struct keeper k;
		struct task t = { 0 };

		assert_non_null(keep(w, &k));
		task_send_number(&k, &t, ways[i], 0);
		assert_true(keeper_dies(w, &k));
		assert_task_done(w, &t, 1);
	}
}

/* The behaviour of a worker after it has announced its first item. */
struct half {
	size_t n;   /* bytes of the reply that it writes */
	bool stays; /* the worker lives on, but writes no more */
};

static int
write_half(void *ctx, struct fz_port *port)
{
	const struct half *half = ctx;
	struct fz_call call;

	assert_int_equal(fz_port_next(port, &call, NULL), 1);
	fz_port_begin(port, &call, FZ_WIRE_RESULT, 1);
	fz_buf_put_u64(&port->value.buf, 42);
	fz_port_put(port);
	fz_wire_end(&port->frame, 0);
	fz_fd_write_all(port->out, port->frame.data, half->n);
	while (half->stays)
		pause();
	return 0;
}

enum { REPLY = FZ_WIRE_HEADER + 4 + 8 + 8 };

static void
test_link_stream_may_end_at_any_byte(void **state)
{
	struct world *w = *state;

	for (size_t n = 0; n <= REPLY; n++) {
		struct half half = { n, false };
		struct task t[2] = { { .ndone = 0 } };
		struct keeper k;

		assert_non_null(keep_main(w, &k, write_half, &half));
		task_send_number(&k, &t[0], JOB_ADD, 0);
		task_send_number(&k, &t[1], JOB_ADD, 0);
		assert_true(keeper_dies(w, &k));
		if (n == REPLY)
			assert_task_done(w, &t[0], 42);
		else
			assert_failed(&t[0], FZ_ERR_CRASH);
		assert_task_returned(&t[1]);
	}
}

static void
test_link_stream_half_a_frame_is_not_waited_for(void **state)
{
	struct world *w = *state;

	for (size_t n = 1; n < REPLY; n += 11) {
		struct half half = { n, true };
		struct keeper k;
		struct task t = { 0 };

		assert_non_null(keep_main(w, &k, write_half, &half));
		k.worker->private->link->pause_ns = 50 * FZ_CLOCK_MS;
		task_send_number(&k, &t, JOB_ADD, 0);
		assert_true(keeper_dies(w, &k));
		assert_failed(&t, FZ_ERR_CRASH);
	}
}

/* Write a frame that only the process on a node sends. */
static int
write_as_a_node(void *ctx, struct fz_port *port)
{
	const enum fz_wire_type *type = ctx;
	struct fz_call call;

	assert_int_equal(fz_port_next(port, &call, NULL), 1);
	fz_buf_clear(&port->frame);
	fz_wire_begin(&port->frame, *type, 0, 0);
	fz_buf_put_u32(&port->frame, 0);
	fz_buf_put_u32(&port->frame, 42);
	fz_wire_end(&port->frame, 0);
	fz_fd_write_all(port->out, port->frame.data, port->frame.len);
	while (fz_port_next(port, &call, NULL) == 1)
		continue;
	return 0;
}

static void
test_link_stream_a_worker_here_sends_nothing_of_a_node(void **state)
{
	enum fz_wire_type types[] = { FZ_WIRE_JOINED, FZ_WIRE_PRINTED,
		FZ_WIRE_DIED };
	struct world *w = *state;

	for (size_t i = 0; i < sizeof(types) / sizeof(*types); i++) {
		struct keeper k;
		struct task t = { 0 };

		assert_non_null(keep_main(w, &k, write_as_a_node, &types[i]));
		task_send_number(&k, &t, JOB_ADD, 0);
		assert_true(keeper_dies(w, &k));
		assert_failed(&t, FZ_ERR_CRASH);
		assert_int_not_equal(k.death.exitcode, 42);
	}
	assert_int_equal(w->noutput, 0);
}

/* At any moment of the recall, each job is either returned or done once. */
static void
test_link_stream_recall_races_with_the_worker(void **state)
{
	enum { N = 64, ROUNDS = 60 };
	static struct task t[N];
	struct world *w = *state;
	int ndone = 0, nreturned = 0;
	struct keeper k;

	assert_non_null(keep(w, &k));
	for (int round = 0; round < ROUNDS; round++) {
		for (uint64_t i = 0; i < N; i++)
			task_send_number(&k, &t[i], JOB_ADD, i);
		fz_worker_write(k.worker);
		usleep((useconds_t)(round * 10));
		assert_true(fz_worker_recall(k.worker) == 0);
		fz_worker_recall(k.worker);
		assert_true(keeper_settle(w, &k));
		for (uint64_t i = 0; i < N; i++) {
			assert_one_outcome(&t[i]);
			ndone += t[i].ndone;
			nreturned += t[i].nreturned;
			if (t[i].ndone != 0)
				assert_task_done(w, &t[i], i);
		}
	}
	assert_int_equal(ndone + nreturned, N * ROUNDS);
	assert_int_equal(atomic_load(&w->shared->calls[JOB_ADD]), ndone);
	fz_worker_free(k.worker);
}

/* Jobs that are sent between a recall and its answer are not recalled. */
static void
test_link_stream_a_recall_spares_later_jobs(void **state)
{
	struct world *w = *state;
	struct task t[3] = { { .ndone = 0 } };
	struct keeper k;

	fz_clock_share();
	assert_non_null(keep(w, &k));
	task_send_number(&k, &t[0], JOB_SLEEP, 1000000);
	task_send_number(&k, &t[1], JOB_ADD, 1);
	wait_for_sleep(w, 1);
	while (!fz_worker_has_begun(k.worker))
		assert_true(turn_until(w, in_ms(PATIENCE_MS)));
	assert_int_equal(fz_worker_recall(k.worker), 0);
	task_send_number(&k, &t[2], JOB_ADD, 2);
	fz_worker_write(k.worker);
	pass_seconds(1000);
	assert_true(keeper_settle(w, &k));
	assert_task_done(w, &t[0], 1000000);
	assert_task_returned(&t[1]);
	assert_task_done(w, &t[2], 2);
	fz_worker_free(k.worker);
}

/* A job that was announced does not run again. */
static void
test_link_stream_a_death_at_any_moment(void **state)
{
	enum { N = 20, ROUNDS = 60 };
	static struct task t[N];
	struct world *w = *state;

	for (int round = 0; round < ROUNDS; round++) {
		int ncalls, nbegun = 0;
		struct keeper k;

		atomic_store(&w->shared->calls[JOB_ADD], 0);
		assert_non_null(keep(w, &k));
		for (uint64_t i = 0; i < N; i++)
			task_send_number(&k, &t[i], JOB_ADD, i);
		fz_worker_write(k.worker);
		usleep((useconds_t)(round * 20));
		kill(k.worker->pid, SIGKILL);
		if (round % 2 == 0)
			fz_worker_recall(k.worker);
		assert_true(keeper_dies(w, &k));
		ncalls = atomic_load(&w->shared->calls[JOB_ADD]);
		for (uint64_t i = 0; i < N; i++) {
			assert_one_outcome(&t[i]);
			nbegun += t[i].ndone + t[i].nfailed;
			if (t[i].ndone != 0)
				assert_task_done(w, &t[i], i);
			else if (t[i].nfailed != 0)
				assert_failed(&t[i], FZ_ERR_CRASH);
		}
		assert_in_range(nbegun, ncalls, ncalls + 1);
	}
}

static void
test_link_stream_a_timeout_ends_a_job(void **state)
{
	struct world *w = *state;
	struct task t[2] = { { .ndone = 0 } };
	struct keeper k;

	assert_non_null(keep(w, &k));
	t[0].job.timeout_ns = 50 * FZ_CLOCK_MS;
	task_send_number(&k, &t[0], JOB_SLEEP, 10 * PATIENCE_MS);
	task_send_number(&k, &t[1], JOB_ADD, 1);
	assert_true(keeper_dies(w, &k));
	assert_failed(&t[0], FZ_ERR_TIMEOUT);
	assert_task_returned(&t[1]);
}

static void
test_link_stream_a_timeout_ends_a_job_that_does_not_begin(void **state)
{
	struct world *w = *state;
	struct task t[2] = { { .ndone = 0 } };
	struct keeper k;

	w->shared->mode = START_NEVER_READS;
	assert_non_null(keep(w, &k));
	t[0].job.timeout_ns = 10 * FZ_CLOCK_MS;
	task_send_number(&k, &t[0], JOB_ADD, 1);
	task_send_number(&k, &t[1], JOB_ADD, 1);
	assert_true(keeper_dies(w, &k));
	assert_failed(&t[0], FZ_ERR_TIMEOUT);
	assert_task_returned(&t[1]);
}

/* A worker that reports the start of two calls, and replies to none. */
static int
start_two(void *ctx, struct fz_port *port)
{
	struct fz_call call;

	(void)ctx;
	assert_int_equal(fz_port_next(port, &call, NULL), 1);
	fz_buf_clear(&port->frame);
	fz_wire_begin(&port->frame, FZ_WIRE_STARTED, 0, 1);
	fz_buf_put_u32(&port->frame, 1);
	fz_wire_end(&port->frame, 0);
	fz_fd_write_all(port->out, port->frame.data, port->frame.len);
	for (char byte; read(port->in, &byte, 1) == 1;)
		continue;
	return 0;
}

/*
 * If the worker has started the next job, the head is done, however long its
 * reply takes. The parent must not be busy while it waits for the reply.
 */
static void
test_link_stream_a_reply_may_take_longer_than_the_timeout(void **state)
{
	struct world *w = *state;
	struct task t[2] = { { .ndone = 0 } };
	struct keeper k;
	unsigned nturns = 0;

	assert_non_null(keep_main(w, &k, start_two, NULL));
	for (int i = 0; i < 2; i++) {
		t[i].job.timeout_ns = 10 * FZ_CLOCK_MS;
		task_send_number(&k, &t[i], JOB_ADD, 1);
	}
	for (int64_t until = in_ms(2000); turn_until(w, until);)
		nturns++;
	assert_in_range(nturns, 1, 1000);
	fz_worker_free(k.worker);
}

static void
do_some(struct world *w)
{
	struct task t[4] = { { .ndone = 0 } };
	struct keeper k;

	assert_non_null(keep(w, &k));
	for (uint64_t i = 0; i < 4; i++)
		task_send_number(&k, &t[i], JOB_ADD, i);
	assert_true(keeper_settle(w, &k));
	for (uint64_t i = 0; i < 4; i++)
		assert_task_done(w, &t[i], i);
	fz_worker_free(k.worker);
}

static void
test_link_stream_reads_and_writes_may_be_odd(void **state)
{
	struct world *w = *state;

	for (size_t most = 1; most < 40; most += 6) {
		faults_at(0);
		faults.most = most;
		do_some(w);
		faults.odd_every = 3;
		faults.odd_error = most % 2 ? EAGAIN : EINTR;
		do_some(w);
		assert_true(faults.nodd > 0);
		faults_end();
	}
}

static int
scenario(void *ctx)
{
	struct world *w = ctx;
	struct fz_worker_opts opts = {
		.main = serve, .main_ctx = w->shared, .link = &fz_link_stream
	};

	return keeper_try_jobs(w, &opts, true);
}

static void
test_link_stream_any_call_may_fail(void **state)
{
	assert_true(faults_at_each(scenario, *state) > 10);
}

#define TEST(name) \
	cmocka_unit_test_setup_teardown(name, world_setup, world_teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_link_stream_worker_does_jobs_in_order),
		TEST(test_link_stream_worker_shows_how_far_its_node_is),
		TEST(
		    test_link_stream_the_way_to_a_node_is_the_least_one_lately),
		TEST(test_link_stream_worker_leaves_when_it_is_dismissed),
		TEST(test_link_stream_big_values_go_there_and_back),
		TEST(test_link_stream_a_lost_worker_costs_what_it_had_begun),
		TEST(test_link_stream_a_reply_counts_whatever_follows_it),
		TEST(test_link_stream_may_end_at_any_byte),
		TEST(test_link_stream_half_a_frame_is_not_waited_for),
		TEST(test_link_stream_a_worker_here_sends_nothing_of_a_node),
		TEST(test_link_stream_recall_races_with_the_worker),
		TEST(test_link_stream_a_recall_spares_later_jobs),
		TEST(test_link_stream_a_death_at_any_moment),
		TEST(test_link_stream_a_timeout_ends_a_job),
		TEST(test_link_stream_a_timeout_ends_a_job_that_does_not_begin),
		TEST(test_link_stream_a_reply_may_take_longer_than_the_timeout),
		TEST(test_link_stream_reads_and_writes_may_be_odd),
		TEST(test_link_stream_any_call_may_fail),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
