/* Plain values as the array part of a table has them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>

#include "value/rawarray.h"

/* The n-th allocation from now on fails, and all after it; 0: none does. */
static unsigned long fail_at;
static size_t allocated; /* bytes */

static void *
allocate(void *ctx, void *p, size_t before, size_t n)
{
	size_t old = p != NULL ? before : 0;

	(void)ctx;
	if (n == 0) {
		allocated -= old;
		free(p);
		return NULL;
	}
	if (fail_at != 0 && (p == NULL || n > before)) {
		if (fail_at == 1) /* a second try comes after a collection */
			return NULL;
		fail_at--;
	}
	allocated += n - old;
	p = realloc(p, n);
	assert_non_null(p);
	return p;
}

static int
setup(void **state)
{
	lua_State *L = luaL_newstate();

	assert_non_null(L);
	luaL_openlibs(L);
	assert_true(fz_rawarray_learn(L));
	*state = L;
	return 0;
}

static int
teardown(void **state)
{
	lua_close(*state);
	return 0;
}

/* ---- learning ------------------------------------------------------------ */

static int
learn(lua_State *L)
{
	lua_pushboolean(L, fz_rawarray_learn(L));
	return 1;
}

static int
push_list(lua_State *L)
{
	struct fz_raw_value *list = fz_rawarray_push_list(L, 1000, 2);

	lua_pushlightuserdata(L, list);
	return 1;
}

/*
 * Call `f` where the n-th allocation fails. Returns whether that was the end
 * of it; the state and its allocator are as before.
 */
static bool
fails_at(lua_State *L, lua_CFunction f, unsigned long n)
{
	void *ud = NULL;
	int status;

	lua_pushcfunction(L, f);
	fail_at = n;
	status = lua_pcall(L, 0, 1, 0);
	fail_at = 0;
	assert_ptr_equal(lua_getallocf(L, &ud), allocate);
	assert_ptr_equal(ud, &fail_at);
	assert_true(status == LUA_OK || status == LUA_ERRMEM);
	return status != LUA_OK;
}

/* Nothing is known in a new process: what is tried there is the first time. */
static int
learn_without_memory(void)
{
	lua_State *L = lua_newstate(allocate, &fail_at);
	unsigned long n = 1;

	assert_non_null(L);
	assert_false(fz_rawarray_tags.known);
	assert_null(fz_rawarray_push_list(L, 100, 0)); /* nobody has asked */
	lua_settop(L, 0);
	while (fails_at(L, learn, n)) {
		assert_false(fz_rawarray_tags.known);
		lua_settop(L, 0);
		n++;
	}
	assert_true(n > 2);
	assert_true(lua_toboolean(L, -1));
	assert_true(fz_rawarray_tags.known);
	lua_close(L);
	assert_int_equal(allocated, 0);
	return 0;
}

