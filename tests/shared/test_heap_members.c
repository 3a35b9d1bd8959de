/*
 * The members of the shared heap: how they join, live and die.
 *
 * wrap: memfd_create eventfd mmap madvise pthread_mutexattr_init
 * wrap: pthread_mutex_init pthread_mutex_lock pthread_mutex_trylock
 * wrap: pthread_mutex_unlock getrlimit
 */
/* pthread_barrier_init and others are not in C11. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <string.h>
#include <sys/wait.h>

#include "base/err.h"
#include "heap_test.h"
#include "shared/heap_state.h"
#include "this_member.h"

static void
joining_child(uint64_t arg)
{
	struct fz_err err = { 0 };

	(void)arg;
	report->number = fz_heap_join(&this_member, &err);
}

static void
test_heap_a_forked_child_is_another_member(void **state)
{
	uint32_t self = join(), child;
	pid_t pid;

	(void)state;
	assert_int_not_equal(self, 0);
	assert_int_equal(fz_heap_self(&this_member), self);
	assert_true(fz_heap_alive(self));
	assert_false(fz_heap_alive(0));
	pid = start_reporting_member(joining_child, 0);
	child = (uint32_t)report->number;
	assert_int_not_equal(child, self);
	assert_int_not_equal(fz_heap_place(child), fz_heap_place(self));
	assert_true(fz_heap_alive(child));
	assert_true(fz_heap_alive(child));
	kill_member(pid);
	assert_false(fz_heap_alive(child));
	assert_true(fz_heap_alive(self));
}

static bool
ignores_none(const void *ctx, pid_t pid)
{
	(void)ctx;
	(void)pid;
	return false;
}

static void
quiet_child(uint64_t arg)
{
	struct fz_object *object =
	    fz_heap_new_quiet(&this_member, 7, sizeof(*object), NULL);

	if (arg != 0)
		fz_heap_join(&this_member, NULL);
	report->number = fz_heap_self(&this_member) != 0 ? 2 : object != NULL;
}

/* fz_heap_is_alone() and _is_only() while a child with quiet objects lives. */
static void
see_beside(uint64_t arg, uint32_t self, bool *alone, bool *only)
{
	pid_t pid = start_reporting_member(quiet_child, arg);

	heap_head()->nforeign = 0; /* as if the library had forked it */
	*alone = fz_heap_is_alone(self, ignores_none, NULL);
	*only = fz_heap_is_only(self);
	kill_member(pid);
	assert_int_equal(report->number, 1 + arg);
}

/* A process that cannot have a handle does not hide a deadlock. */
static void
test_heap_one_with_quiet_objects_does_not_share(void **state)
{
	uint32_t self = join();
	bool alone, only;

	(void)state;
	see_beside(0, self, &alone, &only);
	assert_true(alone && only);
	assert_true(fz_heap_has_quiet());
	see_beside(1, self, &alone, &only);
	assert_false(alone || only);
	assert_true(fz_heap_is_alone(self, ignores_none, NULL));
	assert_false(fz_heap_is_only(self));
}

/* When the process joins, it keeps its place and its block. */
static void
test_heap_a_quiet_one_joins_later(void **state)
{
	struct fz_object *one, *two;
	uint32_t self;

	(void)state;
	assert_false(fz_heap_has_quiet());
	one = fz_heap_new_quiet(&this_member, 7, sizeof(*one), NULL);
	assert_int_equal(fz_heap_self(&this_member), 0);
	self = join();
	assert_int_equal(self, one->maker);
	assert_int_equal(fz_heap_nplaces(), 1);
	two = fz_heap_new(&this_member, 7, sizeof(*two), NULL);
	assert_int_equal(
	    (unsigned char *)two - (unsigned char *)one, FZ_HEAP_SMALL);
	assert_true(fz_heap_is_only(self));
	fz_heap_release(&this_member);
	fz_heap_acquire(&this_member);
	one = fz_heap_new_quiet(&this_member, 7, sizeof(*one), NULL);
	assert_non_null(one);
	fz_heap_release(&this_member); /* also ends the lock of its place */
	assert_int_equal(fz_heap_wake_fd(), -1);
	fz_heap_acquire(&this_member);
}

static void
test_heap_a_place_is_used_again_after_a_second(void **state)
{
	uint32_t first, next, place;
	pid_t pid;

	(void)state;
	join();
	kill_member(start_reporting_member(joining_child, 0));
	first = (uint32_t)report->number;
	place = fz_heap_place(first);
	/* This member notices the death. */
	kill_member(start_reporting_member(joining_child, 0));
	assert_int_not_equal(fz_heap_place((uint32_t)report->number), place);
	heap_test_nap(1100);
	pid = start_reporting_member(joining_child, 0);
	next = (uint32_t)report->number;
	assert_int_equal(fz_heap_place(next), place);
	assert_int_not_equal(next, first);
	assert_true(fz_heap_alive(next));
	assert_false(fz_heap_alive(first));
	kill_member(pid);
	assert_false(fz_heap_alive(first));
	assert_false(fz_heap_alive(next));
	assert_int_equal(fz_heap_nplaces(), 3);
}

static void
dying_child(uint64_t arg)
{
	heap_faults_at((unsigned)arg, true);
	if (join() != 0)
		fz_heap_new(&this_member, TYPE, 8, NULL);
	report->number = arg;
}

