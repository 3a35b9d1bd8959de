/*
 * Results that a worker stores in shared memory.
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
#include <string.h>

#include "base/err.h"
#include "os/fd.h"
#include "port_ends.h"
#include "wire/child_direct.h"
#include "wire/child_items.h"
#include "wire/child_port.h"
#include "wire/wire.h"

static void
place_item(struct port_ends *e, uint32_t seq)
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
assert_stored(const struct fz_frame *frame, uint32_t seq, uint32_t nitems)
{
	assert_int_equal(frame->type, FZ_WIRE_STORED);
	assert_int_equal(frame->seq, seq);
	assert_int_equal(frame->len, 4);
	assert_int_equal(fz_le32_load(frame->body), nitems);
}

/* Each item counts at once, in a word of the mailbox, and adds no bytes. */
static void
test_port_stored_items_are_counted(void **state)
{
	enum { HEAD = FZ_WIRE_HEADER + 4 };
	struct port_ends *e = *state;
	struct fz_mailbox_open open;
	struct fz_frame frame;

	for (uint32_t i = 0; i < 5; i++) {
		place_item(e, UINT32_MAX - 2 + i); /* the numbers wrap */
		open = fz_mailbox_open(e->mailbox);
		assert_int_equal(open.start, 0);
		assert_int_equal(open.len, HEAD);
		assert_int_equal(open.nitems, i + 1);
	}
	assert_int_equal(e->mailbox->out[0], FZ_WIRE_STORED);
	assert_int_equal(fz_le32_load(e->mailbox->out + 4), UINT32_MAX - 2);
	assert_int_equal(fz_mailbox_open(e->mailbox).start, 0);
	assert_int_equal(fz_port_flush(&e->port, NULL), 0);
	assert_int_equal(fz_mailbox_open(e->mailbox).nitems, 0);
	assert_int_equal(atomic_load(&e->mailbox->epoch), 1);
	take_frame(e, &frame);
	assert_stored(&frame, UINT32_MAX - 2, 5);
	place_item(e, 9);
	place_item(e, 11); /* after a gap, so in a new frame */
	assert_int_equal(fz_port_flush(&e->port, NULL), 0);
	take_frame(e, &frame);
	assert_stored(&frame, 9, 1);
	take_frame(e, &frame);
	assert_stored(&frame, 11, 1);
}

static void
test_port_stored_and_sent_items_keep_their_order(void **state)
{
	struct port_ends *e = *state;
	struct fz_call call = { .seq = 6 };
	struct fz_frame frame;

	place_item(e, 0);
	place_item(e, 1);
	put_item(e, 2, 'a', 2);
	put_item(e, 3, 'b', 1);
	place_item(e, 4);
	put_item(e, 5, 'c', 0);
	put_reply(e, &call, "whole");
	place_item(e, 7);
	assert_int_equal(fz_port_flush(&e->port, NULL), 0);
	take_frame(e, &frame);
	assert_stored(&frame, 0, 2);
	take_frame(e, &frame);
	assert_items(&frame, 2, 2, "aab");
	take_frame(e, &frame);
	assert_stored(&frame, 4, 1);
	take_frame(e, &frame);
	assert_items(&frame, 5, 1, "");
	take_frame(e, &frame);
	assert_int_equal(frame.type, FZ_WIRE_RESULT);
	assert_int_equal(frame.seq, 6);
	take_frame(e, &frame);
	assert_stored(&frame, 7, 1);
}

/* If the room for an item is not used, the open frame does not change. */
static void
test_port_stores_an_item_after_it_asked_for_room(void **state)
{
	struct port_ends *e = *state;
	struct fz_frame frame;

	put_item(e, 0, 'a', 1);
	drop_item(e, 1);
	place_item(e, 1);
	drop_item(e, 2);
	place_item(e, 2);
	assert_int_equal(fz_port_flush(&e->port, NULL), 0);
	take_frame(e, &frame);
	assert_items(&frame, 0, 1, "a");
	for (uint32_t seq = 1; seq <= 2; seq++) {
		take_frame(e, &frame);
		assert_stored(&frame, seq, 1);
	}
}

/* Send a chunk of `n` items, and get the call of the first one. */
static void
begin_chunk(
    struct port_ends *e, uint32_t n, unsigned flags, struct fz_call *call)
{
	put_chunk(e, 0, flags, n);
	write_jobs(e);
	assert_int_equal(fz_port_next(&e->port, call, NULL), 1);
}

