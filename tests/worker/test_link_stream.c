/*
 * The link of one byte stream: frames, recalls, and frames that a worker never
 * sends.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/err.h"
#include "os/fd.h"
#include "shared/arena.h"
#include "wire/blob.h"
#include "wire/wire.h"
#include "worker/link.h"
#include "worker/link_stream.h"
#include "world.h"

/* A link whose other end is in this process, in place of a worker. */
struct ends {
	struct world *w;
	struct fz_link *link;
	int peer, nlost;
	struct fz_wire_in in; /* frames that the link has sent */
	struct fz_buf out;    /* frames for the link */
};

static void
ends_ready(void *ctx)
{
	(void)ctx;
}

static void
ends_lost(void *ctx)
{
	struct ends *e = ctx;

	e->nlost++;
}

static const struct fz_link_owner ends_owner = { .ready = ends_ready,
	.lost = ends_lost };

static void
ends_init(struct ends *e, struct world *w)
{
	int fd[2], in;

	*e = (struct ends){ .w = w };
	assert_int_equal(fz_fd_socket_pair(fd, NULL), 0);
	in = dup(fd[0]);
	e->link = fz_link_stream_new(&w->engine, &fd[0], &in, NULL);
	assert_non_null(e->link);
	e->link->owner = &ends_owner;
	e->link->ctx = e;
	e->peer = fd[1];
	fz_wire_in_init(&e->in);
	fz_buf_init(&e->out);
}

static void
ends_fini(struct ends *e)
{
	fz_link_free(e->link);
	fz_fd_close(&e->peer);
	fz_wire_in_fini(&e->in);
	fz_buf_fini(&e->out);
}

/* Append a frame of the worker with these bytes as body. */
static void
put(struct ends *e, enum fz_wire_type type, uint32_t seq, const void *bytes,
    size_t len)
{
	size_t start = fz_wire_begin(&e->out, type, 0, seq);

	fz_buf_put(&e->out, bytes, len);
	fz_wire_end(&e->out, start);
}

static void
put_u32(struct ends *e, enum fz_wire_type type, uint32_t seq, uint32_t n)
{
	unsigned char bytes[4];

	fz_le32_store(bytes, n);
	put(e, type, seq, bytes, sizeof(bytes));
}

/* Send the frames of the worker. Returns the first one for the link's owner. */
static int
next(struct ends *e, struct fz_frame *frame, struct fz_err *err)
{
	assert_int_equal(fz_fd_write_all(e->peer, e->out.data, e->out.len), 0);
	fz_buf_clear(&e->out);
	fz_link_fill(e->link);
	return e->link->ops->next(e->link, frame, err);
}

static uint32_t
started(const struct ends *e)
{
	uint32_t n = 0;

	assert_true(e->link->ops->started(e->link, &n));
	return n;
}

static void
test_link_stream_has_values_in_frames(void **state)
{
	enum { LEN = 5 << 20 };
	struct fz_frame frame;
	struct fz_reader body;
	struct fz_part part;
	struct fz_blob *blob;
	struct ends e;
	size_t start;
	void *at;

	ends_init(&e, *state);
	blob = fz_engine_room(&e.w->engine, LEN, NULL);
	at = fz_arena_map_room(e.w->engine.arena, blob->offset, LEN, NULL);
	memset(at, 'y', LEN);
	fz_arena_unmap(e.w->engine.arena, at, LEN);
	start = fz_wire_begin(&e.link->unsent, FZ_WIRE_JOB, 0, 0);
	e.link->ops->put(e.link, blob);
	assert_int_equal(fz_link_end_frame(e.link, start, NULL), 0);
	fz_blob_unref(blob);
	while (fz_wire_next(&e.in, &frame, NULL) != 1) {
		fz_link_write(e.link);
		assert_true(fz_wire_fill(&e.in, e.peer) > 0);
	}
	fz_reader_init(&body, frame.body, frame.len);
	assert_int_equal(fz_wire_part(&body, &part), 0);
	assert_int_equal(part.len, LEN);
	assert_non_null(part.bytes);
	assert_int_equal(part.bytes[LEN - 1], 'y');
	ends_fini(&e);
}

