/*
 * The worker's end of a byte stream; this process is its parent, too.
 *
 * wrap: malloc calloc realloc mmap epoll_create1 epoll_ctl epoll_pwait fork
 * wrap: pipe2 read write pwritev2
 */
/* setenv is not in C11. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/err.h"
#include "calls.h"
#include "faults.h"
#include "os/fd.h"
#include "wire/child_port.h"
#include "wire/child_stream.h"
#include "wire/mailbox.h"

struct ends {
	struct fz_port port;
	struct fz_call call;
	int fd[2];            /* the parent's socket, the worker's socket */
	struct fz_buf out;    /* frames for the worker */
	struct fz_wire_in in; /* frames from the worker */
};

static int
setup(void **state)
{
	struct ends *e = calloc(1, sizeof(*e));

	assert_int_equal(fz_fd_socket_pair(e->fd, NULL), 0);
	assert_int_equal(fz_child_stream_init(
			     &e->port, e->fd[1], e->fd[1], NULL, false, NULL),
	    0);
	fz_buf_init(&e->out);
	fz_wire_in_init(&e->in);
	*state = e;
	return 0;
}

static int
teardown(void **state)
{
	struct ends *e = *state;

	port_fini(&e->port);
	munmap(e->port.mailbox, sizeof(*e->port.mailbox));
	fz_buf_fini(&e->out);
	fz_wire_in_fini(&e->in);
	fz_fd_close(&e->fd[0]);
	fz_fd_close(&e->fd[1]);
	free(e);
	return 0;
}

static void
write_all(struct ends *e)
{
	assert_int_equal(fz_fd_write_all(e->fd[0], e->out.data, e->out.len), 0);
	fz_buf_clear(&e->out);
}

static int
next(struct ends *e)
{
	return fz_port_next(&e->port, &e->call, NULL);
}

/* Send all frames, and then EOF, which ends the wait of the worker. */
static void
end_calls(struct ends *e)
{
	write_all(e);
	assert_int_equal(shutdown(e->fd[0], SHUT_WR), 0);
}

/* Read the next frame of the worker, which must be this one. */
static void
expect(struct ends *e, enum fz_wire_type type, uint32_t seq, uint32_t number)
{
	struct fz_frame frame;
	struct fz_reader body;

	while (fz_wire_next(&e->in, &frame, NULL) != 1)
		assert_true(fz_wire_fill(&e->in, e->fd[0]) > 0);
	fz_reader_init(&body, frame.body, frame.len);
	assert_int_equal(frame.type, type);
	assert_int_equal(frame.seq, seq);
	assert_int_equal(fz_reader_u32(&body), number);
}

/* Check that the worker has written nothing else. */
static void
expect_nothing(struct ends *e)
{
	struct fz_frame frame;

	fz_fd_close(&e->fd[1]);
	assert_int_equal(fz_wire_next(&e->in, &frame, NULL), 0);
	assert_int_equal(fz_wire_fill(&e->in, e->fd[0]), 0);
}

static void
test_child_stream_announces_a_job_before_it_starts(void **state)
{
	struct ends *e = *state;

	put_plain_job(&e->out, 0);
	put_plain_job(&e->out, 1);
	write_all(e);
	assert_int_equal(next(e), 1);
	expect(e, FZ_WIRE_STARTED, 0, 1);
	assert_int_equal(next(e), 1);
	expect(e, FZ_WIRE_STARTED, 1, 1);
	end_calls(e);
	assert_int_equal(next(e), 0);
	expect_nothing(e);
}

static void
test_child_stream_shares_no_tokens(void **state)
{
	struct ends *e = *state;

	assert_null(e->port.account);
}

static void
test_child_stream_answers_a_recall_before_it_starts(void **state)
{
	struct ends *e = *state;

	put_plain_job(&e->out, 0);
	put_plain_chunk(&e->out, 1, 3, 0);
	put_plain_recall(&e->out, 4);
	put_plain_job(&e->out, 4);
	end_calls(e);
	assert_int_equal(next(e), 1);
	assert_int_equal(e->call.seq, 4);
	assert_int_equal(next(e), 0);
	expect(e, FZ_WIRE_RECALLED, 4, 0);
	expect(e, FZ_WIRE_STARTED, 4, 1);
	expect_nothing(e);
}

