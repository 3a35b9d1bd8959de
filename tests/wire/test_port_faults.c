/*
 * Frames that are broken, and calls to the system that fail.
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
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/err.h"
#include "faults.h"
#include "os/fd.h"
#include "port_ends.h"
#include "wire/child_port.h"
#include "wire/wire.h"

static void
test_port_garbage_ends_it(void **state)
{
	struct port_ends *e = *state;
	struct fz_err err = { 0 };
	struct fz_call call;

	assert_int_equal(write(e->jobs[1], "0123456789abcdef", 16), 16);
	assert_int_equal(fz_port_next(&e->port, &call, &err), -1);
	assert_int_equal(err.kind, FZ_ERR_CRASH);
}

static void
test_port_a_short_job_ends_it(void **state)
{
	struct port_ends *e = *state;
	struct fz_err err = { 0 };
	struct fz_call call;
	size_t start = fz_wire_begin(&e->out, FZ_WIRE_JOB, 0, 0);

	fz_buf_put_u32(&e->out, 1);
	fz_wire_end(&e->out, start);
	write_jobs(e);
	assert_int_equal(fz_port_next(&e->port, &call, &err), -1);
	assert_int_equal(err.kind, FZ_ERR_CRASH);
}

static void
test_port_without_a_reader_sending_fails(void **state)
{
	struct port_ends *e = *state;
	struct fz_err err = { 0 };
	struct fz_call call = { .seq = 5 };

	signal(SIGPIPE, SIG_IGN);
	fz_fd_close(&e->results[0]);
	put_reply(e, &call, "x");
	assert_int_equal(fz_port_flush(&e->port, &err), -1);
	assert_int_equal(err.kind, FZ_ERR_ERROR);
	assert_int_equal(err.code, EPIPE);
	signal(SIGPIPE, SIG_DFL);
}

static void
test_port_short_and_interrupted_calls_lose_nothing(void **state)
{
	struct port_ends *e = *state;
	struct fz_frame frame;
	struct fz_call call;

	faults_at(0);
	faults.most = 3;
	faults.odd_every = 2;
	faults.odd_error = EINTR;
	for (uint32_t i = 0; i < 50; i++) {
		put_job(e, i, 0, "arguments");
		write_jobs(e);
		assert_int_equal(fz_port_next(&e->port, &call, NULL), 1);
		assert_int_equal(call.seq, i);
		put_reply(e, &call, "some value");
		assert_int_equal(fz_port_flush(&e->port, NULL), 0);
		take_frame(e, &frame);
		assert_int_equal(frame.seq, i);
		assert_memory_equal(frame.body + 12, "some value", 10);
	}
	assert_true(faults.nodd > 100);
	faults_end();
}

/* Reply with a small and a big value. Returns -1 if the reply was an error. */
static int
scenario(struct port_ends *e, uint32_t seq)
{
	struct fz_err err = { 0 };
	struct fz_frame frame;
	struct fz_call call;

	put_job(e, seq, 0, "argument");
	if (e->out.failed) {
		e->out.failed = false;
		e->out.len = 0;
		return -1;
	}
	assert_int_equal(
	    __real_write(e->jobs[1], e->out.data, e->out.len), e->out.len);
	fz_buf_clear(&e->out);
	while (fz_port_next(&e->port, &call, &err) != 1)
		assert_true(err.code == ENOMEM || err.code == EIO);
	fz_port_begin(&e->port, &call, FZ_WIRE_RESULT, 2);
	for (int i = 0; i < 2; i++) {
		size_t len = i == 0 ? 300 : 200 << 10;
		unsigned char *p = fz_buf_reserve(&e->port.value.buf, len);

		if (p != NULL) {
			memset(p, 'v', len);
			e->port.value.buf.len = len;
		}
		fz_port_put(&e->port);
	}
	err = (struct fz_err){ 0 };
	if (fz_port_send(&e->port, &err) != 0) {
		assert_true(err.kind == FZ_ERR_MEMORY || err.code == EIO);
		if (err.kind != FZ_ERR_MEMORY)
			return -1;
		fz_port_begin(&e->port, &call, FZ_WIRE_ERROR, FZ_ERR_MEMORY);
		fz_port_put(&e->port);
		assert_int_equal(fz_port_send(&e->port, NULL), 0);
	}
	if (fz_port_flush(&e->port, &err) != 0)
		return -1;
	while (fz_wire_next(&e->in, &frame, NULL) != 1)
		fz_wire_fill(&e->in, e->results[0]);
	assert_int_equal(frame.seq, seq);
	return frame.type == FZ_WIRE_RESULT ? 0 : -1;
}

static void
test_port_any_call_may_fail(void **state)
{
	unsigned long n = 0;
	int rc, nfailed = 0;

	do {
		(void)port_ends_setup(state);
		make_room(*state);
		faults_at(++n);
		rc = scenario(*state, 0);
		nfailed += rc != 0;
		if (!faults_end())
			n = 0;
		(void)port_ends_teardown(state);
	} while (n != 0);
	assert_int_equal(rc, 0);
	assert_true(nfailed > 2);
}

static void
test_port_a_mailbox_without_memory_is_an_error(void **state)
{
	struct fz_mailbox_block *block = NULL;
	struct fz_err err = { 0 };

	(void)state;
	for (unsigned long n = 1; n <= 2; n++) { /* malloc(), then mmap() */
		err.code = 0;
		faults_at(n);
		assert_null(fz_mailbox_new(&block, &err));
		assert_true(faults_end());
		assert_null(block);
		assert_int_equal(err.code, ENOMEM);
	}
	fz_mailbox_free(NULL, block);
	fz_mailbox_block_drop(block);
}

#define TEST(name)                       \
	cmocka_unit_test_setup_teardown( \
	    name, port_ends_setup, port_ends_teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_port_garbage_ends_it),
		TEST(test_port_a_short_job_ends_it),
		TEST(test_port_without_a_reader_sending_fails),
		TEST(test_port_short_and_interrupted_calls_lose_nothing),
		cmocka_unit_test(test_port_any_call_may_fail),
		TEST(test_port_a_mailbox_without_memory_is_an_error),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
