/*
 * A queue in shared memory. Processes that use it are killed at each of their
 * instructions, which ptrace counts.
 */
/* ptrace and nanosleep are not in C11. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <signal.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "box.h"
#include "sanitized.h"
#include "shared/heap_state.h"
#include "shared/queue.h"
#include "this_member.h"

/*
 * Kill after every STRIDE-th instruction; instrumented code has many more of
 * them. With FZLUA_LONG in the environment, kill after each one.
 */
#if UNDER_ASAN || defined(FZ_COVERAGE)
enum { STRIDE = 61 };
#else
enum { STRIDE = 4 };
#endif

static unsigned long
stride(void)
{
	return getenv("FZLUA_LONG") != NULL ? 1 : STRIDE;
}

static void
put_small_one(struct box *box)
{
	box_put(box, 200, 9);
}

static void
put_one(struct box *box)
{
	box_put(box, 200, 700);
}

static void
put_big_one(struct box *box)
{
	box_put_big(box, 200, 100);
}

static void
take_one(struct box *box)
{
	box_take(box, NULL);
}

static void
close_it(struct box *box)
{
	fz_queue_close(&box->queue, join());
}

static void
compact_it(struct box *box)
{
	fz_queue_compact(&box->queue, join());
}

static void
take_and_say_done(struct box *box)
{
	box_take(box, NULL);
	fz_queue_task_done(&box->queue, join());
}

/*
 * Run `act` in a child, and kill it after `n` instructions. Returns false if
 * the child has ended before.
 */
static bool
kill_after(struct box *box, void (*act)(struct box *), unsigned long n)
{
	int status;
	pid_t pid = fork();

	assert_int_not_equal(pid, -1);
	if (pid == 0) {
		if (join() == 0 || ptrace(PTRACE_TRACEME, 0, NULL, NULL) == -1)
			_exit(1);
		raise(SIGSTOP);
		act(box);
		atomic_store(&box->done, 1);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (WIFEXITED(status))
		skip(); /* tracing is not allowed here */
	while (n-- > 0) {
		assert_int_equal(ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL), 0);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFSTOPPED(status));
		if (atomic_load(&box->done))
			break;
	}
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return !atomic_load(&box->done);
}

/*
 * Kill a process that does `act` after each of its instructions. The queue has
 * `n` items of `len` bytes before; afterwards one more is put, and all are
 * taken. If `fewer`, the first item may be lost; otherwise `act` may have put
 * item 200.
 */
static void
walk(void (*act)(struct box *), unsigned n, size_t len, bool fewer)
{
	unsigned long nkilled = 0, nlost = 0;

	for (unsigned long k = 0;; k += stride()) {
		struct box *box = box_new(0);
		unsigned number, first = 1;
		bool killed;

		for (unsigned i = 1; i <= n; i++)
			assert_int_equal(box_put(box, i, len), FZ_QUEUE_DONE);
		killed = kill_after(box, act, k);
		assert_int_equal(box_put(box, n + 1, len), FZ_QUEUE_DONE);
		assert_int_equal(
		    box_put_big(box, n + 2, 100000), FZ_QUEUE_DONE);
		number = box_take(box, NULL);
		if (fewer && number == 2) {
			first = 2;
			nlost++;
		}
		for (unsigned i = first; i <= n + 2; i++) {
			if (i == n + 1 && number == 200) {
				assert_false(fewer);
				number = box_take(box, NULL);
				nlost++;
			}
			assert_int_equal(number, i);
			number = box_take(box, NULL);
		}
		assert_int_equal(number, 0);
		assert_int_equal(fz_queue_size(&box->queue), 0);
		/* Only this process has unfinished items. */
		while (fz_queue_task_done(&box->queue, box_self()))
			continue;
		assert_true(fz_queue_all_done(&box->queue, true));
		fz_heap_free(&this_member, &box->object);
		if (!killed)
			break;
		nkilled++;
	}
	assert_true(nkilled * stride() > 200);
	assert_true(nlost > 0); /* `act` was also killed after its last store */
}

static void
test_queue_is_whole_after_a_kill_while_putting(void **state)
{
	(void)state;
	walk(put_small_one, 2, 100, false);
}

static void
test_queue_is_whole_after_a_kill_at_the_first_put(void **state)
{
	(void)state;
	walk(put_small_one, 0, 100, false);
}

/* Items of 2 x 32500 bytes and one of 700 do not fit into one segment. */
static void
test_queue_is_whole_after_a_kill_at_a_new_segment(void **state)
{
	(void)state;
	walk(put_one, 2, 32500, false);
}

static void
test_queue_is_whole_after_a_kill_with_a_big_item(void **state)
{
	(void)state;
	walk(put_big_one, 1, 100, false);
}

static void
test_queue_loses_one_item_at_most_by_a_kill_while_taking(void **state)
{
	(void)state;
	walk(take_one, 3, 8, true);
	walk(take_and_say_done, 3, 8, true);
}

/* The number of blocks with an owner, which is exact even after a kill. */
static size_t
count_used(void)
{
	uint32_t top = atomic_load(&heap_head()->top);
	size_t n = 0;

	for (uint32_t i = 0; i < top; i++)
		n += !is_free(atomic_load(&heap->owners[i]));
	return n;
}

