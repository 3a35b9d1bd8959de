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

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"
#include "faults.h"
#include "os/fd.h"
#include "shared/arena.h"
#include "worker/blob.h"
#include "worker/child_port.h"
#include "worker/wire.h"

struct ends {
	struct fz_port port;
	struct fz_arena *shm; /* in a worker: of its parent, a slice its own */
	struct fz_cell *cell;
	int jobs[2], results[2];
	struct fz_wire_in in; /* of the results */
	struct fz_buf out;    /* of the jobs */
};

static int
setup(void **state)
{
	struct ends *e = calloc(1, sizeof(*e));

	assert_int_equal(fz_fd_pipe(e->jobs, NULL), 0);
	assert_int_equal(fz_fd_pipe(e->results, NULL), 0);
	e->cell = fz_cell_new(NULL);
	e->shm = fz_arena_new(NULL);
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
	fz_arena_free(e->shm);
	fz_cell_free(e->cell, false);
	for (int i = 0; i < 2; i++) {
		fz_fd_close(&e->jobs[i]);
		fz_fd_close(&e->results[i]);
	}
	free(e);
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

static bool
accept_below_two(const struct fz_call *call)
{
	return call->seq < 2;
}

static void
test_port_takes_no_call_from_one_on_that_it_does_not_accept(void **state)
{
	struct ends *e = *state;
	struct fz_frame frame;
	struct fz_call call;

	e->port.accepts = accept_below_two;
	for (uint32_t seq = 0; seq < 4; seq++)
		put_job(e, seq, 0, "a");
	write_jobs(e);
	for (uint32_t seq = 0; seq < 2; seq++) {
		assert_int_equal(fz_port_next(&e->port, &call, NULL), 1);
		assert_int_equal(call.seq, seq);
		reply(e, &call, "r");
	}
	assert_int_equal(fz_port_next(&e->port, &call, NULL), 0);
	/* The others count as not started, and no reply waits. */
	assert_int_equal(fz_claim_started(&e->cell->claim), 2);
	take(e, &frame);
	take(e, &frame);
	assert_int_equal(frame.seq, 1);
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
	at = fz_arena_map(e->shm, part.offset, part.len, NULL);
	assert_int_equal(at[(1 << 20) - 1], 'z');
	fz_arena_unmap(e->shm, at, part.len);
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
	held = fz_arena_held(e->shm);
	for (int i = 0; i < 100; i++) {
		fz_port_begin(&e->port, &call, FZ_WIRE_RESULT, 2);
		put_big(e, 300 << 10);
		if (i % 2 != 0) /* an error instead */
			fz_port_begin(&e->port, &call, FZ_WIRE_ERROR, 1);
	}
	assert_true(fz_arena_held(e->shm) <= 2 * held);
}

static void
test_port_a_free_frame_gives_back_an_extent(void **state)
{
	struct ends *e = *state;
	struct fz_call call;
	uint64_t first, second;
	size_t start;

	assert_non_null(fz_arena_alloc(e->shm, 4 << 20, &first, NULL));
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
	assert_non_null(fz_arena_alloc(e->shm, 4 << 20, &second, NULL));
	assert_int_equal(first, second);
}

/* ---- batches and functions ---------------------------------------------- */

/* A batch of `nitems` items with one part. */
static void
put_batch(struct ends *e, uint32_t seq, unsigned flags, uint32_t nitems)
{
	size_t start = fz_wire_begin(&e->out, FZ_WIRE_BATCH, flags, seq);

	fz_buf_put_u32(&e->out, 3); /* func */
	fz_buf_put_u32(&e->out, FZ_WIRE_MAP);
	fz_buf_put_u32(&e->out, nitems);
	fz_buf_put_u32(&e->out, 1);   /* nparts */
	fz_buf_put_u64(&e->out, 100); /* the first item */
	fz_buf_put_u64(&e->out, 44);
	fz_buf_put_u64(&e->out, 55);
	fz_buf_put_u64(&e->out, 1 << 20); /* the strip */
	fz_wire_put_bytes(&e->out, "items", 5);
	fz_wire_end(&e->out, start);
}

static void
test_port_a_batch_is_a_call_for_each_item(void **state)
{
	struct ends *e = *state;
	struct fz_part part;
	struct fz_call call;

	put_batch(e, 7, 0, 3);
	put_job(e, 10, 0, "next");
	write_jobs(e);
	assert_int_equal(fz_port_next(&e->port, &call, NULL), 1);
	assert_int_equal(call.type, FZ_WIRE_BATCH);
	assert_false(call.timed);
	assert_int_equal(call.func, 3);
	assert_int_equal(call.kind, FZ_WIRE_MAP);
	assert_int_equal(call.nargs, 1);
	assert_int_equal(call.seed, 44);
	assert_int_equal(call.memory, 55);
	assert_int_equal(call.strip, 1 << 20);
	assert_int_equal(fz_wire_part(&call.args, &part), 0);
	assert_memory_equal(part.bytes, "items", 5);
	for (uint32_t i = 0; i < 3; i++) {
		assert_int_equal(call.seq, 7 + i);
		assert_int_equal(call.item, 100 + i);
		assert_int_equal(call.nitems, 3 - i);
		assert_int_equal(fz_claim_started(&e->cell->claim), 8 + i);
		assert_int_equal(fz_port_advance(&e->port, &call), i < 2);
	}
	assert_int_equal(fz_port_next(&e->port, &call, NULL), 1);
	assert_int_equal(call.type, FZ_WIRE_JOB);
	assert_int_equal(call.seq, 10);
}

static void
test_port_a_batch_ends_where_the_rest_was_taken_back(void **state)
{
	struct ends *e = *state;
	struct fz_call call;

	put_batch(e, 0, 0, 10);
	put_batch(e, 10, 0, 10);
	put_batch(e, 20, 0, 10);
	write_jobs(e);
	assert_int_equal(fz_port_next(&e->port, &call, NULL), 1);
	assert_true(fz_port_advance(&e->port, &call));
	assert_int_equal(fz_claim_recall(&e->cell->claim, 20), 2);
	assert_false(fz_port_advance(&e->port, &call));
	assert_int_equal(call.seq, 1);
	assert_int_equal(call.item, 101);
	assert_int_equal(fz_port_next(&e->port, &call, NULL), 1);
	assert_int_equal(call.seq, 20);
}

static void
test_port_notes_when_each_timed_item_starts(void **state)
{
	struct ends *e = *state;
	struct fz_call call;
	int64_t first;

	put_batch(e, 0, FZ_WIRE_TIMED, 2);
	write_jobs(e);
	assert_int_equal(fz_port_next(&e->port, &call, NULL), 1);
	assert_true(call.timed);
	first = atomic_load(&e->cell->start_ns);
	assert_true(first > 0);
	usleep(1000);
	assert_true(fz_port_advance(&e->port, &call));
	assert_true(atomic_load(&e->cell->start_ns) >= first + FZ_CLOCK_MS);
}

static void
test_port_a_function_to_keep_is_no_call(void **state)
{
	struct ends *e = *state;
	struct fz_part part;
	struct fz_call call;
	size_t start;

	start = fz_wire_begin(&e->out, FZ_WIRE_FUNC, 0, 0);
	fz_buf_put_u32(&e->out, 9);
	fz_wire_put_bytes(&e->out, "code", 4);
	fz_wire_end(&e->out, start);
	put_job(e, 0, 0, "a");
	write_jobs(e);
	assert_int_equal(fz_port_next(&e->port, &call, NULL), 1);
	assert_int_equal(call.type, FZ_WIRE_FUNC);
	assert_int_equal(call.func, 9);
	assert_int_equal(call.nargs, 1);
	assert_int_equal(fz_wire_part(&call.args, &part), 0);
	assert_memory_equal(part.bytes, "code", 4);
	assert_int_equal(fz_claim_started(&e->cell->claim), 0);
	assert_int_equal(fz_port_next(&e->port, &call, NULL), 1);
	assert_int_equal(call.type, FZ_WIRE_JOB);
}

/* Frames whose heads are cut short, and a batch of nothing. */
static void
test_port_broken_frames_end_it(void **state)
{
	static const struct {
		enum fz_wire_type type;
		size_t head; /* bytes without which it is too short */
	} kinds[] = { { FZ_WIRE_JOB, 28 }, { FZ_WIRE_BATCH, 48 },
		{ FZ_WIRE_FUNC, 4 } };
	struct fz_call call;

	for (size_t i = 0; i < sizeof(kinds) / sizeof(*kinds); i++) {
		for (size_t len = 0; len <= kinds[i].head; len++) {
			struct fz_err err = { 0 };
			unsigned char bytes[48];
			struct ends *e;
			size_t start;
			int rc;

			(void)setup(state);
			e = *state;
			memset(bytes, 1, sizeof(bytes));
			start = fz_wire_begin(&e->out, kinds[i].type, 0, 0);
			fz_buf_put(&e->out, bytes, len);
			fz_wire_end(&e->out, start);
			write_jobs(e);
			rc = fz_port_next(&e->port, &call, &err);
			assert_int_equal(rc, len < kinds[i].head ? -1 : 1);
			assert_int_equal(
			    err.kind, rc < 0 ? FZ_ERR_CRASH : FZ_ERR_NONE);
			(void)teardown(state);
		}
	}
}

static void
test_port_a_batch_of_nothing_ends_it(void **state)
{
	struct ends *e = *state;
	struct fz_err err = { 0 };
	struct fz_call call;

	put_batch(e, 0, 0, 0);
	write_jobs(e);
	assert_int_equal(fz_port_next(&e->port, &call, &err), -1);
	assert_int_equal(err.kind, FZ_ERR_CRASH);
	assert_int_equal(fz_claim_started(&e->cell->claim), 0);
}

/* ---- results of items ---------------------------------------------------- */

/* An item of `len` bytes, all of them `byte`. */
static void
put_item(struct ends *e, uint32_t seq, char byte, size_t len)
{
	struct fz_call call = { .seq = seq };
	unsigned char *room = fz_port_item(&e->port, &call, NULL);

	assert_non_null(room);
	memset(room, byte, len);
	fz_port_item_end(&e->port, len);
}

static void
assert_items(const struct fz_frame *frame, uint32_t seq, uint32_t nitems,
    const char *bytes)
{
	assert_int_equal(frame->type, FZ_WIRE_ITEMS);
	assert_int_equal(frame->seq, seq);
	assert_int_equal(fz_le32_load(frame->body), nitems);
	assert_int_equal(frame->len, 4 + strlen(bytes));
	assert_memory_equal(frame->body + 4, bytes, strlen(bytes));
}

static void
test_port_items_wait_in_an_open_frame(void **state)
{
	enum { HEAD = FZ_WIRE_HEADER + 4 };
	struct ends *e = *state;
	struct fz_cell_open open;
	struct fz_frame frame;

	assert_int_equal(fz_cell_open(e->cell).nitems, 0);
	put_item(e, 5, 'a', 3);
	open = fz_cell_open(e->cell);
	assert_int_equal(open.start, 0);
	assert_int_equal(open.len, HEAD + 3);
	assert_int_equal(open.nitems, 1);
	put_item(e, 6, 'b', 1);
	open = fz_cell_open(e->cell);
	assert_int_equal(open.len, HEAD + 4);
	assert_int_equal(open.nitems, 2);
	assert_int_equal(fz_le32_load(e->cell->out + 4), 5);
	assert_memory_equal(e->cell->out + HEAD, "aaab", 4);
	assert_int_equal(atomic_load(&e->cell->nout), 0);
	assert_int_equal(fz_port_flush(&e->port, NULL), 0);
	assert_int_equal(fz_cell_open(e->cell).nitems, 0);
	assert_int_equal(atomic_load(&e->cell->nout), 0);
	assert_int_equal(atomic_load(&e->cell->epoch), 1);
	take(e, &frame);
	assert_items(&frame, 5, 2, "aaab");
}

/* Room that was asked for and not used is as if it had never been. */
static void
test_port_an_item_that_is_given_up_does_not_count(void **state)
{
	struct ends *e = *state;
	struct fz_call call = { .seq = 0 };
	struct fz_frame frame;

	memset(fz_port_item(&e->port, &call, NULL), 'x', FZ_PORT_ITEM);
	assert_int_equal(fz_cell_open(e->cell).nitems, 0);
	assert_int_equal(fz_port_flush(&e->port, NULL), 0);
	assert_int_equal(atomic_load(&e->cell->epoch), 0);
	put_item(e, 0, 'a', 2);
	call.seq = 1;
	memset(fz_port_item(&e->port, &call, NULL), 'x', FZ_PORT_ITEM);
	put_item(e, 1, 'b', 2);
	assert_int_equal(fz_port_flush(&e->port, NULL), 0);
	take(e, &frame);
	assert_items(&frame, 0, 2, "aabb");
}

static void
test_port_a_reply_closes_the_frame_of_items(void **state)
{
	struct ends *e = *state;
	struct fz_call call = { .seq = 2 };
	struct fz_frame frame;

	put_item(e, 0, 'a', 1);
	put_item(e, 1, 'b', 1);
	reply(e, &call, "whole");
	assert_int_equal(fz_cell_open(e->cell).nitems, 0);
	put_item(e, 3, 'c', 1);
	assert_int_equal(
	    fz_cell_open(e->cell).start, atomic_load(&e->cell->nout));
	assert_int_equal(fz_port_flush(&e->port, NULL), 0);
	take(e, &frame);
	assert_items(&frame, 0, 2, "ab");
	take(e, &frame);
	assert_int_equal(frame.type, FZ_WIRE_RESULT);
	assert_int_equal(frame.seq, 2);
	take(e, &frame);
	assert_items(&frame, 3, 1, "c");
}

static void
test_port_a_gap_in_the_numbers_begins_a_frame(void **state)
{
	struct ends *e = *state;
	struct fz_frame frame;

	put_item(e, UINT32_MAX, 'a', 1);
	put_item(e, 0, 'b', 1); /* no gap */
	put_item(e, 7, 'c', 1);
	assert_int_equal(fz_port_flush(&e->port, NULL), 0);
	take(e, &frame);
	assert_items(&frame, UINT32_MAX, 2, "ab");
	take(e, &frame);
	assert_items(&frame, 7, 1, "c");
}

/* What the arena refuses is all in the pipe. */
static void
make_room(struct ends *e)
{
	assert_true(fcntl(e->results[1], F_SETPIPE_SZ, 1 << 20) >= 1 << 20);
}

/* Items of every size until the cell has been full many times. */
static void
test_port_a_full_cell_is_written(void **state)
{
	enum { MANY = 1000 };
	struct ends *e = *state;
	uint32_t seq = 0, nframes = 0;
	struct fz_frame frame;

	make_room(e);
	assert_int_equal(fz_fd_nonblock(e->results[0], NULL), 0);
	for (uint32_t i = 0; i <= MANY; i++) {
		if (i == MANY)
			assert_int_equal(fz_port_flush(&e->port, NULL), 0);
		else
			put_item(e, i, 'x',
			    i % 3 != 0 ? i % 100 : FZ_PORT_ITEM - i % 2);
		assert_true(
		    e->port.items.start + e->port.items.len <= FZ_CELL_OUT);
		while (fz_wire_fill(&e->in, e->results[0]) > 0) {
			while (fz_wire_next(&e->in, &frame, NULL) == 1) {
				assert_int_equal(frame.seq, seq);
				seq += fz_le32_load(frame.body);
				nframes++;
			}
		}
	}
	assert_int_equal(seq, MANY);
	assert_true(nframes > 5);
}

/* With nothing to read, a pause leaves them to the next read. */
static void
test_port_a_pause_lets_go_of_what_has_waited(void **state)
{
	static const struct {
		bool more, late;
		uint32_t epoch;
	} cases[] = { { false, false, 0 }, { false, true, 0 },
		{ true, false, 0 }, { true, true, 1 } };
	struct fz_call call;

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct ends *e;

		(void)setup(state);
		e = *state;
		put_batch(e, 0, 0, 1);
		if (cases[i].more)
			put_batch(e, 1, 0, 1);
		write_jobs(e);
		assert_int_equal(fz_port_next(&e->port, &call, NULL), 1);
		put_item(e, 0, 'a', 1);
		e->port.flushed_ns =
		    cases[i].late ? 0 : fz_clock_ns() + FZ_CLOCK_SECOND;
		assert_int_equal(fz_port_end_batch(&e->port, NULL), 0);
		assert_int_equal(atomic_load(&e->cell->epoch), cases[i].epoch);
		(void)teardown(state);
	}
}

