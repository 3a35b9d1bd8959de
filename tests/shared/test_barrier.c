/*
 * All go on, or all find it broken; wherever one of them is killed.
 * wrap: fz_waiter_begin fz_waiter_notify fz_waiter_next
 * wrap: fz_eventcount_notify_contended
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

#include "members.h"
#include "shared/barrier.h"
#include "this_member.h"
#include "waiter_steps.h"

bool __real_fz_waiter_next(
    struct fz_waiter *w, uint32_t name, enum fz_waiter_state state);
bool __wrap_fz_waiter_next(
    struct fz_waiter *w, uint32_t name, enum fz_waiter_state state);
void __real_fz_eventcount_notify_contended(
    struct fz_eventcount *ec, uint32_t n);
void __wrap_fz_eventcount_notify_contended(
    struct fz_eventcount *ec, uint32_t n);

bool
__wrap_fz_waiter_next(
    struct fz_waiter *w, uint32_t name, enum fz_waiter_state state)
{
	members_step();
	return __real_fz_waiter_next(w, name, state);
}

void
__wrap_fz_eventcount_notify_contended(struct fz_eventcount *ec, uint32_t n)
{
	members_step();
	__real_fz_eventcount_notify_contended(ec, n);
	members_step();
}

struct shared {
	struct fz_object head;
	struct fz_barrier barrier;
	_Atomic bool over;
};

enum { INDEX = 16, BROKEN = 100 }; /* exit statuses of the processes */

static struct shared *
new_shared(uint32_t parties, bool has_action)
{
	struct shared *s = fz_heap_new(&this_member, 1, sizeof(*s), NULL);

	assert_non_null(s);
	s->barrier.name = fz_heap_name(&s->head);
	s->barrier.parties = parties;
	s->barrier.has_action = has_action;
	return s;
}

/* Wait for the outcome. Meanwhile check again and again for dead members. */
static int
wait_notified(struct fz_barrier *b, uint32_t self, uint32_t index)
{
	while (fz_waiter_state(self) == FZ_WAITER_WAITS) {
		fz_barrier_check(b, self);
		usleep(200);
	}
	return fz_barrier_leave(b, self, self) == FZ_WAITER_GO
		   ? INDEX + (int)index
		   : BROKEN;
}

static int
wait_once(void *ctx)
{
	struct shared *s = ctx;
	struct fz_barrier *b = &s->barrier;
	uint32_t self = join(), index;
	enum fz_barrier_arrival arrival;

	while ((arrival = fz_barrier_arrive(b, self, self, &index)) ==
	       FZ_BARRIER_LATER)
		usleep(200);
	if (arrival == FZ_BARRIER_WAITS)
		return wait_notified(b, self, index);
	if (arrival == FZ_BARRIER_LAST &&
	    (!b->has_action || fz_barrier_finish(b, self, true)))
		return INDEX + (int)index;
	return BROKEN;
}

static void
start_waiters(struct shared *s, pid_t *pids, uint32_t n)
{
	uint32_t self = join();

	for (uint32_t i = 0; i < n; i++) {
		pids[i] = member_start(wait_once, s);
		for (int ms = 0;
		     fz_barrier_nwaiting(&s->barrier, self) != i + 1; ms++) {
			assert_true(ms < 60000);
			usleep(500);
		}
	}
}

static void
test_barrier_releases_all_in_order(void **state)
{
	uint32_t self = join(), index;
	struct shared *s = new_shared(4, false);
	pid_t pids[3];

	(void)state;
	for (int round = 0; round < 3; round++) {
		start_waiters(s, pids, 3);
		assert_int_equal(
		    fz_barrier_arrive(&s->barrier, self, self, &index),
		    FZ_BARRIER_LAST);
		assert_int_equal(index, 3);
		for (int i = 0; i < 3; i++)
			assert_int_equal(member_wait(pids[i]), INDEX + i);
		assert_int_equal(fz_barrier_nwaiting(&s->barrier, self), 0);
	}
	fz_heap_free(&this_member, &s->head);
}

static void
test_barrier_is_broken_until_it_is_reset(void **state)
{
	uint32_t self = join(), index;
	struct shared *s = new_shared(3, false);
	struct fz_barrier *b = &s->barrier;
	pid_t pids[2];

	(void)state;
	start_waiters(s, pids, 1);
	assert_int_equal(
	    fz_barrier_arrive(b, self, self, &index), FZ_BARRIER_WAITS);
	/* Leave the barrier as after a timeout. */
	assert_int_equal(fz_barrier_leave(b, self, self), FZ_WAITER_FAILS);
	assert_int_equal(member_wait(pids[0]), BROKEN);
	assert_true(fz_barrier_is_broken(b, self));
	assert_int_equal(
	    fz_barrier_arrive(b, self, self, &index), FZ_BARRIER_BROKEN);
	fz_barrier_reset(b, self);
	assert_false(fz_barrier_is_broken(b, self));
	start_waiters(s, pids, 2);
	fz_barrier_reset(b, self);
	for (int i = 0; i < 2; i++)
		assert_int_equal(member_wait(pids[i]), BROKEN);
	start_waiters(s, pids, 2);
	fz_barrier_abort(b, self);
	for (int i = 0; i < 2; i++)
		assert_int_equal(member_wait(pids[i]), BROKEN);
	assert_true(fz_barrier_is_broken(b, self));
	fz_heap_free(&this_member, &s->head);
}

