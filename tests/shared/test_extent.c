/*
 * The book of used, warm and cold parts; malloc and realloc fail on demand.
 * wrap: malloc calloc realloc
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>

#include "no_memory.h"
#include "shared/extent.h"

static struct fz_extents book;

static int
setup(void **state)
{
	(void)state;
	no_memory = false;
	return fz_extent_init(&book, 1000, 1000, 10);
}

static int
teardown(void **state)
{
	(void)state;
	no_memory = false;
	fz_extent_fini(&book);
	return 0;
}

/* Check all invariants of the list that extent.h names. */
static void
assert_sound(void)
{
	uint64_t at = 1000, used = 0, warm = 0;
	size_t i;

	for (i = 0; i < book.n; i++) {
		const struct fz_extent *e = &book.list[i];

		assert_true(e->at == at && e->len > 0 && e->len % 10 == 0);
		if (i > 0 && e->state != FZ_EXTENT_USED)
			assert_true(e->state != book.list[i - 1].state);
		used += e->state == FZ_EXTENT_USED ? e->len : 0;
		warm += e->state == FZ_EXTENT_WARM ? e->len : 0;
		at += e->len;
	}
	assert_true(at == 2000);
	assert_true(used == book.used && warm == book.warm);
}

static uint64_t
take(uint64_t len, bool is_cold)
{
	uint64_t at = 0;
	bool cold;

	assert_int_equal(fz_extent_take(&book, len, &at, &cold), 0);
	assert_int_equal(cold, is_cold);
	assert_sound();
	return at;
}

static void
test_extent_warm_memory_is_used_again(void **state)
{
	uint64_t a = take(95, true), b = take(1, true), c = take(40, true);

	(void)state;
	assert_int_equal(a, 1000);
	assert_int_equal(b, 1100);
	assert_int_equal(c, 1110);
	assert_int_equal(fz_extent_give(&book, a, FZ_EXTENT_WARM), 100);
	assert_int_equal(fz_extent_give(&book, c, FZ_EXTENT_WARM), 40);
	assert_int_equal(take(30, false), c); /* the smallest that suffices */
	assert_int_equal(take(50, false), a);
	assert_int_equal(take(100, true), c + 30); /* warm and cold bytes */
}

static void
test_extent_neighbours_become_one(void **state)
{
	uint64_t at[10];
	int i;

	(void)state;
	for (i = 0; i < 10; i++)
		at[i] = take(100, true);
	assert_int_equal(
	    fz_extent_take(&book, 1, &at[0], &(bool){ false }), -1);
	for (i = 1; i < 10; i += 2)
		assert_int_equal(
		    fz_extent_give(&book, at[i], FZ_EXTENT_WARM), 100);
	assert_sound();
	assert_int_equal(
	    fz_extent_take(&book, 200, &at[0], &(bool){ false }), -1);
	for (i = 0; i < 10; i += 2)
		assert_int_equal(fz_extent_give(&book, 1000 + (uint64_t)i * 100,
				     FZ_EXTENT_WARM),
		    100);
	assert_sound();
	assert_int_equal(book.n, 1);
	assert_int_equal(take(1000, false), 1000);
}

static void
test_extent_grows_and_shrinks_in_place(void **state)
{
	uint64_t a = take(100, true);
	bool cold;

	(void)state;
	assert_int_equal(fz_extent_extend(&book, a, 300, &cold), 0);
	assert_true(cold);
	assert_int_equal(fz_extent_find(&book, a)->len, 300);
	assert_int_equal(fz_extent_shrink(&book, a, 45, FZ_EXTENT_WARM), 0);
	assert_int_equal(book.warm, 250);
	assert_int_equal(fz_extent_extend(&book, a, 300, &cold), 0);
	assert_false(cold);
	assert_int_equal(fz_extent_extend(&book, a, 20, &cold), 0);
	assert_int_equal(fz_extent_find(&book, a)->len, 300);
	assert_int_equal(fz_extent_shrink(&book, a, 100, FZ_EXTENT_COLD), 0);
	assert_int_equal(book.n, 2);
	assert_int_equal(take(10, true), 1100);
	assert_int_equal(fz_extent_extend(&book, a, 110, &cold), -1);
	assert_sound();
}

