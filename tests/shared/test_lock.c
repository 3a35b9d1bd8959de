/*
 * Locks, semaphores and events in shared memory, with deaths at each step.
 * wrap: fz_eventcount_notify_contended fz_heap_alive
 */
/* kill is not in C11. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <unistd.h>

#include "base/clock.h"
#include "members.h"
#include "shared/event.h"
#include "shared/lock.h"
#include "shared/semaphore.h"
#include "this_member.h"

void __real_fz_eventcount_notify_contended(
    struct fz_eventcount *ec, uint32_t n);
void __wrap_fz_eventcount_notify_contended(
    struct fz_eventcount *ec, uint32_t n);
bool __real_fz_heap_alive(uint32_t member);
bool __wrap_fz_heap_alive(uint32_t member);

void
__wrap_fz_eventcount_notify_contended(struct fz_eventcount *ec, uint32_t n)
{
	members_step();
	__real_fz_eventcount_notify_contended(ec, n);
	members_step();
}

bool
__wrap_fz_heap_alive(uint32_t member)
{
	bool alive;

	members_step();
	alive = __real_fz_heap_alive(member);
	members_step();
	return alive;
}

struct shared {
	struct fz_object head;
	struct fz_lock lock;
	struct fz_semaphore semaphore;
	struct fz_event event;
	_Atomic uint32_t a, b, rounds;
	_Atomic bool over;
};

static struct shared *
new_shared(void)
{
	struct shared *s = fz_heap_new(&this_member, 1, sizeof(*s), NULL);

	assert_non_null(s);
	return s;
}

static void
free_shared(struct shared *s)
{
	fz_heap_free(&this_member, &s->head);
}

static enum fz_lock_state
wait_for_lock(struct fz_lock *lock)
{
	uint32_t self = join();

	for (;;) {
		uint32_t seq =
		    fz_eventcount_prepare(&lock->waiters, FZ_EVENTCOUNT_SLEEP);
		enum fz_lock_state state = fz_lock_recover(lock, self);

		if (state != FZ_LOCK_BUSY) {
			fz_eventcount_rearm(&lock->waiters);
			return state;
		}
		fz_eventcount_commit(&lock->waiters, seq, FZ_CLOCK_NEVER);
	}
}

static int
take_it(void *ctx)
{
	struct shared *s = ctx;

	return (int)fz_lock_recover(&s->lock, join());
}

static int
take_and_stay(void *ctx)
{
	struct shared *s = ctx;

	take_it(ctx);
	fz_event_set(&s->event);
	while (pause() == -1)
		continue;
	return 0;
}

static void
wait_for_event(struct fz_event *event)
{
	uint32_t then = fz_event_version(event);

	for (;;) {
		uint32_t seq =
		    fz_eventcount_prepare(&event->waiters, FZ_EVENTCOUNT_SLEEP);

		if (fz_event_was_set(event, then))
			return;
		fz_eventcount_commit(&event->waiters, seq, FZ_CLOCK_NEVER);
	}
}

static void
test_lock_belongs_to_its_holder(void **state)
{
	uint32_t self = join();
	struct shared *s = new_shared();

	(void)state;
	assert_true(fz_lock_try(&s->lock, self));
	assert_true(fz_lock_is_mine(&s->lock, self));
	assert_false(fz_lock_try(&s->lock, self));
	assert_int_equal(fz_lock_recover(&s->lock, self), FZ_LOCK_BUSY);
	assert_int_equal(member_wait(member_start(take_it, s)), FZ_LOCK_BUSY);
	fz_lock_release(&s->lock);
	assert_false(fz_lock_is_mine(&s->lock, self));
	/* The process exits while it holds the lock. */
	assert_int_equal(
	    member_wait(member_start(take_it, s)), FZ_LOCK_ACQUIRED);
	assert_int_equal(fz_lock_recover(&s->lock, self), FZ_LOCK_ABANDONED);
	fz_lock_release(&s->lock);
	assert_int_equal(fz_lock_recover(&s->lock, self), FZ_LOCK_ACQUIRED);
	free_shared(s);
}

