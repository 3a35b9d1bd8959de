/* test_random.c - the state of math.random, where it can be found. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include <lauxlib.h>
#include <lualib.h>

#include "bind/random.h"

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

/* What math.random gives next. */
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

/* Even of seeds that differ in one bit, or are zero. */
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
		seeds[i] = fz_random_mix(i / 100, i % 100);
		for (uint64_t j = 0; j < i; j++)
			assert_true(seeds[i] != seeds[j]);
	}
	/* The first number that SplitMix64 gives for seed 0. */
	assert_true(fz_random_mix(0, 0) == UINT64_C(0xe220a8397b1dcdaf));
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

/* Found once, it is found again, also where math.random was replaced. */
static void
test_random_of_old_is_kept(void **state)
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
	fz_random_seed(&r, 1); /* it is still there: ASan would know */
}

/* In place of math.random, or of the whole library. */
static void
test_random_of_others_is_left_alone(void **state)
{
	static const char *const others[] = {
		"math.random = function() return 4 end",
		"math.random = nil",
		"math.random = {}",
		"math.random = print",
		/* C functions that have an upvalue, but not that one. */
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
		fz_random_seed(&r, 1); /* these do nothing */
		fz_random_save(&r);
		fz_random_restore(&r);
		lua_close(L);
	}
	(void)state;
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
		    test_random_a_seed_gives_the_same_numbers, setup, teardown),
		cmocka_unit_test_setup_teardown(
		    test_random_states_agree, setup, teardown),
		cmocka_unit_test_setup_teardown(
		    test_random_seeds_that_are_close_give_other_numbers, setup,
		    teardown),
		cmocka_unit_test_setup_teardown(
		    test_random_mixed_seeds_differ, setup, teardown),
		cmocka_unit_test_setup_teardown(
		    test_random_goes_on_where_it_was, setup, teardown),
		cmocka_unit_test_setup_teardown(
		    test_random_of_old_is_kept, setup, teardown),
		cmocka_unit_test_setup_teardown(
		    test_random_of_others_is_left_alone, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
