#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <limits.h>
#include <math.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"

static void
test_clock_never_goes_back(void **state)
{
	int64_t before = fz_clock_ns(), now;
	int i;

	(void)state;
	for (i = 0; i < 1000; i++, before = now) {
		now = fz_clock_ns();
		assert_true(now >= before);
	}
}

static void
on_fault(int sig)
{
	(void)sig;
	_exit(0);
}

/* Whether the shared clock is read-only in a child of this process. */
static bool
child_only_reads(void)
{
	pid_t child = fork();
	int status;

	if (child == 0) {
		signal(SIGSEGV, on_fault);
		fz_clock_in_child();
		fz_clock_skip(1);
		_exit(1);
	}
	return waitpid(child, &status, 0) == child && status == 0;
}

/* Runs in a process of its own. Returns how many checks have failed. */
static int
skip_in_parent_and_child(void)
{
	int64_t before = fz_clock_ns(), hour = 3600 * FZ_CLOCK_SECOND;
	int failures = 0, status;
	pid_t child;

	fz_clock_skip(hour); /* no effect before fz_clock_share() */
	failures += fz_clock_ns() < before;
	fz_clock_share();
	child = fork();
	if (child == 0) {
		fz_clock_in_child();
		while (fz_clock_ns() > before - hour / 2)
			sched_yield();
		_exit(0);
	}
	fz_clock_skip(hour);
	failures += fz_clock_ns() > before - hour / 2;
	if (waitpid(child, &status, 0) != child || status != 0)
		failures++;
	failures += !child_only_reads();
	return failures;
}

static void
test_clock_skips_time_in_all_processes_that_share_it(void **state)
{
	pid_t pid = fork();
	int status;

	(void)state;
	if (pid == 0)
		_exit(skip_in_parent_and_child());
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static void
test_clock_seconds_become_nanoseconds(void **state)
{
	(void)state;
	assert_int_equal(fz_clock_from_seconds(1.5), 1500000000);
	assert_int_equal(fz_clock_from_seconds(0), 0);
	assert_int_equal(fz_clock_from_seconds(-1), 0);
	assert_int_equal(fz_clock_from_seconds((double)NAN), 0);
	assert_true(fz_clock_from_seconds((double)INFINITY) == FZ_CLOCK_NEVER);
	assert_true(fz_clock_from_seconds(1e10) == FZ_CLOCK_NEVER);
	assert_true(fz_clock_from_seconds(9e9) < FZ_CLOCK_NEVER);
}

static void
test_clock_after_does_not_overflow(void **state)
{
	int64_t now = fz_clock_ns();

	(void)state;
	assert_true(fz_clock_after(now, 5) == now + 5);
	assert_true(fz_clock_after(now, FZ_CLOCK_NEVER) == FZ_CLOCK_NEVER);
	assert_true(
	    fz_clock_after(now, FZ_CLOCK_NEVER - now) == FZ_CLOCK_NEVER);
	assert_true(fz_clock_after(now, FZ_CLOCK_NEVER - now - 1) ==
		    FZ_CLOCK_NEVER - 1);
	assert_true(fz_clock_after(-5, 3) == -2);
	assert_true(
	    fz_clock_after(INT64_MIN, FZ_CLOCK_NEVER) == FZ_CLOCK_NEVER);
}

static void
test_clock_poll_rounds_up(void **state)
{
	(void)state;
	assert_int_equal(fz_clock_poll_ms(100, FZ_CLOCK_NEVER), -1);
	assert_int_equal(fz_clock_poll_ms(100, 100), 0);
	assert_int_equal(fz_clock_poll_ms(100, 50), 0);
	assert_int_equal(fz_clock_poll_ms(100, 101), 1);
	assert_int_equal(fz_clock_poll_ms(0, FZ_CLOCK_MS), 1);
	assert_int_equal(fz_clock_poll_ms(0, FZ_CLOCK_MS + 1), 2);
	assert_int_equal(fz_clock_poll_ms(0, FZ_CLOCK_NEVER - 1), INT_MAX);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_clock_never_goes_back),
		cmocka_unit_test(
		    test_clock_skips_time_in_all_processes_that_share_it),
		cmocka_unit_test(test_clock_seconds_become_nanoseconds),
		cmocka_unit_test(test_clock_after_does_not_overflow),
		cmocka_unit_test(test_clock_poll_rounds_up),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
