/*
 * Eventcounts and locks in shared memory: no wake-up is missed or lost with the
 * process that got it, and no dead process holds a lock.
 *
 * wrap: syscall write
 */
/* kill and others are not in C11. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "shared/eventcount.h"
#include "shared/lock.h"
#include "this_member.h"

static struct shared {
	struct fz_object head;
	struct fz_eventcount waiters;
	struct fz_lock lock;
	_Atomic int tokens;
	_Atomic int ntaken;
	_Atomic int inside;
	_Atomic int bad;
	_Atomic uint32_t member;
} * shared;

static struct {
	unsigned nfutexes;
	unsigned ntimeouts; /* number of futex waits that have timed out */
	unsigned nwrites;
	int write_error; /* errno of the next write; 0: it succeeds */
} calls;

long __real_syscall(long number, ...);
long __wrap_syscall(long number, ...);
ssize_t __real_write(int fd, const void *bytes, size_t n);
ssize_t __wrap_write(int fd, const void *bytes, size_t n);

long
__wrap_syscall(long number, ...)
{
	long arg[6], rc;
	va_list ap;

	va_start(ap, number);
	for (int i = 0; i < 6; i++)
		arg[i] = va_arg(ap, long);
	va_end(ap);
	rc = __real_syscall(
	    number, arg[0], arg[1], arg[2], arg[3], arg[4], arg[5]);
	if (number == SYS_futex) {
		calls.nfutexes++;
		calls.ntimeouts += rc == -1 && errno == ETIMEDOUT;
	}
	return rc;
}

ssize_t
__wrap_write(int fd, const void *bytes, size_t n)
{
	int code = calls.write_error;

	calls.nwrites++;
	calls.write_error = 0;
	if (code == 0)
		return __real_write(fd, bytes, n);
	errno = code;
	return -1;
}

static pid_t
start(void (*f)(void))
{
	pid_t pid = fork();

	assert_int_not_equal(pid, -1);
	if (pid != 0)
		return pid;
	f();
	_exit(0);
}

