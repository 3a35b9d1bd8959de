/*
 * A queue in shared memory, and processes that are killed at each instruction
 * of what they do to it: one steps them by ptrace.
 *
 * wrap: madvise malloc calloc
 */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <lauxlib.h>
#include <lualib.h>

#include "api/fzlua.h"
#include "base/err.h"
#include "shared/heap.h"
#include "shared/heap_state.h"
#include "shared/queue.h"

/*
 * Instrumented code has many more instructions: not each of them there, and
 * each of all only with FZLUA_LONG in the environment.
 */
#if defined(__SANITIZE_ADDRESS__) || defined(FZ_COVERAGE)
enum { STRIDE = 61 };
#else
enum { STRIDE = 4 };
#endif

enum { TYPE = 1 };

struct box {
	struct fz_object object;
	_Atomic uint32_t done; /* by the child that is stepped */
	struct fz_queue queue;
};

_Static_assert(sizeof(struct box) <= FZ_HEAP_CELL, "as in the binding");

static bool no_memory;

int __real_madvise(void *at, size_t len, int advice);
int __wrap_madvise(void *at, size_t len, int advice);

int
__wrap_madvise(void *at, size_t len, int advice)
{
	if (no_memory && advice == MADV_POPULATE_WRITE) {
		errno = EFAULT;
		return -1;
	}
	return __real_madvise(at, len, advice);
}

static size_t no_block; /* of that size */
static bool no_heap;

void *__real_malloc(size_t size);
void *__wrap_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__wrap_calloc(size_t n, size_t size);

void *
__wrap_malloc(size_t size)
{
	return size != 0 && size == no_block ? NULL : __real_malloc(size);
}

void *
__wrap_calloc(size_t n, size_t size)
{
	return no_heap ? NULL : __real_calloc(n, size);
}

static struct box *
new_box(uint32_t max)
{
	struct box *box = fz_heap_new(TYPE, sizeof(*box), NULL);

	assert_non_null(box);
	fz_queue_init(&box->queue, &box->object, max);
	return box;
}

static unsigned long
stride(void)
{
	return getenv("FZLUA_LONG") != NULL ? 1 : STRIDE;
}

static uint32_t
self(void)
{
	uint32_t member = fz_heap_join(NULL);

	assert_int_not_equal(member, 0);
	return member;
}

/* ---- items: bytes of one value, which is their number ------------------- */

static enum fz_queue_state
put(struct box *box, unsigned number, size_t len)
{
	static unsigned char bytes[FZ_QUEUE_INLINE];
	struct fz_queue_item item = { .head = "", .body = bytes, .nbody = len };

	memset(bytes, (int)number, len);
	return fz_queue_put(&box->queue, fz_heap_join(NULL), &item, NULL);
}

static enum fz_queue_state
put_big(struct box *box, unsigned number, size_t len)
{
	struct fz_queue_item item = { .nbody = len };
	enum fz_queue_state state;

	item.chunks = fz_heap_alloc(len + FZ_HEAP_CHUNK, NULL);
	if (item.chunks == NULL)
		return FZ_QUEUE_FAILED;
	memset(item.chunks, (int)number, len);
	state = fz_queue_put(&box->queue, fz_heap_join(NULL), &item, NULL);
	if (state != FZ_QUEUE_DONE)
		fz_heap_give_back(item.chunks);
	return state;
}

/* The number of the next item; 0: there is none. All of it must be whole. */
static unsigned
take(struct box *box, size_t *len)
{
	static unsigned char bytes[FZ_QUEUE_INLINE];
	struct fz_queue_taken taken = { .bytes = bytes, .is_tracked = true };
	const unsigned char *p;
	unsigned number;

	if (fz_queue_take(&box->queue, fz_heap_join(NULL), &taken) !=
	    FZ_QUEUE_DONE)
		return 0;
	p = taken.chunks != NULL ? taken.chunks : bytes;
	number = taken.len != 0 ? p[0] : 0;
	for (size_t i = 0; i < taken.len; i++)
		assert_int_equal(p[i], number);
	if (len != NULL)
		*len = taken.len;
	if (taken.chunks != NULL)
		fz_heap_give_back(taken.chunks);
	return number;
}

