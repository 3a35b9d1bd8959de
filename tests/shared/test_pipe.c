/*
 * When an end of a pipe is over. The test forks, and counts its children as
 * fz_proc_fork() does.
 *
 * wrap: fz_proc_is_child fz_clock_ns malloc calloc realloc
 */
/* kill and sched_yield are not in C11. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "members.h"
#include "no_memory.h"
#include "proc/children.h"
#include "proc/proc.h"
#include "shared/pipe.h"
#include "this_member.h"

enum { TYPE = 1, ANY_PID = 1 };

static struct fz_children children;
static struct fz_pipes pipes;
static bool is_child;
static int64_t now_ns;
bool __wrap_fz_proc_is_child(void);
int64_t __wrap_fz_clock_ns(void);

bool
__wrap_fz_proc_is_child(void)
{
	return is_child;
}

int64_t
__wrap_fz_clock_ns(void)
{
	return now_ns;
}

static int
setup(void **state)
{
	children = (struct fz_children){ .n = 0 };
	fz_pipes_init(&pipes, &this_member, &children);
	is_child = no_memory = false;
	now_ns = FZ_CLOCK_SECOND;
	return members_setup(state);
}

static int
teardown(void **state)
{
	fz_children_fini(&children);
	return members_teardown(state);
}

/* A pipe; this process has a handle for each end. */
static struct fz_pipe *
new_pipe(void)
{
	struct fz_pipe *pipe =
	    fz_heap_new(&this_member, TYPE, sizeof(*pipe), NULL);

	fz_pipe_init(pipe);
	assert_int_equal(fz_pipe_open(&pipes, pipe, 0, NULL), 0);
	assert_int_equal(fz_pipe_open(&pipes, pipe, 1, NULL), 0);
	return pipe;
}

/* Free a pipe, and close the handles of the ends that are still open. */
static void
free_pipe(struct fz_pipe *pipe, bool open0, bool open1)
{
	if (open0)
		fz_pipe_close(&pipes, pipe, 0);
	if (open1)
		fz_pipe_close(&pipes, pipe, 1);
	fz_pipe_forget(&pipes, pipe);
	fz_pipe_forget(&pipes, pipe);
	fz_heap_free(&this_member, &pipe->object);
}

/* Whether a receiver at end 0 finds that the other end was closed. */
static bool
has_ended(struct fz_pipe *pipe)
{
	struct fz_pipe_receiver r = { &pipes, pipe, 0, 0 };

	return fz_pipe_has_ended(&r, true);
}

/* Count a child before it is forked. */
static void
count_child(void)
{
	fz_children_add(&children, ANY_PID);
}

static _Atomic int *ready; /* in the heap; 1: the child waits */

static _Noreturn void
live_on(void)
{
	atomic_store(ready, 1);
	for (;;)
		pause();
}

/* Register as a child of fz_proc_fork() does, and wait until killed. */
static int
live(void *ctx)
{
	(void)ctx;
	fz_children_in_child(&children);
	live_on();
}

static pid_t
start_registered(int (*f)(void *ctx), struct fz_pipe *pipe)
{
	pid_t pid;

	count_child();
	ready = (_Atomic int *)fz_heap_alloc(join(), 1, NULL);
	atomic_store(ready, 0);
	pid = member_start(f, pipe);
	while (atomic_load(ready) == 0)
		sched_yield();
	fz_heap_give_back((void *)(uintptr_t)ready);
	return pid;
}

static void
kill_child(pid_t pid)
{
	member_kill(pid);
	fz_children_drop(&children, ANY_PID);
}