static void
test_port_a_run_stores_what_follows(void **state)
{
	struct port_ends *e = *state;
	struct fz_direct run;
	struct fz_frame frame;
	struct fz_call call;

	begin_chunk(e, 6, 0, &call);
	assert_int_equal(fz_direct_begin(&e->port, &call, &run, NULL), 0);
	for (uint32_t i = 0; i < 3; i++) {
		assert_int_equal(run.seq, i);
		fz_direct_stored(&run);
		assert_int_equal(fz_mailbox_open(e->mailbox).nitems, i + 1);
		assert_int_equal(fz_claim_started(&e->mailbox->claim), i + 1);
		assert_true(fz_direct_advance(&run));
	}
	/* The run ends before the fourth item, whose result is sent. */
	assert_int_equal(fz_direct_end(&e->port, &call, &run), 3);
	assert_int_equal(call.seq, 3);
	assert_int_equal(call.item, 103);
	assert_int_equal(call.nitems, 3);
	put_item(e, 3, 'a', 1);
	assert_true(fz_port_advance(&e->port, &call));
	assert_int_equal(fz_direct_begin(&e->port, &call, &run, NULL), 0);
	/* This run stores no item, because the fifth result is sent as well. */
	assert_int_equal(fz_direct_end(&e->port, &call, &run), 0);
	put_item(e, 4, 'b', 1);
	assert_true(fz_port_advance(&e->port, &call));
	assert_int_equal(fz_direct_begin(&e->port, &call, &run, NULL), 0);
	fz_direct_stored(&run);
	assert_false(fz_direct_advance(&run)); /* no item is left */
	assert_int_equal(fz_direct_end(&e->port, &call, &run), 0);
	assert_false(fz_port_advance(&e->port, &call));
	assert_int_equal(fz_port_flush(&e->port, NULL), 0);
	take_frame(e, &frame);
	assert_stored(&frame, 0, 3);
	take_frame(e, &frame);
	assert_int_equal(frame.type, FZ_WIRE_ITEMS);
	assert_int_equal(frame.seq, 3);
	if (fz_le32_load(frame.body) == 1)
		take_frame(e, &frame);
	assert_int_equal(frame.body[frame.len - 1], 'b');
	take_frame(e, &frame);
	assert_stored(&frame, 5, 1);
}

static void
test_port_a_run_ends_where_the_rest_was_taken_back(void **state)
{
	struct port_ends *e = *state;
	struct fz_direct run;
	struct fz_frame frame;
	struct fz_call call;

	begin_chunk(e, 10, FZ_WIRE_TIMED, &call);
	assert_int_equal(fz_direct_begin(&e->port, &call, &run, NULL), 0);
	fz_direct_stored(&run);
	atomic_store(&e->mailbox->start_ns, 0);
	assert_true(fz_direct_advance(&run));
	assert_true(atomic_load(&e->mailbox->start_ns) != 0);
	assert_int_equal(fz_claim_recall(&e->mailbox->claim, 10), 2);
	fz_direct_stored(&run);
	assert_false(fz_direct_advance(&run));
	assert_int_equal(fz_direct_end(&e->port, &call, &run), 1);
	assert_int_equal(call.item, 101);
	assert_false(fz_port_advance(&e->port, &call));
	assert_int_equal(fz_port_flush(&e->port, NULL), 0);
	take_frame(e, &frame);
	assert_stored(&frame, 0, 2);
}

