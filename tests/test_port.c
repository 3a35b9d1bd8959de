/*
 * A worker's end of its pipes, played by this process alone.
 * wrap: malloc calloc realloc mmap epoll_create1 epoll_ctl epoll_wait fork
 * wrap: pipe2 read write pwritev2
 */
/* F_SETPIPE_SZ is Linux. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "engine/blob.h"
#include "engine/port.h"
#include "faults.h"
#include "os/fd.h"
#include "os/shm.h"

struct ends {
	struct fz_port port;
	struct fz_shm *shm; /* in a worker: of its parent, a slice its own */
	struct fz_cell *cell;
	int jobs[2], results[2];
	struct fz_wire_in in; /* of the results */
	struct fz_buf out;    /* of the jobs */
};

static int
setup(void **state)
{
	struct ends *e = calloc(1, sizeof(*e));

	alarm(30);
	assert_int_equal(fz_fd_pipe(e->jobs, NULL), 0);
	assert_int_equal(fz_fd_pipe(e->results, NULL), 0);
	e->cell = fz_cell_new(NULL);
	e->shm = fz_shm_new(NULL);
	assert_non_null(e->cell);
	assert_non_null(e->shm);
	fz_wire_in_init(&e->in);
	fz_buf_init(&e->out);
	fz_port_init(&e->port, e->jobs[0], e->results[1], e->cell, e->shm);
	*state = e;
	return 0;
}

static int
teardown(void **state)
{
	struct ends *e = *state;

	fz_wire_in_fini(&e->port.wire);
	fz_buf_fini(&e->port.frame);
	fz_buf_fini(&e->port.value.buf);
	fz_wire_in_fini(&e->in);
	fz_buf_fini(&e->out);
	fz_shm_free(e->shm);
	fz_cell_free(e->cell);
	for (int i = 0; i < 2; i++) {
		fz_fd_close(&e->jobs[i]);
		fz_fd_close(&e->results[i]);
	}
	free(e);
	alarm(0);
	return 0;
}

static void
put_job(struct ends *e, uint32_t seq, unsigned flags, const char *arg)
{
	size_t start = fz_wire_begin(&e->out, FZ_WIRE_JOB, flags, seq);

	fz_buf_put_u32(&e->out, 3); /* func */
	fz_buf_put_u32(&e->out, 1); /* nargs */
	fz_buf_put_u32(&e->out, 2); /* nvalues */
	fz_buf_put_u64(&e->out, 44);
	fz_buf_put_u64(&e->out, 55);
	fz_wire_put_bytes(&e->out, arg, strlen(arg));
	fz_wire_end(&e->out, start);
}

static void
write_jobs(struct ends *e)
{
	assert_int_equal(
	    fz_fd_write_all(e->jobs[1], e->out.data, e->out.len), 0);
	fz_buf_clear(&e->out);
}

static void
reply(struct ends *e, const struct fz_call *call, const char *value)
{
	fz_port_begin(&e->port, call, FZ_WIRE_RESULT, 1);
	fz_buf_put(&e->port.value.buf, value, strlen(value));
	fz_port_put(&e->port);
	assert_int_equal(fz_port_send(&e->port, NULL), 0);
}

/* The next reply in the pipe; it must be there. */
static void
take(struct ends *e, struct fz_frame *frame)
{
	while (fz_wire_next(&e->in, frame, NULL) != 1)
		assert_true(fz_wire_fill(&e->in, e->results[0]) > 0);
}

static void
test_port_gives_calls_in_order(void **state)
{
	struct ends *e = *state;
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
	assert_int_equal(fz_claim_started(&e->cell->claim), 1);
	assert_int_equal(fz_port_next(&e->port, &call, NULL), 1);
	assert_int_equal(call.seq, 1);
	assert_int_equal(fz_claim_started(&e->cell->claim), 2);
	fz_fd_close(&e->jobs[1]);
	assert_int_equal(fz_port_next(&e->port, &call, NULL), 0);
}