static void
test_port_without_a_reader_there_is_no_room_for_items(void **state)
{
	struct ends *e = *state;
	struct fz_call call = { .seq = 0 };
	struct fz_err err = { 0 };

	signal(SIGPIPE, SIG_IGN);
	fz_fd_close(&e->results[0]);
	while (fz_port_item(&e->port, &call, &err) != NULL) {
		fz_port_item_end(&e->port, FZ_PORT_ITEM);
		assert_true(call.seq++ < FZ_CELL_OUT / FZ_PORT_ITEM);
	}
	assert_int_equal(err.code, EPIPE);
	signal(SIGPIPE, SIG_DFL);
}

/* ---- results that are placed --------------------------------------------- */

static void
place_item(struct ends *e, uint32_t seq)
{
	struct fz_call call = { .seq = seq, .item = 40, .nitems = 1 };
	struct fz_direct run;

	assert_int_equal(fz_direct_begin(&e->port, &call, &run, NULL), 0);
	fz_direct_stored(&run);
	assert_false(fz_direct_advance(&run));
	assert_int_equal(fz_direct_end(&e->port, &call, &run), 0);
	assert_int_equal(call.seq, seq);
}

static void
assert_placed(const struct fz_frame *frame, uint32_t seq, uint32_t nitems)
{
	assert_int_equal(frame->type, FZ_WIRE_STORED);
	assert_int_equal(frame->seq, seq);
	assert_int_equal(frame->len, 4);
	assert_int_equal(fz_le32_load(frame->body), nitems);
}