/* ---- what is killed ------------------------------------------------------ */

static void
put_small_one(struct box *box)
{
	put(box, 200, 9);
}

static void
put_one(struct box *box)
{
	put(box, 200, 700);
}

static void
put_big_one(struct box *box)
{
	put_big(box, 200, 100);
}

static void
take_one(struct box *box)
{
	take(box, NULL);
}

static void
close_it(struct box *box)
{
	fz_queue_close(&box->queue, fz_heap_join(NULL));
}

static void
compact_it(struct box *box)
{
	fz_queue_compact(&box->queue, fz_heap_join(NULL));
}

static void
take_and_say_done(struct box *box)
{
	take(box, NULL);
	fz_queue_task_done(&box->queue, fz_heap_join(NULL));
}

/*
 * Have a child do `act` and kill it after `n` instructions. False where it had
 * done all before.
 */
static bool
kill_after(struct box *box, void (*act)(struct box *), unsigned long n)
{
	int status;
	pid_t pid = fork();

	assert_int_not_equal(pid, -1);
	if (pid == 0) {
		if (fz_heap_join(NULL) == 0 ||
		    ptrace(PTRACE_TRACEME, 0, NULL, NULL) == -1)
			_exit(1);
		raise(SIGSTOP);
		act(box);
		atomic_store(&box->done, 1);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (WIFEXITED(status))
		skip(); /* it may not be traced here */
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
 * Kill it after each instruction. Before, there are `n` items of `len` bytes;
 * then one more is put, and all are read. `fewer`: the first may be lost;
 * otherwise there may be a 200 behind them.
 */
static void
walk(void (*act)(struct box *), unsigned n, size_t len, bool fewer)
{
	unsigned long nkilled = 0, nlost = 0;

	for (unsigned long k = 0;; k += stride()) {
		struct box *box = new_box(0);
		unsigned number, first = 1;
		bool killed;

		for (unsigned i = 1; i <= n; i++)
			assert_int_equal(put(box, i, len), FZ_QUEUE_DONE);
		killed = kill_after(box, act, k);
		assert_int_equal(put(box, n + 1, len), FZ_QUEUE_DONE);
		assert_int_equal(put_big(box, n + 2, 100000), FZ_QUEUE_DONE);
		number = take(box, NULL);
		if (fewer && number == 2) {
			first = 2;
			nlost++;
		}
		for (unsigned i = first; i <= n + 2; i++) {
			if (i == n + 1 && number == 200) {
				assert_false(fewer);
				number = take(box, NULL);
				nlost++;
			}
			assert_int_equal(number, i);
			number = take(box, NULL);
		}
		assert_int_equal(number, 0);
		assert_int_equal(fz_queue_size(&box->queue), 0);
		/* Only we have taken something and not said that it is done. */
		while (fz_queue_task_done(&box->queue, self()))
			continue;
		assert_true(fz_queue_all_done(&box->queue, true));
		fz_heap_free(&box->object);
		if (!killed)
			break;
		nkilled++;
	}
	assert_true(nkilled * stride() > 200);
	assert_true(nlost > 0); /* it was killed behind the store, too */
}

static void
test_queue_who_is_killed_while_putting_leaves_it_whole(void **state)
{
	(void)state;
	walk(put_small_one, 2, 100, false);
}

static void
test_queue_who_is_killed_at_the_first_put_leaves_it_whole(void **state)
{
	(void)state;
	walk(put_small_one, 0, 100, false);
}

/* 2 x 32500 bytes and 700 do not fit into one. */
static void
test_queue_who_is_killed_at_a_new_segment_leaves_it_whole(void **state)
{
	(void)state;
	walk(put_one, 2, 32500, false);
}

static void
test_queue_who_is_killed_with_a_big_one_leaves_it_whole(void **state)
{
	(void)state;
	walk(put_big_one, 1, 100, false);
}

static void
test_queue_who_is_killed_while_taking_takes_one_at_most(void **state)
{
	(void)state;
	walk(take_one, 3, 8, true);
	walk(take_and_say_done, 3, 8, true);
}

/* Chunks that belong to somebody, exactly. */
static size_t
count_used(void)
{
	uint32_t top = atomic_load(&heap_head()->top);
	size_t n = 0;

	for (uint32_t i = 0; i < top; i++)
		n += !is_free(atomic_load(&fz_heap.owners[i]));
	return n;
}

/* Behind the walks; a second after the last death. */
static void
test_queue_what_the_killed_had_comes_back(void **state)
{
	struct timespec second = { 1, 200000000 };

	(void)state;
	fz_heap_reclaim();
	nanosleep(&second, NULL);
	fz_heap_reclaim();
	assert_int_equal(count_used(), 1); /* that of our cells */
}

/* Once emptied, with a segment or two, or as one that was killed has left it.
 */
static struct box *
emptied_box(size_t len, unsigned long twice)
{
	struct box *box = new_box(0);

	for (unsigned i = 1; i <= 3; i++)
		assert_int_equal(put(box, i, len), FZ_QUEUE_DONE);
	for (unsigned i = 1; i <= 3; i++)
		assert_int_equal(take(box, NULL), i);
	if (twice != 0)
		kill_after(box, compact_it, twice);
	/* As one that came to it has left them: a dead holder takes long. */
	atomic_store(&box->queue.putting.owner, 0);
	atomic_store(&box->queue.taking.owner, 0);
	atomic_store(&box->done, 0);
	return box;
}

/* Kill it there after each instruction; the queue goes on as a new one. */
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
			assert_int_equal(take(box, NULL), 0);
			for (unsigned i = 1; i <= 5; i++)
				assert_int_equal(
				    put(box, i, len), FZ_QUEUE_DONE);
			assert_int_equal(put_big(box, 6, 100), FZ_QUEUE_DONE);
			assert_int_equal(fz_queue_size(&box->queue), 6);
			for (unsigned i = 1; i <= 6; i++)
				assert_int_equal(take(box, NULL), i);
			fz_queue_compact(&box->queue, self());
		}
		fz_heap_free(&box->object);
	} while (killed);
	/* Little is left to do where the first one was killed late. */
	assert_true(twice != 0 || nkilled * stride() > 200);
}

