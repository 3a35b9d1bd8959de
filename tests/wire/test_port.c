/*
 * The calls that a worker reads and its replies.
 *
 * wrap: malloc calloc realloc mmap epoll_create1 epoll_ctl epoll_pwait fork
 * wrap: pipe2 read write pwritev2
 */
/* F_SETPIPE_SZ is Linux. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"
#include "faults.h"
#include "os/fd.h"
#include "port_ends.h"
#include "shared/arena.h"
#include "wire/child_port.h"
#include "wire/wire.h"

static void
test_port_gives_calls_in_order(void **state)
{
	struct port_ends *e = *state;
	struct fz_part part;
	struct fz_call call;

	put_job(e, 0, 0, "first");
	put_job(e, 1, 0, "second");
	write_jobs(e);
	assert_int_equal(fz_port_next(&e->port, &call, NULL), 1);
	assert_int_equal(call.seq, 0);
	assert_int_equal(call.func, 3);
	assert_int_equal(call.nargs, 1);
	assert_int_equal(call.nvalues, 2);
	assert_int_equal(call.seed, 44);
	assert_int_equal(call.memory, 55);
	assert_int_equal(fz_wire_part(&call.args, &part), 0);
	assert_memory_equal(part.bytes, "first", 5);
	assert_int_equal(fz_claim_started(&e->mailbox->claim), 1);
	assert_int_equal(fz_port_next(&e->port, &call, NULL), 1);
	assert_int_equal(call.seq, 1);
	assert_int_equal(fz_claim_started(&e->mailbox->claim), 2);
	fz_fd_close(&e->jobs[1]);
	assert_int_equal(fz_port_next(&e->port, &call, NULL), 0);
}

static bool
accept_below_two(const struct fz_call *call)
{
	return call->seq < 2;
}

static void
test_port_leaves_calls_behind_one_that_it_refuses(void **state)
{
	struct port_ends *e = *state;
	struct fz_frame frame;
	struct fz_call call;

	e->port.accepts = accept_below_two;
	for (uint32_t seq = 0; seq < 4; seq++)
		put_job(e, seq, 0, "a");
	write_jobs(e);
	for (uint32_t seq = 0; seq < 2; seq++) {
		assert_int_equal(fz_port_next(&e->port, &call, NULL), 1);
		assert_int_equal(call.seq, seq);
		put_reply(e, &call, "r");
	}
	assert_int_equal(fz_port_next(&e->port, &call, NULL), 0);
	/* Other jobs count as not started, and all replies are written. */
	assert_int_equal(fz_claim_started(&e->mailbox->claim), 2);
	take_frame(e, &frame);
	take_frame(e, &frame);
	assert_int_equal(frame.seq, 1);
}

static void
test_port_skips_what_was_taken_back(void **state)
{
	struct port_ends *e = *state;
	struct fz_call call;

	put_job(e, 0, 0, "a");
	put_job(e, 1, FZ_WIRE_TIMED, "b");
	put_job(e, 2, 0, "c");
	write_jobs(e);
	assert_int_equal(fz_claim_recall(&e->mailbox->claim, 2), 0);
	assert_int_equal(fz_port_next(&e->port, &call, NULL), 1);
	assert_int_equal(call.seq, 2);
	assert_int_equal(fz_claim_started(&e->mailbox->claim), 3);
}

static void
test_port_sequence_numbers_wrap(void **state)
{
	struct port_ends *e = *state;
	struct fz_call call;

	for (int i = 1; i <= 4; i++)
		fz_claim_settle(
		    &e->mailbox->claim, (UINT32_MAX / 4) * (uint32_t)i);
	assert_true(
	    fz_claim_start(&e->mailbox->claim, UINT32_MAX - 4, &e->port.lost));
	assert_int_equal(
	    fz_claim_recall(&e->mailbox->claim, UINT32_MAX), UINT32_MAX - 3);
	put_job(e, UINT32_MAX, 0, "a");
	put_job(e, 0, 0, "b");
	write_jobs(e);
	assert_int_equal(fz_port_next(&e->port, &call, NULL), 1);
	assert_int_equal(fz_claim_started(&e->mailbox->claim), 0);
	assert_int_equal(fz_port_next(&e->port, &call, NULL), 1);
	assert_int_equal(call.seq, 0);
}

static void
test_port_notes_when_a_timed_job_starts(void **state)
{
	struct port_ends *e = *state;
	struct fz_call call;
	int64_t before = fz_clock_ns();

	put_job(e, 0, 0, "a");
	put_job(e, 1, FZ_WIRE_TIMED, "b");
	write_jobs(e);
	fz_port_next(&e->port, &call, NULL);
	assert_int_equal(atomic_load(&e->mailbox->start_ns), 0);
	fz_port_next(&e->port, &call, NULL);
	assert_true(atomic_load(&e->mailbox->start_ns) >= before);
}

