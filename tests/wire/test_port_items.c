/*
 * The frames that a worker sends for the items of a chunk.
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
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"
#include "os/fd.h"
#include "port_ends.h"
#include "wire/child_items.h"
#include "wire/child_port.h"
#include "wire/wire.h"

static void
test_port_a_chunk_is_a_call_for_each_item(void **state)
{
	struct port_ends *e = *state;
	struct fz_part part;
	struct fz_call call;

	put_chunk(e, 7, 0, 3);
	put_job(e, 10, 0, "next");
	write_jobs(e);
	assert_int_equal(fz_port_next(&e->port, &call, NULL), 1);
	assert_int_equal(call.type, FZ_WIRE_CHUNK);
	assert_false(call.timed);
	assert_int_equal(call.func, 3);
	assert_int_equal(call.kind, FZ_WIRE_MAP);
	assert_int_equal(call.nargs, 1);
	assert_int_equal(call.seed, 44);
	assert_int_equal(call.memory, 55);
	assert_int_equal(call.result_buffer, 1 << 20);
	assert_int_equal(fz_wire_part(&call.args, &part), 0);
	assert_memory_equal(part.bytes, "items", 5);
	for (uint32_t i = 0; i < 3; i++) {
		assert_int_equal(call.seq, 7 + i);
		assert_int_equal(call.item, 100 + i);
		assert_int_equal(call.nitems, 3 - i);
		assert_int_equal(fz_claim_started(&e->mailbox->claim), 8 + i);
		assert_int_equal(fz_port_advance(&e->port, &call), i < 2);
	}
	assert_int_equal(fz_port_next(&e->port, &call, NULL), 1);
	assert_int_equal(call.type, FZ_WIRE_JOB);
	assert_int_equal(call.seq, 10);
}

static void
test_port_a_chunk_ends_where_the_rest_was_taken_back(void **state)
{
	struct port_ends *e = *state;
	struct fz_call call;

	put_chunk(e, 0, 0, 10);
	put_chunk(e, 10, 0, 10);
	put_chunk(e, 20, 0, 10);
	write_jobs(e);
	assert_int_equal(fz_port_next(&e->port, &call, NULL), 1);
	assert_true(fz_port_advance(&e->port, &call));
	assert_int_equal(fz_claim_recall(&e->mailbox->claim, 20), 2);
	assert_false(fz_port_advance(&e->port, &call));
	assert_int_equal(call.seq, 1);
	assert_int_equal(call.item, 101);
	assert_int_equal(fz_port_next(&e->port, &call, NULL), 1);
	assert_int_equal(call.seq, 20);
}

static void
test_port_notes_when_each_timed_item_starts(void **state)
{
	struct port_ends *e = *state;
	struct fz_call call;
	int64_t first;

	put_chunk(e, 0, FZ_WIRE_TIMED, 2);
	write_jobs(e);
	assert_int_equal(fz_port_next(&e->port, &call, NULL), 1);
	assert_true(call.timed);
	first = atomic_load(&e->mailbox->start_ns);
	assert_true(first > 0);
	usleep(1000);
	assert_true(fz_port_advance(&e->port, &call));
	assert_true(atomic_load(&e->mailbox->start_ns) >= first + FZ_CLOCK_MS);
}

static void
test_port_a_function_to_keep_is_no_call(void **state)
{
	struct port_ends *e = *state;
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
	assert_int_equal(fz_claim_started(&e->mailbox->claim), 0);
	assert_int_equal(fz_port_next(&e->port, &call, NULL), 1);
	assert_int_equal(call.type, FZ_WIRE_JOB);
}

/* Frames with incomplete heads, and a chunk without items. */
static void
test_port_broken_frames_end_it(void **state)
{
	static const struct {
		enum fz_wire_type type;
		size_t head; /* minimum number of bytes in the body */
	} kinds[] = { { FZ_WIRE_JOB, 28 }, { FZ_WIRE_CHUNK, 48 },
		{ FZ_WIRE_FUNC, 4 } };
	struct fz_call call;

	for (size_t i = 0; i < sizeof(kinds) / sizeof(*kinds); i++) {
		for (size_t len = 0; len <= kinds[i].head; len++) {
			struct fz_err err = { 0 };
			unsigned char bytes[48];
			struct port_ends *e;
			size_t start;
			int rc;

			(void)port_ends_setup(state);
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
			(void)port_ends_teardown(state);
		}
	}
}

static void
test_port_a_chunk_of_nothing_ends_it(void **state)
{
	struct port_ends *e = *state;
	struct fz_err err = { 0 };
	struct fz_call call;

	put_chunk(e, 0, 0, 0);
	write_jobs(e);
	assert_int_equal(fz_port_next(&e->port, &call, &err), -1);
	assert_int_equal(err.kind, FZ_ERR_CRASH);
	assert_int_equal(fz_claim_started(&e->mailbox->claim), 0);
}

