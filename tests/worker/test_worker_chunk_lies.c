/*
 * The chunks of a worker that breaks the protocol.
 */
/* kill and usleep are not in C11. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "batches.h"
#include "chunk_keeper.h"
#include "os/fd.h"
#include "os/loop.h"
#include "sanitized.h"
#include "wire/child_direct.h"
#include "wire/child_port.h"
#include "wire/wire.h"
#include "worker/worker.h"
#include "world.h"

/* Write a frame with the number `n`, followed by `len` bytes. */
static void
write_frame(struct fz_port *port, enum fz_wire_type type, uint32_t seq,
    uint32_t n, size_t len)
{
	struct fz_buf *frame = &port->frame;

	fz_buf_clear(frame);
	fz_wire_begin(frame, type, 0, seq);
	fz_buf_put_u32(frame, n);
	for (size_t i = 0; i < len; i++)
		fz_buf_put_u32(frame, 7);
	fz_wire_end(frame, 0);
	fz_fd_write_all(port->out, frame->data, frame->len);
}

/* What a function in the worker may write to the pipe for results. */
enum lie {
	LIE_ITEMS,       /* results of items, although the job is not a chunk */
	LIE_STORED,      /* stored items, although there is no buffer */
	LIE_AHEAD,       /* a reply to a job that was not sent */
	LIE_NEXT,        /* a reply to the job after this one */
	LIE_BEFORE,      /* replies with numbers before the first job */
	LIE_NONE,        /* results of 0 items */
	LIE_MANY,        /* more results than bytes */
	LIE_VALUE,       /* a value that is longer than its frame */
	LIE_VALUES,      /* more values than bytes */
	LIE_SHORT,       /* a frame that ends before its number */
	LIE_CALL,        /* a frame that only the parent sends */
	LIE_HALF,        /* the first bytes of a very long frame */
	LIE_HALF_OF_TWO, /* a reply, and the first bytes of another one */
	LIE_GARBAGE,
	LIE_CLOSED, /* no lie, but a file in place of the pipe */
	NLIES
};

static enum lie lie;

static char closed_path[40];

static void
write_head(struct fz_port *port, enum fz_wire_type type, uint32_t seq,
    uint64_t len, const char *body)
{
	struct fz_buf *frame = &port->frame;

	fz_buf_clear(frame);
	fz_wire_begin(frame, type, 0, seq);
	fz_le64_store(frame->data + 8, len);
	fz_buf_put(frame, body, strlen(body));
	fz_fd_write_all(port->out, frame->data, frame->len);
}

static void
tell_lie(struct fz_port *port, uint32_t seq)
{
	char garbage[64];

	switch (lie) {
	case LIE_ITEMS:
		write_frame(port, FZ_WIRE_ITEMS, seq, 1, 4);
		break;
	case LIE_STORED:
		write_frame(port, FZ_WIRE_STORED, seq, 1, 0);
		break;
	case LIE_AHEAD:
		write_frame(port, FZ_WIRE_RESULT, seq + 100000, 0, 0);
		break;
	case LIE_NEXT:
		write_frame(port, FZ_WIRE_ITEMS, seq + 1, 1, 4);
		break;
	case LIE_BEFORE:
		write_frame(port, FZ_WIRE_ITEMS, seq - 5, 5, 8);
		break;
	case LIE_NONE:
		write_frame(port, FZ_WIRE_ITEMS, seq, 0, 4);
		break;
	case LIE_MANY:
		write_frame(port, FZ_WIRE_ITEMS, seq, 1 << 30, 4);
		break;
	case LIE_VALUE:
		write_frame(port, FZ_WIRE_VALUES, seq, 1, 4);
		break;
	case LIE_VALUES:
		write_frame(port, FZ_WIRE_VALUES, seq, 3, 4);
		break;
	case LIE_SHORT:
		write_head(port, FZ_WIRE_ITEMS, seq, 3, "abc");
		break;
	case LIE_CALL:
		write_frame(port, FZ_WIRE_JOB, seq, 1, 4);
		break;
	case LIE_HALF:
		write_head(port, FZ_WIRE_RESULT, seq, UINT64_C(1) << 39, "abc");
		break;
	case LIE_HALF_OF_TWO:
		fz_port_begin(
		    port, &(struct fz_call){ .seq = seq }, FZ_WIRE_RESULT, 1);
		put_number(port, 77);
		fz_port_send(port, NULL);
		fz_port_flush(port, NULL);
		write_head(port, FZ_WIRE_RESULT, seq + 1, 1 << 20, "abc");
		break;
	case LIE_CLOSED:
		close(port->out);
		/* The file must get the number of the closed pipe. */
		if (open(closed_path, O_WRONLY) != port->out)
			_exit(97);
		break;
	default:
		memset(garbage, 'g', sizeof(garbage));
		fz_fd_write_all(port->out, garbage, sizeof(garbage));
	}
}