/* A position that is nowhere has a count only. */
static bool
is_nowhere(const _Atomic uint64_t *position)
{
	return atomic_load(position) <= FZ_QUEUE_MAX;
}

/* After how many instructions the tail is nowhere again. */
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
		fz_heap_free(&box->object);
	}
	return at;
}

static void
test_queue_who_is_killed_while_compacting_leaves_it_whole(void **state)
{
	(void)state;
	walk_compacting(100, 0);
	walk_compacting(32500, 0);
}

/* What one has left, another is killed at: the tail is nowhere, or about to. */
static void
test_queue_who_is_killed_while_compacting_again_leaves_it_whole(void **state)
{
	unsigned long at = find_half_done();
	struct box *box = emptied_box(100, at);

	(void)state;
	assert_true(is_nowhere(&box->queue.tail));
	assert_false(is_nowhere(&box->queue.head));
	fz_heap_free(&box->object);
	walk_compacting(100, at);
	walk_compacting(100, at - 1);
}

#define TEST(name) cmocka_unit_test(name)

/* ---- alive --------------------------------------------------------------- */

static void
test_queue_items_come_out_as_they_went_in(void **state)
{
	static const size_t lens[] = { 1, 5, 6, 7, 8, 100, 20000,
		FZ_QUEUE_INLINE };
	struct box *box = new_box(0);
	size_t n = sizeof(lens) / sizeof(lens[0]), len = 0;

	(void)state;
	for (unsigned round = 0; round < 3; round++) {
		for (unsigned i = 1; i <= 250; i++)
			assert_int_equal(
			    put(box, i, lens[i % n]), FZ_QUEUE_DONE);
		assert_int_equal(fz_queue_size(&box->queue), 250);
		for (unsigned i = 1; i <= 250; i++) {
			assert_int_equal(take(box, &len), i);
			assert_int_equal(len, lens[i % n]);
		}
		assert_int_equal(take(box, NULL), 0);
	}
	fz_heap_free(&box->object);
}

