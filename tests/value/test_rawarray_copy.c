/* Copies of raw values into the array part of a table. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <lauxlib.h>
#include <lua.h>

#include "rawarray_test.h"
#include "value/rawarray.h"

static void
test_rawarray_copy_ends_with_the_array(void **state)
{
	enum { N = 9 };
	lua_State *L = *state;
	struct fz_raw_value values[N + 1];

	memset(values, 0, sizeof(values));
	for (int i = 0; i <= N; i++)
		values[i].tag = raw->yes;
	lua_createtable(L, N, 0);
	for (uint64_t first = 1; first <= N + 1; first++)
		assert_int_equal(fz_rawarray_copy(raw, lua_topointer(L, 1),
				     first, values, N + 1),
		    N + 1 - first);
	assert_int_equal(rawarray_copy_one(L, 1, 0, values), 0);
	assert_int_equal(rawarray_copy_one(L, 1, UINT64_MAX, values), 0);
	lua_createtable(L, 0, 4);
	assert_int_equal(rawarray_copy_one(L, 2, 1, values), 0);
	lua_settop(L, 0);
}

/* Between two copies Lua moves, grows, or shrinks the array part. */
static void
test_rawarray_copy_finds_an_array_that_has_moved(void **state)
{
	enum { N = 1000 };
	static const char *const changes[] = {
		"list[1001] = 1 list[1002] = 2",
		"for i = 1, 3000 do list[i] = list[i] or i end",
		"for i = 2, 1000 do list[i] = nil end list.x = 1 list[-1] = 1",
		"for i = 600, 1000 do list[i] = nil end local _ = #list",
	};
	lua_State *L = *state;
	struct fz_raw_value values[N];

	memset(values, 0, sizeof(values));
	for (int i = 0; i < N; i++)
		values[i].tag = raw->yes;
	for (size_t c = 0; c < sizeof(changes) / sizeof(*changes); c++) {
		size_t ncopied;

		lua_createtable(L, N, 0);
		lua_pushvalue(L, 1);
		lua_setglobal(L, "list");
		fz_rawarray_copy(raw, lua_topointer(L, 1), 1, values, N / 2);
		assert_int_equal(luaL_dostring(L, changes[c]), LUA_OK);
		lua_gc(L, LUA_GCCOLLECT);
		ncopied =
		    fz_rawarray_copy(raw, lua_topointer(L, 1), 1, values, N);
		assert_true(ncopied <= N);
		for (size_t i = 1; i <= ncopied; i++) {
			assert_int_equal(
			    lua_rawgeti(L, 1, (lua_Integer)i), LUA_TBOOLEAN);
			lua_pop(L, 1);
		}
		lua_settop(L, 0);
	}
}

/* Push a list of `n` slots that have 0xaa in each byte of the value. */
static struct fz_raw_value *
push_marked(lua_State *L, int n)
{
	struct fz_raw_value *slots;

	lua_createtable(L, n, 0);
	slots = fz_rawarray_elements(raw, lua_topointer(L, -1));
	for (int i = 0; i < n; i++) {
		memset(slots[i].value, 0xaa, sizeof(slots[i].value));
		slots[i].tag = raw->integer;
	}
	return slots;
}

static void
test_rawarray_copy_stops_at_what_is_not_plain(void **state)
{
	enum { N = 9, AT = 5 };
	lua_State *L = *state;
	struct fz_raw_value values[N];

	for (unsigned tag = 0; tag < 256; tag++) {
		bool plain = tag < 64 && (raw->plain >> tag & 1);
		struct fz_raw_value *list = push_marked(L, N);

		memset(values, 0x55, sizeof(values));
		for (int i = 0; i < N; i++)
			values[i].tag = raw->integer;
		values[AT].tag = (unsigned char)tag;
		assert_int_equal(fz_rawarray_is_plain(raw, &values[AT]), plain);
		assert_int_equal(
		    fz_rawarray_copy(raw, lua_topointer(L, 1), 1, values, N),
		    plain ? N : AT);
		for (int i = 0; i < N; i++) {
			bool copied = plain || i < AT;

			assert_int_equal(
			    list[i].value[0], copied ? 0x55 : 0xaa);
			assert_int_equal(
			    list[i].tag, copied ? values[i].tag : raw->integer);
		}
		lua_pop(L, 1);
	}
}

/* A broken worker may write other bytes than raw values at any time. */
static struct fz_raw_value shared_values[64];
static atomic_bool copied;

static void *
scribble(void *unused)
{
	volatile unsigned char *tag = &shared_values[40].tag;

	for (unsigned n = 0; !atomic_load(&copied); n++)
		*tag = n % 2 == 0 ? raw->integer : raw->table;
	return unused;
}

static void
test_rawarray_copy_writes_only_tags_that_it_has_checked(void **state)
{
	lua_State *L = *state;
	struct fz_raw_value *list = push_marked(L, 64);
	const void *table = lua_topointer(L, 1);
	pthread_t thread;
	int nwhole = 0;

	for (int i = 0; i < 64; i++)
		shared_values[i].tag = raw->integer;
	assert_int_equal(pthread_create(&thread, NULL, scribble, NULL), 0);
	/* Go on while the other thread stands still after a bad tag. */
	for (int i = 0; i < 1000000 || nwhole == 0; i++) {
		list[40].tag = raw->nil;
		nwhole +=
		    fz_rawarray_copy(raw, table, 1, shared_values, 64) == 64;
		if (!fz_rawarray_is_plain(raw, &list[40]))
			fail_msg("after %d copies", i);
	}
	atomic_store(&copied, true);
	assert_int_equal(pthread_join(thread, NULL), 0);
	lua_settop(L, 0);
}