/* The dead process may have held a lock, half a place or a claimed block. */
static void
test_heap_a_death_while_joining_or_allocating_blocks_no_other(void **state)
{
	unsigned n = 0;
	uint32_t self = join();
	pid_t pid;
	int status;

	(void)state;
	do {
		atomic_store(&report->number, 0);
		pid = start_member(dying_child, ++n);
		while (waitpid(pid, &status, WNOHANG) == 0 &&
		       atomic_load(&report->number) == 0)
			heap_test_nap(1);
		if (atomic_load(&report->number) != 0)
			kill_member(pid);
		kill_member(start_reporting_member(joining_child, 0));
	} while (atomic_load(&report->number) != 0 && n < 40 &&
		 WIFSIGNALED(status) && n < 30);
	assert_true(n >= 5);
	assert_true(fz_heap_alive(self));
	await_used(0);
}

static void *
joining_thread(void *arg)
{
	(void)arg;
	join();
	return NULL;
}

static void
join_by_a_thread(void)
{
	pthread_t thread;

	if (pthread_create(&thread, NULL, joining_thread, NULL) != 0 ||
	    pthread_join(thread, NULL) != 0)
		report->bad++;
}

static void
child_of_threads(uint64_t arg)
{
	(void)arg;
	join_by_a_thread();
	if (!fz_heap_alive(fz_heap_self(&this_member)))
		report->bad++;
	fz_heap_reclaim();
	report->other = fz_heap_name(fz_heap_new(&this_member, TYPE, 8, NULL));
	report->number = fz_heap_self(&this_member);
}

static void
test_heap_a_member_outlives_the_thread_that_joined(void **state)
{
	uint32_t child;
	pid_t pid;

	(void)state;
	join();
	pid = start_reporting_member(child_of_threads, 0);
	child = (uint32_t)report->number;
	assert_int_equal(report->bad, 0);
	assert_int_not_equal(child, fz_heap_self(&this_member));
	/*
	 * The member lives for more than a second after the end of the thread
	 * that joined.
	 */
	for (int i = 0; i < 30; i++) {
		assert_true(fz_heap_alive(child));
		fz_heap_reclaim();
		heap_test_nap(50);
	}
	kill_member(start_reporting_member(joining_child, 0));
	assert_int_not_equal(
	    fz_heap_place((uint32_t)report->number), fz_heap_place(child));
	assert_true(fz_heap_used() > 0);
	kill_member(pid);
	assert_false(fz_heap_alive(child));
	await_used(0);
}

/* teardown() checks that the region was unmapped. */
static void
test_heap_ends_after_the_thread_that_joined(void **state)
{
	(void)state;
	join_by_a_thread();
	assert_int_equal(report->bad, 0);
}

static pthread_barrier_t stages;

static void *
living_thread(void *arg)
{
	join();
	pthread_barrier_wait(&stages);
	pthread_barrier_wait(&stages);
	return arg;
}

static void
test_heap_stays_while_the_thread_that_joined_lives(void **state)
{
	pthread_t thread;
	uint32_t self;

	(void)state;
	assert_int_equal(pthread_barrier_init(&stages, NULL, 2), 0);
	assert_int_equal(pthread_create(&thread, NULL, living_thread, NULL), 0);
	pthread_barrier_wait(&stages);
	self = fz_heap_self(&this_member);
	fz_heap_release(&this_member); /* the lock must stay mapped */
	assert_int_not_equal(fz_heap_wake_fd(), -1);
	fz_heap_acquire(&this_member);
	/*
	 * This thread becomes another member, because the old lock has another
	 * owner.
	 */
	assert_int_not_equal(join(), 0);
	assert_int_not_equal(join(), self);
	assert_false(fz_heap_alive(self));
	pthread_barrier_wait(&stages);
	assert_int_equal(pthread_join(thread, NULL), 0);
	pthread_barrier_destroy(&stages);
}

static void
forget_this_member(void)
{
	this_member.number = this_member.owner = 0;
}

static void
test_heap_has_room_for_4096(void **state)
{
	struct fz_err err = { 0 };
	uint32_t first = join();

	(void)state;
	for (int i = 1; i < FZ_HEAP_MEMBERS; i++) {
		forget_this_member(); /* the forgotten member stays alive */
		assert_int_not_equal(join(), 0);
	}
	assert_int_equal(fz_heap_nplaces(), FZ_HEAP_MEMBERS);
	forget_this_member();
	assert_int_equal(fz_heap_join(&this_member, &err), 0);
	assert_non_null(strstr(err.text, "4096"));
	for (uint32_t i = 0; i < FZ_HEAP_MEMBERS; i++) {
		member_at(i)->pid = 0;
		pthread_mutex_unlock(&member_at(i)->life);
	}
	assert_false(fz_heap_alive(first));
	/* The members have just died: the new one waits until one of the places
	 * is free. */
	assert_int_not_equal(fz_heap_join(&this_member, &err), 0);
	assert_int_equal(fz_heap_nplaces(), FZ_HEAP_MEMBERS);
}

#define TEST(name)                       \
	cmocka_unit_test_setup_teardown( \
	    name, heap_test_setup, heap_test_teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_heap_a_forked_child_is_another_member),
		TEST(test_heap_one_with_quiet_objects_does_not_share),
		TEST(test_heap_a_quiet_one_joins_later),
		TEST(test_heap_a_place_is_used_again_after_a_second),
		TEST(
		    test_heap_a_death_while_joining_or_allocating_blocks_no_other),
		TEST(test_heap_a_member_outlives_the_thread_that_joined),
		TEST(test_heap_ends_after_the_thread_that_joined),
		TEST(test_heap_stays_while_the_thread_that_joined_lives),
		TEST(test_heap_has_room_for_4096),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
