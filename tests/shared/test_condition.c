/*
 * Waiters are notified in order, also if some of them die.
 * wrap: fz_waiter_begin fz_waiter_end fz_waiter_notify fz_heap_alive
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
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "members.h"
#include "shared/condition.h"
#include "shared/lock.h"
#include "shared/waiter.h"
#include "this_member.h"
#include "waiter_steps.h"

enum fz_waiter_state __real_fz_waiter_end(uint32_t self);
enum fz_waiter_state __wrap_fz_waiter_end(uint32_t self);
bool __real_fz_heap_alive(uint32_t member);
bool __wrap_fz_heap_alive(uint32_t member);

enum fz_waiter_state
__wrap_fz_waiter_end(uint32_t self)
{
	enum fz_waiter_state state;

	members_step();
	state = __real_fz_waiter_end(self);
	members_step();
	return state;
}

bool
__wrap_fz_heap_alive(uint32_t member)
{
	members_step();
	return __real_fz_heap_alive(member);
}

struct shared {
	struct fz_object head;
	struct fz_lock lock;
	uint32_t tickets;
	_Atomic uint32_t began, woken, notified;
	_Atomic pid_t pids[4]; /* pid notified by number n is at n % 4 */
	_Atomic bool inherits;
};

static struct shared *
new_shared(void)
{
	struct shared *s = fz_heap_new(&this_member, 1, sizeof(*s), NULL);

	assert_non_null(s);
	return s;
}

static uint32_t
name_of(const struct shared *s)
{
	return fz_heap_name(&s->head);
}

static void
acquire(struct shared *s)
{
	uint32_t self = join();

	while (fz_lock_recover(&s->lock, self) == FZ_LOCK_BUSY)
		usleep(100);
}

static uint32_t
begin(struct shared *s)
{
	uint32_t self = join();

	acquire(s);
	if (!fz_condition_begin(&s->tickets, name_of(s), self))
		_exit(9);
	atomic_fetch_add(&s->began, 1);
	fz_lock_release(&s->lock);
	return self;
}

/* In a process: wait, and exit with the number of the notification. */
static int
wait_once(void *ctx)
{
	struct shared *s = ctx;
	uint32_t self = begin(s), notified;

	while (fz_waiter_state(self) == FZ_WAITER_WAITS) {
		struct fz_eventcount *wakeup = fz_waiter_wakeup(self);
		uint32_t seq =
		    fz_eventcount_prepare(wakeup, FZ_EVENTCOUNT_SLEEP);

		if (fz_waiter_state(self) == FZ_WAITER_WAITS)
			fz_eventcount_commit(wakeup, seq, FZ_CLOCK_NEVER);
		if (atomic_load(&s->inherits))
			fz_condition_recover(name_of(s));
	}
	atomic_fetch_add(&s->woken, 1);
	acquire(s);
	notified = atomic_load(&s->notified);
	atomic_store(&s->pids[notified % 4], getpid());
	atomic_store(&s->notified, notified + 1);
	if (fz_waiter_end(self) != FZ_WAITER_GO)
		return 99;
	fz_lock_release(&s->lock);
	return (int)notified;
}

static pid_t
start_waiter(struct shared *s)
{
	uint32_t before = atomic_load(&s->began);
	pid_t pid = member_start(wait_once, s);

	while (atomic_load(&s->began) == before)
		usleep(100);
	return pid;
}

static void
notify(struct shared *s, uint32_t n)
{
	acquire(s);
	fz_condition_notify(name_of(s), n);
	fz_lock_release(&s->lock);
}

static void
wait_for(_Atomic uint32_t *count, uint32_t n)
{
	for (int ms = 0; atomic_load(count) < n; ms++) {
		assert_true(ms < 60000);
		usleep(1000);
	}
}

static void
test_waiter_waits_for_one_thing(void **state)
{
	uint32_t self = join();

	(void)state;
	assert_int_equal(fz_waiter_state(self), FZ_WAITER_NONE);
	assert_false(fz_waiter_cancel(self));
	assert_true(fz_waiter_begin(self, 5, 1));
	assert_false(fz_waiter_begin(self, 5, 2));
	assert_false(fz_waiter_begin(self, 6, 1));
	assert_int_equal(fz_waiter_state(self), FZ_WAITER_WAITS);
	assert_true(fz_waiter_cancel(self));
	assert_false(fz_waiter_begin(self, 6, 1));
	assert_int_equal(fz_waiter_end(self), FZ_WAITER_NONE);
	assert_true(fz_waiter_begin(self, (1U << 30) - 1, UINT32_MAX));
	assert_int_equal(fz_waiter_end(self), FZ_WAITER_WAITS);
}

static void
test_waiter_gets_its_own_notification(void **state)
{
	uint32_t self = join();
	struct fz_waiter w = { 0 }, none = { 0 };

	(void)state;
	assert_true(fz_waiter_begin(self, 5, 1));
	assert_false(fz_waiter_next(&none, 6, FZ_WAITER_WAITS));
	assert_false(fz_waiter_next(&none, 5, FZ_WAITER_GO));
	assert_true(fz_waiter_next(&w, 5, FZ_WAITER_WAITS));
	assert_int_equal(w.member, self);
	fz_waiter_end(self);
	assert_false(fz_waiter_notify(&w, FZ_WAITER_GO));
	assert_true(fz_waiter_begin(self, 5, 2));
	assert_false(fz_waiter_notify(&w, FZ_WAITER_GO));
	fz_waiter_end(self);
	assert_true(fz_waiter_begin(self, 7, 1));
	assert_false(fz_waiter_notify(&w, FZ_WAITER_FAILS));
	assert_int_equal(fz_waiter_state(self), FZ_WAITER_WAITS);
	fz_waiter_end(self);
	assert_true(fz_waiter_begin(self, 5, 1));
	assert_true(fz_waiter_notify(&w, FZ_WAITER_FAILS));
	assert_false(fz_waiter_notify(&w, FZ_WAITER_GO));
	assert_false(fz_waiter_cancel(self));
	assert_int_equal(fz_waiter_end(self), FZ_WAITER_FAILS);
}