/* Each counts at once, in the word of the cell and by no byte. */
static void
test_port_placed_items_are_counted(void **state)
{
	enum { HEAD = FZ_WIRE_HEADER + 4 };
	struct ends *e = *state;
	struct fz_cell_open open;
	struct fz_frame frame;

	for (uint32_t i = 0; i < 5; i++) {
		place_item(e, UINT32_MAX - 2 + i); /* the numbers wrap */
		open = fz_cell_open(e->cell);
		assert_int_equal(open.start, 0);
		assert_int_equal(open.len, HEAD);
		assert_int_equal(open.nitems, i + 1);
	}
	assert_int_equal(e->cell->out[0], FZ_WIRE_STORED);
	assert_int_equal(fz_le32_load(e->cell->out + 4), UINT32_MAX - 2);
	assert_int_equal(atomic_load(&e->cell->nout), 0);
	assert_int_equal(fz_port_flush(&e->port, NULL), 0);
	assert_int_equal(fz_cell_open(e->cell).nitems, 0);
	assert_int_equal(atomic_load(&e->cell->epoch), 1);
	take(e, &frame);
	assert_placed(&frame, UINT32_MAX - 2, 5);
	place_item(e, 9);
	place_item(e, 11); /* a gap */
	assert_int_equal(fz_port_flush(&e->port, NULL), 0);
	take(e, &frame);
	assert_placed(&frame, 9, 1);
	take(e, &frame);
	assert_placed(&frame, 11, 1);
}

