/* Raw values in the array part of a table: their places and their contents. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>

#include "rawarray_test.h"
#include "value/rawarray.h"

/*
 * Values that were copied into the array are values of the table, and values
 * that Lua stores are in the array.
 */
static void
assert_is_array(lua_State *L, int table, int n)
{
	const void *at = lua_topointer(L, table);
	struct fz_raw_value stored;

	for (int i = 1; i <= n; i += n < 8 ? 1 : n / 7) {
		uint64_t element = (uint64_t)i;

		lua_pushinteger(L, 1000 + i);
		assert_true(fz_rawarray_store(raw, L, -1, &stored));
		lua_rawseti(L, table, i);
		assert_memory_equal(
		    fz_rawarray_find(raw, at, element)->value, stored.value, 8);
		lua_pushnumber(L, i + 0.5);
		assert_true(fz_rawarray_store(raw, L, -1, &stored));
		lua_pop(L, 1);
		assert_int_equal(
		    rawarray_copy_one(L, table, element, &stored), 1);
		assert_int_equal(lua_rawgeti(L, table, i), LUA_TNUMBER);
		assert_true(lua_tonumber(L, -1) == i + 0.5);
		lua_pop(L, 1);
	}
}

static void
test_rawarray_finds_the_array_of_tables_of_any_size(void **state)
{
	lua_State *L = *state;

	for (int n = 0; n < 3000; n += n < 70 ? 1 : 97) {
		for (int nrec = 0; nrec < 8; nrec++) {
			lua_createtable(L, n, nrec);
			assert_is_array(L, 1, n);
			lua_pop(L, 1);
		}
	}
}

/* Equal values of one kind: -0.0 differs from 0, and two NaN are equal. */
static void
assert_same(lua_State *L, int a, int b)
{
	assert_int_equal(lua_type(L, a), lua_type(L, b));
	assert_int_equal(lua_isinteger(L, a), lua_isinteger(L, b));
	if (lua_isinteger(L, a)) {
		assert_true(lua_tointeger(L, a) == lua_tointeger(L, b));
	} else if (lua_type(L, a) == LUA_TNUMBER) {
		lua_Number x = lua_tonumber(L, a), y = lua_tonumber(L, b);

		assert_memory_equal(&x, &y, sizeof(x));
	} else {
		assert_true(lua_rawequal(L, a, b));
	}
}

static void
test_rawarray_plain_values_come_back_as_they_were(void **state)
{
	static const lua_Integer integers[] = { 0, 1, -1, 255, 1 << 30,
		LUA_MININTEGER, LUA_MAXINTEGER };
	lua_Number numbers[] = { 0.0, -0.0, 0.1, -1e308, 5e-324, 1.0, HUGE_VAL,
		-HUGE_VAL, (lua_Number)NAN, -(lua_Number)NAN };
	lua_State *L = *state;
	struct fz_raw_value stored;
	int n;

	lua_pushnil(L);
	lua_pushboolean(L, 0);
	lua_pushboolean(L, 1);
	for (size_t i = 0; i < sizeof(integers) / sizeof(*integers); i++)
		lua_pushinteger(L, integers[i]);
	for (size_t i = 0; i < sizeof(numbers) / sizeof(*numbers); i++)
		lua_pushnumber(L, numbers[i]);
	n = lua_gettop(L);
	assert_true(lua_checkstack(L, 10));
	lua_createtable(L, n, 0);
	for (int i = 1; i <= n; i++) {
		memset(&stored, 0xff, sizeof(stored)); /* like reused memory */
		assert_true(fz_rawarray_store(raw, L, i, &stored));
		assert_true(fz_rawarray_is_plain(raw, &stored));
		fz_rawarray_push(raw, L, &stored);
		assert_same(L, i, -1);
		assert_int_equal(
		    rawarray_copy_one(L, n + 1, (uint64_t)i, &stored), 1);
		lua_rawgeti(L, n + 1, i);
		assert_same(L, i, -1);
		lua_pop(L, 2);
	}
}

