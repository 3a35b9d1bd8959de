/*
 * A queue in shared memory: items arrive, and their memory is freed.
 */
/* kill and fork are not in C11. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <sched.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "box.h"
#include "shared/queue.h"
#include "this_member.h"

static void
test_queue_items_come_out_as_they_went_in(void **state)
{
	static const size_t lens[] = { 1, 5, 6, 7, 8, 100, 20000,
		FZ_QUEUE_INLINE };
	struct box *box = box_new(0);
	size_t n = sizeof(lens) / sizeof(lens[0]), len = 0;

	(void)state;
	for (unsigned round = 0; round < 3; round++) {
		for (unsigned i = 1; i <= 250; i++)
			assert_int_equal(
			    box_put(box, i, lens[i % n]), FZ_QUEUE_DONE);
		assert_int_equal(fz_queue_size(&box->queue), 250);
		for (unsigned i = 1; i <= 250; i++) {
			assert_int_equal(box_take(box, &len), i);
			assert_int_equal(len, lens[i % n]);
		}
		assert_int_equal(box_take(box, NULL), 0);
	}
	fz_heap_free(&this_member, &box->object);
}

static void
test_queue_gives_its_memory_back(void **state)
{
	size_t before = fz_heap_used(), full;
	struct box *box = box_new(0);

	(void)state;
	for (int i = 0; i < 100000; i++)
		box_put(box, 1, 3);
	full = fz_heap_used() - before;
	assert_true(full > 800000 && full < 1100000);
	for (int i = 0; i < 10; i++)
		box_put_big(box, 2, 1000000);
	while (box_take(box, NULL) != 0)
		continue;
	/* Only the last segment is still in use. */
	assert_int_equal(fz_heap_used() - before, FZ_HEAP_BLOCK);
	fz_queue_compact(&box->queue, box_self());
	assert_int_equal(fz_heap_used(), before);
	fz_heap_free(&this_member, &box->object);
	assert_int_equal(fz_heap_used(), before);
}

static void
test_queue_works_after_a_compaction(void **state)
{
	size_t before, lens[] = { 3, 20000, FZ_QUEUE_INLINE };
	struct box *box = box_new(0);
	int status;
	pid_t pid;

	(void)state;
	before = fz_heap_used();
	fz_queue_compact(&box->queue, box_self());
	for (unsigned round = 0; round < 3; round++) {
		for (unsigned i = 1; i <= 5; i++)
			box_put(box, i, lens[round % 3]);
		/* The queue has five items at this call. */
		fz_queue_compact(&box->queue, box_self());
		for (unsigned i = 1; i <= 4; i++)
			assert_int_equal(box_take(box, NULL), i);
		fz_queue_compact(&box->queue, box_self());
		pid = fork(); /* another process finds the moved item */
		if (pid == 0)
			_exit(box_take(box, NULL) == 5 ? 0 : 1);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_int_equal(status, 0);
		fz_queue_compact(&box->queue, box_self());
		assert_int_equal(fz_heap_used(), before);
		assert_int_equal(fz_queue_size(&box->queue), 0);
		assert_false(fz_queue_is_ready(&box->queue));
	}
	/* Items that were taken are unfinished until task_done(). */
	assert_false(fz_queue_all_done(&box->queue, true));
	for (int i = 0; i < 3 * 4; i++)
		assert_true(fz_queue_task_done(&box->queue, box_self()));
	assert_true(fz_queue_all_done(&box->queue, true));
	box_put(box, 1, 10);
	assert_false(fz_queue_all_done(&box->queue, true));
	fz_heap_free(&this_member, &box->object);
	assert_int_equal(fz_heap_used(), before);
}

/* A writer was killed after it linked a segment, before it moved the tail. */
static void
test_queue_frees_a_linked_segment(void **state)
{
	struct box *box = box_new(0);
	size_t before = fz_heap_used();
	void *block = fz_heap_alloc(join(), 1, NULL);

	(void)state;
	fz_heap_set_owner(block, &box->object);
	fz_ref_set(&box->queue.first, block);
	fz_queue_compact(&box->queue, box_self());
	assert_int_equal(fz_heap_used(), before);
	box_put(box, 1, 10);
	assert_int_equal(box_take(box, NULL), 1);
	block = fz_heap_alloc(join(), 1, NULL);
	fz_heap_set_owner(block, &box->object);
	/* A segment begins with the reference to the next one. */
	fz_ref_set(fz_ref_get(&box->queue.first), block);
	fz_queue_compact(&box->queue, box_self());
	assert_int_equal(fz_heap_used(), before);
	box_put(box, 2, 10);
	assert_int_equal(box_take(box, NULL), 2);
	fz_heap_free(&this_member, &box->object);
}

