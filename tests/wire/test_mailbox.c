/*
 * Replies that a worker has stored in its mailbox: the parent takes them as
 * they are, or not at all.
 */
#define _GNU_SOURCE /* ftruncate */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/err.h"
#include "calls.h"
#include "os/fd.h"
#include "wire/child_direct.h"
#include "wire/child_items.h"
#include "wire/child_port.h"
#include "wire/mailbox.h"
#include "wire/wire.h"
#include "worker/link.h"
#include "world.h"

/* A link whose worker is this process itself. */
struct ends {
	struct world *w;
	struct fz_link *link;
	struct fz_port port;
	struct fz_mailbox *mailbox;
	struct fz_buf seen; /* the replies of the last peek */
};

static int
setup(void **state)
{
	struct ends *e = calloc(1, sizeof(*e));

	assert_int_equal(world_setup(state), 0);
	e->w = *state;
	e->link = fz_link_open(&fz_link_fork, &e->w->engine, NULL, NULL, NULL);
	assert_non_null(e->link);
	assert_int_equal(e->link->ops->enter(e->link, &e->port, NULL), 0);
	e->mailbox = e->port.mailbox;
	fz_buf_init(&e->seen);
	*state = e;
	return 0;
}

static int
teardown(void **state)
{
	struct ends *e = *state;

	fz_link_free(e->link);
	port_fini(&e->port);
	fz_buf_fini(&e->seen);
	*state = e->w;
	free(e);
	return world_teardown(state);
}

static int
peek(struct ends *e)
{
	fz_buf_clear(&e->seen);
	return e->link->ops->peek(e->link, &e->seen);
}

static void
put_item(struct ends *e, uint32_t seq, size_t len)
{
	struct fz_call call = { .seq = seq };
	unsigned char *room = fz_port_item(&e->port, &call, NULL);

	assert_non_null(room);
	memset(room, (int)(seq % 255), len);
	fz_port_item_end(&e->port, len);
}

static void
put_reply(struct ends *e, uint32_t seq, size_t len)
{
	struct fz_call call = { .seq = seq };

	fz_port_begin(&e->port, &call, FZ_WIRE_RESULT, 1);
	memset(fz_buf_reserve(&e->port.value.buf, len), 'r', len);
	e->port.value.buf.len += len;
	fz_port_put(&e->port);
	e->port.flushed_ns = INT64_MAX; /* the mailbox keeps the reply */
	assert_int_equal(fz_port_send(&e->port, NULL), 0);
}

static void
store_items(struct ends *e, uint32_t seq, uint32_t n)
{
	struct fz_call call = { .seq = seq, .nitems = n };
	struct fz_direct run;

	assert_int_equal(fz_direct_begin(&e->port, &call, &run, NULL), 0);
	do
		fz_direct_stored(&run);
	while (fz_direct_advance(&run));
	fz_direct_end(&e->port, &call, &run);
}

static void
put_one_item(struct ends *e)
{
	put_item(e, 0, 1);
}
static void
put_one_reply(struct ends *e)
{
	put_reply(e, 0, 5);
}
static void
store_one(struct ends *e)
{
	store_items(e, 0, 1);
}

static void
put_items(struct ends *e)
{
	for (uint32_t i = 0; i < 7; i++)
		put_item(e, i, 3 * i);
}

static void
put_all_kinds(struct ends *e)
{
	put_items(e);
	put_reply(e, 7, 13);
	store_items(e, 8, 5);
	put_reply(e, 13, 100);
	put_item(e, 14, 9);
	put_item(e, 15, 30);
}

static void
store_behind_items(struct ends *e)
{
	put_items(e);
	store_items(e, 7, 300);
}

/* Replies after a flush, which reuse the same bytes of the mailbox. */
static void
put_after_flush(struct ends *e)
{
	put_all_kinds(e);
	assert_int_equal(fz_port_flush(&e->port, NULL), 0);
	put_items(e);
}

static void (*const cases[])(struct ends *e) = { put_one_item, put_one_reply,
	store_one, put_items, put_all_kinds, store_behind_items,
	put_after_flush };

