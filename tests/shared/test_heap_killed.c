/*
 * Members of the shared heap are killed at any moment: the memory that they
 * leave is freed.
 *
 * wrap: memfd_create eventfd mmap madvise pthread_mutexattr_init
 * wrap: pthread_mutex_init pthread_mutex_lock pthread_mutex_trylock
 * wrap: pthread_mutex_unlock getrlimit
 */
/* fork and nanosleep are not in C11. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "heap_test.h"
#include "shared/heap_state.h"
#include "this_member.h"

/* A child makes an object of each size, and sends them or not. */
static void
making_child(uint64_t sent)
{
	struct fz_object *object = fz_heap_new(&this_member, TYPE, 100, NULL);
	struct fz_object *large = fz_heap_new(&this_member, TYPE, 100000, NULL);

	fz_heap_set_owner(fz_heap_alloc(join(), 1 << 20, NULL), large);
	fz_heap_set_owner(fz_heap_alloc(join(), 1 << 20, NULL), object);
	fz_heap_alloc(join(), 1 << 20, NULL);
	memset(object + 1, 1, 100 - sizeof(*object));
	atomic_store(&object->sent, (uint32_t)sent);
	atomic_store(&large->sent, (uint32_t)sent);
	report->other =
	    (uint64_t)object->generation << 32 | fz_heap_name(object);
	report->number =
	    (uint64_t)large->generation << 32 | fz_heap_name(large);
}

static struct fz_object *
find_reported(uint64_t who)
{
	return fz_heap_find((uint32_t)who, (uint32_t)(who >> 32), TYPE);
}

static void
test_heap_keeps_what_a_dead_member_had_sent(void **state)
{
	pid_t pid;

	(void)state;
	join();
	pid = start_reporting_member(making_child, 0);
	assert_non_null(find_reported(report->number));
	assert_non_null(find_reported(report->other));
	kill_member(pid);
	heap_test_nap(50);
	fz_heap_reclaim();
	/* A dead member's objects stay for a time, for its children. */
	assert_non_null(find_reported(report->number));
	await_used(0);
	assert_null(find_reported(report->number));
	assert_null(find_reported(report->other));
	kill_member(start_reporting_member(making_child, 1));
	await_used((2 << 20) + 3 * FZ_HEAP_BLOCK);
	assert_non_null(find_reported(report->number));
	assert_non_null(find_reported(report->other));
}

/* The child is killed at the first store of fz_heap_free(). */
static void
freeing_child(uint64_t arg)
{
	struct fz_object *object = fz_heap_new(&this_member, TYPE, 100, NULL);
	struct fz_object *large = fz_heap_new(&this_member, TYPE, 1000, NULL);

	(void)arg;
	fz_heap_set_owner(fz_heap_alloc(join(), 1 << 20, NULL), object);
	fz_heap_set_owner(fz_heap_alloc(join(), 1 << 20, NULL), large);
	atomic_store(&object->sent, 1);
	atomic_store(&large->sent, 1);
	atomic_store(&object->type, 0);
	atomic_store(&large->type, 0);
	report->number = 1;
}

static void
test_heap_frees_what_a_dead_member_had_half_freed(void **state)
{
	(void)state;
	join();
	kill_member(start_reporting_member(freeing_child, 0));
	assert_true(fz_heap_used() > 2 << 20);
	await_used(0);
}

static void
grandchild(uint64_t arg)
{
	struct fz_object *o = find_reported(arg);

	report->bad = o == NULL;
	if (o != NULL)
		memcpy(o + 1, "written", 8);
	report->number = 1;
}

static void
forking_child(uint64_t arg)
{
	struct fz_object *o = fz_heap_new(&this_member, TYPE, 100, NULL);
	pid_t pid = fork();

	(void)arg;
	if (pid == 0) {
		grandchild((uint64_t)o->generation << 32 | fz_heap_name(o));
		_exit(0);
	}
	waitpid(pid, NULL, 0);
	report->bad |= memcmp(o + 1, "written", 8) != 0;
	report->other = 1;
}