/* Of this Lua, whatever its memory does. Called before all others. */
static void
test_rawarray_is_learned_though_memory_was_short(void **state)
{
	int status;
	pid_t pid = fork();

	(void)state;
	assert_int_not_equal(pid, -1);
	if (pid == 0) {
		_exit(learn_without_memory());
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static void
test_rawarray_tags_are_those_of_this_lua(void **state)
{
	const struct fz_rawarray_tags *t = &fz_rawarray_tags;
	unsigned char tags[] = { t->nil, t->no, t->yes, t->integer, t->number };
	int nplain = 0;

	(void)state;
	for (int a = 0; a < 5; a++) {
		assert_true(t->plain >> tags[a] & 1);
		for (int b = 0; b < a; b++)
			assert_int_not_equal(tags[a], tags[b]);
	}
	for (int i = 0; i < 64; i++)
		nplain += (t->plain >> i & 1) != 0;
	assert_int_equal(nplain, 5);
	/* The low four bits are the type, as lua_type() tells it. */
	assert_int_equal(t->nil & 15, LUA_TNIL);
	assert_int_equal(t->no & 15, LUA_TBOOLEAN);
	assert_int_equal(t->yes & 15, LUA_TBOOLEAN);
	assert_int_equal(t->integer & 15, LUA_TNUMBER);
	assert_int_equal(t->number & 15, LUA_TNUMBER);
}

/* ---- lists --------------------------------------------------------------- */

static void
test_rawarray_a_list_without_memory_is_an_error(void **state)
{
	lua_State *L = lua_newstate(allocate, &fail_at);
	unsigned long n = 1;

	(void)state;
	while (fails_at(L, push_list, n)) {
		lua_settop(L, 0);
		n++;
	}
	assert_true(n > 2);
	assert_non_null(lua_touserdata(L, -1));
	lua_close(L);
	assert_int_equal(allocated, 0);
}

/* Written there it is in the table, and the other way round. */
static void
assert_is_array(lua_State *L, int table, struct fz_raw_value *list, int n)
{
	struct fz_raw_value slot;

	for (int i = 1; i <= n; i += n < 8 ? 1 : n / 7) {
		lua_pushinteger(L, 1000 + i);
		assert_true(fz_rawarray_store(L, -1, &slot));
		lua_rawseti(L, table, i);
		assert_memory_equal(list[i - 1].value, slot.value, 8);
		assert_int_equal(list[i - 1].tag, slot.tag);
		lua_pushnumber(L, i + 0.5);
		assert_true(fz_rawarray_store(L, -1, &slot));
		lua_pop(L, 1);
		assert_int_equal(fz_rawarray_copy(&list[i - 1], &slot, 1), 1);
		assert_int_equal(lua_rawgeti(L, table, i), LUA_TNUMBER);
		assert_true(lua_tonumber(L, -1) == i + 0.5);
		lua_pop(L, 1);
	}
}

static void
test_rawarray_push_list_tells_where_the_array_is(void **state)
{
	lua_State *L = *state;
	int nknown = 0, nasked = 0;

	for (int n = 0; n < 3000; n += n < 70 ? 1 : 97) {
		for (int nrec = 0; nrec < 8; nrec++) {
			struct fz_raw_value *list =
			    fz_rawarray_push_list(L, n, nrec);

			assert_int_equal(lua_type(L, -1), LUA_TTABLE);
			nasked += n != 0;
			nknown += list != NULL;
			if (list != NULL)
				assert_is_array(L, lua_gettop(L), list, n);
			lua_pop(L, 1);
		}
	}
	assert_null(fz_rawarray_push_list(L, 0, 2));
	/* Not where a field takes as much as the array, which is seldom. */
	assert_true(nknown > nasked * 9 / 10);
	lua_pop(L, 1);
	assert_int_equal(lua_gettop(L), 0);
}

/* Finalizers make tables of that very size while the list is made. */
static void
test_rawarray_a_list_is_right_among_finalizers(void **state)
{
	enum { N = 50 };
	lua_State *L = *state;
	int nknown = 0;

	assert_int_equal(
	    luaL_dostring(L,
		"local keep = {}\n"
		"local t = { __gc = function()\n"
		"  local t = {1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,"
		"20,21,22,23,24,25,26,27,28,29,30,31,32,33,34,35,36,37,38,39,"
		"40,41,42,43,44,45,46,47,48,49,50}\n"
		"  keep[#keep % 100 + 1] = t ran = (ran or 0) + 1 end }\n"
		"function litter() for i = 1, 3 do setmetatable({}, t) end "
		"end\n"
		"collectgarbage('stop')"),
	    LUA_OK);
	for (int i = 0; i < 2000; i++) {
		struct fz_raw_value *list;

		lua_getglobal(L, "litter");
		lua_call(L, 0, 0);
		if (i % 2 != 0) /* with a collection in its midst */
			lua_gc(L, LUA_GCRESTART);
		list = fz_rawarray_push_list(L, N, 2);
		lua_gc(L, LUA_GCSTOP);
		nknown += list != NULL;
		if (list != NULL)
			assert_is_array(L, lua_gettop(L), list, N);
		lua_pop(L, 1);
	}
	lua_getglobal(L, "ran");
	assert_true(lua_tointeger(L, -1) > 1000);
	assert_true(nknown >= 1000 && nknown < 2000); /* some came */
}

/* ---- values -------------------------------------------------------------- */

static void
test_rawarray_copy_stops_at_what_is_not_plain(void **state)
{
	enum { N = 9, AT = 5 };
	struct fz_raw_value strip[N], list[N];

	(void)state;
	for (unsigned tag = 0; tag < 256; tag++) {
		bool plain = tag < 64 && (fz_rawarray_tags.plain >> tag & 1);

		memset(list, 0xaa, sizeof(list));
		memset(strip, 0x55, sizeof(strip));
		for (int i = 0; i < N; i++)
			strip[i].tag = fz_rawarray_tags.integer;
		strip[AT].tag = (unsigned char)tag;
		assert_int_equal(fz_rawarray_is_plain(&strip[AT]), plain);
		assert_int_equal(
		    fz_rawarray_copy(list, strip, N), plain ? N : AT);
		for (int i = 0; i < N; i++) {
			bool copied = plain || i < AT;

			assert_int_equal(
			    list[i].value[0], copied ? 0x55 : 0xaa);
			assert_int_equal(
			    list[i].tag, copied ? strip[i].tag : 0xaa);
		}
	}
	assert_int_equal(fz_rawarray_copy(list, strip, 0), 0);
}

/* Who writes there must not, but a process that is broken may. */
static struct fz_raw_value shared_strip[64];
static atomic_bool copied;

static void *
scribble(void *unused)
{
	volatile unsigned char *tag = &shared_strip[40].tag;

	while (!atomic_load(&copied)) {
		*tag = fz_rawarray_tags.integer;
		*tag = 0x45; /* a table's, if anybody believed it */
	}
	return unused;
}

static void
test_rawarray_copy_believes_only_what_it_has_checked(void **state)
{
	struct fz_raw_value list[64];
	pthread_t thread;
	int nwhole = 0;

	(void)state;
	for (int i = 0; i < 64; i++)
		shared_strip[i].tag = fz_rawarray_tags.integer;
	assert_int_equal(pthread_create(&thread, NULL, scribble, NULL), 0);
	for (int i = 0; i < 1000000; i++) {
		memset(&list[40], 0, sizeof(list[40]));
		list[40].tag = fz_rawarray_tags.nil;
		nwhole += fz_rawarray_copy(list, shared_strip, 64) == 64;
		if (!fz_rawarray_is_plain(&list[40]))
			fail_msg("after %d copies", i);
	}
	atomic_store(&copied, true);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_true(nwhole > 0);
}

/* The same value, of the same kind: -0.0 is not 0, and nan is nan. */
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
	struct fz_raw_value slot, *list;
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
	list = fz_rawarray_push_list(L, n, 0);
	assert_non_null(list);
	for (int i = 1; i <= n; i++) {
		memset(&slot, 0xff, sizeof(slot)); /* of memory used before */
		assert_true(fz_rawarray_store(L, i, &slot));
		assert_true(fz_rawarray_is_plain(&slot));
		fz_rawarray_push(L, &slot);
		assert_same(L, i, -1);
		assert_int_equal(fz_rawarray_copy(&list[i - 1], &slot, 1), 1);
		lua_rawgeti(L, n + 1, i);
		assert_same(L, i, -1);
		lua_pop(L, 2);
	}
}

static void
test_rawarray_other_values_are_refused(void **state)
{
	lua_State *L = *state;
	struct fz_raw_value slot, before;

	lua_pushliteral(L, "");
	lua_pushliteral(L, "12"); /* no number, though it looks like one */
	lua_newtable(L);
	lua_pushcfunction(L, push_list);
	lua_pushlightuserdata(L, &slot);
	lua_newuserdatauv(L, 1, 0);
	lua_newthread(L);
	memset(&slot, 0x5a, sizeof(slot));
	before = slot;
	for (int i = 1; i <= lua_gettop(L); i++) {
		assert_false(fz_rawarray_store(L, i, &slot));
		assert_memory_equal(&slot, &before, sizeof(slot));
	}
}

/* ---- with Lua ------------------------------------------------------------ */

/* A list of `n` values that were copied there is on top, its name `list`. */
static void
copy_list(lua_State *L, int n)
{
	struct fz_raw_value *list = fz_rawarray_push_list(L, n, 2);
	struct fz_raw_value *strip = malloc((size_t)n * sizeof(*strip));

	assert_non_null(list);
	assert_non_null(strip);
	memset(strip, 0xff, (size_t)n * sizeof(*strip));
	for (int i = 1; i <= n; i++) {
		if (i % 5 == 0)
			lua_pushnumber(L, i + 0.5);
		else if (i % 7 == 0)
			lua_pushboolean(L, i % 2);
		else if (i % 11 == 0 && i != n)
			lua_pushnil(L);
		else
			lua_pushinteger(L, i);
		assert_true(fz_rawarray_store(L, -1, &strip[i - 1]));
		lua_pop(L, 1);
	}
	assert_int_equal(fz_rawarray_copy(list, strip, (size_t)n), n);
	free(strip);
	lua_setglobal(L, "list");
}

/* What a script may do with such a list, with collections in between. */
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

/* It becomes old while it is empty, and is filled then. */
static void
test_rawarray_an_old_list_may_be_filled(void **state)
{
	enum { N = 5000 };
	lua_State *L = *state;
	struct fz_raw_value slot, *list = fz_rawarray_push_list(L, N, 2);

	assert_non_null(list);
	lua_gc(L, LUA_GCGEN, 0, 0);
	for (int i = 0; i < N; i++) {
		if (i % 500 == 0)
			lua_gc(L, LUA_GCCOLLECT);
		if (i % 100 == 0) { /* one that is sent */
			lua_pushfstring(L, "text %d", i);
			lua_rawseti(L, 1, i + 1);
			continue;
		}
		lua_pushinteger(L, i);
		assert_true(fz_rawarray_store(L, -1, &slot));
		lua_pop(L, 1);
		assert_int_equal(fz_rawarray_copy(&list[i], &slot, 1), 1);
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

/* ---- looking ------------------------------------------------------------- */

/* Run a chunk that returns a table, which stays on the stack. */
static const void *
table_of(lua_State *L, const char *chunk)
{
	assert_int_equal(luaL_dostring(L, chunk), LUA_OK);
	return lua_topointer(L, -1);
}

static void
test_rawarray_look_finds_what_is_in_the_array_part(void **state)
{
	lua_State *L = *state;
	const void *table = table_of(L, "return { 7, 0.5, 'x', { 1, 2 } }");
	const struct fz_raw_value *array;

	assert_true(fz_rawarray_table.known);
	for (unsigned i = 1; i <= 2; i++) {
		assert_true(fz_rawarray_is_number(fz_rawarray_look(table, i)));
		fz_rawarray_push_number(L, fz_rawarray_look(table, i));
		lua_rawgeti(L, -2, i);
		assert_true(lua_compare(L, -1, -2, LUA_OPEQ));
		lua_pop(L, 2);
	}
	assert_false(fz_rawarray_is_number(fz_rawarray_look(table, 3)));
	assert_int_equal(
	    fz_rawarray_look_into(fz_rawarray_look(table, 3), &array), 0);
	assert_int_equal(
	    fz_rawarray_look_into(fz_rawarray_look(table, 4), &array), 2);
	assert_null(fz_rawarray_look(table, 0));
	assert_null(fz_rawarray_look(table, 5));
	assert_null(fz_rawarray_look(table, UINT64_MAX));
	table = table_of(L, "return { x = 1 }");
	assert_null(fz_rawarray_look(table, 1));
}

/* How many numbers are seen in the table that an expression makes. */
static unsigned
nseen(lua_State *L, const char *expression)
{
	const struct fz_raw_value *array;
	const void *outer;
	char chunk[200];

	snprintf(chunk, sizeof(chunk), "return { %s }", expression);
	outer = table_of(L, chunk);
	return fz_rawarray_look_into(fz_rawarray_look(outer, 1), &array);
}

static void
test_rawarray_look_into_sees_a_few_numbers_and_nothing_else(void **state)
{
	lua_State *L = *state;

	assert_int_equal(nseen(L, "{ 1 }"), 1);
	assert_int_equal(nseen(L, "{ 1, 2.5 }"), 2);
	assert_int_equal(nseen(L, "{ 1, 2, 3, 4 }"), 4);
	assert_int_equal(nseen(L, "{}"), 0);
	assert_int_equal(nseen(L, "{ 1, 2, 3 }"), 0); /* or four, one freed */
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

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
		    test_rawarray_is_learned_though_memory_was_short),
		TEST(test_rawarray_look_finds_what_is_in_the_array_part),
		TEST(
		    test_rawarray_look_into_sees_a_few_numbers_and_nothing_else),
		TEST(test_rawarray_tags_are_those_of_this_lua),
		TEST(test_rawarray_a_list_without_memory_is_an_error),
		TEST(test_rawarray_push_list_tells_where_the_array_is),
		TEST(test_rawarray_a_list_is_right_among_finalizers),
		TEST(test_rawarray_copy_stops_at_what_is_not_plain),
		TEST(test_rawarray_copy_believes_only_what_it_has_checked),
		TEST(test_rawarray_plain_values_come_back_as_they_were),
		TEST(test_rawarray_other_values_are_refused),
		TEST(test_rawarray_a_copied_list_is_one_for_lua),
		TEST(test_rawarray_an_old_list_may_be_filled),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