/* The memory is freed with the last item, or when the queue is closed. */
static void
test_queue_frees_its_memory_when_closed(void **state)
{
	struct box *box = box_new(0);
	size_t before = fz_heap_used();

	(void)state;
	box_put(box, 1, 10);
	box_put(box, 2, 10);
	box_take(box, NULL);
	fz_queue_close(&box->queue, box_self());
	assert_int_equal(fz_heap_used(), before + FZ_HEAP_BLOCK);
	box_take(box, NULL);
	assert_int_equal(fz_heap_used(), before);
	fz_heap_free(&this_member, &box->object);
	box = box_new(0);
	box_put(box, 1, 10);
	box_take(box, NULL);
	fz_queue_close(&box->queue, box_self());
	assert_int_equal(fz_heap_used(), before);
	fz_heap_free(&this_member, &box->object);
}

static void
holding_child(struct box *box, _Atomic uint32_t *owner)
{
	atomic_store(owner, join());
	atomic_store(&box->done, 1);
	for (;;)
		pause();
}

/* A stopped process with a lock must not hold up fz_queue_compact(). */
static void
test_queue_is_not_compacted_while_in_use(void **state)
{
	(void)state;
	for (int i = 0; i < 2; i++) {
		struct box *box = box_new(0);
		size_t before = fz_heap_used();
		pid_t pid;

		box_put(box, 1, 10);
		box_take(box, NULL);
		pid = fork();
		if (pid == 0)
			holding_child(box, i == 0 ? &box->queue.putting.owner
						  : &box->queue.taking.owner);
		while (!atomic_load(&box->done))
			sched_yield();
		fz_queue_compact(&box->queue, box_self());
		assert_int_equal(fz_heap_used(), before + FZ_HEAP_BLOCK);
		kill(pid, SIGKILL);
		assert_int_equal(waitpid(pid, NULL, 0), pid);
		fz_queue_compact(&box->queue, box_self());
		assert_int_equal(fz_heap_used(), before);
		fz_heap_free(&this_member, &box->object);
	}
}

static void
test_queue_is_full_at_its_bound(void **state)
{
	struct box *box = box_new(3);

	(void)state;
	for (unsigned i = 1; i <= 3; i++)
		assert_int_equal(box_put(box, i, 10), FZ_QUEUE_DONE);
	assert_int_equal(box_put(box, 4, 10), FZ_QUEUE_WAIT);
	assert_int_equal(box_put_big(box, 4, 100000), FZ_QUEUE_WAIT);
	assert_int_equal(box_take(box, NULL), 1);
	assert_int_equal(box_put(box, 4, 10), FZ_QUEUE_DONE);
	fz_heap_free(&this_member, &box->object);
}

static void
test_queue_refuses_items_when_closed(void **state)
{
	struct box *box = box_new(1);
	unsigned char bytes[FZ_QUEUE_INLINE];
	struct fz_queue_taken taken = { .bytes = bytes };

	(void)state;
	box_put(box, 1, 10);
	fz_queue_close(&box->queue, box_self());
	assert_int_equal(box_put(box, 2, 10), FZ_QUEUE_CLOSED);
	assert_int_equal(
	    fz_queue_take(&box->queue, box_self(), &taken), FZ_QUEUE_DONE);
	assert_int_equal(
	    fz_queue_take(&box->queue, box_self(), &taken), FZ_QUEUE_CLOSED);
	fz_heap_free(&this_member, &box->object);
}

