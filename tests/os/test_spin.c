/*
 * Looking again before a sleep: how long, how often, and when not.
 *
 * wrap: sched_yield
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdbool.h>

#include "base/clock.h"
#include "os/cpus.h"
#include "os/spin.h"

static int nyields;

int __wrap_sched_yield(void);

int
__wrap_sched_yield(void)
{
	nyields++;
	return 0;
}

/* Spin until the time is over. Returns false if there was no time to spin. */
static bool
lose(struct fz_spin *spin)
{
	bool began = false;

	while (fz_spin_again(spin))
		began = true;
	return began;
}

static void
test_spin_ends_and_is_rarer_if_it_does_not_pay(void **state)
{
	struct fz_spin spin = { 0 };
	int moments = 0;

	(void)state;
	if (fz_cpus_count() == 1)
		skip();
	assert_true(lose(&spin));
	for (int i = 0; i < 300; i++)
		moments += lose(&spin);
	assert_true(moments > 10 && moments < 30);
}

static void
test_spin_that_pays_is_done_again(void **state)
{
	struct fz_spin spin = { 0 };

	(void)state;
	if (fz_cpus_count() == 1)
		skip();
	for (int i = 0; i < 100; i++)
		lose(&spin);
	fz_spin_paid(&spin);
	for (int i = 0; i < 100; i++) {
		assert_true(fz_spin_again(&spin));
		fz_spin_paid(&spin);
	}
}

static void
test_spin_does_not_take_the_last_processor(void **state)
{
	struct fz_spin spin = { .nbusy = (unsigned)fz_cpus_count() };

	(void)state;
	assert_false(fz_spin_again(&spin));
	fz_spin_paid(&spin);
	assert_false(fz_spin_again(&spin));
	spin.nbusy--;
	assert_true(fz_spin_again(&spin) == (fz_cpus_count() > 1));
}

static void
test_spin_that_holds_does_not_yield_and_is_longer(void **state)
{
	struct fz_spin spin = { 0 };
	int64_t until_ns = fz_clock_ns() + 5 * FZ_CLOCK_MS;

	(void)state;
	if (fz_cpus_count() == 1)
		skip();
	assert_true(fz_spin_again(&spin));
	nyields = 0;
	fz_spin_hold(&spin, until_ns);
	while (fz_spin_again(&spin))
		assert_true(nyields == 0 || fz_clock_ns() >= until_ns);
	assert_true(fz_clock_ns() >= until_ns);
	fz_spin_paid(&spin);
	nyields = 0;
	assert_true(fz_spin_again(&spin));
	assert_int_equal(nyields, 1);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
		    test_spin_ends_and_is_rarer_if_it_does_not_pay),
		cmocka_unit_test(test_spin_that_pays_is_done_again),
		cmocka_unit_test(test_spin_does_not_take_the_last_processor),
		cmocka_unit_test(
		    test_spin_that_holds_does_not_yield_and_is_longer),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