static void
test_child_stream_answers_a_recall_when_idle(void **state)
{
	struct ends *e = *state;

	put_plain_job(&e->out, 0);
	write_all(e);
	assert_int_equal(next(e), 1);
	put_plain_recall(&e->out, 1);
	end_calls(e);
	assert_int_equal(next(e), 0);
	expect(e, FZ_WIRE_STARTED, 0, 1);
	expect(e, FZ_WIRE_RECALLED, 1, 0);
	expect_nothing(e);
}

static void
test_child_stream_a_recall_ends_a_chunk(void **state)
{
	struct ends *e = *state;

	put_plain_chunk(&e->out, 0, 10, 0);
	write_all(e);
	assert_int_equal(next(e), 1);
	put_plain_recall(&e->out, 10);
	end_calls(e);
	assert_false(fz_port_advance(&e->port, &e->call));
	assert_int_equal(next(e), 0);
	expect(e, FZ_WIRE_STARTED, 0, 1);
	expect(e, FZ_WIRE_RECALLED, 10, 0);
	expect_nothing(e);
}

/*
 * Call `n` items from `seq` on: each is announced once, in order, and then
 * starts.
 */
static void
call_all(struct ends *e, uint32_t seq, uint32_t n, bool alone)
{
	uint32_t announced = seq;

	do {
		struct fz_frame frame;
		struct fz_reader body;

		while (announced == e->call.seq) {
			while (fz_wire_next(&e->in, &frame, NULL) != 1)
				assert_true(fz_wire_fill(&e->in, e->fd[0]) > 0);
			fz_reader_init(&body, frame.body, frame.len);
			assert_int_equal(frame.type, FZ_WIRE_STARTED);
			assert_int_equal(frame.seq, announced);
			announced += fz_reader_u32(&body);
			assert_true(announced == seq + 1 || !alone ||
				    announced == frame.seq + 1);
		}
		assert_true((int32_t)(announced - e->call.seq) > 0);
	} while (fz_port_advance(&e->port, &e->call));
	assert_int_equal(e->call.seq, seq + n - 1);
	assert_int_equal(announced, seq + n);
}

static void
test_child_stream_announces_all_items_of_a_chunk(void **state)
{
	struct ends *e = *state;

	put_plain_chunk(&e->out, 0, 5000, 0);
	write_all(e);
	assert_int_equal(next(e), 1);
	call_all(e, 0, 5000, false);
	end_calls(e);
	assert_int_equal(next(e), 0);
	expect_nothing(e);
}

static void
test_child_stream_announces_items_with_a_timeout_alone(void **state)
{
	struct ends *e = *state;

	put_plain_chunk(&e->out, 0, 100, FZ_WIRE_TIMED);
	write_all(e);
	assert_int_equal(next(e), 1);
	call_all(e, 0, 100, true);
}

static void
test_child_stream_numbers_may_wrap(void **state)
{
	struct ends *e = *state;
	uint32_t seq = UINT32_MAX - 99;

	e->port.permit.floor = e->port.permit.end = seq;
	fz_claim_permit(&e->port.mailbox->claim, seq);
	put_plain_chunk(&e->out, seq, 1000, 0);
	write_all(e);
	assert_int_equal(next(e), 1);
	call_all(e, seq, 1000, false);
}

/* The calls do not fit into the first buffer of the port, which is replaced. */
static void
test_child_stream_arguments_stay_while_more_comes(void **state)
{
	enum { N = 4000 };
	struct ends *e = *state;
	const void *bytes;
	size_t len;

	put_plain_chunk(&e->out, 0, N, FZ_WIRE_TIMED);
	write_all(e);
	assert_int_equal(next(e), 1);
	for (uint32_t i = 0;; i++) {
		assert_int_equal(
		    fz_port_argument(&e->port, &e->call, &bytes, &len, NULL),
		    0);
		assert_int_equal(len, 8);
		assert_int_equal(fz_le64_load(bytes), i);
		fz_port_release(&e->port);
		put_plain_chunk(&e->out, N + 4 * i, 4, 0);
		write_all(e);
		if (!fz_port_advance(&e->port, &e->call))
			break;
		expect(e, FZ_WIRE_STARTED, i, 1);
	}
	assert_int_equal(e->call.seq, N - 1);
	assert_true(e->port.wire.buf.cap > FZ_MAILBOX_IN);
}