static void
test_port_skips_what_was_taken_back(void **state)
{
	struct ends *e = *state;
	struct fz_call call;

	put_job(e, 0, 0, "a");
	put_job(e, 1, FZ_WIRE_TIMED, "b");
	put_job(e, 2, 0, "c");
	write_jobs(e);
	assert_int_equal(fz_claim_recall(&e->cell->claim, 2), 0);
	assert_int_equal(fz_port_next(&e->port, &call, NULL), 1);
	assert_int_equal(call.seq, 2);
	assert_int_equal(fz_claim_started(&e->cell->claim), 3);
}

static void
test_port_sequence_numbers_wrap(void **state)
{
	struct ends *e = *state;
	struct fz_call call;

	for (int i = 1; i <= 4; i++)
		fz_claim_settle(
		    &e->cell->claim, (UINT32_MAX / 4) * (uint32_t)i);
	assert_true(fz_claim_start(&e->cell->claim, UINT32_MAX - 4));
	assert_int_equal(
	    fz_claim_recall(&e->cell->claim, UINT32_MAX), UINT32_MAX - 3);
	put_job(e, UINT32_MAX, 0, "a");
	put_job(e, 0, 0, "b");
	write_jobs(e);
	assert_int_equal(fz_port_next(&e->port, &call, NULL), 1);
	assert_int_equal(fz_claim_started(&e->cell->claim), 0);
	assert_int_equal(fz_port_next(&e->port, &call, NULL), 1);
	assert_int_equal(call.seq, 0);
}

static void
test_port_notes_when_a_timed_job_starts(void **state)
{
	struct ends *e = *state;
	struct fz_call call;
	int64_t before = fz_clock_ns();

	put_job(e, 0, 0, "a");
	put_job(e, 1, FZ_WIRE_TIMED, "b");
	write_jobs(e);
	fz_port_next(&e->port, &call, NULL);
	assert_int_equal(atomic_load(&e->cell->start_ns), 0);
	fz_port_next(&e->port, &call, NULL);
	assert_true(atomic_load(&e->cell->start_ns) >= before);
}

static void
test_port_keeps_a_reply_while_more_jobs_wait(void **state)
{
	struct ends *e = *state;
	struct fz_frame frame;
	struct fz_call call;

	put_job(e, 0, 0, "a");
	put_job(e, 1, 0, "b");
	write_jobs(e);
	e->port.flushed_ns = fz_clock_ns() + FZ_CLOCK_SECOND;
	fz_port_next(&e->port, &call, NULL);
	reply(e, &call, "one");
	assert_int_equal(
	    atomic_load(&e->cell->nout), FZ_WIRE_HEADER + 4 + 8 + 3);
	fz_port_next(&e->port, &call, NULL);
	reply(e, &call, "two");
	fz_fd_close(&e->jobs[1]);
	assert_int_equal(fz_port_next(&e->port, &call, NULL), 0);
	assert_int_equal(atomic_load(&e->cell->nout), 0);
	assert_int_equal(atomic_load(&e->cell->epoch), 1);
	take(e, &frame);
	assert_int_equal(frame.seq, 0);
	take(e, &frame);
	assert_int_equal(frame.seq, 1);
	assert_memory_equal(frame.body + 12, "two", 3);
}

static void
test_port_does_not_keep_a_reply_for_long(void **state)
{
	struct ends *e = *state;
	struct fz_call call;

	put_job(e, 0, 0, "a");
	put_job(e, 1, 0, "b");
	write_jobs(e);
	fz_port_next(&e->port, &call, NULL);
	usleep(2000);
	reply(e, &call, "one");
	assert_int_equal(atomic_load(&e->cell->nout), 0);
}