static void
test_queue_gives_its_memory_back(void **state)
{
	size_t before = fz_heap_used(), full;
	struct box *box = new_box(0);

	(void)state;
	for (int i = 0; i < 100000; i++)
		put(box, 1, 3);
	full = fz_heap_used() - before;
	assert_true(full > 800000 && full < 1100000);
	for (int i = 0; i < 10; i++)
		put_big(box, 2, 1000000);
	while (take(box, NULL) != 0)
		continue;
	/* The segment in use and the spare one. */
	assert_int_equal(fz_heap_used() - before, 2 * FZ_HEAP_CHUNK);
	fz_queue_compact(&box->queue, self());
	assert_int_equal(fz_heap_used(), before);
	fz_heap_free(&box->object);
	assert_int_equal(fz_heap_used(), before);
}

static void
test_queue_a_compacted_one_goes_on(void **state)
{
	size_t before, lens[] = { 3, 20000, FZ_QUEUE_INLINE };
	struct box *box = new_box(0);
	int status;
	pid_t pid;

	(void)state;
	before = fz_heap_used();
	fz_queue_compact(&box->queue, self());
	for (unsigned round = 0; round < 3; round++) {
		for (unsigned i = 1; i <= 5; i++)
			put(box, i, lens[round % 3]);
		fz_queue_compact(&box->queue, self()); /* not an empty one */
		for (unsigned i = 1; i <= 4; i++)
			assert_int_equal(take(box, NULL), i);
		fz_queue_compact(&box->queue, self());
		pid = fork(); /* another finds it where it is now */
		if (pid == 0)
			_exit(take(box, NULL) == 5 ? 0 : 1);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_int_equal(status, 0);
		fz_queue_compact(&box->queue, self());
		assert_int_equal(fz_heap_used(), before);
		assert_int_equal(fz_queue_size(&box->queue), 0);
		assert_false(fz_queue_is_ready(&box->queue));
	}
	/* What was taken is unfinished all the same. */
	assert_false(fz_queue_all_done(&box->queue, true));
	for (int i = 0; i < 3 * 4; i++)
		assert_true(fz_queue_task_done(&box->queue, self()));
	assert_true(fz_queue_all_done(&box->queue, true));
	put(box, 1, 10);
	assert_false(fz_queue_all_done(&box->queue, true));
	fz_heap_free(&box->object);
	assert_int_equal(fz_heap_used(), before);
}

/* A segment that one had linked who was killed before the tail said so. */
static void
test_queue_a_linked_segment_is_given_back(void **state)
{
	struct box *box = new_box(0);
	size_t before = fz_heap_used();
	void *chunk = fz_heap_alloc(1, NULL);

	(void)state;
	fz_heap_set_owner(chunk, &box->object);
	fz_ref_set(&box->queue.first, chunk);
	fz_queue_compact(&box->queue, self());
	assert_int_equal(fz_heap_used(), before);
	put(box, 1, 10);
	assert_int_equal(take(box, NULL), 1);
	chunk = fz_heap_alloc(1, NULL);
	fz_heap_set_owner(chunk, &box->object);
	/* A segment begins with the reference to the next one. */
	fz_ref_set(fz_ref_get(&box->queue.first), chunk);
	fz_queue_compact(&box->queue, self());
	assert_int_equal(fz_heap_used(), before);
	put(box, 2, 10);
	assert_int_equal(take(box, NULL), 2);
	fz_heap_free(&box->object);
}