static void
finish(pid_t pid)
{
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static void
nap(long us)
{
	struct timespec ts = { us / 1000000, us % 1000000 * 1000 };

	nanosleep(&ts, NULL);
}

static void
await(_Atomic int *what, int value)
{
	int64_t until = fz_clock_ns() + 60 * FZ_CLOCK_SECOND;

	while (atomic_load(what) != value && fz_clock_ns() < until)
		nap(200);
	assert_int_equal(atomic_load(what), value);
}

static int
setup(void **state)
{
	(void)state;
	fz_heap_acquire(&this_member);
	shared = fz_heap_new(&this_member, 1, sizeof(*shared), NULL);
	return shared == NULL ? -1 : 0;
}

static int
teardown(void **state)
{
	(void)state;
	fz_heap_free(&this_member, &shared->head);
	fz_heap_release(&this_member);
	return 0;
}

static void
test_eventcount_notify_without_a_waiter_makes_no_call(void **state)
{
	(void)state;
	calls.nfutexes = calls.nwrites = 0;
	fz_eventcount_notify(&shared->waiters, 1);
	fz_eventcount_notify(&shared->waiters, FZ_EVENTCOUNT_ALL);
	assert_int_equal(calls.nfutexes, 0);
	fz_eventcount_prepare(&shared->waiters, FZ_EVENTCOUNT_SLEEP);
	fz_eventcount_notify(&shared->waiters, 1);
	fz_eventcount_notify(&shared->waiters, 1); /* no waiter is left */
	assert_int_equal(calls.nfutexes, 1);
	fz_eventcount_rearm(&shared->waiters);
	fz_eventcount_notify(&shared->waiters, FZ_EVENTCOUNT_ALL);
	assert_int_equal(calls.nfutexes, 2);
	assert_int_equal(calls.nwrites, 0);
}

static void
test_eventcount_a_change_before_the_sleep_is_not_missed(void **state)
{
	(void)state;
	calls.nfutexes = calls.ntimeouts = 0;
	for (int i = 0; i < 100; i++) {
		uint32_t seq = fz_eventcount_prepare(
		    &shared->waiters, FZ_EVENTCOUNT_SLEEP);

		fz_eventcount_notify(&shared->waiters, 1);
		fz_eventcount_commit(&shared->waiters, seq, FZ_CLOCK_NEVER);
	}
	assert_true(calls.nfutexes >= 100);
	assert_int_equal(calls.ntimeouts, 0);
}

static void
test_eventcount_a_sleep_ends_in_time(void **state)
{
	int64_t begin = fz_clock_ns(), end;
	uint32_t seq =
	    fz_eventcount_prepare(&shared->waiters, FZ_EVENTCOUNT_SLEEP);

	(void)state;
	calls.nfutexes = 0;
	fz_eventcount_commit(&shared->waiters, seq, begin); /* a past time */
	assert_int_equal(calls.nfutexes, 0);
	end = fz_clock_ns();
	fz_eventcount_commit(&shared->waiters, seq, end + 10 * FZ_CLOCK_MS);
	assert_true(fz_clock_ns() - end >= 10 * FZ_CLOCK_MS);
	begin = fz_clock_ns();
	/* This call returns, because the caller must check again. */
	fz_eventcount_commit(&shared->waiters, seq, FZ_CLOCK_NEVER);
	end = fz_clock_ns();
	assert_true(end - begin >= FZ_EVENTCOUNT_CHECK_NS);
	assert_true(end - begin < 20 * FZ_CLOCK_SECOND);
}

static bool
take_token(void)
{
	int n = atomic_load(&shared->tokens);

	while (n > 0)
		if (atomic_compare_exchange_weak(&shared->tokens, &n, n - 1))
			return true;
	return false;
}

static void
put_token(void)
{
	atomic_fetch_add(&shared->tokens, 1);
	fz_eventcount_notify(&shared->waiters, 1);
}

/* Waits for tokens as lwait.c does. */
static void
taker(void)
{
	for (;;) {
		bool slept = false;

		for (;;) {
			uint32_t seq = fz_eventcount_prepare(
			    &shared->waiters, FZ_EVENTCOUNT_SLEEP);

			if (take_token())
				break;
			fz_eventcount_commit(
			    &shared->waiters, seq, FZ_CLOCK_NEVER);
			slept = true;
		}
		if (slept) {
			fz_eventcount_rearm(&shared->waiters);
			if (atomic_load(&shared->tokens) > 0)
				fz_eventcount_notify(&shared->waiters, 1);
		}
		atomic_fetch_add(&shared->ntaken, 1);
	}
}

static void
test_eventcount_each_change_wakes_one(void **state)
{
	pid_t pids[3];
	int n = 0;

	(void)state;
	for (int i = 0; i < 3; i++)
		pids[i] = start(taker);
	for (int round = 0; round < 300; round++) {
		for (int i = 0; i <= round % 4; i++, n++)
			put_token();
		if (round % 16 == 0)
			await(&shared->ntaken, n);
	}
	await(&shared->ntaken, n);
	for (int i = 0; i < 3; i++)
		finish(pids[i]);
}

/* A waiter may be killed after it was woken and before it takes a token. */
static void
test_eventcount_a_wake_up_survives_a_dead_waiter(void **state)
{
	pid_t pids[3];

	(void)state;
	srand(1);
	for (int i = 0; i < 3; i++)
		pids[i] = start(taker);
	for (int i = 0; i < 120; i++) {
		put_token();
		put_token();
		nap(rand() % 300);
		finish(pids[i % 3]);
		pids[i % 3] = start(taker);
		if (i % 4 == 0)
			await(&shared->tokens, 0);
	}
	await(&shared->tokens, 0);
	for (int i = 0; i < 3; i++)
		finish(pids[i]);
}

static bool
is_ready(int ep)
{
	struct epoll_event event;

	return epoll_wait(ep, &event, 1, 0) == 1;
}

static void
test_eventcount_a_wake_up_reaches_every_loop(void **state)
{
	struct epoll_event event = { .events = EPOLLIN | EPOLLET };
	int eps[2];

	(void)state;
	for (int i = 0; i < 2; i++) {
		eps[i] = epoll_create1(EPOLL_CLOEXEC);
		assert_int_equal(
		    epoll_ctl(eps[i], EPOLL_CTL_ADD, fz_heap_wake_fd(), &event),
		    0);
		is_ready(eps[i]);
	}
	for (int round = 0; round < 3; round++) {
		fz_eventcount_prepare(&shared->waiters, FZ_EVENTCOUNT_LOOP);
		calls.write_error = round == 1 ? EINTR : 0;
		fz_eventcount_notify(&shared->waiters, 1);
		for (int i = 0; i < 2; i++) {
			assert_true(is_ready(eps[i]));
			assert_false(is_ready(eps[i]));
		}
	}
	fz_eventcount_prepare(&shared->waiters, FZ_EVENTCOUNT_SLEEP);
	fz_eventcount_notify(&shared->waiters, 1);
	for (int i = 0; i < 2; i++) {
		assert_false(is_ready(eps[i]));
		close(eps[i]);
	}
}

static void
test_lock_has_one_holder(void **state)
{
	uint32_t self = join();

	(void)state;
	assert_true(fz_lock_try(&shared->lock, self));
	assert_true(fz_lock_is_mine(&shared->lock, self));
	assert_false(fz_lock_try(&shared->lock, self + 1));
	assert_int_equal(fz_lock_recover(&shared->lock, self), FZ_LOCK_BUSY);
	fz_lock_release(&shared->lock);
	assert_false(fz_lock_is_mine(&shared->lock, self));
	assert_int_equal(
	    fz_lock_recover(&shared->lock, self), FZ_LOCK_ACQUIRED);
	fz_lock_release(&shared->lock);
}

static void
holder(void)
{
	uint32_t self = join();

	if (!fz_lock_try(&shared->lock, self))
		shared->bad = 1;
	shared->member = self;
	shared->inside = 1;
	pause();
}

static void
test_lock_of_a_dead_holder_is_abandoned(void **state)
{
	uint32_t self = join();
	pid_t pid = start(holder);

	(void)state;
	await(&shared->inside, 1);
	assert_int_equal(fz_lock_recover(&shared->lock, self), FZ_LOCK_BUSY);
	finish(pid);
	assert_false(fz_lock_try(&shared->lock, self));
	assert_int_equal(
	    fz_lock_recover(&shared->lock, self), FZ_LOCK_ABANDONED);
	assert_true(fz_lock_is_mine(&shared->lock, self));
	assert_int_equal(fz_lock_recover(&shared->lock, self), FZ_LOCK_BUSY);
	fz_lock_release(&shared->lock);
	assert_int_equal(shared->bad, 0);
}

/* Acquire the lock again and again, even after its holder has died. */
static void
user(void)
{
	uint32_t self = join();

	for (int i = 0;; i++) {
		if (!fz_lock_try(&shared->lock, self) &&
		    (i % 8 != 0 ||
			fz_lock_recover(&shared->lock, self) == FZ_LOCK_BUSY)) {
			nap(50);
			continue;
		}
		/* Check that no other process has the lock. */
		atomic_store(&shared->member, self);
		for (volatile int k = 0; k < 1000; k++)
			continue;
		if (atomic_load(&shared->member) != self)
			shared->bad = 1;
		atomic_fetch_add(&shared->ntaken, 1);
		fz_lock_release(&shared->lock);
	}
}

static void
test_lock_has_one_holder_while_holders_are_killed(void **state)
{
	pid_t pids[3];

	(void)state;
	srand(2);
	for (int i = 0; i < 3; i++)
		pids[i] = start(user);
	for (int i = 0; i < 200; i++) {
		int before = atomic_load(&shared->ntaken);

		nap(rand() % 3000);
		finish(pids[i % 3]);
		pids[i % 3] = start(user);
		if (i % 10 == 0) {
			int64_t until = fz_clock_ns() + 60 * FZ_CLOCK_SECOND;

			while (atomic_load(&shared->ntaken) == before &&
			       fz_clock_ns() < until)
				nap(200);
			assert_int_not_equal(
			    atomic_load(&shared->ntaken), before);
		}
	}
	for (int i = 0; i < 3; i++)
		finish(pids[i]);
	assert_int_equal(shared->bad, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_eventcount_notify_without_a_waiter_makes_no_call),
		TEST(test_eventcount_a_change_before_the_sleep_is_not_missed),
		TEST(test_eventcount_a_sleep_ends_in_time),
		TEST(test_eventcount_each_change_wakes_one),
		TEST(test_eventcount_a_wake_up_survives_a_dead_waiter),
		TEST(test_eventcount_a_wake_up_reaches_every_loop),
		TEST(test_lock_has_one_holder),
		TEST(test_lock_of_a_dead_holder_is_abandoned),
		TEST(test_lock_has_one_holder_while_holders_are_killed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