static void
test_rawarray_other_values_are_refused(void **state)
{
	lua_State *L = *state;
	struct fz_raw_value stored, before;

	lua_pushliteral(L, "");
	lua_pushliteral(L, "12"); /* a string, not a number */
	lua_newtable(L);
	lua_pushcfunction(L, luaopen_base);
	lua_pushlightuserdata(L, &stored);
	lua_newuserdatauv(L, 1, 0);
	lua_newthread(L);
	memset(&stored, 0x5a, sizeof(stored));
	before = stored;
	for (int i = 1; i <= lua_gettop(L); i++) {
		assert_false(fz_rawarray_store(raw, L, i, &stored));
		assert_memory_equal(&stored, &before, sizeof(stored));
	}
}

/* Run a chunk that returns a table, which stays on the stack. */
static const void *
table_of(lua_State *L, const char *chunk)
{
	assert_int_equal(luaL_dostring(L, chunk), LUA_OK);
	return lua_topointer(L, -1);
}

static void
test_rawarray_find_finds_what_is_in_the_array_part(void **state)
{
	lua_State *L = *state;
	const void *table = table_of(L, "return { 7, 0.5, 'x', { 1, 2 } }");
	const struct fz_raw_value *array;

	for (unsigned i = 1; i <= 2; i++) {
		assert_true(fz_rawarray_is_number(
		    raw, fz_rawarray_find(raw, table, i)));
		fz_rawarray_push_number(
		    raw, L, fz_rawarray_find(raw, table, i));
		lua_rawgeti(L, -2, i);
		assert_true(lua_compare(L, -1, -2, LUA_OPEQ));
		lua_pop(L, 2);
	}
	assert_false(
	    fz_rawarray_is_number(raw, fz_rawarray_find(raw, table, 3)));
	assert_int_equal(
	    fz_rawarray_tuple(raw, fz_rawarray_find(raw, table, 3), &array), 0);
	assert_int_equal(
	    fz_rawarray_tuple(raw, fz_rawarray_find(raw, table, 4), &array), 2);
	assert_null(fz_rawarray_find(raw, table, 0));
	assert_null(fz_rawarray_find(raw, table, 5));
	assert_null(fz_rawarray_find(raw, table, UINT64_MAX));
	table = table_of(L, "return { x = 1 }");
	assert_null(fz_rawarray_find(raw, table, 1));
}

/* How many numbers are found in the table that an expression makes. */
static unsigned
nseen(lua_State *L, const char *expression)
{
	const struct fz_raw_value *array;
	const void *outer;
	char chunk[200];

	snprintf(chunk, sizeof(chunk), "return { %s }", expression);
	outer = table_of(L, chunk);
	return fz_rawarray_tuple(raw, fz_rawarray_find(raw, outer, 1), &array);
}

static void
test_rawarray_tuple_sees_a_few_numbers_and_nothing_else(void **state)
{
	lua_State *L = *state;

	assert_int_equal(nseen(L, "{ 1 }"), 1);
	assert_int_equal(nseen(L, "{ 1, 2.5 }"), 2);
	assert_int_equal(nseen(L, "{ 1, 2, 3, 4 }"), 4);
	assert_int_equal(nseen(L, "{}"), 0);
	/* Each table may have 4 elements, one of which is nil. */
	assert_int_equal(nseen(L, "{ 1, 2, 3 }"), 0);
	assert_int_equal(nseen(L, "{ 1, 2, n = 1 }"), 0);
	assert_int_equal(nseen(L, "{ 1, nil }"), 0);
	assert_int_equal(nseen(L, "{ nil, 2 }"), 0);
	assert_int_equal(nseen(L, "{ 1, 'x' }"), 0);
	assert_int_equal(nseen(L, "{ [1] = 1, [2] = 2 }"), 0);
	assert_int_equal(nseen(L, "table.pack(1, 2)"), 0);
	assert_int_equal(nseen(L, "5"), 0);
	assert_int_equal(nseen(L, "print"), 0);
	lua_settop(L, 0);
}

#define TEST(name) \
	cmocka_unit_test_setup_teardown(name, rawarray_setup, rawarray_teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_rawarray_finds_the_array_of_tables_of_any_size),
		TEST(test_rawarray_plain_values_come_back_as_they_were),
		TEST(test_rawarray_other_values_are_refused),
		TEST(test_rawarray_find_finds_what_is_in_the_array_part),
		TEST(test_rawarray_tuple_sees_a_few_numbers_and_nothing_else),
	};

	return rawarray_run(tests, sizeof(tests) / sizeof(*tests));
}