/* By who reads the last one, or by who closes it. */
static void
test_queue_a_closed_one_has_no_memory(void **state)
{
	struct box *box = new_box(0);
	size_t before = fz_heap_used();

	(void)state;
	put(box, 1, 10);
	put(box, 2, 10);
	take(box, NULL);
	fz_queue_close(&box->queue, self());
	assert_int_equal(fz_heap_used(), before + FZ_HEAP_CHUNK);
	take(box, NULL);
	assert_int_equal(fz_heap_used(), before);
	fz_heap_free(&box->object);
	box = new_box(0);
	put(box, 1, 10);
	take(box, NULL);
	fz_queue_close(&box->queue, self());
	assert_int_equal(fz_heap_used(), before);
	fz_heap_free(&box->object);
}

static void
holding_child(struct box *box, _Atomic uint32_t *owner)
{
	atomic_store(owner, fz_heap_join(NULL));
	atomic_store(&box->done, 1);
	for (;;)
		pause();
}

/* Who has stopped with a lock must not hold up who merely tidies. */
static void
test_queue_one_that_is_in_use_is_not_compacted(void **state)
{
	(void)state;
	for (int i = 0; i < 2; i++) {
		struct box *box = new_box(0);
		size_t before = fz_heap_used();
		pid_t pid;

		put(box, 1, 10);
		take(box, NULL);
		pid = fork();
		if (pid == 0)
			holding_child(box, i == 0 ? &box->queue.putting.owner
						  : &box->queue.taking.owner);
		while (!atomic_load(&box->done))
			sched_yield();
		fz_queue_compact(&box->queue, self());
		assert_int_equal(fz_heap_used(), before + FZ_HEAP_CHUNK);
		kill(pid, SIGKILL);
		assert_int_equal(waitpid(pid, NULL, 0), pid);
		fz_queue_compact(&box->queue, self());
		assert_int_equal(fz_heap_used(), before);
		fz_heap_free(&box->object);
	}
}

static void
test_queue_a_bounded_one_is_full(void **state)
{
	struct box *box = new_box(3);

	(void)state;
	for (unsigned i = 1; i <= 3; i++)
		assert_int_equal(put(box, i, 10), FZ_QUEUE_DONE);
	assert_int_equal(put(box, 4, 10), FZ_QUEUE_WAIT);
	assert_int_equal(put_big(box, 4, 100000), FZ_QUEUE_WAIT);
	assert_int_equal(take(box, NULL), 1);
	assert_int_equal(put(box, 4, 10), FZ_QUEUE_DONE);
	fz_heap_free(&box->object);
}

static void
test_queue_a_closed_one_takes_nothing(void **state)
{
	struct box *box = new_box(1);
	unsigned char bytes[FZ_QUEUE_INLINE];
	struct fz_queue_taken taken = { .bytes = bytes };

	(void)state;
	put(box, 1, 10);
	fz_queue_close(&box->queue, self());
	assert_int_equal(put(box, 2, 10), FZ_QUEUE_CLOSED);
	assert_int_equal(
	    fz_queue_take(&box->queue, self(), &taken), FZ_QUEUE_DONE);
	assert_int_equal(
	    fz_queue_take(&box->queue, self(), &taken), FZ_QUEUE_CLOSED);
	fz_heap_free(&box->object);
}

/* One that lives and does not go on: nobody is kept in here for ever. */
static void
test_queue_a_lock_that_stays_held_is_told(void **state)
{
	struct box *box = new_box(0);
	unsigned char bytes[FZ_QUEUE_INLINE];
	struct fz_queue_taken taken = { .bytes = bytes };
	uint32_t me = self();

	(void)state;
	put(box, 1, 10);
	assert_true(fz_lock_try(&box->queue.putting, me));
	assert_true(fz_lock_try(&box->queue.taking, me));
	assert_int_equal(put(box, 2, 10), FZ_QUEUE_BUSY);
	assert_int_equal(fz_queue_take(&box->queue, me, &taken), FZ_QUEUE_BUSY);
	fz_lock_release(&box->queue.putting);
	fz_lock_release(&box->queue.taking);
	assert_int_equal(put(box, 2, 10), FZ_QUEUE_DONE);
	assert_int_equal(take(box, NULL), 1);
	assert_int_equal(take(box, NULL), 2);
	fz_heap_free(&box->object);
}