static void
test_port_placed_and_sent_items_keep_their_order(void **state)
{
	struct ends *e = *state;
	struct fz_call call = { .seq = 6 };
	struct fz_frame frame;

	place_item(e, 0);
	place_item(e, 1);
	put_item(e, 2, 'a', 2);
	put_item(e, 3, 'b', 1);
	place_item(e, 4);
	put_item(e, 5, 'c', 0);
	reply(e, &call, "whole");
	place_item(e, 7);
	assert_int_equal(
	    fz_cell_open(e->cell).start, atomic_load(&e->cell->nout));
	assert_int_equal(fz_port_flush(&e->port, NULL), 0);
	take(e, &frame);
	assert_placed(&frame, 0, 2);
	take(e, &frame);
	assert_items(&frame, 2, 2, "aab");
	take(e, &frame);
	assert_placed(&frame, 4, 1);
	take(e, &frame);
	assert_items(&frame, 5, 1, "");
	take(e, &frame);
	assert_int_equal(frame.type, FZ_WIRE_RESULT);
	assert_int_equal(frame.seq, 6);
	take(e, &frame);
	assert_placed(&frame, 7, 1);
}

/* Room for bytes that stays unused leaves the frame before it as it was. */
static void
test_port_an_item_is_placed_where_room_was_asked_for(void **state)
{
	struct ends *e = *state;
	struct fz_call call = { .seq = 1 };
	struct fz_frame frame;

	put_item(e, 0, 'a', 1);
	memset(fz_port_item(&e->port, &call, NULL), 'x', FZ_PORT_ITEM);
	place_item(e, 1);
	call.seq = 2;
	memset(fz_port_item(&e->port, &call, NULL), 'x', FZ_PORT_ITEM);
	place_item(e, 2);
	assert_int_equal(fz_port_flush(&e->port, NULL), 0);
	take(e, &frame);
	assert_items(&frame, 0, 1, "a");
	for (uint32_t seq = 1; seq <= 2; seq++) {
		take(e, &frame);
		assert_placed(&frame, seq, 1);
	}
}