/* The word of the mailbox counts at most MOST items of a frame. */
static void
test_port_a_run_ends_where_its_frame_is_full(void **state)
{
	enum { MOST = FZ_MAILBOX_OPEN_ITEMS };
	struct port_ends *e = *state;
	struct fz_direct run;
	struct fz_frame frame;
	struct fz_call call;
	uint32_t n = 0;

	begin_chunk(e, 2 * MOST, 0, &call);
	for (int i = 0; i < 5; i++) { /* store five items before this run */
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
	assert_int_equal(fz_mailbox_open(e->mailbox).nitems, MOST);
	assert_true(fz_port_advance(&e->port, &call));
	assert_int_equal(fz_direct_begin(&e->port, &call, &run, NULL), 0);
	fz_direct_stored(&run);
	fz_direct_end(&e->port, &call, &run);
	assert_int_equal(fz_mailbox_open(e->mailbox).nitems, 1);
	assert_int_equal(call.seq, MOST);
	assert_int_equal(fz_port_flush(&e->port, NULL), 0);
	take_frame(e, &frame);
	assert_stored(&frame, 0, MOST);
	take_frame(e, &frame);
	assert_stored(&frame, MOST, 1);
}

/* The limit is the same for items that are stored and items that are sent. */
static void
test_port_a_frame_counts_so_many_items_at_most(void **state)
{
	enum { MOST = FZ_MAILBOX_OPEN_ITEMS };
	struct port_ends *e = *state;
	struct fz_mailbox_open open;
	struct fz_frame frame;

	for (uint32_t i = 0; i < MOST; i++)
		place_item(e, 3 + i);
	open = fz_mailbox_open(e->mailbox);
	assert_int_equal(open.start, 0);
	assert_int_equal(open.len, FZ_WIRE_HEADER + 4);
	assert_int_equal(open.nitems, MOST);
	assert_int_equal(fz_mailbox_open(e->mailbox).start, 0);
	place_item(e, 3 + MOST);
	place_item(e, 4 + MOST);
	open = fz_mailbox_open(e->mailbox);
	assert_int_equal(open.start, FZ_WIRE_HEADER + 4);
	assert_int_equal(open.nitems, 2);
	for (uint32_t i = 0; i <= MOST; i++)
		put_item(e, 5 + MOST + i, 'x', 0);
	assert_int_equal(fz_port_flush(&e->port, NULL), 0);
	take_frame(e, &frame);
	assert_stored(&frame, 3, MOST);
	take_frame(e, &frame);
	assert_stored(&frame, 3 + MOST, 2);
	take_frame(e, &frame);
	assert_items(&frame, 5 + MOST, MOST, "");
	take_frame(e, &frame);
	assert_items(&frame, 5 + 2 * MOST, 1, "");
}

/* Frames of one item each fill the mailbox many times. */
static void
test_port_stored_items_are_written_if_the_mailbox_is_full(void **state)
{
	enum { MANY = 20000 };
	struct port_ends *e = *state;
	uint32_t seq = 0;
	struct fz_frame frame;

	assert_int_equal(fz_fd_nonblock(e->results[0], NULL), 0);
	for (uint32_t i = 0; i <= MANY; i++) {
		uint32_t epoch = atomic_load(&e->mailbox->epoch);

		if (i == MANY)
			assert_int_equal(fz_port_flush(&e->port, NULL), 0);
		else if (i % 7 != 0 && i % 2 == 0)
			put_item(e, i, 'x', i % 5);
		else
			place_item(e, i);
		assert_true(e->port.items.start + e->port.items.len <=
			    FZ_PORT_ITEMS + 100);
		if (atomic_load(&e->mailbox->epoch) == epoch)
			continue;
		while (fz_wire_fill(&e->in, e->results[0]) > 0) {
			while (fz_wire_next(&e->in, &frame, NULL) == 1) {
				assert_int_equal(frame.seq, seq);
				seq += fz_le32_load(frame.body);
			}
		}
		assert_int_equal(seq, i);
	}
	assert_true(atomic_load(&e->mailbox->epoch) > 5);
}

static void
test_port_without_a_reader_no_item_is_stored(void **state)
{
	struct port_ends *e = *state;
	struct fz_call call = { .seq = 0, .nitems = 1 };
	struct fz_err err = { 0 };
	struct fz_direct run;

	signal(SIGPIPE, SIG_IGN);
	fz_fd_close(&e->results[0]);
	while (fz_direct_begin(&e->port, &call, &run, &err) == 0) {
		fz_direct_stored(&run);
		fz_direct_end(&e->port, &call, &run);
		call.seq += 2; /* leave a gap, so each item has its own frame */
		assert_true(call.seq < FZ_MAILBOX_OUT);
	}
	assert_int_equal(err.code, EPIPE);
	signal(SIGPIPE, SIG_DFL);
}

#define TEST(name)                       \
	cmocka_unit_test_setup_teardown( \
	    name, port_ends_setup, port_ends_teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_port_stored_items_are_counted),
		TEST(test_port_stored_and_sent_items_keep_their_order),
		TEST(test_port_stores_an_item_after_it_asked_for_room),
		TEST(test_port_a_run_stores_what_follows),
		TEST(test_port_a_run_ends_where_the_rest_was_taken_back),
		TEST(test_port_a_run_ends_where_its_frame_is_full),
		TEST(test_port_a_frame_counts_so_many_items_at_most),
		TEST(test_port_stored_items_are_written_if_the_mailbox_is_full),
		TEST(test_port_without_a_reader_no_item_is_stored),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