/* The worker writes the lie before the reply. */
static int
serve_lie(void *ctx, struct fz_port *port)
{
	struct items_home *home = ctx;
	struct fz_call call;

	while (fz_port_next(port, &call, NULL) == 1) {
		if (call.type != FZ_WIRE_JOB) {
			if (items_chunk(home, port, &call) != 0)
				return 96;
			continue;
		}
		tell_lie(port, call.seq);
		if (lie == LIE_HALF || lie == LIE_HALF_OF_TWO)
			continue;
		fz_port_begin(port, &call, FZ_WIRE_RESULT, 1);
		put_number(port, 77);
		if (fz_port_send(port, NULL) != 0)
			return 96;
	}
	return 0;
}

/* The functions of chunks without that for items: the job is not a chunk. */
static const struct fz_job_ops job_ops = { chunk_done, chunk_failed,
	chunk_returned, chunk_started, NULL };

static void
send_plain_job(struct chunk_keeper *k, struct chunk *b)
{
	chunk_init(b, 1);
	b->job.ops = &job_ops;
	b->job.nvalues = 1;
	assert_int_equal(fz_worker_send(k->worker, &b->job, NULL, 0, NULL), 0);
}

/* A wrong frame ends the worker and fails the current job only. */
static void
test_worker_chunk_a_lie_costs_one_worker_and_one_job(void **state)
{
	struct chunk_keeper *k = *state;
	static struct chunk b, c;
	struct stat st;
	int fd;

	strcpy(closed_path, "/tmp/fzlua-closed-XXXXXX");
	fd = mkstemp(closed_path);
	assert_int_not_equal(fd, -1);
	for (int i = 0; i < NLIES; i++) {
		lie = (enum lie)i;
		chunk_keeper_end(k);
		assert_non_null(chunk_keeper_start_main(k, serve_lie));
		send_plain_job(k, &b);
		send_plain_job(k, &c);
		assert_true(chunk_keeper_dies(k));
		if (lie == LIE_HALF_OF_TWO) { /* the second reply is cut */
			assert_fates(&b, 0, 1, DONE);
			assert_int_equal(b.value[0], 77);
			assert_fates(&c, 0, 1, FAILED);
		} else {
			/* The right reply may be found in the mailbox. */
			if (b.fate[0] == DONE)
				assert_int_equal(b.value[0], 77);
			else
				assert_fates(&b, 0, 1, FAILED);
			assert_int_not_equal(c.fate[0], UNTOLD);
		}
	}
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_size, 0);
	close(fd);
	unlink(closed_path);
}

/* Count all items as stored, in a frame or in the mailbox, but store none. */
static int
serve_stored_nowhere(void *ctx, struct fz_port *port)
{
	struct items_home *home = ctx;
	struct fz_direct run;
	struct fz_call call;

	while (fz_port_next(port, &call, NULL) == 1) {
		if (fz_direct_begin(port, &call, &run, NULL) != 0)
			return 96;
		do
			fz_direct_stored(&run);
		while (fz_direct_advance(&run));
		fz_direct_end(port, &call, &run);
		atomic_fetch_add(&home->shared->waiting, 1);
		while (!atomic_load(&home->shared->gate))
			usleep(100);
	}
	return 0;
}