/* Copy `n` values into a new list, which becomes the global `list`. */
static void
copy_list(lua_State *L, int n)
{
	struct fz_raw_value *values = malloc((size_t)n * sizeof(*values));

	assert_non_null(values);
	memset(values, 0xff, (size_t)n * sizeof(*values));
	lua_createtable(L, n, 2);
	for (int i = 1; i <= n; i++) {
		if (i % 5 == 0)
			lua_pushnumber(L, i + 0.5);
		else if (i % 7 == 0)
			lua_pushboolean(L, i % 2);
		else if (i % 11 == 0 && i != n)
			lua_pushnil(L);
		else
			lua_pushinteger(L, i);
		assert_true(fz_rawarray_store(raw, L, -1, &values[i - 1]));
		lua_pop(L, 1);
	}
	assert_int_equal(
	    fz_rawarray_copy(raw, lua_topointer(L, -1), 1, values, (size_t)n),
	    n);
	free(values);
	lua_setglobal(L, "list");
}

/* A script that uses the list, with garbage collections in between. */
static const char use[] =
    "local n = ...\n"
    "local function expected(i)\n"
    "  if i % 5 == 0 then return i + 0.5 end\n"
    "  if i % 7 == 0 then return i % 2 == 1 end\n"
    "  if i % 11 == 0 and i ~= n then return nil end\n"
    "  return i\n"
    "end\n"
    "local function check()\n"
    "  collectgarbage()\n"
    "  for i = 1, n do\n"
    "    local v, e = list[i], expected(i)\n"
    "    assert(v == e and math.type(v) == math.type(e), i)\n"
    "  end\n"
    "end\n"
    "check()\n"
    "assert(#list == n)\n"
    "local seen, last = 0, 0\n"
    "for i, v in pairs(list) do\n"
    "  assert(i > last and v == expected(i)) last = i seen = seen + 1\n"
    "end\n"
    "local count = 0\n"
    "for i = 1, n do if expected(i) ~= nil then count = count + 1 end end\n"
    "assert(seen == count)\n"
    "assert(select('#', table.unpack(list, 1, 100)) == 100)\n"
    "for i = 1, n, 13 do list[i] = 'text ' .. i; list[i + 1] = {i} end\n"
    "collectgarbage()\n"
    "for i = 1, n, 13 do\n"
    "  assert(list[i] == 'text ' .. i and list[i + 1][1] == i)\n"
    "  list[i], list[i + 1] = expected(i), expected(i + 1)\n"
    "end\n"
    "list[n + 1] = nil\n"
    "list.errors, list.n = {}, n\n"
    "check()\n"
    "for i = n + 1, 2 * n do list[i] = i .. '' end -- it moves\n"
    "for i = n + 1, 2 * n do list[i] = nil end\n"
    "list.errors, list.n, list.more = nil, nil, {}\n"
    "check()\n"
    "for i = 1, n do list[i] = i end\n"
    "table.sort(list, function(a, b) return a > b end)\n"
    "assert(list[1] == n and list[n] == 1)\n"
    "list = nil\n"
    "collectgarbage()\n";

static void
test_rawarray_a_copied_list_is_one_for_lua(void **state)
{
	static const char *const modes[] = { "incremental", "generational" };
	lua_State *L = *state;

	for (int round = 0; round < 8; round++) {
		int n = round % 4 < 2 ? 1000 : 20000;

		lua_getglobal(L, "collectgarbage");
		lua_pushstring(L, modes[round % 2]);
		lua_call(L, 1, 0);
		copy_list(L, n);
		assert_int_equal(luaL_loadstring(L, use), LUA_OK);
		lua_pushinteger(L, n);
		if (lua_pcall(L, 1, 0, 0) != LUA_OK)
			fail_msg("%s", lua_tostring(L, -1));
		assert_int_equal(lua_gettop(L), 0);
	}
}

/* The list becomes old while it is empty, and is filled afterwards. */
static void
test_rawarray_a_list_of_the_old_generation_may_be_filled(void **state)
{
	enum { N = 5000 };
	lua_State *L = *state;
	struct fz_raw_value stored;

	lua_createtable(L, N, 2);
	lua_gc(L, LUA_GCGEN, 0, 0);
	for (int i = 0; i < N; i++) {
		if (i % 500 == 0)
			lua_gc(L, LUA_GCCOLLECT);
		if (i % 100 == 0) { /* a result that is not raw */
			lua_pushfstring(L, "text %d", i);
			lua_rawseti(L, 1, i + 1);
			continue;
		}
		lua_pushinteger(L, i);
		assert_true(fz_rawarray_store(raw, L, -1, &stored));
		lua_pop(L, 1);
		assert_int_equal(
		    rawarray_copy_one(L, 1, (uint64_t)i + 1, &stored), 1);
	}
	lua_gc(L, LUA_GCCOLLECT);
	for (int i = 0; i < N; i++) {
		assert_int_equal(lua_rawgeti(L, 1, i + 1),
		    i % 100 == 0 ? LUA_TSTRING : LUA_TNUMBER);
		if (i % 100 != 0)
			assert_int_equal(lua_tointeger(L, -1), i);
		lua_pop(L, 1);
	}
}

#define TEST(name) \
	cmocka_unit_test_setup_teardown(name, rawarray_setup, rawarray_teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_rawarray_copy_ends_with_the_array),
		TEST(test_rawarray_copy_finds_an_array_that_has_moved),
		TEST(test_rawarray_copy_stops_at_what_is_not_plain),
		TEST(test_rawarray_copy_writes_only_tags_that_it_has_checked),
		TEST(test_rawarray_a_copied_list_is_one_for_lua),
		TEST(test_rawarray_a_list_of_the_old_generation_may_be_filled),
	};

	return rawarray_run(tests, sizeof(tests) / sizeof(*tests));
}