enum { NCASES = sizeof(cases) / sizeof(*cases) };

/*
 * Whether no seal protects these bits of byte `at` of the mailbox. They belong
 * to the length or the measured values of the open frame, which are known only
 * when the frame is complete.
 */
static bool
is_not_sealed(struct ends *e, size_t at, unsigned bits)
{
	struct fz_mailbox_open open = fz_mailbox_open(e->mailbox);

	if (open.nitems == 0)
		return false;
	if (at == open.start + 1)
		return bits == FZ_WIRE_MEASURED;
	return at >= open.start + 8 && at < open.start + FZ_WIRE_HEADER + 4;
}

/* Check that the parent gets the same replies as before, or none. */
static void
assert_same_or_none(struct ends *e, const struct fz_buf *before, bool same)
{
	int rc = peek(e);

	if (!same) {
		assert_true(rc <= 0);
		return;
	}
	assert_int_equal(rc, 1);
	assert_int_equal(e->seen.len, before->len);
	assert_memory_equal(e->seen.data, before->data, before->len);
}

static void
test_mailbox_no_reply_with_a_wrong_byte_is_taken(void **state)
{
	struct fz_buf before = FZ_BUF_INIT;

	for (int i = 0; i < NCASES; i++) {
		struct ends *e;

		(void)setup(state);
		e = *state;
		cases[i](e);
		assert_int_equal(peek(e), 1);
		fz_buf_clear(&before);
		fz_buf_put(&before, e->seen.data, e->seen.len);
		for (size_t at = 0; at < before.len; at++) {
			for (unsigned bits = 1; bits < 256; bits++) {
				e->mailbox->out[at] ^= (unsigned char)bits;
				assert_same_or_none(
				    e, &before, is_not_sealed(e, at, bits));
				e->mailbox->out[at] ^= (unsigned char)bits;
			}
		}
		assert_same_or_none(e, &before, true);
		(void)teardown(state);
	}
	fz_buf_fini(&before);
}

static void
test_mailbox_no_reply_with_a_wrong_word_or_seal_is_taken(void **state)
{
	for (int i = 0; i < NCASES; i++) {
		struct ends *e;
		uint64_t word, seal;
		_Atomic uint64_t *at;

		(void)setup(state);
		e = *state;
		cases[i](e);
		word = atomic_load(&e->mailbox->open);
		at = &e->mailbox->seals[word >> 56 & 1];
		seal = atomic_load(at);
		for (int bit = 0; bit < 64; bit++) {
			atomic_store(
			    &e->mailbox->open, word ^ UINT64_C(1) << bit);
			assert_true(peek(e) <= 0);
			atomic_store(&e->mailbox->open, word);
			atomic_store(at, seal ^ UINT64_C(1) << bit);
			assert_int_equal(peek(e), -1);
			atomic_store(at, seal);
		}
		assert_int_equal(peek(e), 1);
		(void)teardown(state);
	}
}

/*
 * Check that the replies are right, or are refused. Closing a frame writes its
 * head again, which may repair it.
 */
static void
assert_right_or_refused(struct ends *e)
{
	if (peek(e) == -1)
		return;
	assert_true(e->seen.len > e->port.items.start);
	assert_memory_equal(
	    e->seen.data, e->port.own->out, e->port.items.start);
}

/*
 * A mailbox is overwritten with one byte; afterwards the worker adds a reply.
 */
static void
test_mailbox_that_was_overwritten_has_no_replies(void **state)
{
	for (int byte = 0; byte < 256; byte++) {
		for (int i = 0; i < NCASES; i++) {
			struct ends *e;

			(void)setup(state);
			e = *state;
			cases[i](e);
			memset(e->mailbox->out, byte, FZ_MAILBOX_OUT);
			memset(&e->mailbox->epoch, byte,
			    sizeof(e->mailbox->epoch));
			assert_int_equal(peek(e), -1);
			memset(
			    &e->mailbox->open, byte, sizeof(e->mailbox->open));
			memset(
			    e->mailbox->seals, byte, sizeof(e->mailbox->seals));
			assert_true(peek(e) <= 0);
			put_item(e, 100, 3);
			assert_right_or_refused(e);
			/* Replies after a flush are right again. */
			assert_int_equal(fz_port_flush(&e->port, NULL), 0);
			assert_int_equal(peek(e), 0);
			put_item(e, 101, 3);
			assert_int_equal(peek(e), 1);
			(void)teardown(state);
		}
	}
}