/* Take a batch of `n` items: the call of the first one. */
static void
begin_batch(struct ends *e, uint32_t n, unsigned flags, struct fz_call *call)
{
	put_batch(e, 0, flags, n);
	write_jobs(e);
	assert_int_equal(fz_port_next(&e->port, call, NULL), 1);
}

static void
test_port_a_run_places_what_follows(void **state)
{
	struct ends *e = *state;
	struct fz_direct run;
	struct fz_frame frame;
	struct fz_call call;

	begin_batch(e, 6, 0, &call);
	assert_int_equal(fz_direct_begin(&e->port, &call, &run, NULL), 0);
	for (uint32_t i = 0; i < 3; i++) {
		assert_int_equal(run.seq, i);
		fz_direct_stored(&run);
		assert_int_equal(fz_cell_open(e->cell).nitems, i + 1);
		assert_int_equal(fz_claim_started(&e->cell->claim), i + 1);
		assert_true(fz_direct_advance(&run));
	}
	/* It is left with the fourth at hand, which is sent. */
	assert_int_equal(fz_direct_end(&e->port, &call, &run), 3);
	assert_int_equal(call.seq, 3);
	assert_int_equal(call.item, 103);
	assert_int_equal(call.nitems, 3);
	put_item(e, 3, 'a', 1);
	assert_true(fz_port_advance(&e->port, &call));
	assert_int_equal(fz_direct_begin(&e->port, &call, &run, NULL), 0);
	/* None of this run: the item at hand is sent, too. */
	assert_int_equal(fz_direct_end(&e->port, &call, &run), 0);
	put_item(e, 4, 'b', 1);
	assert_true(fz_port_advance(&e->port, &call));
	assert_int_equal(fz_direct_begin(&e->port, &call, &run, NULL), 0);
	fz_direct_stored(&run);
	assert_false(fz_direct_advance(&run)); /* it was the last one */
	assert_int_equal(fz_direct_end(&e->port, &call, &run), 0);
	assert_false(fz_port_advance(&e->port, &call));
	assert_int_equal(fz_port_flush(&e->port, NULL), 0);
	take(e, &frame);
	assert_placed(&frame, 0, 3);
	take(e, &frame);
	assert_int_equal(frame.type, FZ_WIRE_ITEMS);
	assert_int_equal(frame.seq, 3);
	if (fz_le32_load(frame.body) == 1)
		take(e, &frame);
	assert_int_equal(frame.body[frame.len - 1], 'b');
	take(e, &frame);
	assert_placed(&frame, 5, 1);
}

