/*
 * Slots in one process: taken, given back and waited for.
 *
 * wrap: malloc calloc realloc mmap epoll_create1 epoll_ctl epoll_pwait fork
 * wrap: pipe2 read write pwritev2
 */
/* pipe2 and fork are not in C11. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/err.h"
#include "descriptors.h"
#include "faults.h"
#include "os/loop.h"
#include "sched/slots.h"
#include "slots_test.h"
#include "world.h"

static void
test_slots_the_first_needs_no_token_and_no_call(void **state)
{
	struct slots_waiter waiter = slots_waiter(NULL);
	struct world *w = *state;
	struct slots_make m;

	slots_make_begin(w, &m, "ab");
	faults_at(1000);
	assert_true(fz_slots_take(m.slots, &waiter.waiter));
	assert_int_equal(faults.calls, 0);
	faults_end();
	assert_int_equal(slots_left(&m), 2);
	assert_true(fz_slots_take(m.slots, &waiter.waiter));
	assert_int_equal(slots_left(&m), 1);
	assert_true(fz_slots_take(m.slots, &waiter.waiter));
	assert_true(fz_slots_has_free(m.slots)); /* not known to be empty */
	assert_false(fz_slots_take(m.slots, &waiter.waiter));
	assert_false(fz_slots_has_free(m.slots));
	faults_at(1000);
	assert_false(fz_slots_take(m.slots, &waiter.waiter));
	assert_int_equal(faults.calls, 0); /* an empty pipe is not read again */
	faults_end();
	fz_slots_forget(&waiter.waiter);
	slots_make_end(w, &m);
}

static void
test_slots_tokens_go_back_as_they_were(void **state)
{
	struct slots_waiter waiter = slots_waiter(NULL);
	struct world *w = *state;
	char bytes[4] = "";
	struct slots_make m;

	slots_make_begin(w, &m, "abc");
	for (int i = 0; i < 4; i++)
		assert_true(fz_slots_take(m.slots, &waiter.waiter));
	assert_int_equal(slots_left(&m), 0);
	for (int i = 0; i < 4; i++)
		fz_slots_give(m.slots);
	assert_int_equal(slots_left(&m), 0);
	assert_true(turn_until(w, in_ms(PATIENCE_MS)));
	assert_int_equal(read(m.pipe[0], bytes, 4), 3);
	assert_non_null(strchr(bytes, 'a'));
	assert_non_null(strchr(bytes, 'b'));
	assert_non_null(strchr(bytes, 'c'));
	slots_make_end(w, &m);
}

/* Fill the pipe with bytes that are not tokens. */
static void
fill_pipe(int fd)
{
	static char bytes[4096];
	int flags = fcntl(fd, F_GETFL);

	fcntl(fd, F_SETFL, flags | O_NONBLOCK);
	while (write(fd, bytes, sizeof(bytes)) > 0)
		continue;
	while (write(fd, bytes, 1) > 0)
		continue;
	fcntl(fd, F_SETFL, flags);
}

/* Another program fills the pipe: tokens are lost, but no write blocks. */
static void
test_slots_a_full_pipe_does_not_block(void **state)
{
	struct world *w = *state;
	struct slots_waiter waiter = slots_waiter(NULL);
	struct slots_make m;

	slots_make_begin(w, &m, "+++");
	for (int i = 0; i < 4; i++)
		assert_true(fz_slots_take(m.slots, &waiter.waiter));
	fill_pipe(m.pipe[1]);
	fz_slots_give(m.slots);
	assert_true(turn_until(w, in_ms(PATIENCE_MS)));
	fz_slots_give(m.slots);
	fz_slots_trim(m.slots);
	slots_make_end(w, &m);
}

