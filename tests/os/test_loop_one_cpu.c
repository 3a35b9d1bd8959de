/* A loop whose process has one processor. */
/* sched_setaffinity and pipe2 are Linux. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <sched.h>
#include <stdbool.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "os/cpus.h"
#include "os/loop.h"

static unsigned nready, nchecks;

static void
ready(struct fz_watch *watch, unsigned events)
{
	char byte;

	assert_int_equal(events, FZ_LOOP_READ);
	assert_int_equal(read(watch->fd, &byte, 1), 1);
	nready++;
}

static bool
may_sleep(void *ctx)
{
	(void)ctx;
	nchecks++;
	return true;
}

static void
turn(struct fz_loop *loop, int64_t ns, int expected)
{
	struct fz_err err = { 0 };

	nchecks = nready = 0;
	assert_int_equal(
	    fz_loop_turn(loop, fz_clock_after(fz_clock_ns(), ns), &err),
	    expected);
}

/*
 * A poll comes before the preparation for a sleep, because a busy process may
 * have caused an event by then.
 */
static void
test_loop_on_one_processor_polls_before_it_sleeps(void **state)
{
	struct fz_watch watch = { .fd = -1, .ready = ready };
	struct fz_loop *loop = fz_loop_new(NULL);
	int ends[2];

	(void)state;
	if (fz_cpus_count() != 1)
		skip();
	assert_non_null(loop);
	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	assert_int_equal(
	    fz_loop_watch(loop, &watch, ends[0], FZ_LOOP_READ, NULL), 0);
	fz_loop_may_sleep(loop, may_sleep, NULL);
	fz_loop_busy(loop, true);
	assert_int_equal(write(ends[1], "x", 1), 1);
	turn(loop, FZ_CLOCK_SECOND, 1);
	assert_int_equal(nready, 1);
	assert_int_equal(nchecks, 0);
	turn(loop, 50 * FZ_CLOCK_MS, 0); /* starts before its end */
	assert_int_equal(nchecks, 1);
	fz_loop_busy(loop, false);
	assert_int_equal(write(ends[1], "x", 1), 1);
	turn(loop, FZ_CLOCK_SECOND, 1);
	assert_int_equal(nready, 1);
	assert_int_equal(nchecks, 1);
	fz_loop_unwatch(loop, &watch);
	fz_loop_free(loop);
	close(ends[0]);
	close(ends[1]);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
		    test_loop_on_one_processor_polls_before_it_sleeps),
	};
	cpu_set_t one;

	CPU_ZERO(&one);
	CPU_SET((unsigned)sched_getcpu(), &one);
	sched_setaffinity(0, sizeof(one), &one);
	return cmocka_run_group_tests_name("loop_one_cpu", tests, NULL, NULL);
}