/* Runs after the tests that kill: a second later all blocks are free. */
static void
test_queue_blocks_of_killed_processes_are_freed(void **state)
{
	struct timespec second = { 1, 200000000 };

	(void)state;
	fz_heap_reclaim();
	nanosleep(&second, NULL);
	fz_heap_reclaim();
	assert_int_equal(count_used(), 1); /* the block of small objects */
}

/*
 * A queue whose items were all taken. If `twice` is not 0, a process was killed
 * after `twice` instructions of compacting it.
 */
static struct box *
emptied_box(size_t len, unsigned long twice)
{
	struct box *box = box_new(0);

	for (unsigned i = 1; i <= 3; i++)
		assert_int_equal(box_put(box, i, len), FZ_QUEUE_DONE);
	for (unsigned i = 1; i <= 3; i++)
		assert_int_equal(box_take(box, NULL), i);
	if (twice != 0)
		kill_after(box, compact_it, twice);
	/* Free the locks, because recovery from a dead holder takes long. */
	atomic_store(&box->queue.putting.owner, 0);
	atomic_store(&box->queue.taking.owner, 0);
	atomic_store(&box->done, 0);
	return box;
}

/* Kill compact() after each instruction; the queue must work like a new one. */
static void
walk_compacting(size_t len, unsigned long twice)
{
	unsigned long nkilled = 0;
	bool killed;

	do {
		struct box *box = emptied_box(len, twice);

		killed = kill_after(box, compact_it, nkilled++ * stride());
		assert_int_equal(fz_queue_size(&box->queue), 0);
		for (unsigned round = 0; round < 2; round++) {
			assert_int_equal(box_take(box, NULL), 0);
			for (unsigned i = 1; i <= 5; i++)
				assert_int_equal(
				    box_put(box, i, len), FZ_QUEUE_DONE);
			assert_int_equal(
			    box_put_big(box, 6, 100), FZ_QUEUE_DONE);
			assert_int_equal(fz_queue_size(&box->queue), 6);
			for (unsigned i = 1; i <= 6; i++)
				assert_int_equal(box_take(box, NULL), i);
			fz_queue_compact(&box->queue, box_self());
		}
		fz_heap_free(&this_member, &box->object);
	} while (killed);
	/* A second process has little to do if the first was killed late. */
	assert_true(twice != 0 || nkilled * stride() > 200);
}

/* Whether a position has a count, but no segment. */
static bool
is_nowhere(const _Atomic uint64_t *position)
{
	return atomic_load(position) <= FZ_QUEUE_MAX;
}

/* The number of instructions of compact() until the tail has no segment. */
static unsigned long
find_half_done(void)
{
	unsigned long below = 0, at = 1 << 20;

	while (below + 1 < at) {
		unsigned long k = below + (at - below) / 2;
		struct box *box = emptied_box(100, k);

		if (is_nowhere(&box->queue.tail))
			at = k;
		else
			below = k;
		fz_heap_free(&this_member, &box->object);
	}
	return at;
}

static void
test_queue_is_whole_after_a_kill_while_compacting(void **state)
{
	(void)state;
	walk_compacting(100, 0);
	walk_compacting(32500, 0);
}

/* A second process is killed while it continues what the first one began. */
static void
test_queue_is_whole_after_a_second_kill_while_compacting(void **state)
{
	unsigned long at = find_half_done();
	struct box *box = emptied_box(100, at);

	(void)state;
	assert_true(is_nowhere(&box->queue.tail));
	assert_false(is_nowhere(&box->queue.head));
	fz_heap_free(&this_member, &box->object);
	walk_compacting(100, at);
	walk_compacting(100, at - 1);
}

/*
 * A process is killed in close(): the queue is closed or open, and other
 * processes can close it.
 */
static void
test_queue_is_whole_after_a_kill_while_closing(void **state)
{
	bool more = true;

	(void)state;
	for (unsigned long k = 0; more; k += stride()) {
		struct box *box = box_new(0);
		enum fz_queue_state got;

		more = kill_after(box, close_it, k);
		got = box_put(box, 1, 10);
		assert_true(got == FZ_QUEUE_DONE || got == FZ_QUEUE_CLOSED);
		assert_int_equal(box_take(box, NULL), got == FZ_QUEUE_DONE);
		close_it(box);
		assert_int_equal(box_put(box, 1, 10), FZ_QUEUE_CLOSED);
		fz_heap_free(&this_member, &box->object);
	}
}

#define TEST(name) cmocka_unit_test(name)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_queue_is_whole_after_a_kill_while_putting),
		TEST(test_queue_is_whole_after_a_kill_at_the_first_put),
		TEST(test_queue_is_whole_after_a_kill_at_a_new_segment),
		TEST(test_queue_is_whole_after_a_kill_with_a_big_item),
		TEST(test_queue_loses_one_item_at_most_by_a_kill_while_taking),
		TEST(test_queue_is_whole_after_a_kill_while_closing),
		TEST(test_queue_is_whole_after_a_kill_while_compacting),
		TEST(test_queue_is_whole_after_a_second_kill_while_compacting),
		TEST(test_queue_blocks_of_killed_processes_are_freed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