static void
test_port_keeps_a_reply_while_more_jobs_wait(void **state)
{
	struct port_ends *e = *state;
	struct fz_frame frame;
	struct fz_call call;

	put_job(e, 0, 0, "a");
	put_job(e, 1, 0, "b");
	write_jobs(e);
	e->port.flushed_ns = fz_clock_ns() + FZ_CLOCK_SECOND;
	fz_port_next(&e->port, &call, NULL);
	put_reply(e, &call, "one");
	assert_int_equal(
	    fz_mailbox_open(e->mailbox).start, FZ_WIRE_HEADER + 4 + 8 + 3);
	fz_port_next(&e->port, &call, NULL);
	put_reply(e, &call, "two");
	fz_fd_close(&e->jobs[1]);
	assert_int_equal(fz_port_next(&e->port, &call, NULL), 0);
	assert_int_equal(fz_mailbox_open(e->mailbox).start, 0);
	assert_int_equal(atomic_load(&e->mailbox->epoch), 1);
	take_frame(e, &frame);
	assert_int_equal(frame.seq, 0);
	take_frame(e, &frame);
	assert_int_equal(frame.seq, 1);
	assert_memory_equal(frame.body + 12, "two", 3);
}

static void
test_port_does_not_keep_a_reply_for_long(void **state)
{
	struct port_ends *e = *state;
	struct fz_call call;

	put_job(e, 0, 0, "a");
	put_job(e, 1, 0, "b");
	write_jobs(e);
	fz_port_next(&e->port, &call, NULL);
	usleep(2000);
	put_reply(e, &call, "one");
	assert_int_equal(fz_mailbox_open(e->mailbox).start, 0);
}

static void
test_port_a_reply_larger_than_the_mailbox_keeps_its_order(void **state)
{
	enum { LEN = 60000, NVALUES = 3 };
	struct port_ends *e = *state;
	struct fz_frame frame;
	struct fz_call call;
	unsigned char *p;
	int status;
	pid_t pid;

	put_job(e, 0, 0, "a");
	put_job(e, 1, 0, "b");
	write_jobs(e);
	pid = fork();
	if (pid == 0) { /* the pipe has no room for all */
		e->port.flushed_ns = fz_clock_ns() + FZ_CLOCK_SECOND;
		fz_port_next(&e->port, &call, NULL);
		put_reply(e, &call, "small");
		fz_port_next(&e->port, &call, NULL);
		fz_port_begin(&e->port, &call, FZ_WIRE_RESULT, NVALUES);
		for (int i = 0; i < NVALUES; i++) {
			p = fz_buf_reserve(&e->port.value.buf, LEN);
			memset(p, 'a' + i, LEN);
			e->port.value.buf.len = LEN;
			fz_port_put(&e->port);
		}
		_exit(fz_port_send(&e->port, NULL) != 0);
	}
	take_frame(e, &frame);
	assert_int_equal(frame.seq, 0);
	take_frame(e, &frame);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_int_equal(frame.seq, 1);
	assert_int_equal(frame.len, 4 + NVALUES * (8 + LEN));
	assert_int_equal(frame.body[frame.len - 1], 'c');
}

static void
put_big(struct port_ends *e, size_t len)
{
	unsigned char *p = fz_buf_reserve(&e->port.value.buf, len);

	assert_non_null(p);
	memset(p, 'z', len);
	e->port.value.buf.len = len;
	fz_port_put(&e->port);
}

static void
test_port_a_big_value_goes_by_the_arena(void **state)
{
	struct port_ends *e = *state;
	struct fz_reader body;
	struct fz_frame frame;
	struct fz_part part;
	struct fz_call call = { .seq = 5 };
	const unsigned char *at;

	fz_port_begin(&e->port, &call, FZ_WIRE_RESULT, 2);
	put_big(e, 1 << 20);
	put_big(e, 10);
	assert_int_equal(fz_port_send(&e->port, NULL), 0);
	assert_int_equal(fz_port_flush(&e->port, NULL), 0);
	take_frame(e, &frame);
	fz_reader_init(&body, frame.body, frame.len);
	assert_int_equal(fz_reader_u32(&body), 2);
	assert_int_equal(fz_wire_part(&body, &part), 0);
	assert_null(part.bytes);
	assert_int_equal(part.len, 1 << 20);
	at = fz_arena_map(e->arena, part.offset, part.len, NULL);
	assert_int_equal(at[(1 << 20) - 1], 'z');
	fz_arena_unmap(e->arena, at, part.len);
	assert_int_equal(fz_wire_part(&body, &part), 0);
	assert_int_equal(part.len, 10);
}

/* A reply that is given up must not leak extents of the worker's slice. */
static void
test_port_a_reply_given_up_gives_back_its_extents(void **state)
{
	struct port_ends *e = *state;
	struct fz_call call = { .seq = 5 };
	size_t held;

	fz_port_begin(&e->port, &call, FZ_WIRE_RESULT, 3);
	put_big(e, 300 << 10);
	fz_port_begin(&e->port, &call, FZ_WIRE_RESULT, 1);
	put_big(e, 300 << 10);
	held = fz_arena_held(e->arena);
	for (int i = 0; i < 100; i++) {
		fz_port_begin(&e->port, &call, FZ_WIRE_RESULT, 2);
		put_big(e, 300 << 10);
		if (i % 2 != 0) /* replace the reply by an error */
			fz_port_begin(&e->port, &call, FZ_WIRE_ERROR, 1);
	}
	assert_true(fz_arena_held(e->arena) <= 2 * held);
}