static void
test_port_a_run_ends_where_the_rest_was_taken_back(void **state)
{
	struct ends *e = *state;
	struct fz_direct run;
	struct fz_frame frame;
	struct fz_call call;

	begin_batch(e, 10, FZ_WIRE_TIMED, &call);
	assert_int_equal(fz_direct_begin(&e->port, &call, &run, NULL), 0);
	fz_direct_stored(&run);
	atomic_store(&e->cell->start_ns, 0);
	assert_true(fz_direct_advance(&run));
	assert_true(atomic_load(&e->cell->start_ns) != 0);
	assert_int_equal(fz_claim_recall(&e->cell->claim, 10), 2);
	fz_direct_stored(&run);
	assert_false(fz_direct_advance(&run));
	assert_int_equal(fz_direct_end(&e->port, &call, &run), 1);
	assert_int_equal(call.item, 101);
	assert_false(fz_port_advance(&e->port, &call));
	assert_int_equal(fz_port_flush(&e->port, NULL), 0);
	take(e, &frame);
	assert_placed(&frame, 0, 2);
}

/* The word has so many bits for them: another frame has the rest. */
static void
test_port_a_run_ends_where_its_frame_is_full(void **state)
{
	enum { MOST = FZ_CELL_OPEN_ITEMS };
	struct ends *e = *state;
	struct fz_direct run;
	struct fz_frame frame;
	struct fz_call call;
	uint32_t n = 0;

	begin_batch(e, 2 * MOST, 0, &call);
	for (int i = 0; i < 5; i++) { /* of a run before */
		place_item(e, call.seq);
		assert_true(fz_port_advance(&e->port, &call));
	}
	assert_int_equal(fz_direct_begin(&e->port, &call, &run, NULL), 0);
	do {
		fz_direct_stored(&run);
		n++;
	} while (fz_direct_advance(&run));
	assert_int_equal(n, MOST - 5);
	assert_int_equal(fz_direct_end(&e->port, &call, &run), n - 1);
	assert_int_equal(fz_cell_open(e->cell).nitems, MOST);
	assert_true(fz_port_advance(&e->port, &call));
	assert_int_equal(fz_direct_begin(&e->port, &call, &run, NULL), 0);
	fz_direct_stored(&run);
	fz_direct_end(&e->port, &call, &run);
	assert_int_equal(fz_cell_open(e->cell).nitems, 1);
	assert_int_equal(call.seq, MOST);
	assert_int_equal(fz_port_flush(&e->port, NULL), 0);
	take(e, &frame);
	assert_placed(&frame, 0, MOST);
	take(e, &frame);
	assert_placed(&frame, MOST, 1);
}

