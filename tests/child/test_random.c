/* test_random.c - finding and seeding the state of math.random. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <lauxlib.h>
#include <lualib.h>

#include "child/random.h"

enum { NUMBERS = 100 };

static int
setup(void **state)
{
	lua_State *L = luaL_newstate();

	assert_non_null(L);
	luaL_openlibs(L);
	*state = L;
	return 0;
}

static int
teardown(void **state)
{
	lua_close(*state);
	return 0;
}

/* The next numbers of math.random. */
static void
draw(lua_State *L, lua_Integer *numbers)
{
	for (int i = 0; i < NUMBERS; i++) {
		assert_int_equal(
		    luaL_dostring(L, "return math.random(0)"), LUA_OK);
		numbers[i] = lua_tointeger(L, -1);
		lua_pop(L, 1);
	}
}

static void
test_random_a_seed_gives_the_same_numbers(void **state)
{
	lua_Integer first[NUMBERS], again[NUMBERS], other[NUMBERS];
	struct fz_random r;
	lua_State *L = *state;

	fz_random_find(L, &r);
	assert_non_null(r.state);
	assert_int_equal(lua_gettop(L), 0);
	fz_random_seed(&r, 42);
	draw(L, first);
	draw(L, again);
	assert_memory_not_equal(first, again, sizeof(first));
	fz_random_seed(&r, 42);
	draw(L, again);
	assert_memory_equal(first, again, sizeof(first));
	fz_random_seed(&r, 43);
	draw(L, other);
	for (int i = 0; i < NUMBERS; i++)
		assert_int_not_equal(first[i], other[i]);
}

static void
test_random_states_agree(void **state)
{
	lua_Integer first[NUMBERS], second[NUMBERS];
	lua_State *other = luaL_newstate();
	struct fz_random r;

	luaL_openlibs(other);
	fz_random_find(*state, &r);
	fz_random_seed(&r, 7);
	draw(*state, first);
	fz_random_find(other, &r);
	fz_random_seed(&r, 7);
	draw(other, second);
	assert_memory_equal(first, second, sizeof(first));
	lua_close(other);
}

/* Seeds that differ in one bit, and seeds around zero. */
static void
test_random_seeds_that_are_close_give_other_numbers(void **state)
{
	lua_Integer numbers[130][NUMBERS];
	struct fz_random r;

	fz_random_find(*state, &r);
	for (unsigned i = 0; i < 130; i++) {
		fz_random_seed(&r, i < 64    ? UINT64_C(1) << i
				   : i < 128 ? ~(UINT64_C(1) << (i - 64))
					     : UINT64_C(0) - (i - 128));
		draw(*state, numbers[i]);
		for (unsigned j = 0; j < i; j++)
			for (int k = 0; k < NUMBERS; k++)
				assert_int_not_equal(
				    numbers[i][k], numbers[j][k]);
	}
}

static void
test_random_mixed_seeds_differ(void **state)
{
	uint64_t seeds[1000];

	(void)state;
	for (uint64_t i = 0; i < 1000; i++) {
		seeds[i] = fz_seed_mix(i / 100, i % 100);
		for (uint64_t j = 0; j < i; j++)
			assert_true(seeds[i] != seeds[j]);
	}
	/* The first number that SplitMix64 gives for seed 0. */
	assert_true(fz_seed_mix(0, 0) == UINT64_C(0xe220a8397b1dcdaf));
}

static void
test_random_goes_on_where_it_was(void **state)
{
	lua_Integer first[NUMBERS], again[NUMBERS];
	struct fz_random r;

	fz_random_find(*state, &r);
	fz_random_save(&r);
	draw(*state, first);
	fz_random_seed(&r, 1);
	draw(*state, again);
	fz_random_restore(&r);
	draw(*state, again);
	assert_memory_equal(first, again, sizeof(first));
}

/* A second search finds the same state, even after math was removed. */
static void
test_random_state_found_once_is_found_again(void **state)
{
	struct fz_random r, again;
	lua_State *L = *state;

	fz_random_find(L, &r);
	assert_int_equal(luaL_dostring(L, "math.random = nil math = nil\n"
					  "package.loaded.math = nil\n"
					  "collectgarbage()"),
	    LUA_OK);
	fz_random_find(L, &again);
	assert_ptr_equal(again.state, r.state);
	fz_random_seed(&r, 1); /* ASan fails if the state was freed */
}