static void
test_lock_of_a_killed_holder_is_abandoned_once(void **state)
{
	uint32_t self = join();
	struct shared *s = new_shared();
	pid_t pid;

	(void)state;
	for (int i = 0; i < 10; i++) {
		fz_event_clear(&s->event);
		pid = member_start(take_and_stay, s);
		while (!fz_event_is_set(&s->event))
			wait_for_event(&s->event);
		assert_int_equal(fz_lock_recover(&s->lock, self), FZ_LOCK_BUSY);
		member_kill(pid);
		assert_false(fz_lock_try(&s->lock, self));
		assert_int_equal(wait_for_lock(&s->lock), FZ_LOCK_ABANDONED);
		assert_int_equal(
		    member_wait(member_start(take_it, s)), FZ_LOCK_BUSY);
		fz_lock_release(&s->lock);
		assert_true(fz_lock_try(&s->lock, self));
		fz_lock_release(&s->lock);
	}
	free_shared(s);
}

/*
 * The two numbers are equal unless a process that holds the lock is changing
 * them.
 */
static int
count_up(void *ctx)
{
	struct shared *s = ctx;

	while (!atomic_load(&s->over)) {
		enum fz_lock_state state = wait_for_lock(&s->lock);
		uint32_t a = atomic_load(&s->a);

		if (a != atomic_load(&s->b) && state != FZ_LOCK_ABANDONED)
			return 1;
		atomic_store(&s->a, a + 1);
		for (volatile int i = 0; i < (int)(a % 64); i++)
			continue;
		atomic_store(&s->b, a + 1);
		atomic_fetch_add(&s->rounds, 1);
		fz_lock_release(&s->lock);
	}
	return 0;
}

static void
test_lock_that_a_task_left_is_abandoned_once(void **state)
{
	struct shared *s = new_shared();
	uint32_t self = fz_heap_self(&this_member);

	(void)state;
	for (int late = 0; late < 2; late++) {
		enum fz_lock_state (*acquire)(struct fz_lock *, uint32_t) =
		    late ? fz_lock_recover : fz_lock_adopt;

		assert_int_equal(acquire(&s->lock, self), FZ_LOCK_ACQUIRED);
		assert_int_equal(acquire(&s->lock, self), FZ_LOCK_BUSY);
		fz_lock_abandon(&s->lock);
		assert_false(fz_lock_try(&s->lock, self));
		assert_false(fz_lock_is_mine(&s->lock, self));
		assert_int_equal(acquire(&s->lock, self), FZ_LOCK_ABANDONED);
		fz_lock_release(&s->lock);
		assert_int_equal(acquire(&s->lock, self), FZ_LOCK_ACQUIRED);
		fz_lock_release(&s->lock);
	}
	free_shared(s);
}

static void
test_lock_admits_one_at_a_time_while_waiters_are_killed(void **state)
{
	struct shared *s = new_shared();
	pid_t stay[3], victim;

	(void)state;
	for (int i = 0; i < 3; i++)
		stay[i] = member_start(count_up, s);
	for (int i = 0; i < 30; i++) {
		uint32_t before;

		victim = member_start(count_up, s);
		usleep((useconds_t)(i * 37 % 3000));
		member_kill(victim);
		before = atomic_load(&s->rounds);
		for (int ms = 0; atomic_load(&s->rounds) == before; ms++) {
			assert_true(ms < 60000);
			usleep(1000);
		}
	}
	atomic_store(&s->over, true);
	for (int i = 0; i < 3; i++)
		assert_int_equal(member_wait(stay[i]), 0);
	free_shared(s);
}

static int
take_and_release(void *ctx)
{
	struct shared *s = ctx;
	enum fz_lock_state how = (enum fz_lock_state)take_it(ctx);

	/* Prepare as if a process waited for the lock. */
	fz_eventcount_prepare(&s->lock.waiters, FZ_EVENTCOUNT_SLEEP);
	fz_lock_release(&s->lock);
	return (int)how;
}