static void
test_condition_notifies_waiters_in_order_of_arrival(void **state)
{
	struct shared *s = new_shared();
	pid_t pids[6];

	(void)state;
	s->tickets = UINT32_MAX - 2; /* the tickets wrap around to 0 */
	for (int i = 0; i < 6; i++)
		pids[i] = start_waiter(s);
	for (uint32_t i = 0; i < 2; i++) {
		notify(s, 1);
		wait_for(&s->notified, i + 1);
		assert_int_equal(member_wait(pids[i]), i);
	}
	notify(s, 0);
	notify(s, 2);
	wait_for(&s->notified, 4);
	member_wait(pids[2]);
	member_wait(pids[3]);
	notify(s, FZ_CONDITION_ALL);
	member_wait(pids[4]);
	member_wait(pids[5]);
	notify(s, 7); /* no effect: no process waits */
	fz_heap_free(&this_member, &s->head);
}

static void
test_condition_skips_dead_waiters(void **state)
{
	struct shared *s = new_shared();
	pid_t pids[4];

	(void)state;
	for (int i = 0; i < 4; i++)
		pids[i] = start_waiter(s);
	member_kill(pids[0]);
	member_kill(pids[2]);
	notify(s, 1);
	assert_int_equal(member_wait(pids[1]), 0);
	notify(s, 1);
	assert_int_equal(member_wait(pids[3]), 1);
	fz_heap_free(&this_member, &s->head);
}

static void
test_condition_passes_on_the_notification_of_a_dead_waiter(void **state)
{
	struct shared *s = new_shared();
	pid_t first, second, third;

	(void)state;
	atomic_store(&s->inherits, true);
	first = start_waiter(s);
	second = start_waiter(s);
	third = start_waiter(s);
	acquire(s);
	fz_condition_notify(name_of(s), 1);
	wait_for(&s->woken, 1);
	member_kill(first); /* it waits for the lock */
	fz_lock_release(&s->lock);
	assert_int_equal(member_wait(second), 0);
	usleep(150000);
	/* The notification of the dead waiter went to one other waiter only. */
	assert_int_equal(atomic_load(&s->notified), 1);
	notify(s, 1);
	assert_int_equal(member_wait(third), 1);
	fz_heap_free(&this_member, &s->head);
}

/* Wait until the waiter that was started has begun to wait, or is dead. */
static void
wait_begun(struct shared *s, pid_t pid, uint32_t before)
{
	siginfo_t info = { 0 };

	while (atomic_load(&s->began) == before && info.si_pid == 0) {
		usleep(100);
		waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT);
	}
}

/*
 * The process waits first and is notified. If it is dead, the next waiter is
 * notified.
 */
static void
test_condition_loses_nothing_after_a_kill_at_each_step_of_a_waiter(void **state)
{
	struct shared *s = new_shared();
	uint32_t notified = 0;
	int how = -SIGKILL;

	(void)state;
	atomic_store(&s->inherits, true);
	for (unsigned n = 1; how == -SIGKILL; n++) {
		uint32_t before = atomic_load(&s->began);
		pid_t first = member_start_dying(wait_once, s, n), second;

		wait_begun(s, first, before);
		second = start_waiter(s);
		notify(s, 1);
		how = member_wait(first);
		if (atomic_load(&s->notified) > notified &&
		    atomic_load(&s->pids[notified % 4]) == first) {
			notified++; /* the waiter died after it had counted */
			notify(s, 1);
		}
		assert_int_equal(member_wait(second), notified++);
	}
	fz_heap_free(&this_member, &s->head);
}

static int
notify_one(void *ctx)
{
	notify(ctx, 1);
	return 0;
}

static void
test_condition_is_whole_after_a_kill_at_each_step_of_a_notifier(void **state)
{
	struct shared *s = new_shared();
	uint32_t notified = 0;
	int how = -SIGKILL;

	(void)state;
	for (unsigned n = 1; how == -SIGKILL; n++) {
		pid_t pid = start_waiter(s);

		how = member_wait(member_start_dying(notify_one, s, n));
		notify(s, 1);
		assert_int_equal(member_wait(pid), notified++);
	}
	assert_int_equal(how, 0);
	fz_heap_free(&this_member, &s->head);
}

#define TEST(f) \
	cmocka_unit_test_setup_teardown(f, members_setup, members_teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_waiter_waits_for_one_thing),
		TEST(test_waiter_gets_its_own_notification),
		TEST(test_condition_notifies_waiters_in_order_of_arrival),
		TEST(test_condition_skips_dead_waiters),
		TEST(
		    test_condition_passes_on_the_notification_of_a_dead_waiter),
		TEST(
		    test_condition_loses_nothing_after_a_kill_at_each_step_of_a_waiter),
		TEST(
		    test_condition_is_whole_after_a_kill_at_each_step_of_a_notifier),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