static void
test_port_items_wait_in_an_open_frame(void **state)
{
	enum { HEAD = FZ_WIRE_HEADER + 4 };
	struct port_ends *e = *state;
	struct fz_mailbox_open open;
	struct fz_frame frame;

	assert_int_equal(fz_mailbox_open(e->mailbox).nitems, 0);
	put_item(e, 5, 'a', 3);
	open = fz_mailbox_open(e->mailbox);
	assert_int_equal(open.start, 0);
	assert_int_equal(open.len, HEAD + 3);
	assert_int_equal(open.nitems, 1);
	put_item(e, 6, 'b', 1);
	open = fz_mailbox_open(e->mailbox);
	assert_int_equal(open.len, HEAD + 4);
	assert_int_equal(open.nitems, 2);
	assert_int_equal(fz_le32_load(e->mailbox->out + 4), 5);
	assert_memory_equal(e->mailbox->out + HEAD, "aaab", 4);
	assert_int_equal(fz_mailbox_open(e->mailbox).start, 0);
	assert_int_equal(fz_port_flush(&e->port, NULL), 0);
	assert_int_equal(fz_mailbox_open(e->mailbox).nitems, 0);
	assert_int_equal(fz_mailbox_open(e->mailbox).start, 0);
	assert_int_equal(atomic_load(&e->mailbox->epoch), 1);
	take_frame(e, &frame);
	assert_items(&frame, 5, 2, "aaab");
}

/* If the room for an item is not used, the item does not count. */
static void
test_port_an_item_that_is_given_up_does_not_count(void **state)
{
	struct port_ends *e = *state;
	struct fz_frame frame;

	drop_item(e, 0);
	assert_int_equal(fz_mailbox_open(e->mailbox).nitems, 0);
	assert_int_equal(fz_port_flush(&e->port, NULL), 0);
	assert_int_equal(atomic_load(&e->mailbox->epoch), 0);
	put_item(e, 0, 'a', 2);
	drop_item(e, 1);
	put_item(e, 1, 'b', 2);
	assert_int_equal(fz_port_flush(&e->port, NULL), 0);
	take_frame(e, &frame);
	assert_items(&frame, 0, 2, "aabb");
}

static void
test_port_a_reply_closes_the_frame_of_items(void **state)
{
	struct port_ends *e = *state;
	struct fz_call call = { .seq = 2 };
	struct fz_frame frame;

	put_item(e, 0, 'a', 1);
	put_item(e, 1, 'b', 1);
	put_reply(e, &call, "whole");
	assert_int_equal(fz_mailbox_open(e->mailbox).nitems, 0);
	put_item(e, 3, 'c', 1);
	assert_int_equal(fz_port_flush(&e->port, NULL), 0);
	take_frame(e, &frame);
	assert_items(&frame, 0, 2, "ab");
	take_frame(e, &frame);
	assert_int_equal(frame.type, FZ_WIRE_RESULT);
	assert_int_equal(frame.seq, 2);
	take_frame(e, &frame);
	assert_items(&frame, 3, 1, "c");
}

static void
test_port_a_gap_in_the_numbers_begins_a_frame(void **state)
{
	struct port_ends *e = *state;
	struct fz_frame frame;

	put_item(e, UINT32_MAX, 'a', 1);
	put_item(e, 0, 'b', 1); /* the next number: there is no gap */
	put_item(e, 7, 'c', 1);
	assert_int_equal(fz_port_flush(&e->port, NULL), 0);
	take_frame(e, &frame);
	assert_items(&frame, UINT32_MAX, 2, "ab");
	take_frame(e, &frame);
	assert_items(&frame, 7, 1, "c");
}

/* Items of many sizes fill the mailbox again and again. */
static void
test_port_a_full_mailbox_is_written(void **state)
{
	enum { MANY = 1000 };
	struct port_ends *e = *state;
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
		    e->port.items.start + e->port.items.len <= FZ_MAILBOX_OUT);
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

/* If there is no call to read, a pause does not write the items. */
static void
test_port_a_pause_writes_the_items_that_have_waited(void **state)
{
	static const struct {
		bool more, late;
		uint32_t epoch;
	} cases[] = { { false, false, 0 }, { false, true, 0 },
		{ true, false, 0 }, { true, true, 1 } };
	struct fz_call call;

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct port_ends *e;

		(void)port_ends_setup(state);
		e = *state;
		put_chunk(e, 0, 0, 1);
		if (cases[i].more)
			put_chunk(e, 1, 0, 1);
		write_jobs(e);
		assert_int_equal(fz_port_next(&e->port, &call, NULL), 1);
		put_item(e, 0, 'a', 1);
		e->port.flushed_ns =
		    cases[i].late ? 0 : fz_clock_ns() + FZ_CLOCK_SECOND;
		assert_int_equal(fz_port_end_chunk(&e->port, NULL), 0);
		assert_int_equal(
		    atomic_load(&e->mailbox->epoch), cases[i].epoch);
		(void)port_ends_teardown(state);
	}
}

