/*
 * Memory that is kept for reuse goes back after a second of idleness.
 * wrap: fz_clock_ns
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>

#include "base/clock.h"
#include "os/alloc.h"
#include "shared/arena.h"
#include "shared/idle.h"

#define MB ((size_t)1 << 20)

static int64_t now_ns = 5 * FZ_CLOCK_SECOND;

int64_t __wrap_fz_clock_ns(void);

int64_t
__wrap_fz_clock_ns(void)
{
	return now_ns;
}

static int
setup(void **state)
{
	*state = fz_arena_new(NULL);
	return *state != NULL ? 0 : -1;
}

static int
teardown(void **state)
{
	fz_arena_free(*state);
	fz_alloc_trim();
	return 0;
}

static void
use_heap(size_t size)
{
	void *block = fz_alloc_alloc(NULL, NULL, 0, size);

	assert_non_null(block);
	fz_alloc_alloc(NULL, block, size, 0);
}

static void
use_arena(struct fz_arena *arena, size_t size)
{
	uint64_t offset;

	assert_non_null(fz_arena_alloc(arena, size, &offset, NULL));
	fz_arena_give_back(arena, offset);
}

static void
test_idle_without_kept_memory_nothing_is_due(void **state)
{
	struct fz_idle idle = { 0, 0 };

	assert_int_equal(fz_idle_until(&idle, NULL), FZ_CLOCK_NEVER);
	assert_int_equal(fz_idle_until(&idle, *state), FZ_CLOCK_NEVER);
	use_heap(MB);
	use_arena(*state, MB);
	assert_int_equal(fz_idle_until(&idle, *state), FZ_CLOCK_NEVER);
}

static void
test_idle_memory_goes_back_after_a_second(void **state)
{
	struct fz_idle idle = { 0, 0 };
	int64_t until_ns = now_ns + FZ_CLOCK_SECOND;

	use_heap(16 * MB);
	use_arena(*state, 16 * MB);
	assert_int_equal(fz_idle_until(&idle, *state), until_ns);
	now_ns = until_ns - 1;
	fz_idle_trim(&idle, *state);
	assert_true(fz_alloc_kept() >= 16 * MB);
	assert_true(fz_arena_warm(*state) >= 16 * MB);
	assert_int_equal(fz_idle_until(&idle, *state), until_ns);
	now_ns = until_ns;
	fz_idle_trim(&idle, *state);
	assert_int_equal(fz_alloc_kept(), 0);
	assert_int_equal(fz_arena_warm(*state), 0);
	assert_int_equal(fz_idle_until(&idle, *state), FZ_CLOCK_NEVER);
}

static void
test_idle_memory_that_is_used_stays(void **state)
{
	struct fz_idle idle = { 0, 0 };

	use_heap(16 * MB);
	use_arena(*state, 16 * MB);
	for (int i = 0; i < 8; i++) {
		assert_int_equal(
		    fz_idle_until(&idle, *state), now_ns + FZ_CLOCK_SECOND);
		now_ns += FZ_CLOCK_SECOND;
		if (i % 2 == 0)
			use_heap(16 * MB);
		else
			use_arena(*state, 16 * MB);
		fz_idle_trim(&idle, *state);
		assert_true(fz_alloc_kept() >= 16 * MB);
		assert_true(fz_arena_warm(*state) >= 16 * MB);
	}
}

static void
test_idle_memory_in_use_does_not_go(void **state)
{
	struct fz_idle idle = { 0, 0 };
	uint64_t offset;
	char *at = fz_arena_alloc(*state, 16 * MB, &offset, NULL);
	char *block = fz_alloc_alloc(NULL, NULL, 0, 16 * MB);

	assert_non_null(at);
	assert_non_null(block);
	at[MB] = block[MB] = 'x';
	use_heap(16 * MB);
	use_arena(*state, 16 * MB);
	fz_idle_until(&idle, *state);
	now_ns += FZ_CLOCK_SECOND;
	fz_idle_trim(&idle, *state);
	assert_int_equal(fz_alloc_kept(), 0);
	assert_int_equal(at[MB], 'x');
	assert_int_equal(block[MB], 'x');
	fz_alloc_alloc(NULL, block, 16 * MB, 0);
	fz_arena_give_back(*state, offset);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_idle_without_kept_memory_nothing_is_due),
		TEST(test_idle_memory_goes_back_after_a_second),
		TEST(test_idle_memory_that_is_used_stays),
		TEST(test_idle_memory_in_use_does_not_go),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