static void
test_port_a_reply_larger_than_the_cell_keeps_its_order(void **state)
{
	enum { LEN = 60000, NVALUES = 3 };
	struct ends *e = *state;
	struct fz_frame frame;
	struct fz_call call;
	unsigned char *p;
	int status;
	pid_t pid;

	put_job(e, 0, 0, "a");
	put_job(e, 1, 0, "b");
	write_jobs(e);
	pid = fork();
	if (pid == 0) { /* a pipe does not hold all of it */
		e->port.flushed_ns = fz_clock_ns() + FZ_CLOCK_SECOND;
		fz_port_next(&e->port, &call, NULL);
		reply(e, &call, "small");
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
	take(e, &frame);
	assert_int_equal(frame.seq, 0);
	take(e, &frame);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_int_equal(frame.seq, 1);
	assert_int_equal(frame.len, 4 + NVALUES * (8 + LEN));
	assert_int_equal(frame.body[frame.len - 1], 'c');
}

static void
put_big(struct ends *e, size_t len)
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
	struct ends *e = *state;
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
	take(e, &frame);
	fz_reader_init(&body, frame.body, frame.len);
	assert_int_equal(fz_reader_u32(&body), 2);
	assert_int_equal(fz_wire_part(&body, &part), 0);
	assert_null(part.bytes);
	assert_int_equal(part.len, 1 << 20);
	at = fz_shm_map(e->shm, part.offset, part.len, NULL);
	assert_int_equal(at[(1 << 20) - 1], 'z');
	fz_shm_unmap(e->shm, at, part.len);
	assert_int_equal(fz_wire_part(&body, &part), 0);
	assert_int_equal(part.len, 10);
}

/* Extents of the worker's slice must not be lost in replies given up. */
static void
test_port_a_reply_given_up_gives_back_its_extents(void **state)
{
	struct ends *e = *state;
	struct fz_call call = { .seq = 5 };
	size_t held;

	fz_port_begin(&e->port, &call, FZ_WIRE_RESULT, 3);
	put_big(e, 300 << 10);
	fz_port_begin(&e->port, &call, FZ_WIRE_RESULT, 1);
	put_big(e, 300 << 10);
	held = fz_shm_held(e->shm);
	for (int i = 0; i < 100; i++) {
		fz_port_begin(&e->port, &call, FZ_WIRE_RESULT, 2);
		put_big(e, 300 << 10);
		if (i % 2 != 0) /* an error instead */
			fz_port_begin(&e->port, &call, FZ_WIRE_ERROR, 1);
	}
	assert_true(fz_shm_held(e->shm) <= 2 * held);
}

static void
test_port_a_free_frame_gives_back_an_extent(void **state)
{
	struct ends *e = *state;
	struct fz_call call;
	uint64_t first, second;
	size_t start;

	assert_non_null(fz_shm_alloc(e->shm, 4 << 20, &first, NULL));
	start = fz_wire_begin(&e->out, FZ_WIRE_FREE, 0, 0);
	fz_buf_put_u64(&e->out, first);
	fz_wire_end(&e->out, start);
	/* These are nobody's, or not whole: they change nothing. */
	start = fz_wire_begin(&e->out, FZ_WIRE_FREE, 0, 0);
	fz_buf_put_u64(&e->out, UINT64_MAX);
	fz_wire_end(&e->out, start);
	start = fz_wire_begin(&e->out, FZ_WIRE_FREE, 0, 0);
	fz_wire_end(&e->out, start);
	put_job(e, 0, 0, "a");
	write_jobs(e);
	assert_int_equal(fz_port_next(&e->port, &call, NULL), 1);
	assert_non_null(fz_shm_alloc(e->shm, 4 << 20, &second, NULL));
	assert_int_equal(first, second);
}

static void
test_port_garbage_ends_it(void **state)
{
	struct ends *e = *state;
	struct fz_err err = { 0 };
	struct fz_call call;

	assert_int_equal(write(e->jobs[1], "0123456789abcdef", 16), 16);
	assert_int_equal(fz_port_next(&e->port, &call, &err), -1);
	assert_int_equal(err.kind, FZ_ERR_CRASH);
}