static void
test_pipe_end_is_closed_with_its_last_handle(void **state)
{
	struct fz_pipe *pipe = new_pipe();
	struct fz_pipe_receiver r = { &pipes, pipe, 0, 0 };

	(void)state;
	assert_int_equal(fz_pipe_open(&pipes, pipe, 1, NULL), 0);
	fz_pipe_close(&pipes, pipe, 1);
	fz_pipe_forget(&pipes, pipe);
	assert_false(has_ended(pipe));
	assert_true(fz_pipe_is_connected(&pipes, pipe, 0));
	fz_pipe_close(&pipes, pipe, 1);
	/*
	 * Without `late`, the end is checked only once after a process closed
	 * it.
	 */
	assert_true(fz_pipe_has_ended(&r, false));
	assert_false(fz_pipe_has_ended(&r, false));
	assert_true(fz_pipe_has_ended(&r, true));
	assert_false(fz_pipe_is_connected(&pipes, pipe, 0));
	free_pipe(pipe, true, false);
}

static void
test_pipe_process_that_uses_both_ends_is_connected(void **state)
{
	struct fz_pipe *pipe = new_pipe();

	(void)state;
	fz_pipe_use(&pipes, pipe, 0);
	fz_pipe_use(&pipes, pipe, 1);
	assert_true(fz_pipe_is_connected(&pipes, pipe, 0));
	assert_true(fz_pipe_is_connected(&pipes, pipe, 1));
	free_pipe(pipe, true, true);
}

static void
test_pipe_end_is_open_while_a_child_holds_it(void **state)
{
	struct fz_pipe *pipe = new_pipe();
	pid_t pid = start_registered(live, pipe);

	(void)state;
	fz_pipe_close(&pipes, pipe, 1);
	assert_false(has_ended(pipe));
	kill_child(pid);
	assert_true(has_ended(pipe));
	free_pipe(pipe, true, false);
}

static void
test_pipe_end_that_was_given_is_closed_with_the_child(void **state)
{
	struct fz_pipe *pipe = new_pipe();
	pid_t pid;

	(void)state;
	assert_true(fz_pipe_give_none(&pipes));
	fz_pipe_give(&pipes, pipe, 1);
	pid = start_registered(live, pipe);
	fz_pipe_give_none(&pipes);
	assert_false(has_ended(pipe));
	kill_child(pid);
	assert_true(has_ended(pipe));
	free_pipe(pipe, true, true);
	assert_false(fz_pipe_give_none(&pipes));
}

/* A child that was given no end does not count as its user. */
static void
test_pipe_end_is_given_to_one_child_only(void **state)
{
	struct fz_pipe *pipe = new_pipe();
	pid_t pid;

	(void)state;
	fz_pipe_give(&pipes, pipe, 1);
	fz_pipe_give_none(&pipes);
	pid = start_registered(live, pipe);
	assert_int_equal(pipe->end[1].holders.user, 0);
	kill_child(pid);
	free_pipe(pipe, true, true);
}

static int
close_both(void *ctx)
{
	struct fz_pipe *pipe = ctx;

	fz_children_in_child(&children);
	fz_pipe_close(&pipes, pipe, 0);
	fz_pipe_close(&pipes, pipe, 1);
	live_on();
}

static void
test_pipe_child_that_closes_an_end_leaves_it(void **state)
{
	struct fz_pipe *pipe = new_pipe();
	pid_t pid;

	(void)state;
	fz_pipe_give(&pipes, pipe, 1);
	pid = start_registered(close_both, pipe);
	assert_true(has_ended(pipe));
	kill_child(pid);
	free_pipe(pipe, true, true);
}

static void
test_pipe_waits_for_a_child_that_has_not_registered(void **state)
{
	struct fz_pipe *pipe = new_pipe();

	(void)state;
	fz_pipe_close(&pipes, pipe, 1);
	count_child();
	assert_false(has_ended(pipe));
	now_ns += 6 * FZ_CLOCK_SECOND; /* killed, but not reaped */
	assert_true(has_ended(pipe));
	count_child();
	assert_false(has_ended(pipe));
	fz_children_drop(&children, ANY_PID); /* the child is reaped */
	assert_true(has_ended(pipe));
	free_pipe(pipe, true, false);
}