static void
test_slots_within_a_turn_tokens_are_kept(void **state)
{
	struct slots_waiter waiter = slots_waiter(NULL);
	struct world *w = *state;
	struct slots_make m;

	slots_make_begin(w, &m, "ab");
	for (int i = 0; i < 2; i++)
		assert_true(fz_slots_take(m.slots, &waiter.waiter));
	faults_at(1000);
	for (int i = 0; i < 10; i++) {
		fz_slots_give(m.slots);
		assert_true(fz_slots_take(m.slots, &waiter.waiter));
	}
	assert_int_equal(faults.calls, 0);
	faults_end();
	assert_true(turn_until(w, in_ms(PATIENCE_MS)));
	assert_int_equal(slots_left(&m), 1);
	fz_slots_give(m.slots);
	fz_slots_trim(m.slots); /* writes the token to the pipe */
	assert_int_equal(slots_left(&m), 2);
	slots_make_end(w, &m);
}

static void
test_slots_a_waiter_gets_the_next_free_slot(void **state)
{
	struct world *w = *state;
	struct slots_waiter waiters[3];
	struct slots_make m;

	slots_make_begin(w, &m, "a");
	for (int i = 0; i < 3; i++)
		waiters[i] = slots_waiter(m.slots);
	assert_true(fz_slots_take(m.slots, &waiters[0].waiter));
	assert_true(fz_slots_take(m.slots, &waiters[0].waiter));
	for (int i = 0; i < 3; i++)
		assert_false(fz_slots_take(m.slots, &waiters[i].waiter));
	fz_slots_forget(&waiters[1].waiter);
	fz_slots_forget(&waiters[1].waiter);
	fz_slots_give(m.slots);
	assert_true(turn_until(w, in_ms(PATIENCE_MS)));
	assert_int_equal(waiters[1].ntold, 0);
	assert_int_equal(waiters[0].got + waiters[2].got, 1);
	assert_int_equal(waiters[0].ntold + waiters[2].ntold, 2);
	/* The slot has passed to a waiter, and not through the pipe. */
	assert_int_equal(slots_left(&m), 0);
	fz_slots_give(m.slots);
	assert_true(turn_until(w, in_ms(PATIENCE_MS)));
	assert_int_equal(waiters[0].got + waiters[2].got, 2);
	slots_make_end(w, &m);
}

static void
test_slots_a_token_of_another_process_wakes_the_waiter(void **state)
{
	struct world *w = *state;
	struct slots_waiter waiter;
	struct slots_make m;

	slots_make_begin(w, &m, "");
	waiter = slots_waiter(m.slots);
	assert_true(fz_slots_take(m.slots, &waiter.waiter));
	for (int i = 1; i <= 3; i++) {
		assert_false(fz_slots_take(m.slots, &waiter.waiter));
		assert_int_equal(fz_loop_turn(w->engine.loop, 0, NULL), 0);
		assert_int_equal(write(m.pipe[1], "x", 1), 1);
		assert_true(fz_slots_has_free(m.slots) == false);
		assert_true(turn_until(w, in_ms(PATIENCE_MS)));
		assert_int_equal(waiter.ntold, i);
		assert_true(waiter.got);
		assert_int_equal(slots_left(&m), 0);
	}
	/* No waiter is left, so a token does not end a turn. */
	assert_int_equal(write(m.pipe[1], "x", 1), 1);
	assert_int_equal(fz_loop_turn(w->engine.loop, 0, NULL), 0);
	assert_int_equal(waiter.ntold, 3);
	slots_make_end(w, &m);
}