static void
test_child_stream_refuses_arguments_in_the_arena(void **state)
{
	struct ends *e = *state;
	struct fz_err err = { 0 };
	const void *bytes;
	size_t start, len;

	start = fz_wire_begin(&e->out, FZ_WIRE_JOB, 0, 0);
	fz_buf_put_u32(&e->out, 0);
	fz_buf_put_u32(&e->out, 1);
	fz_buf_put_u32(&e->out, 0);
	fz_buf_put_u64(&e->out, 0);
	fz_buf_put_u64(&e->out, 0);
	fz_wire_put_offset(&e->out, 4096, 100);
	fz_wire_end(&e->out, start);
	write_all(e);
	assert_int_equal(next(e), 1);
	assert_int_equal(
	    fz_port_argument(&e->port, &e->call, &bytes, &len, &err), -1);
	assert_non_null(strstr(err.text, "not shared"));
}

static void
test_child_stream_results_go_into_frames(void **state)
{
	struct ends *e = *state;
	const char big[200000] = "big";
	struct fz_frame frame;

	put_plain_job(&e->out, 0);
	write_all(e);
	assert_int_equal(next(e), 1);
	fz_port_begin(&e->port, &e->call, FZ_WIRE_RESULT, 1);
	fz_buf_put(&e->port.value.buf, big, 100000);
	fz_port_put(&e->port);
	assert_int_equal(fz_port_send(&e->port, NULL), 0);
	assert_int_equal(fz_port_flush(&e->port, NULL), 0);
	expect(e, FZ_WIRE_STARTED, 0, 1);
	while (fz_wire_next(&e->in, &frame, NULL) != 1)
		assert_true(fz_wire_fill(&e->in, e->fd[0]) > 0);
	assert_int_equal(frame.type, FZ_WIRE_RESULT);
	assert_int_equal(frame.len, 4 + 8 + 100000);
	e->call.result_buffer = 4096;
	assert_null(fz_port_map_results(&e->port, &e->call, 16));
}

static void
test_child_stream_ends_with_its_parent(void **state)
{
	struct ends *e = *state;
	struct fz_err err = { 0 };

	signal(SIGPIPE, SIG_IGN);
	put_plain_job(&e->out, 0);
	write_all(e);
	fz_fd_close(&e->fd[0]);
	/* The worker cannot announce the job, because the peer has closed. */
	assert_int_equal(fz_port_next(&e->port, &e->call, &err), -1);
	signal(SIGPIPE, SIG_DFL);
}

static void
test_child_stream_short_reads_change_nothing(void **state)
{
	struct ends *e = *state;

	/* Only a few frames, because a socket has no room for many. */
	put_plain_chunk(&e->out, 0, 5, FZ_WIRE_TIMED);
	put_plain_recall(&e->out, 5);
	put_plain_job(&e->out, 5);
	end_calls(e);
	faults_at(0);
	faults.most = 1;
	assert_int_equal(next(e), 1);
	while (fz_port_advance(&e->port, &e->call))
		continue;
	while (e->call.type != FZ_WIRE_JOB)
		assert_int_equal(next(e), 1);
	assert_int_equal(e->call.seq, 5);
	assert_int_equal(next(e), 0);
	faults_end();
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_child_stream_announces_a_job_before_it_starts),
		T(test_child_stream_shares_no_tokens),
		T(test_child_stream_answers_a_recall_before_it_starts),
		T(test_child_stream_answers_a_recall_when_idle),
		T(test_child_stream_a_recall_ends_a_chunk),
		T(test_child_stream_announces_all_items_of_a_chunk),
		T(test_child_stream_announces_items_with_a_timeout_alone),
		T(test_child_stream_numbers_may_wrap),
		T(test_child_stream_arguments_stay_while_more_comes),
		T(test_child_stream_refuses_arguments_in_the_arena),
		T(test_child_stream_results_go_into_frames),
		T(test_child_stream_ends_with_its_parent),
		T(test_child_stream_short_reads_change_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