static void
test_port_without_a_reader_there_is_no_room_for_items(void **state)
{
	struct port_ends *e = *state;
	struct fz_call call = { .seq = 0 };
	struct fz_err err = { 0 };

	signal(SIGPIPE, SIG_IGN);
	fz_fd_close(&e->results[0]);
	while (fz_port_item(&e->port, &call, &err) != NULL) {
		fz_port_item_end(&e->port, FZ_PORT_ITEM);
		assert_true(call.seq++ < FZ_MAILBOX_OUT / FZ_PORT_ITEM);
	}
	assert_int_equal(err.code, EPIPE);
	signal(SIGPIPE, SIG_DFL);
}

/* The measured values of a frame of items, which are after the items. */
static struct fz_used
used_of(const struct fz_frame *frame)
{
	const unsigned char *at;
	struct fz_used used;
	struct fz_reader body;

	assert_true(frame->flags & FZ_WIRE_MEASURED);
	fz_reader_init(&body, frame->body, frame->len);
	assert_int_equal(fz_wire_cut_used(frame, &body, &at), 0);
	assert_non_null(at);
	fz_wire_load_used(at, &used);
	return used;
}

static void
test_port_measured_items_share_their_time_with_one_of_its_own(void **state)
{
	struct port_ends *e = *state;
	struct fz_used items, error;
	struct fz_frame frame;
	struct fz_call call;
	int64_t before_ns = fz_clock_ns();

	put_chunk(e, 0, FZ_WIRE_MEASURED, 4);
	write_jobs(e);
	assert_int_equal(fz_port_next(&e->port, &call, NULL), 1);
	for (int i = 0; i < 3; i++) {
		assert_non_null(fz_port_item(&e->port, &call, NULL));
		fz_port_item_end(&e->port, 1);
		assert_true(fz_port_advance(&e->port, &call));
	}
	usleep(4000);
	fz_port_begin(&e->port, &call, FZ_WIRE_ERROR, FZ_ERR_ERROR);
	fz_buf_put(&e->port.value.buf, "why", 3);
	fz_port_put(&e->port);
	assert_int_equal(fz_port_send(&e->port, NULL), 0);
	assert_int_equal(fz_port_end_chunk(&e->port, NULL), 0);
	assert_int_equal(fz_port_flush(&e->port, NULL), 0);
	take_frame(e, &frame);
	assert_int_equal(frame.type, FZ_WIRE_ITEMS);
	items = used_of(&frame);
	take_frame(e, &frame);
	assert_int_equal(frame.type, FZ_WIRE_ERROR);
	error = used_of(&frame);
	assert_true(items.started_ns >= before_ns);
	assert_true(items.took_ns >= 3000000 && error.took_ns >= 1000000);
	assert_int_equal(items.started_ns + items.took_ns, error.started_ns);
	assert_true(error.started_ns + error.took_ns <= fz_clock_ns());
}

static void
test_port_frames_have_items_of_one_measured_chunk(void **state)
{
	struct port_ends *e = *state;
	static const unsigned flags[] = { 0, FZ_WIRE_MEASURED, FZ_WIRE_MEASURED,
		0 };
	struct fz_frame frame;
	struct fz_call call;

	for (uint32_t i = 0; i < 4; i++)
		put_chunk(e, i, flags[i], 1);
	write_jobs(e);
	for (uint32_t i = 0; i < 4; i++) {
		assert_int_equal(fz_port_next(&e->port, &call, NULL), 1);
		assert_non_null(fz_port_item(&e->port, &call, NULL));
		fz_port_item_end(&e->port, 1);
		assert_int_equal(fz_port_end_chunk(&e->port, NULL), 0);
	}
	assert_int_equal(fz_port_flush(&e->port, NULL), 0);
	for (uint32_t i = 0; i < 4; i++) {
		take_frame(e, &frame);
		assert_int_equal(frame.seq, i);
		assert_int_equal(fz_le32_load(frame.body), 1);
		assert_int_equal(frame.flags, flags[i]);
	}
}

#define TEST(name)                       \
	cmocka_unit_test_setup_teardown( \
	    name, port_ends_setup, port_ends_teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_port_a_chunk_is_a_call_for_each_item),
		TEST(test_port_a_chunk_ends_where_the_rest_was_taken_back),
		TEST(test_port_notes_when_each_timed_item_starts),
		TEST(test_port_a_function_to_keep_is_no_call),
		cmocka_unit_test(test_port_broken_frames_end_it),
		TEST(test_port_a_chunk_of_nothing_ends_it),
		TEST(test_port_items_wait_in_an_open_frame),
		TEST(test_port_an_item_that_is_given_up_does_not_count),
		TEST(test_port_a_reply_closes_the_frame_of_items),
		TEST(test_port_a_gap_in_the_numbers_begins_a_frame),
		TEST(test_port_a_full_mailbox_is_written),
		cmocka_unit_test(
		    test_port_a_pause_writes_the_items_that_have_waited),
		TEST(
		    test_port_measured_items_share_their_time_with_one_of_its_own),
		TEST(test_port_frames_have_items_of_one_measured_chunk),
		TEST(test_port_without_a_reader_there_is_no_room_for_items),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