static void
test_heap_a_fork_of_a_fork_has_it_too(void **state)
{
	pid_t pid;

	(void)state;
	join();
	pid = start_reporting_member(forking_child, 0);
	await_report(&report->other);
	kill_member(pid);
	assert_int_equal(report->bad, 0);
}

static bool
is_all(const unsigned char *at, size_t n, unsigned char c)
{
	return at[0] == c && memcmp(at, at + 1, n - 1) == 0;
}

/* Allocate and free blocks at random; no other process may write to them. */
static void
busy_child(uint64_t seed)
{
	unsigned char mark = (unsigned char)(seed % 255 + 1);
	uint64_t x = seed * 2654435761u + 1;
	/* A small object, or one with blocks of its own. */
	struct fz_object *own =
	    fz_heap_new(&this_member, TYPE, seed % 2 ? 1000 : 200, NULL);

	for (;;) {
		size_t size, room;
		unsigned char *at;

		x = x * 6364136223846793005u + 1442695040888963407u;
		size = (size_t)(x >> 33) % (5 * FZ_HEAP_BLOCK);
		at = fz_heap_alloc(join(), size, NULL);
		if (at == NULL || own == NULL) {
			report->bad = 1;
			return;
		}
		room = fz_heap_capacity(at);
		memset(at, mark, room);
		if (x >> 20 & 1)
			fz_heap_set_owner(at, own);
		if (x >> 21 & 1) {
			fz_heap_free(&this_member, own);
			if (!(x >> 20 & 1)) {
				if (!is_all(at, room, mark))
					report->bad = 2;
				fz_heap_give_back(at);
			}
			own = fz_heap_new(
			    &this_member, TYPE, x >> 22 & 1 ? 1000 : 200, NULL);
		} else {
			if (!is_all(at, room, mark))
				report->bad = 3;
			fz_heap_give_back(at);
		}
		fz_heap_free(
		    &this_member, fz_heap_new(&this_member, TYPE, 64, NULL));
		report->rounds++;
	}
}

/* Whether all blocks are free; fz_heap_used() may be wrong after a kill. */
static bool
all_free(void)
{
	uint32_t i = 0, top = heap_head()->top;

	while (i < top && is_free(atomic_load(&heap->owners[i])))
		i++;
	return i == top;
}

static void
test_heap_is_whole_after_kills_at_any_instruction(void **state)
{
	pid_t pids[3];
	uint64_t n = 0;
	int64_t until;

	(void)state;
	join();
	for (int i = 0; i < 3; i++)
		pids[i] = start_member(busy_child, ++n);
	srand(1);
	/* The loop goes on if the children had little time. */
	for (int i = 0; i < 300 || (report->rounds <= 100 && report->bad == 0);
	     i++) {
		struct timespec ts = { 0, 1000 * (rand() % 12000) };

		nanosleep(&ts, NULL);
		kill_member(pids[i % 3]);
		pids[i % 3] = start_member(busy_child, ++n);
	}
	for (int i = 0; i < 3; i++)
		kill_member(pids[i]);
	assert_int_equal(report->bad, 0);
	until = fz_clock_ns() + 60 * FZ_CLOCK_SECOND;
	while (!all_free() && fz_clock_ns() < until) {
		fz_heap_give_back(fz_heap_alloc(join(), 1, NULL));
		heap_test_nap(50);
	}
	assert_true(all_free());
}

#define TEST(name)                       \
	cmocka_unit_test_setup_teardown( \
	    name, heap_test_setup, heap_test_teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_heap_keeps_what_a_dead_member_had_sent),
		TEST(test_heap_frees_what_a_dead_member_had_half_freed),
		TEST(test_heap_a_fork_of_a_fork_has_it_too),
		TEST(test_heap_is_whole_after_kills_at_any_instruction),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