/* Killed in close(): it is closed or it is not, and others can close it. */
static void
test_queue_who_is_killed_while_closing_leaves_it_whole(void **state)
{
	bool more = true;

	(void)state;
	for (unsigned long k = 0; more; k += stride()) {
		struct box *box = new_box(0);
		enum fz_queue_state got;

		more = kill_after(box, close_it, k);
		got = put(box, 1, 10);
		assert_true(got == FZ_QUEUE_DONE || got == FZ_QUEUE_CLOSED);
		assert_int_equal(take(box, NULL), got == FZ_QUEUE_DONE);
		close_it(box);
		assert_int_equal(put(box, 1, 10), FZ_QUEUE_CLOSED);
		fz_heap_free(&box->object);
	}
}

static void
test_queue_what_is_taken_is_unfinished(void **state)
{
	struct box *box = new_box(0);
	int status;
	pid_t pid;

	(void)state;
	assert_false(fz_queue_task_done(&box->queue, self()));
	for (unsigned i = 1; i <= 3; i++)
		put(box, i, 10);
	assert_false(fz_queue_all_done(&box->queue, true));
	assert_int_equal(take(box, NULL), 1);
	pid = fork();
	if (pid == 0)
		_exit(take(box, NULL) == 2 && take(box, NULL) == 3 ? 0 : 1);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_false(fz_queue_all_done(&box->queue, true));
	assert_true(fz_queue_task_done(&box->queue, self()));
	/* What the dead one had is done, as one sees who looks for it. */
	assert_false(fz_queue_all_done(&box->queue, false));
	assert_true(fz_queue_all_done(&box->queue, true));
	/* It may have handed them on. */
	assert_true(fz_queue_task_done(&box->queue, self()));
	assert_true(fz_queue_task_done(&box->queue, self()));
	assert_false(fz_queue_task_done(&box->queue, self()));
	fz_heap_free(&box->object);
}

/* Children that have taken an item each, of `n`, and live; their pids. */
static void
start_takers(struct box *box, pid_t *pids, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		assert_int_equal(put(box, i + 1, 10), FZ_QUEUE_DONE);
		atomic_store(&box->done, 0);
		pids[i] = fork();
		if (pids[i] == 0) {
			if (take(box, NULL) != i + 1)
				_exit(1);
			atomic_store(&box->done, 1);
			for (;;)
				pause();
		}
		while (!atomic_load(&box->done))
			sched_yield();
	}
}

static void
end_takers(pid_t *pids, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		kill(pids[i], SIGKILL);
		assert_int_equal(waitpid(pids[i], NULL, 0), pids[i]);
	}
}

/* More than are counted in place. */
static void
test_queue_what_many_have_taken_is_unfinished(void **state)
{
	enum { N = FZ_UNFINISHED_FEW + 2 };
	struct box *box = new_box(0);
	size_t before = fz_heap_used();
	pid_t pids[N];

	(void)state;
	start_takers(box, pids, N);
	fz_queue_compact(&box->queue, self());
	assert_int_equal(fz_heap_used(), before + FZ_HEAP_CHUNK);
	put(box, 1, 10);
	assert_int_equal(take(box, NULL), 1);
	assert_true(fz_queue_task_done(&box->queue, self())); /* its own */
	end_takers(pids, FZ_UNFINISHED_FEW);
	assert_false(fz_queue_all_done(&box->queue, true));
	end_takers(pids + FZ_UNFINISHED_FEW, N - FZ_UNFINISHED_FEW);
	assert_false(fz_queue_all_done(&box->queue, false));
	assert_true(fz_queue_all_done(&box->queue, true));
	for (int i = 0; i < N; i++)
		assert_true(fz_queue_task_done(&box->queue, self()));
	assert_false(fz_queue_task_done(&box->queue, self()));
	assert_true(fz_queue_all_done(&box->queue, false));
	fz_queue_compact(&box->queue, self());
	fz_heap_free(&box->object);
	assert_int_equal(fz_heap_used(), before);
}