static int
register_and_exit(void *ctx)
{
	(void)ctx;
	fz_children_in_child(&children);
	return 0;
}

/*
 * One of two children registers. The end of the pipe waits for the other one.
 */
static void
test_pipe_counts_the_children_that_register(void **state)
{
	struct fz_pipe *pipe = new_pipe();

	(void)state;
	fz_pipe_close(&pipes, pipe, 1);
	count_child();
	count_child();
	assert_int_equal(member_wait(member_start(register_and_exit, NULL)), 0);
	assert_false(has_ended(pipe));
	assert_int_equal(member_wait(member_start(register_and_exit, NULL)), 0);
	assert_true(has_ended(pipe));
	fz_children_drop(&children, ANY_PID);
	free_pipe(pipe, true, false);
}

/* A child of the host registers with its first use of a pipe. */
static int
use_pipe(void *ctx)
{
	struct fz_pipe *pipe = ctx;
	uint32_t self = fz_pipes_self(&pipes, NULL);

	fz_pipe_use(&pipes, pipe, 1);
	return self != 0 && self == fz_heap_self(&this_member) &&
		       fz_endpoint_is_used(&pipe->end[1].holders, self)
		   ? 0
		   : 1;
}

static void
test_pipe_child_of_the_host_registers_when_it_uses_one(void **state)
{
	struct fz_pipe *pipe = new_pipe();

	(void)state;
	assert_int_equal(member_wait(member_start(use_pipe, pipe)), 0);
	assert_true(has_ended(pipe));
	free_pipe(pipe, true, true);
}

/* Use the pipe in a child that is a member because of another object. */
static int
join_and_use_pipe(void *ctx)
{
	return join() != 0 ? use_pipe(ctx) : 1;
}

static int
join_and_close_pipe(void *ctx)
{
	join();
	fz_pipe_close(&pipes, ctx, 1);
	return 0;
}

static void
test_pipe_child_of_the_host_registers_after_it_has_joined(void **state)
{
	struct fz_pipe *pipe = new_pipe();

	(void)state;
	assert_int_equal(member_wait(member_start(join_and_use_pipe, pipe)), 0);
	assert_true(has_ended(pipe));
	free_pipe(pipe, true, true);
}

/* A child that has not registered does not close the end of its parent. */
static void
test_pipe_child_of_the_host_closes_no_end_of_its_parent(void **state)
{
	struct fz_pipe *pipe = new_pipe();

	(void)state;
	assert_int_equal(
	    member_wait(member_start(join_and_close_pipe, pipe)), 0);
	assert_false(has_ended(pipe));
	free_pipe(pipe, true, true);
}

static void
test_pipe_end_in_a_message_is_open(void **state)
{
	struct fz_pipe *pipe = new_pipe();

	(void)state;
	fz_pipe_count_sent(pipe, 1, 1);
	fz_pipe_close(&pipes, pipe, 1);
	count_child(); /* the child may receive the handle */
	assert_false(has_ended(pipe));
	now_ns += 100 * FZ_CLOCK_SECOND;
	assert_false(has_ended(pipe));
	fz_children_drop(&children, ANY_PID);
	is_child = true; /* the parent may receive the handle */
	now_ns += 100 * FZ_CLOCK_SECOND;
	assert_false(has_ended(pipe));
	fz_pipe_count_sent(pipe, 1, -1);
	assert_true(has_ended(pipe));
	free_pipe(pipe, true, false);
}

static void
test_pipe_end_in_a_message_is_lost_if_no_other_process_lives(void **state)
{
	struct fz_pipe *pipe = new_pipe();

	(void)state;
	fz_pipe_count_sent(pipe, 1, 1);
	fz_pipe_close(&pipes, pipe, 1);
	assert_false(has_ended(pipe));
	now_ns += FZ_CLOCK_SECOND / 2;
	fz_pipe_count_sent(pipe, 1, 1); /* a second message with a handle */
	assert_false(has_ended(pipe));
	now_ns += FZ_CLOCK_SECOND / 2;
	assert_false(has_ended(pipe));
	now_ns += FZ_CLOCK_SECOND;
	assert_true(has_ended(pipe));
	free_pipe(pipe, true, false);
}