static void
test_link_stream_a_recall_is_answered(void **state)
{
	struct fz_frame frame;
	struct ends e;

	ends_init(&e, *state);
	assert_true(e.link->ops->recall(e.link)); /* no item to recall */
	e.link->next_seq = 5;
	assert_false(e.link->ops->recall(e.link));
	assert_false(e.link->ops->recall(e.link)); /* needs an answer */
	fz_link_write(e.link);
	assert_true(fz_wire_fill(&e.in, e.peer) > 0);
	assert_int_equal(fz_wire_next(&e.in, &frame, NULL), 1);
	assert_int_equal(frame.type, FZ_WIRE_RECALL);
	assert_int_equal(frame.seq, 5);
	assert_int_equal(fz_wire_next(&e.in, &frame, NULL), 0);
	put_u32(&e, FZ_WIRE_STARTED, 0, 2);
	put_u32(&e, FZ_WIRE_RECALLED, 5, 0);
	e.link->next_seq = 7;
	assert_int_equal(next(&e, &frame, NULL), 1);
	assert_int_equal(frame.type, FZ_WIRE_RECALLED);
	assert_int_equal(frame.seq, 5);
	assert_int_equal(started(&e), 2);
	assert_false(e.link->ops->recall(e.link));
	put_u32(&e, FZ_WIRE_STARTED, 5, 2);
	put_u32(&e, FZ_WIRE_RECALLED, 7, 0);
	assert_int_equal(next(&e, &frame, NULL), 1);
	assert_int_equal(started(&e), 7);
	assert_true(e.link->ops->recall(e.link)); /* all items have started */
	ends_fini(&e);
}

static void
test_link_stream_a_worker_says_why_it_cannot_start(void **state)
{
	struct fz_link *link;
	struct fz_frame frame;
	struct world *w = *state;
	struct fz_err why;

	link =
	    fz_link_open(&fz_link_stream, &w->engine, &ends_owner, NULL, NULL);
	assert_non_null(link);
	assert_false(link->ops->refusal(link, &why));
	link->ops->refuse(link, "no luck");
	assert_true(fz_link_fill(link) > 0);
	assert_int_equal(link->ops->next(link, &frame, NULL), 0);
	assert_true(link->ops->refusal(link, &why));
	assert_int_equal(why.kind, FZ_ERR_ERROR);
	assert_string_equal(why.text, "no luck");
	fz_link_free(link);
}

/* Append frames that no worker sends if it has 5 items and has started 2. */
static void
put_impossible(struct ends *e, int which)
{
	unsigned char part[32] = { 1 };

	part[11] = 0x80; /* the length of a part that is in the arena */
	switch (which) {
	case 0:
		put_u32(e, FZ_WIRE_STARTED, 2, 0);
		break;
	case 1:
		put_u32(e, FZ_WIRE_STARTED, 2, 4);
		break;
	case 2:
		put_u32(e, FZ_WIRE_STARTED, 1, 1);
		break;
	case 3:
		put_u32(e, FZ_WIRE_STARTED, 2, UINT32_MAX);
		break;
	case 4:
		put(e, FZ_WIRE_STARTED, 2, part, 0);
		break;
	case 5:
		put_u32(e, FZ_WIRE_RECALLED, 5, 0);
		break;
	case 6:
		put_u32(e, FZ_WIRE_STORED, 0, 1);
		break;
	case 7:
		put(e, FZ_WIRE_RESULT, 0, part, 20);
		break;
	case 8:
		memmove(part + 4, part, 20);
		put(e, FZ_WIRE_ERROR, 0, part, 24);
		break;
	case 9: /* 9 to 11: frames that only nodes send */
		put_u32(e, FZ_WIRE_JOINED, 0, 1);
		break;
	case 10:
		put_u32(e, FZ_WIRE_PRINTED, 0, 1);
		break;
	case 11:
		put(e, FZ_WIRE_DIED, 0, part, 8);
		break;
	case 12:
		fz_buf_put(&e->out, "HTTP/1.1 200 OK\r\n\r\n", 19);
		break;
	default:
		put(e, FZ_WIRE_RESULT, 0, part, 4);
		memset(e->out.data + e->out.len - 12, 0xff, 8); /* the length */
	}
}

static void
test_link_stream_refuses_what_no_worker_sends(void **state)
{
	for (int which = 0; which <= 13; which++) {
		struct fz_err err = { 0 };
		struct fz_frame frame;
		struct ends e;

		ends_init(&e, *state);
		e.link->next_seq = 5;
		put_u32(&e, FZ_WIRE_STARTED, 0, 2);
		put_impossible(&e, which);
		assert_int_equal(next(&e, &frame, &err), -1);
		assert_int_equal(err.kind, FZ_ERR_CRASH);
		assert_string_not_equal(err.text, "");
		ends_fini(&e);
	}
}

#define TEST(name) \
	cmocka_unit_test_setup_teardown(name, world_setup, world_teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_link_stream_has_values_in_frames),
		TEST(test_link_stream_a_recall_is_answered),
		TEST(test_link_stream_a_worker_says_why_it_cannot_start),
		TEST(test_link_stream_refuses_what_no_worker_sends),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