/* ---- failures ------------------------------------------------------------ */

static void
test_queue_without_memory_it_stays_as_it_is(void **state)
{
	struct box *box = new_box(0);
	size_t before = fz_heap_used();
	unsigned n = 0;

	(void)state;
	no_memory = true;
	assert_int_equal(put_big(box, 1, 400 << 20), FZ_QUEUE_FAILED);
	assert_int_equal(fz_heap_used(), before);
	while (n < 100000 && put(box, 1, FZ_QUEUE_INLINE) == FZ_QUEUE_DONE)
		n++;
	no_memory = false;
	assert_true(n < 100000);
	assert_int_equal(put(box, 2, 10), FZ_QUEUE_DONE);
	for (unsigned i = 0; i < n; i++)
		assert_int_equal(take(box, NULL), 1);
	assert_int_equal(take(box, NULL), 2);
	assert_int_equal(take(box, NULL), 0);
	fz_heap_free(&box->object);
}

/* The heap without a free chunk: all that are known are owned. */
static void
test_queue_without_memory_to_count_it_takes_nothing(void **state)
{
	struct box *box = new_box(0);
	unsigned char bytes[FZ_QUEUE_INLINE];
	struct fz_queue_taken taken = { .bytes = bytes, .is_tracked = true };
	void *all[10000];
	pid_t pids[FZ_UNFINISHED_FEW];
	size_t n = 0;

	(void)state;
	start_takers(box, pids, FZ_UNFINISHED_FEW);
	put(box, 9, 10);
	no_memory = true;
	while (n < 10000 && (all[n] = fz_heap_alloc(1, NULL)) != NULL)
		n++;
	assert_true(n < 10000);
	assert_int_equal(
	    fz_queue_take(&box->queue, self(), &taken), FZ_QUEUE_FAILED);
	assert_int_equal(fz_queue_size(&box->queue), 1);
	no_memory = false;
	while (n > 0)
		fz_heap_give_back(all[--n]);
	assert_int_equal(take(box, NULL), 9);
	end_takers(pids, FZ_UNFINISHED_FEW);
	fz_heap_free(&box->object);
}

/* Run a script, in which starve(what) makes something fail. */
static void
run(lua_State *L, const char *script)
{
	lua_pushcfunction(L, luaopen_fzlua);
	lua_call(L, 0, 1);
	lua_setglobal(L, "fz");
	if (luaL_dostring(L, script) != LUA_OK)
		fail_msg("%s", lua_tostring(L, -1));
}

static void
test_queue_without_memory_put_raises(void **state)
{
	run(*state, "local q = fz.queue()\n"
		    "q:put(1)\n"
		    "starve 'chunks'\n"
		    "local ok, e = pcall(q.put, q, ('x'):rep(300 << 20))\n"
		    "assert(not ok and e.kind == 'memory', tostring(e))\n"
		    "ok, e = pcall(q.put, q, {a = ('x'):rep(300 << 20)})\n"
		    "assert(not ok and e.kind == 'memory', tostring(e))\n"
		    "local n, s = 0, ('x'):rep(30000)\n"
		    "repeat ok, e = pcall(q.put, q, s) n = n + 1\n"
		    "until not ok or n > 100000\n"
		    "assert(not ok and e.kind == 'memory', tostring(e))\n"
		    "starve()\n"
		    "q:put(2)\n"
		    "assert(q:get() == 1)\n"
		    "for i = 2, n do assert(q:get() == s) end\n"
		    "assert(q:get() == 2 and q:size() == 0)\n");
}