static void
test_port_a_free_frame_gives_back_an_extent(void **state)
{
	struct port_ends *e = *state;
	struct fz_call call;
	uint64_t first, second;
	size_t start;

	assert_non_null(fz_arena_alloc(e->arena, 4 << 20, &first, NULL));
	start = fz_wire_begin(&e->out, FZ_WIRE_FREE, 0, 0);
	fz_buf_put_u64(&e->out, first);
	fz_wire_end(&e->out, start);
	/* An unknown extent and an incomplete frame have no effect. */
	start = fz_wire_begin(&e->out, FZ_WIRE_FREE, 0, 0);
	fz_buf_put_u64(&e->out, UINT64_MAX);
	fz_wire_end(&e->out, start);
	start = fz_wire_begin(&e->out, FZ_WIRE_FREE, 0, 0);
	fz_wire_end(&e->out, start);
	put_job(e, 0, 0, "a");
	write_jobs(e);
	assert_int_equal(fz_port_next(&e->port, &call, NULL), 1);
	assert_non_null(fz_arena_alloc(e->arena, 4 << 20, &second, NULL));
	assert_int_equal(first, second);
}

/* Calls are read into the mailbox; one that does not fit moves to memory. */
static void
test_port_a_call_larger_than_the_mailbox_is_read(void **state)
{
	static char big[3 * FZ_MAILBOX_IN];
	struct port_ends *e = *state;
	struct fz_err err = { 0 };
	struct fz_part part;
	struct fz_call call;
	bool nomem = false;

	memset(big, 'b', sizeof(big) - 1);
	assert_true(fcntl(e->jobs[1], F_SETPIPE_SZ, 1 << 20) >= 1 << 20);
	put_job(e, 0, 0, big);
	put_job(e, 1, 0, "small");
	write_jobs(e);
	/* If a call to the system fails, the bytes read before it are kept. */
	for (bool taken = false; !taken;) {
		faults_at(2);
		taken = fz_port_next(&e->port, &call, &err) == 1;
		if (!taken)
			assert_true(err.code == EIO || err.code == ENOMEM);
		nomem = nomem || err.code == ENOMEM;
		(void)faults_end();
	}
	assert_true(nomem);
	assert_int_equal(call.seq, 0);
	assert_int_equal(fz_wire_part(&call.args, &part), 0);
	assert_int_equal(part.len, sizeof(big) - 1);
	assert_memory_equal(part.bytes, big, sizeof(big) - 1);
	assert_int_equal(fz_port_next(&e->port, &call, NULL), 1);
	assert_int_equal(call.seq, 1);
}

/* Of two replies, only the first one fits into the mailbox. */
static void
test_port_without_a_reader_no_reply_is_sent(void **state)
{
	static const size_t lens[] = { FZ_MAILBOX_OUT - 100,
		3 * FZ_MAILBOX_OUT };
	struct port_ends *e = *state;
	struct fz_call call = { .seq = 5 };

	signal(SIGPIPE, SIG_IGN);
	fz_fd_close(&e->results[0]);
	for (int before = 0; before < 2; before++) {
		for (size_t i = 0; i < 2; i++) {
			struct fz_err err = { 0 };
			unsigned char *p;

			fz_port_begin(&e->port, &call, FZ_WIRE_RESULT, 1);
			p = fz_buf_reserve(&e->port.frame, lens[i]);
			assert_non_null(p);
			memset(p, 'x', lens[i]);
			e->port.frame.len += lens[i];
			e->port.open = false; /* not in the arena */
			if (before == 0 && i == 0) {
				assert_int_equal(
				    fz_port_send(&e->port, &err), 0);
				continue; /* the reply stays in the mailbox */
			}
			assert_int_equal(fz_port_send(&e->port, &err), -1);
			assert_int_equal(err.code, EPIPE);
		}
	}
	signal(SIGPIPE, SIG_DFL);
}

#define TEST(name)                       \
	cmocka_unit_test_setup_teardown( \
	    name, port_ends_setup, port_ends_teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_port_gives_calls_in_order),
		TEST(test_port_leaves_calls_behind_one_that_it_refuses),
		TEST(test_port_skips_what_was_taken_back),
		TEST(test_port_sequence_numbers_wrap),
		TEST(test_port_notes_when_a_timed_job_starts),
		TEST(test_port_keeps_a_reply_while_more_jobs_wait),
		TEST(test_port_does_not_keep_a_reply_for_long),
		TEST(test_port_a_reply_larger_than_the_mailbox_keeps_its_order),
		TEST(test_port_a_big_value_goes_by_the_arena),
		TEST(test_port_a_reply_given_up_gives_back_its_extents),
		TEST(test_port_a_free_frame_gives_back_an_extent),
		TEST(test_port_a_call_larger_than_the_mailbox_is_read),
		TEST(test_port_without_a_reader_no_reply_is_sent),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
