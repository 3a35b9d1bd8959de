/* A worker's line to the gateway of its node; the test is the gateway. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "os/fd.h"
#include "wire/slot_line.h"

struct line {
	struct fz_slot_line own;
	int gateway;
};

static int
setup(void **state)
{
	struct line *l = calloc(1, sizeof(*l));
	int ends[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends), 0);
	l->own.fd = ends[0];
	l->gateway = ends[1];
	*state = l;
	return 0;
}

static int
teardown(void **state)
{
	struct line *l = *state;

	fz_fd_close(&l->own.fd);
	fz_fd_close(&l->gateway);
	free(l);
	return 0;
}

/* The next message at the gateway is of this type; returns its number. */
static uint32_t
expect(struct line *l, enum fz_slot_type type)
{
	struct fz_slot_message message;

	assert_int_equal(fz_slot_receive(l->gateway, &message), 1);
	assert_int_equal(message.type, type);
	return message.number;
}

static void
expect_nothing(struct line *l)
{
	struct fz_slot_message message;

	assert_int_equal(fz_slot_receive(l->gateway, &message), 0);
}

static void
test_slot_line_keeps_a_slot_until_it_is_asked_for(void **state)
{
	struct line *l = *state;
	uint32_t number;

	assert_false(fz_slot_line_check(&l->own));
	fz_slot_line_want(&l->own);
	number = expect(l, FZ_SLOT_WANT);
	assert_false(fz_slot_line_check(&l->own));
	fz_slot_send(l->gateway, FZ_SLOT_GRANT, number);
	assert_true(fz_slot_line_check(&l->own));
	assert_true(fz_slot_line_check(&l->own));
	expect_nothing(l);
	fz_slot_send(l->gateway, FZ_SLOT_ASK, number);
	assert_false(fz_slot_line_check(&l->own));
	assert_int_equal(expect(l, FZ_SLOT_DONE), number);
	expect_nothing(l);
}

static void
test_slot_line_uses_a_slot_once_before_it_returns_it(void **state)
{
	struct line *l = *state;
	uint32_t number;

	fz_slot_line_want(&l->own);
	number = expect(l, FZ_SLOT_WANT);
	fz_slot_send(l->gateway, FZ_SLOT_GRANT, number);
	fz_slot_send(l->gateway, FZ_SLOT_ASK, number);
	assert_true(fz_slot_line_check(&l->own));
	expect_nothing(l);
	assert_false(fz_slot_line_check(&l->own));
	assert_int_equal(expect(l, FZ_SLOT_DONE), number);
}

static void
test_slot_line_ignores_a_slot_for_which_it_waits_no_longer(void **state)
{
	struct line *l = *state;
	uint32_t number;

	fz_slot_line_want(&l->own);
	number = expect(l, FZ_SLOT_WANT);
	fz_slot_send(l->gateway, FZ_SLOT_GRANT, number);
	fz_slot_line_stop(&l->own);
	assert_int_equal(expect(l, FZ_SLOT_DONE), number);
	assert_false(fz_slot_line_check(&l->own));
	fz_slot_line_want(&l->own);
	assert_int_not_equal(expect(l, FZ_SLOT_WANT), number);
	assert_false(fz_slot_line_check(&l->own));
	expect_nothing(l);
}

static void
test_slot_line_returns_a_slot_at_rest(void **state)
{
	struct line *l = *state;
	int calls[2];
	uint32_t number;

	assert_int_equal(fz_fd_pipe(calls, NULL), 0);
	fz_slot_line_want(&l->own);
	number = expect(l, FZ_SLOT_WANT);
	fz_slot_send(l->gateway, FZ_SLOT_GRANT, number);
	assert_true(fz_slot_line_check(&l->own));
	fz_slot_send(l->gateway, FZ_SLOT_ASK, number);
	fz_slot_line_wait(&l->own, calls[0]); /* the worker returns the slot */
	assert_int_equal(expect(l, FZ_SLOT_DONE), number);
	fz_slot_line_want(&l->own);
	number = expect(l, FZ_SLOT_WANT);
	fz_slot_send(l->gateway, FZ_SLOT_GRANT, number);
	assert_true(fz_slot_line_check(&l->own));
	assert_int_equal(write(calls[1], "", 1), 1);
	fz_slot_line_wait(&l->own, calls[0]);
	assert_true(l->own.held);
	fz_fd_close(&calls[0]);
	fz_fd_close(&calls[1]);
}

static void
test_slot_line_needs_none_without_a_gateway(void **state)
{
	struct line *l = *state;

	fz_slot_line_want(&l->own);
	assert_false(fz_slot_line_check(&l->own));
	fz_fd_close(&l->gateway);
	assert_true(fz_slot_line_check(&l->own));
	assert_int_equal(l->own.fd, -1);
	assert_true(fz_slot_line_check(&l->own));
	fz_slot_line_wait(&l->own, -1);
}

int
main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_slot_line_keeps_a_slot_until_it_is_asked_for),
		TEST(test_slot_line_uses_a_slot_once_before_it_returns_it),
		TEST(
		    test_slot_line_ignores_a_slot_for_which_it_waits_no_longer),
		TEST(test_slot_line_returns_a_slot_at_rest),
		TEST(test_slot_line_needs_none_without_a_gateway),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