static void
test_barrier_waits_for_one_thing_at_a_time(void **state)
{
	uint32_t self = join(), index;
	struct shared *s = new_shared(3, false);

	(void)state;
	assert_int_equal(fz_barrier_arrive(&s->barrier, self, self, &index),
	    FZ_BARRIER_WAITS);
	assert_int_equal(fz_barrier_arrive(&s->barrier, self, self, &index),
	    FZ_BARRIER_TWICE);
	assert_int_equal(fz_barrier_nwaiting(&s->barrier, self), 1);
	fz_barrier_leave(&s->barrier, self, self);
	fz_heap_free(&this_member, &s->head);
}

static void
test_barrier_with_an_action_waits_for_its_end(void **state)
{
	uint32_t self = join(), index;
	struct shared *s = new_shared(2, true);
	struct fz_barrier *b = &s->barrier;
	pid_t pids[2];

	(void)state;
	for (int well = 0; well < 2; well++) {
		start_waiters(s, pids, 1);
		assert_int_equal(
		    fz_barrier_arrive(b, self, self, &index), FZ_BARRIER_LAST);
		assert_int_equal(fz_barrier_nwaiting(b, self), 0);
		assert_int_equal(fz_barrier_arrive(b, self, self, &index),
		    FZ_BARRIER_INSIDE);
		assert_int_equal(fz_barrier_finish(b, self, well), well);
		assert_false(fz_barrier_finish(b, self, true)); /* no effect */
		assert_int_equal(member_wait(pids[0]), well ? INDEX : BROKEN);
		fz_barrier_reset(b, self);
	}
	fz_heap_free(&this_member, &s->head);
}

static int
arrive_and_stay(void *ctx)
{
	struct shared *s = ctx;
	uint32_t self = join(), index;

	fz_barrier_arrive(&s->barrier, self, self, &index);
	while (pause() == -1)
		continue;
	return 0;
}

static void
test_barrier_breaks_when_a_member_is_killed(void **state)
{
	uint32_t self = join(), index;
	struct shared *s = new_shared(3, true);
	struct fz_barrier *b = &s->barrier;
	pid_t pids[2], last;

	(void)state;
	start_waiters(s, pids, 2);
	member_kill(pids[0]);
	assert_int_equal(member_wait(pids[1]), BROKEN);
	fz_barrier_reset(b, self);
	start_waiters(s, pids, 1);
	member_kill(pids[0]);
	assert_int_equal(
	    fz_barrier_arrive(b, self, self, &index), FZ_BARRIER_BROKEN);
	fz_barrier_reset(b, self);
	start_waiters(s, pids, 2);
	last = member_start(arrive_and_stay, s);
	while (fz_barrier_nwaiting(b, self) != 0)
		usleep(500);
	member_kill(last); /* this process had to run the action */
	for (int i = 0; i < 2; i++)
		assert_int_equal(member_wait(pids[i]), BROKEN);
	fz_heap_free(&this_member, &s->head);
}

/* Two processes wait, and the third one is killed at each of its steps. */
static void
kill_the_third(struct shared *s)
{
	uint32_t self = join();
	bool went = false, broke = false;
	int third = -SIGKILL;
	pid_t pids[2];

	for (unsigned n = 1; third == -SIGKILL; n++) {
		int how[2];

		start_waiters(s, pids, 2);
		third = member_wait(member_start_dying(wait_once, s, n));
		/* The process may have been killed before it arrived. */
		if (fz_barrier_nwaiting(&s->barrier, self) == 2)
			fz_barrier_abort(&s->barrier, self);
		for (int i = 0; i < 2; i++)
			how[i] = member_wait(pids[i]);
		if (how[0] == BROKEN) {
			assert_int_equal(how[1], BROKEN);
			assert_true(fz_barrier_is_broken(&s->barrier, self));
			fz_barrier_reset(&s->barrier, self);
			broke = true;
		} else {
			assert_int_equal(how[0], INDEX);
			assert_int_equal(how[1], INDEX + 1);
			assert_false(fz_barrier_is_broken(&s->barrier, self));
			went = true;
		}
	}
	assert_true(went && broke);
	assert_int_equal(third, INDEX + 2);
}

static void
test_barrier_has_one_outcome_after_a_kill_at_each_step_of_the_last(void **state)
{
	struct shared *s = new_shared(3, false);

	(void)state;
	kill_the_third(s);
	s->barrier.has_action = true;
	kill_the_third(s);
	fz_heap_free(&this_member, &s->head);
}

static int
reset_it(void *ctx)
{
	struct shared *s = ctx;

	fz_barrier_reset(&s->barrier, join());
	return 0;
}

static void
test_barrier_is_whole_after_a_kill_at_each_step_of_a_reset(void **state)
{
	uint32_t self = join();
	struct shared *s = new_shared(3, false);
	int how = -SIGKILL;
	pid_t pids[2];

	(void)state;
	for (unsigned n = 1; how == -SIGKILL; n++) {
		start_waiters(s, pids, 2);
		how = member_wait(member_start_dying(reset_it, s, n));
		if (fz_barrier_nwaiting(&s->barrier, self) == 2)
			fz_barrier_abort(&s->barrier, self);
		for (int i = 0; i < 2; i++)
			assert_int_equal(member_wait(pids[i]), BROKEN);
		fz_barrier_reset(&s->barrier, self);
	}
	fz_heap_free(&this_member, &s->head);
}

#define TEST(f) \
	cmocka_unit_test_setup_teardown(f, members_setup, members_teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_barrier_releases_all_in_order),
		TEST(test_barrier_is_broken_until_it_is_reset),
		TEST(test_barrier_waits_for_one_thing_at_a_time),
		TEST(test_barrier_with_an_action_waits_for_its_end),
		TEST(test_barrier_breaks_when_a_member_is_killed),
		TEST(
		    test_barrier_has_one_outcome_after_a_kill_at_each_step_of_the_last),
		TEST(
		    test_barrier_is_whole_after_a_kill_at_each_step_of_a_reset),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