static void
test_worker_chunk_a_result_stored_nowhere_costs_the_worker(void **state)
{
	struct fz_worker_chunk head = { FZ_WIRE_MAP | FZ_WIRE_INHERITED, 1 };
	struct chunk_keeper *k = *state;
	static struct chunk b;

	for (int peeks = 0; peeks < 2; peeks++) {
		chunk_keeper_end(k);
		assert_non_null(
		    chunk_keeper_start_main(k, serve_stored_nowhere));
		chunk_init(&b, 300);
		assert_int_equal(fz_worker_send_chunk(
				     k->worker, &b.job, &head, NULL, 0, NULL),
		    0);
		chunk_keeper_wait(k);
		if (peeks != 0)
			fz_worker_peek(k->worker);
		assert_int_equal(b.ntold, 0);
		atomic_store(&k->home->shared->gate, true);
		assert_true(chunk_keeper_dies(k));
		assert_fates(&b, 0, 300, FAILED);
		assert_int_equal(b.nlost, 0);
	}
}

/* Publish impossible replies, half of them with a correct seal. */
static void
show_wild(struct fz_mailbox *mailbox, uint32_t i)
{
	struct fz_mailbox_open open = { i % 3 != 0 ? 0 : i,
		FZ_WIRE_HEADER + 4 + i % 5 - 1,
		i * 31 & FZ_MAILBOX_OPEN_ITEMS };
	size_t len = open.start + open.len;
	struct fz_mailbox_sum sum = { 0 };

	if (i % 11 == 0)
		open = (struct fz_mailbox_open){ .start = i * 77 };
	fz_mailbox_show(mailbox, fz_mailbox_open_word((uint64_t)i << 56, &open),
	    i % 2 != 0 && len <= FZ_MAILBOX_ROOM
		? fz_mailbox_sum_to(&sum, mailbox->out, len)
		: i);
}

/* A worker that writes wrong bytes to its mailbox. */
static int
serve_wild_mailbox(void *ctx, struct fz_port *port)
{
	struct items_home *home = ctx;
	struct fz_mailbox *mailbox = port->mailbox;
	struct fz_call call;

	if (fz_port_next(port, &call, NULL) != 1)
		return 96;
	for (uint32_t i = 0; i < (UNDER_ASAN ? 40000 : 200000); i++) {
		if (i == 1000)
			atomic_fetch_add(&home->shared->waiting, 1);
		mailbox->out[0] =
		    (unsigned char)(i % 2 != 0 ? FZ_WIRE_STORED : i);
		fz_le32_store(mailbox->out + 4, call.seq + i % 900 - 300);
		show_wild(mailbox, i);
	}
	raise(SIGKILL);
	return 0;
}

static void
test_worker_chunk_a_wild_mailbox_ends_no_item_twice(void **state)
{
	struct fz_worker_chunk head = { FZ_WIRE_MAP | FZ_WIRE_INHERITED, 1 };
	struct chunk_keeper *k = *state;
	static struct chunk b, c;

	for (int round = 0; round < 10; round++) {
		chunk_keeper_end(k);
		assert_non_null(chunk_keeper_start_main(k, serve_wild_mailbox));
		chunk_init(&b, 300);
		b.torn = true;
		chunk_init(&c, 1);
		c.job.ops = &job_ops;
		add_result_buffer(k, &b);
		assert_int_equal(fz_worker_send_chunk(
				     k->worker, &b.job, &head, NULL, 0, NULL),
		    0);
		assert_int_equal(
		    fz_worker_send(k->worker, &c.job, NULL, 0, NULL), 0);
		chunk_keeper_wait(k);
		while (k->worker != NULL) {
			fz_worker_peek(k->worker);
			fz_loop_turn(k->w->engine.loop, in_ms(1), NULL);
		}
		assert_int_equal(count_fates(&b, UNTOLD), 0);
		assert_int_equal(count_fates(&c, UNTOLD), 0);
	}
}

#define TEST(name)                       \
	cmocka_unit_test_setup_teardown( \
	    name, chunk_keeper_setup, chunk_keeper_teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_worker_chunk_a_lie_costs_one_worker_and_one_job),
		TEST(
		    test_worker_chunk_a_result_stored_nowhere_costs_the_worker),
		TEST(test_worker_chunk_a_wild_mailbox_ends_no_item_twice),
	};

	return run_in_each_way(tests, sizeof(tests) / sizeof(*tests));
}