static void
test_port_a_short_job_ends_it(void **state)
{
	struct ends *e = *state;
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
	struct ends *e = *state;
	struct fz_err err = { 0 };
	struct fz_call call = { .seq = 5 };

	signal(SIGPIPE, SIG_IGN);
	fz_fd_close(&e->results[0]);
	reply(e, &call, "x");
	assert_int_equal(fz_port_flush(&e->port, &err), -1);
	assert_int_equal(err.kind, FZ_ERR_ERROR);
	assert_int_equal(err.code, EPIPE);
	signal(SIGPIPE, SIG_DFL);
}

static void
test_port_short_and_interrupted_calls_lose_nothing(void **state)
{
	struct ends *e = *state;
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
		reply(e, &call, "some value");
		assert_int_equal(fz_port_flush(&e->port, NULL), 0);
		take(e, &frame);
		assert_int_equal(frame.seq, i);
		assert_memory_equal(frame.body + 12, "some value", 10);
	}
	assert_true(faults.nodd > 100);
	faults_end();
}

/* A reply with a small and a big value; 0, or -1 where it was an error. */
static int
scenario(struct ends *e, uint32_t seq)
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

/* What the arena refuses is all in the pipe. */
static void
make_room(struct ends *e)
{
	assert_true(fcntl(e->results[1], F_SETPIPE_SZ, 1 << 20) >= 1 << 20);
}

static void
test_port_any_call_may_fail(void **state)
{
	unsigned long n = 0;
	int rc, nfailed = 0;

	do {
		(void)setup(state);
		make_room(*state);
		faults_at(++n);
		rc = scenario(*state, 0);
		nfailed += rc != 0;
		if (!faults_end())
			n = 0;
		(void)teardown(state);
	} while (n != 0);
	assert_int_equal(rc, 0);
	assert_true(nfailed > 2);
}

static void
test_port_a_cell_without_memory_is_an_error(void **state)
{
	struct fz_err err = { 0 };

	(void)state;
	faults_at(1);
	assert_null(fz_cell_new(&err));
	assert_true(faults_end());
	assert_int_equal(err.code, ENOMEM);
	fz_cell_free(NULL);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
		    test_port_gives_calls_in_order, setup, teardown),
		cmocka_unit_test_setup_teardown(
		    test_port_skips_what_was_taken_back, setup, teardown),
		cmocka_unit_test_setup_teardown(
		    test_port_sequence_numbers_wrap, setup, teardown),
		cmocka_unit_test_setup_teardown(
		    test_port_notes_when_a_timed_job_starts, setup, teardown),
		cmocka_unit_test_setup_teardown(
		    test_port_keeps_a_reply_while_more_jobs_wait, setup,
		    teardown),
		cmocka_unit_test_setup_teardown(
		    test_port_does_not_keep_a_reply_for_long, setup, teardown),
		cmocka_unit_test_setup_teardown(
		    test_port_a_reply_larger_than_the_cell_keeps_its_order,
		    setup, teardown),
		cmocka_unit_test_setup_teardown(
		    test_port_a_big_value_goes_by_the_arena, setup, teardown),
		cmocka_unit_test_setup_teardown(
		    test_port_a_reply_given_up_gives_back_its_extents, setup,
		    teardown),
		cmocka_unit_test_setup_teardown(
		    test_port_a_free_frame_gives_back_an_extent, setup,
		    teardown),
		cmocka_unit_test_setup_teardown(
		    test_port_garbage_ends_it, setup, teardown),
		cmocka_unit_test_setup_teardown(
		    test_port_a_short_job_ends_it, setup, teardown),
		cmocka_unit_test_setup_teardown(
		    test_port_without_a_reader_sending_fails, setup, teardown),
		cmocka_unit_test_setup_teardown(
		    test_port_short_and_interrupted_calls_lose_nothing, setup,
		    teardown),
		cmocka_unit_test(test_port_any_call_may_fail),
		cmocka_unit_test_setup_teardown(
		    test_port_a_cell_without_memory_is_an_error, setup,
		    teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