static void
test_extent_cools_from_the_end(void **state)
{
	uint64_t a = take(100, true), b = take(100, true), at;

	(void)state;
	assert_int_equal(fz_extent_cool(&book, 10, &at), 0);
	fz_extent_give(&book, a, FZ_EXTENT_WARM);
	fz_extent_give(&book, b, FZ_EXTENT_WARM);
	assert_int_equal(fz_extent_cool(&book, 45, &at), 50);
	assert_int_equal(at, 1150);
	assert_sound();
	no_memory = true;
	assert_int_equal(fz_extent_cool(&book, 1000, &at), 150);
	assert_sound();
	assert_int_equal(book.n, 1);
}

static void
test_extent_refuses_wrong_extents(void **state)
{
	uint64_t a = take(100, true), at;
	bool cold;

	(void)state;
	assert_int_equal(fz_extent_take(&book, UINT64_MAX, &at, &cold), -1);
	assert_int_equal(fz_extent_take(&book, 901, &at, &cold), -1);
	assert_null(fz_extent_find(&book, a + 10));
	assert_null(fz_extent_find(&book, a + 100));
	assert_int_equal(fz_extent_give(&book, a + 10, FZ_EXTENT_WARM), 0);
	assert_int_equal(fz_extent_extend(&book, 7, 10, &cold), -1);
	assert_int_equal(fz_extent_shrink(&book, 7, 10, FZ_EXTENT_WARM), -1);
	assert_sound();
}

static void
test_extent_without_memory_nothing_changes(void **state)
{
	struct fz_extents other;
	uint64_t at = 0;
	bool cold;

	(void)state;
	while (book.n < book.room)
		at = take(20, true);
	no_memory = true;
	assert_int_equal(fz_extent_init(&other, 0, 10, 10), -1);
	assert_int_equal(
	    fz_extent_take(&book, 10, &(uint64_t){ 0 }, &cold), -1);
	assert_int_equal(fz_extent_shrink(&book, at, 10, FZ_EXTENT_WARM), -1);
	assert_sound();
	assert_int_equal(fz_extent_give(&book, at, FZ_EXTENT_WARM), 20);
	assert_sound();
}

static void
test_extent_stays_sound_after_random_calls(void **state)
{
	uint64_t held[100], at;
	size_t n = 0;
	bool cold;
	int i;

	(void)state;
	srand(7);
	for (i = 0; i < 20000; i++) {
		uint64_t len = 1 + (uint64_t)rand() % 150;
		size_t k = n == 0 ? 0 : (size_t)rand() % n;

		switch (rand() % 5) {
		case 0:
		case 1:
			if (n < 100 &&
			    fz_extent_take(&book, len, &at, &cold) == 0)
				held[n++] = at;
			break;
		case 2:
			if (n > 0) {
				fz_extent_give(&book, held[k],
				    rand() % 4 == 0 ? FZ_EXTENT_COLD
						    : FZ_EXTENT_WARM);
				held[k] = held[--n];
			}
			break;
		case 3:
			if (n > 0 && rand() % 2 == 0)
				fz_extent_extend(&book, held[k], len, &cold);
			else if (n > 0)
				fz_extent_shrink(
				    &book, held[k], len, FZ_EXTENT_WARM);
			break;
		default:
			fz_extent_cool(&book, len, &at);
		}
		assert_sound();
	}
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_extent_warm_memory_is_used_again),
		TEST(test_extent_neighbours_become_one),
		TEST(test_extent_grows_and_shrinks_in_place),
		TEST(test_extent_cools_from_the_end),
		TEST(test_extent_refuses_wrong_extents),
		TEST(test_extent_without_memory_nothing_changes),
		TEST(test_extent_stays_sound_after_random_calls),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