/* Placed or not. */
static void
test_port_a_frame_counts_so_many_items_at_most(void **state)
{
	enum { MOST = FZ_CELL_OPEN_ITEMS };
	struct ends *e = *state;
	struct fz_cell_open open;
	struct fz_frame frame;

	for (uint32_t i = 0; i < MOST; i++)
		place_item(e, 3 + i);
	open = fz_cell_open(e->cell);
	assert_int_equal(open.start, 0);
	assert_int_equal(open.len, FZ_WIRE_HEADER + 4);
	assert_int_equal(open.nitems, MOST);
	assert_int_equal(atomic_load(&e->cell->nout), 0);
	place_item(e, 3 + MOST);
	place_item(e, 4 + MOST);
	open = fz_cell_open(e->cell);
	assert_int_equal(open.start, FZ_WIRE_HEADER + 4);
	assert_int_equal(open.nitems, 2);
	for (uint32_t i = 0; i <= MOST; i++)
		put_item(e, 5 + MOST + i, 'x', 0);
	assert_int_equal(fz_port_flush(&e->port, NULL), 0);
	take(e, &frame);
	assert_placed(&frame, 3, MOST);
	take(e, &frame);
	assert_placed(&frame, 3 + MOST, 2);
	take(e, &frame);
	assert_items(&frame, 5 + MOST, MOST, "");
	take(e, &frame);
	assert_items(&frame, 5 + 2 * MOST, 1, "");
}

/* Frames of one item each, of both kinds, until it was full many times. */
static void
test_port_placed_items_are_written_when_the_cell_is_full(void **state)
{
	enum { MANY = 20000 };
	struct ends *e = *state;
	uint32_t seq = 0;
	struct fz_frame frame;

	assert_int_equal(fz_fd_nonblock(e->results[0], NULL), 0);
	for (uint32_t i = 0; i <= MANY; i++) {
		uint32_t epoch = atomic_load(&e->cell->epoch);

		if (i == MANY)
			assert_int_equal(fz_port_flush(&e->port, NULL), 0);
		else if (i % 7 != 0 && i % 2 == 0)
			put_item(e, i, 'x', i % 5);
		else
			place_item(e, i);
		assert_true(e->port.items.start + e->port.items.len <=
			    FZ_PORT_ITEMS + 100);
		if (atomic_load(&e->cell->epoch) == epoch)
			continue;
		while (fz_wire_fill(&e->in, e->results[0]) > 0) {
			while (fz_wire_next(&e->in, &frame, NULL) == 1) {
				assert_int_equal(frame.seq, seq);
				seq += fz_le32_load(frame.body);
			}
		}
		assert_int_equal(seq, i);
	}
	assert_true(atomic_load(&e->cell->epoch) > 5);
}

static void
test_port_without_a_reader_no_item_is_placed(void **state)
{
	struct ends *e = *state;
	struct fz_call call = { .seq = 0, .nitems = 1 };
	struct fz_err err = { 0 };
	struct fz_direct run;

	signal(SIGPIPE, SIG_IGN);
	fz_fd_close(&e->results[0]);
	while (fz_direct_begin(&e->port, &call, &run, &err) == 0) {
		fz_direct_stored(&run);
		fz_direct_end(&e->port, &call, &run);
		call.seq += 2; /* a frame for each */
		assert_true(call.seq < FZ_CELL_OUT);
	}
	assert_int_equal(err.code, EPIPE);
	signal(SIGPIPE, SIG_DFL);
}