static void
test_mailbox_without_replies_is_right(void **state)
{
	struct ends *e = *state;

	assert_int_equal(peek(e), 0);
	put_all_kinds(e);
	assert_int_equal(fz_port_flush(&e->port, NULL), 0);
	assert_int_equal(peek(e), 0);
}

/* The worker: items and replies of all kinds, as fast as they can be put. */
static void
put_many(struct ends *e)
{
	for (uint32_t seq = 0; seq < 300000;) {
		for (uint32_t n = seq % 5; n > 0; n--, seq++)
			put_item(e, seq, seq % 40);
		if (seq % 3 == 0)
			store_items(e, seq, 20);
		seq += seq % 3 == 0 ? 20 : 1;
		if (seq % 17 == 0)
			put_reply(e, seq, seq % 200);
	}
	assert_int_equal(fz_port_flush(&e->port, NULL), 0);
	_exit(0);
}

static void
assert_whole_frames(const struct fz_buf *seen)
{
	const unsigned char *at = seen->data, *end = at + seen->len;
	struct fz_frame frame;

	while (at != end)
		assert_int_equal(fz_wire_scan(&at, end, &frame, NULL), 1);
}

/* Reading at the same time as the worker writes finds no damage. */
static void
test_mailbox_is_read_while_it_is_written(void **state)
{
	struct ends *e = *state;
	pid_t pid = fork();
	unsigned nseen = 0;
	int status, rc;

	if (pid == 0)
		put_many(e);
	assert_true(pid > 0);
	fz_link_forked(e->link);
	while (fz_link_fill(e->link) != 0) {
		e->link->wire.at = e->link->wire.buf.len;
		rc = peek(e);
		assert_true(rc >= 0);
		if (rc == 1)
			assert_whole_frames(&e->seen);
		nseen += rc == 1;
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_true(nseen != 0);
}

/* A worker can write to the file of its mailbox, but not change its size. */
static void
test_mailbox_in_a_file_is_shared_and_keeps_its_size(void **state)
{
	struct fz_mailbox *mailbox, *other;
	int fd = -1;

	(void)state;
	mailbox = fz_mailbox_new_file(&fd, NULL);
	assert_non_null(mailbox);
	other = fz_mailbox_map(fd);
	assert_non_null(other);
	assert_int_equal(ftruncate(fd, 0), -1);
	fz_fd_close(&fd);
	mailbox->out[FZ_MAILBOX_OUT - 1] = 'x';
	assert_int_equal(other->out[FZ_MAILBOX_OUT - 1], 'x');
	fz_mailbox_unmap(other);
	fz_mailbox_unmap(mailbox);
}

/* Without a descriptor there is no mailbox in a file. */
static void
test_mailbox_in_a_file_needs_a_descriptor(void **state)
{
	struct rlimit before, none;
	struct fz_err err = { 0 };
	int fd = -1;

	(void)state;
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	none = (struct rlimit){ 0, before.rlim_max };
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	assert_null(fz_mailbox_new_file(&fd, &err));
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
	assert_int_equal(fd, -1);
	assert_int_equal(err.code, EMFILE);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
		    test_mailbox_no_reply_with_a_wrong_byte_is_taken),
		cmocka_unit_test(
		    test_mailbox_no_reply_with_a_wrong_word_or_seal_is_taken),
		cmocka_unit_test(
		    test_mailbox_that_was_overwritten_has_no_replies),
		cmocka_unit_test(
		    test_mailbox_in_a_file_is_shared_and_keeps_its_size),
		cmocka_unit_test(test_mailbox_in_a_file_needs_a_descriptor),
		TEST(test_mailbox_without_replies_is_right),
		TEST(test_mailbox_is_read_while_it_is_written),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