/* The holder lives, but does not continue: other calls still return. */
static void
test_queue_reports_a_lock_that_stays_held(void **state)
{
	struct box *box = box_new(0);
	unsigned char bytes[FZ_QUEUE_INLINE];
	struct fz_queue_taken taken = { .bytes = bytes };
	uint32_t me = box_self();

	(void)state;
	box_put(box, 1, 10);
	assert_true(fz_lock_try(&box->queue.putting, me));
	assert_true(fz_lock_try(&box->queue.taking, me));
	assert_int_equal(box_put(box, 2, 10), FZ_QUEUE_BUSY);
	assert_int_equal(fz_queue_take(&box->queue, me, &taken), FZ_QUEUE_BUSY);
	fz_lock_release(&box->queue.putting);
	fz_lock_release(&box->queue.taking);
	assert_int_equal(box_put(box, 2, 10), FZ_QUEUE_DONE);
	assert_int_equal(box_take(box, NULL), 1);
	assert_int_equal(box_take(box, NULL), 2);
	fz_heap_free(&this_member, &box->object);
}

static void
test_queue_items_taken_are_unfinished(void **state)
{
	struct box *box = box_new(0);
	int status;
	pid_t pid;

	(void)state;
	assert_false(fz_queue_task_done(&box->queue, box_self()));
	for (unsigned i = 1; i <= 3; i++)
		box_put(box, i, 10);
	assert_false(fz_queue_all_done(&box->queue, true));
	assert_int_equal(box_take(box, NULL), 1);
	pid = fork();
	if (pid == 0)
		_exit(box_take(box, NULL) == 2 && box_take(box, NULL) == 3 ? 0
									   : 1);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_false(fz_queue_all_done(&box->queue, true));
	assert_true(fz_queue_task_done(&box->queue, box_self()));
	/*
	 * The items of the dead child count as done after a search for dead
	 * members.
	 */
	assert_false(fz_queue_all_done(&box->queue, false));
	assert_true(fz_queue_all_done(&box->queue, true));
	/*
	 * task_done() succeeds twice more, because another process may have got
	 * the two items of the child.
	 */
	assert_true(fz_queue_task_done(&box->queue, box_self()));
	assert_true(fz_queue_task_done(&box->queue, box_self()));
	assert_false(fz_queue_task_done(&box->queue, box_self()));
	fz_heap_free(&this_member, &box->object);
}

/* There are more processes than counts in the object. */
static void
test_queue_items_taken_by_many_are_unfinished(void **state)
{
	enum { N = FZ_UNFINISHED_FEW + 2 };
	struct box *box = box_new(0);
	size_t before = fz_heap_used();
	pid_t pids[N];

	(void)state;
	box_start_takers(box, pids, N);
	fz_queue_compact(&box->queue, box_self());
	assert_int_equal(fz_heap_used(), before + FZ_HEAP_BLOCK);
	box_put(box, 1, 10);
	assert_int_equal(box_take(box, NULL), 1);
	assert_true(fz_queue_task_done(&box->queue, box_self())); /* item 1 */
	box_end_takers(pids, FZ_UNFINISHED_FEW);
	assert_false(fz_queue_all_done(&box->queue, true));
	box_end_takers(pids + FZ_UNFINISHED_FEW, N - FZ_UNFINISHED_FEW);
	assert_false(fz_queue_all_done(&box->queue, false));
	assert_true(fz_queue_all_done(&box->queue, true));
	for (int i = 0; i < N; i++)
		assert_true(fz_queue_task_done(&box->queue, box_self()));
	assert_false(fz_queue_task_done(&box->queue, box_self()));
	assert_true(fz_queue_all_done(&box->queue, false));
	fz_queue_compact(&box->queue, box_self());
	fz_heap_free(&this_member, &box->object);
	assert_int_equal(fz_heap_used(), before);
}

#define TEST(name) cmocka_unit_test(name)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_queue_items_come_out_as_they_went_in),
		TEST(test_queue_gives_its_memory_back),
		TEST(test_queue_works_after_a_compaction),
		TEST(test_queue_frees_a_linked_segment),
		TEST(test_queue_frees_its_memory_when_closed),
		TEST(test_queue_is_not_compacted_while_in_use),
		TEST(test_queue_is_full_at_its_bound),
		TEST(test_queue_refuses_items_when_closed),
		TEST(test_queue_reports_a_lock_that_stays_held),
		TEST(test_queue_items_taken_are_unfinished),
		TEST(test_queue_items_taken_by_many_are_unfinished),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