static void
test_pipe_end_that_was_loaded_is_used(void **state)
{
	struct fz_pipe *pipe = new_pipe();

	(void)state;
	fz_pipe_count_sent(pipe, 1, 1);
	fz_pipe_close(&pipes, pipe, 1);
	assert_int_equal(fz_pipe_open(&pipes, pipe, 1, NULL), 0);
	fz_pipe_count_loaded(&pipes, pipe, 1);
	now_ns += 2 * FZ_CLOCK_SECOND;
	assert_false(has_ended(pipe));
	assert_true(fz_pipe_is_connected(&pipes, pipe, 0));
	fz_pipe_close(&pipes, pipe, 1);
	fz_pipe_forget(&pipes, pipe);
	assert_true(has_ended(pipe));
	free_pipe(pipe, true, false);
}

static void
test_pipe_closed_on_both_sides_has_no_memory(void **state)
{
	struct fz_pipe *pipe = new_pipe();
	struct fz_queue_item item = { .head = "x", .nhead = 1 };
	unsigned char bytes[FZ_QUEUE_INLINE];
	struct fz_queue_taken taken = { .bytes = bytes };
	size_t before = fz_heap_used();

	(void)state;
	assert_int_equal(fz_queue_put(fz_pipe_in(pipe, 1),
			     fz_heap_self(&this_member), &item, NULL),
	    FZ_QUEUE_DONE);
	assert_int_equal(fz_queue_take(&pipe->end[0].out,
			     fz_heap_self(&this_member), &taken),
	    FZ_QUEUE_DONE);
	assert_true(fz_heap_used() > before);
	fz_pipe_close(&pipes, pipe, 0);
	assert_true(fz_heap_used() > before);
	fz_pipe_close(&pipes, pipe, 1);
	assert_int_equal(fz_heap_used(), before);
	free_pipe(pipe, false, false);
}

static void
test_pipe_cannot_be_opened_without_memory(void **state)
{
	struct fz_pipe *pipe =
	    fz_heap_new(&this_member, TYPE, sizeof(*pipe), NULL);
	struct fz_err err = { 0 };

	(void)state;
	no_memory = true;
	assert_int_equal(fz_pipe_open(&pipes, pipe, 0, &err), -1);
	no_memory = false;
	assert_int_equal(err.code, ENOMEM);
	assert_false(fz_pipe_give_none(&pipes));
	fz_heap_free(&this_member, &pipe->object);
}

#define T(f)                                 \
	{                                    \
#f, f, setup, teardown, NULL \
	}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_pipe_end_is_closed_with_its_last_handle),
		T(test_pipe_process_that_uses_both_ends_is_connected),
		T(test_pipe_end_is_open_while_a_child_holds_it),
		T(test_pipe_end_that_was_given_is_closed_with_the_child),
		T(test_pipe_end_is_given_to_one_child_only),
		T(test_pipe_child_that_closes_an_end_leaves_it),
		T(test_pipe_waits_for_a_child_that_has_not_registered),
		T(test_pipe_counts_the_children_that_register),
		T(test_pipe_child_of_the_host_registers_when_it_uses_one),
		T(test_pipe_child_of_the_host_registers_after_it_has_joined),
		T(test_pipe_child_of_the_host_closes_no_end_of_its_parent),
		T(test_pipe_end_in_a_message_is_open),
		T(test_pipe_end_in_a_message_is_lost_if_no_other_process_lives),
		T(test_pipe_end_that_was_loaded_is_used),
		T(test_pipe_closed_on_both_sides_has_no_memory),
		T(test_pipe_cannot_be_opened_without_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