static void
test_slots_have_the_number_they_were_given(void **state)
{
	struct slots_waiter waiter = slots_waiter(NULL);
	struct world *w = *state;
	struct fz_slots *slots = fz_slots_new(&w->engine, NULL);

	assert_null(fz_slots_for(&w->engine, slots)); /* there is no limit */
	assert_null(fz_slots_for(&w->engine, NULL));
	for (unsigned n = 1; n < 600; n += 299) {
		assert_int_equal(fz_slots_resize(slots, n, NULL), 0);
		assert_ptr_equal(fz_slots_for(&w->engine, slots), slots);
		assert_int_equal(slots_free(w, slots), n);
	}
	assert_int_equal(fz_slots_resize(slots, 3, NULL), 0);
	assert_true(fz_slots_take(slots, &waiter.waiter));
	/* One slot is in use. */
	assert_int_equal(fz_slots_resize(slots, 1, NULL), 0);
	assert_int_equal(slots_free(w, slots), 2);
	assert_int_equal(fz_slots_resize(slots, 5, NULL), 0);
	assert_int_equal(slots_free(w, slots), 4);
	fz_slots_give(slots);
	assert_true(turn_until(w, in_ms(PATIENCE_MS)));
	assert_int_equal(fz_slots_resize(slots, 2, NULL), 0);
	assert_int_equal(slots_free(w, slots), 2);
	assert_int_equal(fz_slots_resize(slots, 65536, NULL), 0);
	assert_true(slots_free(w, slots) > 4096); /* what fits in a pipe */
	fz_slots_unref(slots);
	fz_slots_unref(NULL);
}

static void
test_slots_lost_tokens_are_made_anew(void **state)
{
	struct slots_waiter waiter = slots_waiter(NULL);
	struct world *w = *state;
	struct fz_slots *slots = fz_slots_new(&w->engine, NULL);
	pid_t pid;

	assert_int_equal(fz_slots_resize(slots, 4, NULL), 0);
	pid = fork();
	if (pid == 0) {
		for (int i = 0; i < 3; i++)
			fz_slots_take(slots, &waiter.waiter);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	assert_int_equal(slots_free(w, slots), 2);
	assert_int_equal(fz_slots_resize(slots, 4, NULL), 0);
	assert_int_equal(slots_free(w, slots), 4);
	fz_slots_unref(slots);
}

static void
test_slots_under_make_are_those_of_make(void **state)
{
	struct world *w = *state;
	struct fz_slots *slots = fz_slots_new(&w->engine, NULL);
	struct slots_make m;

	slots_make_begin(w, &m, "a");
	assert_int_equal(fz_slots_resize(slots, 64, NULL), 0);
	assert_ptr_equal(fz_slots_for(&w->engine, slots), m.slots);
	assert_int_equal(slots_free(w, m.slots), 2);
	fz_slots_unref(slots);
	slots_make_end(w, &m);
}

/* The descriptors are closed even if the call fails. */
static void
test_slots_of_make_may_fail(void **state)
{
	struct world *w = *state;
	int nfds = count_fds(), fd[2];
	unsigned long n = 0;
	struct fz_slots *slots;
	struct fz_err err;

	do {
		assert_int_equal(pipe2(fd, O_CLOEXEC), 0);
		err = (struct fz_err){ 0 };
		faults_at(++n);
		slots = fz_slots_of_make(&w->engine, fd, &err);
		if (!faults_end())
			break;
		assert_null(slots);
		assert_int_not_equal(err.kind, FZ_ERR_NONE);
		assert_null(w->engine.slots);
		assert_int_equal(count_fds(), nfds);
	} while (n < 10);
	assert_int_equal(n, 4);
	assert_non_null(slots);
	fz_slots_unref(slots);
	w->engine.slots = NULL;
}

#define TEST(name) \
	cmocka_unit_test_setup_teardown(name, world_setup, world_teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_slots_the_first_needs_no_token_and_no_call),
		TEST(test_slots_tokens_go_back_as_they_were),
		TEST(test_slots_a_full_pipe_does_not_block),
		TEST(test_slots_within_a_turn_tokens_are_kept),
		TEST(test_slots_a_waiter_gets_the_next_free_slot),
		TEST(test_slots_a_token_of_another_process_wakes_the_waiter),
		TEST(test_slots_have_the_number_they_were_given),
		TEST(test_slots_lost_tokens_are_made_anew),
		TEST(test_slots_under_make_are_those_of_make),
		TEST(test_slots_of_make_may_fail),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