/* Calls are read into the cell; one that does not fit moves to memory. */
static void
test_port_a_call_larger_than_the_cell_is_read(void **state)
{
	static char big[3 * FZ_CELL_IN];
	struct ends *e = *state;
	struct fz_err err = { 0 };
	struct fz_part part;
	struct fz_call call;
	bool nomem = false;

	memset(big, 'b', sizeof(big) - 1);
	assert_true(fcntl(e->jobs[1], F_SETPIPE_SZ, 1 << 20) >= 1 << 20);
	put_job(e, 0, 0, big);
	put_job(e, 1, 0, "small");
	write_jobs(e);
	/* What was read before a call that fails is kept. */
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

/* Whether it goes by the cell, or past it. */
static void
test_port_without_a_reader_no_reply_is_sent(void **state)
{
	static const size_t lens[] = { FZ_CELL_OUT - 100, 3 * FZ_CELL_OUT };
	struct ends *e = *state;
	struct fz_call call = { .seq = 5 };

	signal(SIGPIPE, SIG_IGN);
	fz_fd_close(&e->results[0]);
	for (int before = 0; before < 2; before++) {
		for (size_t i = 0; i < 2; i++) {
			struct fz_err err = { 0 };
			unsigned char *p;

			atomic_store(&e->cell->nout, before != 0 ? 200 : 0);
			fz_port_begin(&e->port, &call, FZ_WIRE_RESULT, 1);
			p = fz_buf_reserve(&e->port.frame, lens[i]);
			assert_non_null(p);
			memset(p, 'x', lens[i]);
			e->port.frame.len += lens[i];
			e->port.open = false; /* it is no value of the arena */
			if (before == 0 && i == 0) {
				assert_int_equal(
				    fz_port_send(&e->port, &err), 0);
				continue; /* it waits in the cell */
			}
			assert_int_equal(fz_port_send(&e->port, &err), -1);
			assert_int_equal(err.code, EPIPE);
		}
	}
	atomic_store(&e->cell->nout, 0);
	signal(SIGPIPE, SIG_DFL);
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
	fz_cell_free(NULL, false);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
		    test_port_gives_calls_in_order, setup, teardown),
		cmocka_unit_test_setup_teardown(
		    test_port_takes_no_call_from_one_on_that_it_does_not_accept,
		    setup, teardown),
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
		    test_port_a_batch_is_a_call_for_each_item, setup, teardown),
		cmocka_unit_test_setup_teardown(
		    test_port_a_batch_ends_where_the_rest_was_taken_back, setup,
		    teardown),
		cmocka_unit_test_setup_teardown(
		    test_port_notes_when_each_timed_item_starts, setup,
		    teardown),
		cmocka_unit_test_setup_teardown(
		    test_port_a_function_to_keep_is_no_call, setup, teardown),
		cmocka_unit_test(test_port_broken_frames_end_it),
		cmocka_unit_test_setup_teardown(
		    test_port_a_batch_of_nothing_ends_it, setup, teardown),
		cmocka_unit_test_setup_teardown(
		    test_port_items_wait_in_an_open_frame, setup, teardown),
		cmocka_unit_test_setup_teardown(
		    test_port_an_item_that_is_given_up_does_not_count, setup,
		    teardown),
		cmocka_unit_test_setup_teardown(
		    test_port_a_reply_closes_the_frame_of_items, setup,
		    teardown),
		cmocka_unit_test_setup_teardown(
		    test_port_a_gap_in_the_numbers_begins_a_frame, setup,
		    teardown),
		cmocka_unit_test_setup_teardown(
		    test_port_a_full_cell_is_written, setup, teardown),
		cmocka_unit_test(test_port_a_pause_lets_go_of_what_has_waited),
		cmocka_unit_test_setup_teardown(
		    test_port_without_a_reader_there_is_no_room_for_items,
		    setup, teardown),
		cmocka_unit_test_setup_teardown(
		    test_port_placed_items_are_counted, setup, teardown),
		cmocka_unit_test_setup_teardown(
		    test_port_placed_and_sent_items_keep_their_order, setup,
		    teardown),
		cmocka_unit_test_setup_teardown(
		    test_port_an_item_is_placed_where_room_was_asked_for, setup,
		    teardown),
		cmocka_unit_test_setup_teardown(
		    test_port_a_run_places_what_follows, setup, teardown),
		cmocka_unit_test_setup_teardown(
		    test_port_a_run_ends_where_the_rest_was_taken_back, setup,
		    teardown),
		cmocka_unit_test_setup_teardown(
		    test_port_a_run_ends_where_its_frame_is_full, setup,
		    teardown),
		cmocka_unit_test_setup_teardown(
		    test_port_a_frame_counts_so_many_items_at_most, setup,
		    teardown),
		cmocka_unit_test_setup_teardown(
		    test_port_placed_items_are_written_when_the_cell_is_full,
		    setup, teardown),
		cmocka_unit_test_setup_teardown(
		    test_port_without_a_reader_no_item_is_placed, setup,
		    teardown),
		cmocka_unit_test_setup_teardown(
		    test_port_a_call_larger_than_the_cell_is_read, setup,
		    teardown),
		cmocka_unit_test_setup_teardown(
		    test_port_without_a_reader_no_reply_is_sent, setup,
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