/* What is decoded takes another one, for which there is no buffer. */
static void
test_queue_without_memory_a_nested_get_raises(void **state)
{
	run(*state,
	    "local q, other = fz.queue(), fz.queue()\n"
	    "local Nested = {__fzpack = function() return 1 end,\n"
	    "  __fzunpack = function() return {pcall(other.get, other)} end}\n"
	    "fz.register_class('Nested', Nested)\n"
	    "local v = setmetatable({}, Nested)\n"
	    "other:put(7)\n"
	    "q:put {v}\n"
	    "q:put {v}\n"
	    "starve 'block'\n"
	    "local got = q:get()[1]\n"
	    "starve()\n"
	    "assert(not got[1])\n"
	    "assert(got[2].message:find 'Cannot allocate')\n"
	    "got = q:get()[1]\n"
	    "assert(got[1] and got[2] == 7, tostring(got[2]))\n");
}

static void
test_queue_without_memory_there_is_no_pipe(void **state)
{
	run(*state, "starve 'heap'\n"
		    "local ok, e = pcall(fz.pipe)\n"
		    "starve()\n"
		    "assert(not ok and e.message:find 'Cannot allocate')\n"
		    "local a, b = fz.pipe()\n"
		    "a:send(1)\n"
		    "assert(b:recv() == 1)\n"
		    "a, b = nil\n"
		    "collectgarbage()\n");
	assert_int_equal(fz_heap_used(), 0);
}

static int
starve(lua_State *L)
{
	const char *what = luaL_optstring(L, 1, "");

	no_memory = strcmp(what, "chunks") == 0;
	no_heap = strcmp(what, "heap") == 0;
	no_block = strcmp(what, "block") == 0 ? FZ_QUEUE_INLINE : 0;
	return 0;
}

static int
state_setup(void **state)
{
	lua_State *L = luaL_newstate();

	luaL_openlibs(L);
	lua_register(L, "starve", starve);
	*state = L;
	return 0;
}

static int
state_teardown(void **state)
{
	lua_close(*state);
	no_memory = false;
	return 0;
}

#define TEST_LUA(name) \
	cmocka_unit_test_setup_teardown(name, state_setup, state_teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_queue_items_come_out_as_they_went_in),
		TEST(test_queue_gives_its_memory_back),
		TEST(test_queue_a_compacted_one_goes_on),
		TEST(test_queue_a_linked_segment_is_given_back),
		TEST(test_queue_a_closed_one_has_no_memory),
		TEST(test_queue_one_that_is_in_use_is_not_compacted),
		TEST(test_queue_a_bounded_one_is_full),
		TEST(test_queue_a_closed_one_takes_nothing),
		TEST(test_queue_a_lock_that_stays_held_is_told),
		TEST(test_queue_what_is_taken_is_unfinished),
		TEST(test_queue_what_many_have_taken_is_unfinished),
		TEST(test_queue_without_memory_to_count_it_takes_nothing),
		TEST(test_queue_without_memory_it_stays_as_it_is),
		TEST(test_queue_who_is_killed_while_putting_leaves_it_whole),
		TEST(test_queue_who_is_killed_at_the_first_put_leaves_it_whole),
		TEST(test_queue_who_is_killed_at_a_new_segment_leaves_it_whole),
		TEST(test_queue_who_is_killed_with_a_big_one_leaves_it_whole),
		TEST(test_queue_who_is_killed_while_taking_takes_one_at_most),
		TEST(test_queue_who_is_killed_while_closing_leaves_it_whole),
		TEST(test_queue_who_is_killed_while_compacting_leaves_it_whole),
		TEST(
		    test_queue_who_is_killed_while_compacting_again_leaves_it_whole),
		TEST(test_queue_what_the_killed_had_comes_back),
		TEST_LUA(test_queue_without_memory_put_raises),
		TEST_LUA(test_queue_without_memory_a_nested_get_raises),
		TEST_LUA(test_queue_without_memory_there_is_no_pipe),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