/* A script may replace math.random, or the whole library. */
static void
test_random_leaves_a_replaced_generator_alone(void **state)
{
	static const char *const others[] = {
		"math.random = function() return 4 end",
		"math.random = nil",
		"math.random = {}",
		"math.random = print",
		/* C functions with an upvalue that is not a random state. */
		"math.random = ('x'):gmatch('x')",
		"math.random = coroutine.wrap(print)",
		"math.random = io.lines('/dev/null')",
		"package.loaded.math = nil",
		"package.loaded.math = 7",
		"package.loaded.math = { random = print }",
	};

	for (size_t i = 0; i < sizeof(others) / sizeof(*others); i++) {
		lua_State *L = luaL_newstate();
		struct fz_random r;

		luaL_openlibs(L);
		assert_int_equal(luaL_dostring(L, others[i]), LUA_OK);
		fz_random_find(L, &r);
		assert_null(r.state);
		assert_int_equal(lua_gettop(L), 0);
		fz_random_seed(&r, 1); /* these three calls have no effect */
		fz_random_save(&r);
		fz_random_restore(&r);
		lua_close(L);
	}
	(void)state;
}

enum { SEEDS = 1000, FEW = 4 };

static uint64_t
draw_one(lua_State *L)
{
	uint64_t n;

	assert_int_equal(luaL_dostring(L, "return math.random(0)"), LUA_OK);
	n = (uint64_t)lua_tointeger(L, -1);
	lua_pop(L, 1);
	return n;
}

static int
compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

/* Each bit of `numbers` is set in about half of them. */
static void
assert_even_bits(const uint64_t *numbers, size_t step)
{
	for (int bit = 0; bit < 64; bit++) {
		int nset = 0;

		for (size_t i = 0; i < SEEDS; i++)
			nset += (numbers[i * step] >> bit & 1) != 0;
		assert_in_range(nset, SEEDS * 2 / 5, SEEDS * 3 / 5);
	}
}

/*
 * The calls of a map have consecutive seeds, and most use only a few numbers.
 */
static void
test_random_first_numbers_of_neighbours_are_unlike(void **state)
{
	static uint64_t numbers[SEEDS * FEW], other[SEEDS];
	lua_State *L = *state;
	struct fz_random r;

	fz_random_find(L, &r);
	for (size_t i = 0; i < SEEDS; i++) {
		fz_random_seed(&r, 12345 + i);
		for (size_t k = 0; k < FEW; k++)
			numbers[FEW * i + k] = draw_one(L);
	}
	for (size_t k = 0; k < FEW; k++) {
		assert_even_bits(numbers + k, FEW);
		for (size_t j = 0; j < FEW; j++) { /* compare two numbers */
			for (size_t i = 0; i < SEEDS; i++)
				other[i] =
				    numbers[FEW * i + k] ^
				    (j != k ? numbers[FEW * i + j]
					    : numbers[(FEW * i + k + FEW) %
						      (SEEDS * FEW)]);
			assert_even_bits(other, 1);
		}
	}
	qsort(numbers, SEEDS * FEW, sizeof(*numbers), compare);
	for (size_t i = 1; i < SEEDS * FEW; i++)
		assert_true(numbers[i] != numbers[i - 1]);
}

/* The numbers depend on the seed only, and not on earlier calls. */
static void
test_random_a_call_does_not_change_the_numbers_of_the_next(void **state)
{
	static const char *const calls[] = { "", "math.random()",
		"for i = 1, 2 do math.random(7) end",
		"for i = 1, 3 do math.random(0) end",
		"for i = 1, 1000 do math.random() end", "math.randomseed(1)",
		"math.randomseed(0x243f6a8885a308d3, 0) math.random()",
		"math.randomseed()" };
	/*
	 * With the last three seeds, a word of the state is 0 or a word of pi.
	 */
	static const uint64_t seeds[] = { 0, 1, 42, UINT64_MAX,
		UINT64_C(0x61c8864680b583eb), UINT64_C(0x3a873e4d800c0486),
		UINT64_C(0xf8573a3f0dca4d2c) };
	lua_Integer first[NUMBERS], again[NUMBERS];
	lua_State *L = *state;
	struct fz_random r;

	fz_random_find(L, &r);
	fz_random_seed(&r, 77);
	draw(L, first);
	for (size_t i = 0; i < sizeof(calls) / sizeof(*calls); i++) {
		for (size_t j = 0; j < sizeof(seeds) / sizeof(*seeds); j++) {
			fz_random_seed(&r, seeds[j]);
			assert_int_equal(luaL_dostring(L, calls[i]), LUA_OK);
			lua_settop(L, 0);
			fz_random_seed(&r, 77);
			draw(L, again);
			assert_memory_equal(first, again, sizeof(first));
		}
	}
}