/*
 * A process recovers the lock of a dead process, and is killed at some step of
 * the recovery.
 */
static void
test_lock_can_be_recovered_after_a_kill_at_each_step_of_a_recovery(void **state)
{
	uint32_t self = join();
	struct shared *s = new_shared();
	bool abandoned = false, taken = false;
	int how = -SIGKILL;

	(void)state;
	for (unsigned n = 1; how == -SIGKILL; n++) {
		assert_int_equal(
		    member_wait(member_start(take_it, s)), FZ_LOCK_ACQUIRED);
		how = member_wait(member_start_dying(take_and_release, s, n));
		if (how != -SIGKILL)
			assert_int_equal(how, FZ_LOCK_ABANDONED);
		how = how == -SIGKILL ? how : 0;
		if (fz_lock_recover(&s->lock, self) == FZ_LOCK_ACQUIRED)
			taken = true;
		else
			abandoned = true;
		assert_true(fz_lock_is_mine(&s->lock, self));
		fz_lock_release(&s->lock);
	}
	assert_true(abandoned && taken);
	free_shared(s);
}

static int
take_a_permit(void *ctx)
{
	struct shared *s = ctx;

	for (;;) {
		uint32_t seq = fz_eventcount_prepare(
		    &s->semaphore.waiters, FZ_EVENTCOUNT_SLEEP);

		if (fz_semaphore_try(&s->semaphore))
			break;
		fz_eventcount_commit(
		    &s->semaphore.waiters, seq, FZ_CLOCK_NEVER);
	}
	fz_semaphore_pass_on(&s->semaphore);
	return 0;
}

static void
test_semaphore_admits_as_many_as_it_has_permits(void **state)
{
	struct shared *s = new_shared();
	pid_t pids[4];

	(void)state;
	s->semaphore.limit = 4;
	assert_false(fz_semaphore_try(&s->semaphore));
	assert_false(fz_semaphore_release(&s->semaphore, 5));
	for (int i = 0; i < 4; i++)
		pids[i] = member_start(take_a_permit, s);
	usleep(10000);
	assert_true(fz_semaphore_release(&s->semaphore, 3));
	assert_true(fz_semaphore_release(&s->semaphore, 1));
	for (int i = 0; i < 4; i++)
		assert_int_equal(member_wait(pids[i]), 0);
	assert_false(fz_semaphore_try(&s->semaphore));
	s->semaphore.limit = FZ_SEMAPHORE_MAX;
	assert_true(fz_semaphore_release(&s->semaphore, FZ_SEMAPHORE_MAX));
	assert_false(fz_semaphore_release(&s->semaphore, 1));
	free_shared(s);
}

static void
test_event_set_before_the_wait_ends_the_wait(void **state)
{
	struct shared *s = new_shared();
	uint32_t then = fz_event_version(&s->event);

	(void)state;
	assert_false(fz_event_was_set(&s->event, then));
	fz_event_set(&s->event);
	fz_event_set(&s->event);
	assert_true(fz_event_is_set(&s->event));
	assert_true(fz_event_was_set(&s->event, then));
	fz_event_clear(&s->event);
	assert_false(fz_event_is_set(&s->event));
	assert_true(fz_event_was_set(&s->event, then));
	assert_false(fz_event_was_set(&s->event, fz_event_version(&s->event)));
	fz_event_clear(&s->event);
	assert_false(fz_event_was_set(&s->event, fz_event_version(&s->event)));
	free_shared(s);
}

#define TEST(f) \
	cmocka_unit_test_setup_teardown(f, members_setup, members_teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_lock_belongs_to_its_holder),
		TEST(test_lock_of_a_killed_holder_is_abandoned_once),
		TEST(test_lock_that_a_task_left_is_abandoned_once),
		TEST(test_lock_admits_one_at_a_time_while_waiters_are_killed),
		TEST(
		    test_lock_can_be_recovered_after_a_kill_at_each_step_of_a_recovery),
		TEST(test_semaphore_admits_as_many_as_it_has_permits),
		TEST(test_event_set_before_the_wait_ends_the_wait),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
