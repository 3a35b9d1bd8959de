#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <limits.h>
#include <math.h>

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
		cmocka_unit_test(test_clock_seconds_become_nanoseconds),
		cmocka_unit_test(test_clock_after_does_not_overflow),
		cmocka_unit_test(test_clock_poll_rounds_up),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