/* If all words of the state were 0, all numbers would be 0. */
static void
test_random_no_seed_stops_the_generator(void **state)
{
	uint64_t seed = UINT64_C(0x61c8864680b583eb); /* mixed to 0 */
	lua_State *L = *state;
	lua_Integer numbers[NUMBERS];
	struct fz_random r;

	assert_int_equal(fz_seed_mix(seed, 0), 0);
	fz_random_find(L, &r);
	fz_random_seed(&r, seed);
	draw(L, numbers);
	for (int i = 10; i < NUMBERS; i++)
		for (int j = 10; j < i; j++)
			assert_int_not_equal(numbers[i], numbers[j]);
}

/* A seed of the script stays, even if it comes before the first number. */
static void
test_random_keeps_a_seed_that_the_script_sets(void **state)
{
	lua_Integer first[NUMBERS], again[NUMBERS];
	lua_State *other = luaL_newstate(), *L = *state;
	struct fz_random r;

	luaL_openlibs(other);
	fz_random_find(L, &r);
	assert_int_equal(luaL_dostring(other, "math.randomseed(5)"), LUA_OK);
	draw(other, first);
	fz_random_seed(&r, 7);
	assert_int_equal(luaL_dostring(L, "math.randomseed(5)"), LUA_OK);
	draw(L, again);
	assert_memory_equal(first, again, sizeof(first));
	lua_close(other);
}

static void
test_random_an_error_uses_up_a_number(void **state)
{
	lua_Integer first[NUMBERS], again[NUMBERS];
	lua_State *L = *state;
	struct fz_random r;

	fz_random_find(L, &r);
	fz_random_seed(&r, 7);
	draw(L, first);
	fz_random_seed(&r, 7);
	assert_int_not_equal(luaL_dostring(L, "math.random(2, 1)"), LUA_OK);
	lua_settop(L, 0);
	draw(L, again);
	assert_memory_equal(&first[1], again, sizeof(first) - sizeof(*first));
}

static void
test_random_a_seed_is_saved_before_its_first_number(void **state)
{
	lua_Integer first[NUMBERS], again[NUMBERS];
	lua_State *L = *state;
	struct fz_random r;

	fz_random_find(L, &r);
	fz_random_seed(&r, 7);
	draw(L, first);
	for (int drawn = 0; drawn < 2; drawn++) {
		fz_random_seed(&r, 7); /* an unused seed */
		fz_random_save(&r);
		fz_random_seed(&r, 8);
		if (drawn != 0)
			draw(L, again);
		fz_random_restore(&r);
		draw(L, again);
		assert_memory_equal(first, again, sizeof(first));
	}
	draw(L, first);
	fz_random_restore(&r); /* a second restore has the same effect */
	fz_random_save(&r);
	draw(L, again);
	fz_random_restore(&r);
	draw(L, first);
	assert_memory_equal(first, again, sizeof(first));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_random_a_seed_gives_the_same_numbers),
		TEST(test_random_states_agree),
		TEST(test_random_seeds_that_are_close_give_other_numbers),
		TEST(test_random_mixed_seeds_differ),
		TEST(test_random_goes_on_where_it_was),
		TEST(test_random_state_found_once_is_found_again),
		TEST(test_random_leaves_a_replaced_generator_alone),
		TEST(test_random_first_numbers_of_neighbours_are_unlike),
		TEST(
		    test_random_a_call_does_not_change_the_numbers_of_the_next),
		TEST(test_random_no_seed_stops_the_generator),
		TEST(test_random_keeps_a_seed_that_the_script_sets),
		TEST(test_random_an_error_uses_up_a_number),
		TEST(test_random_a_seed_is_saved_before_its_first_number),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
