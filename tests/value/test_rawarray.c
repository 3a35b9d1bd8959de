/* Plain values as the array part of a table has them. */
#define _GNU_SOURCE

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

static const struct fz_rawarray *raw;

static int
setup(void **state)
{
	lua_State *L = luaL_newstate();

	assert_non_null(L);
	luaL_openlibs(L);
	raw = fz_rawarray_learn(L);
	assert_non_null(raw);
	*state = L;
	return 0;
}

static int
teardown(void **state)
{
	lua_close(*state);
	return 0;
}

static int
learn(lua_State *L)
{
	lua_pushboolean(L, fz_rawarray_learn(L) != NULL);
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

static int
learn_without_memory(void)
{
	lua_State *L = lua_newstate(allocate, &fail_at);
	unsigned long n = 1;

	assert_non_null(L);
	assert_null(fz_rawarray_known());
	while (fails_at(L, learn, n)) {
		assert_null(fz_rawarray_known());
		lua_settop(L, 0);
		n++;
	}
	assert_true(n > 2);
	assert_true(lua_toboolean(L, -1));
	assert_non_null(fz_rawarray_known());
	lua_close(L);
	assert_int_equal(allocated, 0);
	return 0;
}

/* Finalizers make tables of the sizes that the module creates. */
static int
learn_among_finalizers(void)
{
	lua_State *L = luaL_newstate();

	luaL_openlibs(L);
	assert_int_equal(
	    luaL_dostring(L,
		"collectgarbage('incremental', 1, 400, 1)\n"
		"keep = {}\n"
		"local meta = {} meta.__gc = function()\n"
		"  keep[#keep % 100 + 1] = {1, 2, 3, 4}\n"
		"  keep[#keep % 100 + 1] = {1, 2, 3, 4, 5, 6, 7, 8}\n"
		"  setmetatable({}, meta)\n"
		"end\n"
		"for i = 1, 500 do setmetatable({}, meta) end"),
	    LUA_OK);
	if (fz_rawarray_learn(L) != NULL)
		assert_true(fz_rawarray_holds(fz_rawarray_known(), L));
	assert_int_equal(lua_gettop(L), 0);
	lua_close(L);
	return 0;
}

/* Returns 0 if nothing is learned with this value in the environment. */
static int
learn_with(const char *value)
{
	lua_State *L = luaL_newstate();
	int known;

	setenv("FZLUA_RAWARRAY", value, 1);
	known = fz_rawarray_learn(L) != NULL;
	assert_ptr_equal(fz_rawarray_known(), fz_rawarray_learn(L));
	assert_int_equal(lua_gettop(L), 0);
	lua_close(L);
	return known;
}

static int
learn_if_on(void)
{
	return learn_with("1");
}

static int
learn_if_off(void)
{
	return learn_with("0");
}

/* The status of a process that has not learned before it calls `f`. */
static int
run_in_child(int (*f)(void))
{
	int status;
	pid_t pid = fork();

	assert_int_not_equal(pid, -1);
	if (pid == 0)
		_exit(f());
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

/* These run before all others, so that nothing is known. */
static void
test_rawarray_is_learned_though_memory_was_short(void **state)
{
	(void)state;
	assert_int_equal(run_in_child(learn_without_memory), 0);
}

static void
test_rawarray_is_right_or_off_among_finalizers(void **state)
{
	(void)state;
	for (int i = 0; i < 10; i++)
		assert_int_equal(run_in_child(learn_among_finalizers), 0);
}

static void
test_rawarray_obeys_the_environment_and_the_build(void **state)
{
	(void)state;
	assert_int_equal(run_in_child(learn_if_off), 0);
	assert_int_equal(run_in_child(learn_if_on), FZ_RAWARRAY);
}

static void
test_rawarray_self_test_finds_a_wrong_layout(void **state)
{
	enum { METATABLE = 40, EMPTY = 16 };
	lua_State *L = *state;
	struct fz_rawarray wrong[8];

	assert_true(fz_rawarray_holds(raw, L));
	for (int i = 0; i < 8; i++)
		wrong[i] = *raw;
	wrong[0].integer = raw->number;
	wrong[1].number = raw->integer;
	wrong[2].yes = raw->no;
	wrong[3].no = raw->yes;
	wrong[4].table = raw->integer;
	wrong[5].plain |= UINT64_C(1) << EMPTY;
	wrong[6].plain &= ~(UINT64_C(1) << raw->number);
	wrong[7].rest = METATABLE; /* no table has one */
	wrong[7].nothing = NULL;
	for (int i = 0; i < 8; i++) {
		if (fz_rawarray_holds(&wrong[i], L))
			fail_msg("layout %d", i);
		assert_int_equal(lua_gettop(L), 0);
	}
}

static void
test_rawarray_tags_are_those_of_this_lua(void **state)
{
	const struct fz_rawarray *t = raw;
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

/* Copy one value into element `i` of the table at `idx`. */
static size_t
copy_one(lua_State *L, int idx, uint64_t i, const struct fz_raw_value *value)
{
	return fz_rawarray_copy(raw, lua_topointer(L, idx), i, value, 1);
}

/* What is copied is in the table, and what Lua stores is in its slot. */
static void
assert_is_array(lua_State *L, int table, int n)
{
	const void *at = lua_topointer(L, table);
	struct fz_raw_value slot;

	for (int i = 1; i <= n; i += n < 8 ? 1 : n / 7) {
		uint64_t element = (uint64_t)i;

		lua_pushinteger(L, 1000 + i);
		assert_true(fz_rawarray_store(raw, L, -1, &slot));
		lua_rawseti(L, table, i);
		assert_memory_equal(
		    fz_rawarray_look(raw, at, element)->value, slot.value, 8);
		lua_pushnumber(L, i + 0.5);
		assert_true(fz_rawarray_store(raw, L, -1, &slot));
		lua_pop(L, 1);
		assert_int_equal(copy_one(L, table, element, &slot), 1);
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
	assert_int_equal(copy_one(L, 1, 0, values), 0);
	assert_int_equal(copy_one(L, 1, UINT64_MAX, values), 0);
	lua_createtable(L, 0, 4);
	assert_int_equal(copy_one(L, 2, 1, values), 0);
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
	slots = fz_rawarray_slots(raw, lua_topointer(L, -1));
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

/* An intact worker writes plain values only, but a broken one may not. */
static struct fz_raw_value shared_values[64];
static atomic_bool copied;

static void *
scribble(void *unused)
{
	volatile unsigned char *tag = &shared_values[40].tag;

	while (!atomic_load(&copied)) {
		*tag = raw->integer;
		*tag = raw->table;
	}
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
	for (int i = 0; i < 1000000; i++) {
		list[40].tag = raw->nil;
		nwhole +=
		    fz_rawarray_copy(raw, table, 1, shared_values, 64) == 64;
		if (!fz_rawarray_is_plain(raw, &list[40]))
			fail_msg("after %d copies", i);
	}
	atomic_store(&copied, true);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_true(nwhole > 0);
	lua_settop(L, 0);
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
	struct fz_raw_value slot;
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
		memset(&slot, 0xff, sizeof(slot)); /* memory in use before */
		assert_true(fz_rawarray_store(raw, L, i, &slot));
		assert_true(fz_rawarray_is_plain(raw, &slot));
		fz_rawarray_push(raw, L, &slot);
		assert_same(L, i, -1);
		assert_int_equal(copy_one(L, n + 1, (uint64_t)i, &slot), 1);
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
	lua_pushcfunction(L, learn);
	lua_pushlightuserdata(L, &slot);
	lua_newuserdatauv(L, 1, 0);
	lua_newthread(L);
	memset(&slot, 0x5a, sizeof(slot));
	before = slot;
	for (int i = 1; i <= lua_gettop(L); i++) {
		assert_false(fz_rawarray_store(raw, L, i, &slot));
		assert_memory_equal(&slot, &before, sizeof(slot));
	}
}

/* A list of `n` values that were copied there is on top, its name `list`. */
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
	struct fz_raw_value slot;

	lua_createtable(L, N, 2);
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
		assert_true(fz_rawarray_store(raw, L, -1, &slot));
		lua_pop(L, 1);
		assert_int_equal(copy_one(L, 1, (uint64_t)i + 1, &slot), 1);
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

	for (unsigned i = 1; i <= 2; i++) {
		assert_true(fz_rawarray_is_number(
		    raw, fz_rawarray_look(raw, table, i)));
		fz_rawarray_push_number(
		    raw, L, fz_rawarray_look(raw, table, i));
		lua_rawgeti(L, -2, i);
		assert_true(lua_compare(L, -1, -2, LUA_OPEQ));
		lua_pop(L, 2);
	}
	assert_false(
	    fz_rawarray_is_number(raw, fz_rawarray_look(raw, table, 3)));
	assert_int_equal(
	    fz_rawarray_look_into(raw, fz_rawarray_look(raw, table, 3), &array),
	    0);
	assert_int_equal(
	    fz_rawarray_look_into(raw, fz_rawarray_look(raw, table, 4), &array),
	    2);
	assert_null(fz_rawarray_look(raw, table, 0));
	assert_null(fz_rawarray_look(raw, table, 5));
	assert_null(fz_rawarray_look(raw, table, UINT64_MAX));
	table = table_of(L, "return { x = 1 }");
	assert_null(fz_rawarray_look(raw, table, 1));
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
	return fz_rawarray_look_into(
	    raw, fz_rawarray_look(raw, outer, 1), &array);
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
	const struct CMUnitTest off[] = {
		cmocka_unit_test(
		    test_rawarray_obeys_the_environment_and_the_build),
	};
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
		    test_rawarray_is_learned_though_memory_was_short),
		cmocka_unit_test(
		    test_rawarray_is_right_or_off_among_finalizers),
		cmocka_unit_test(
		    test_rawarray_obeys_the_environment_and_the_build),
		TEST(test_rawarray_self_test_finds_a_wrong_layout),
		TEST(test_rawarray_look_finds_what_is_in_the_array_part),
		TEST(
		    test_rawarray_look_into_sees_a_few_numbers_and_nothing_else),
		TEST(test_rawarray_tags_are_those_of_this_lua),
		TEST(test_rawarray_finds_the_array_of_tables_of_any_size),
		TEST(test_rawarray_copy_ends_with_the_array),
		TEST(test_rawarray_copy_finds_an_array_that_has_moved),
		TEST(test_rawarray_copy_stops_at_what_is_not_plain),
		TEST(test_rawarray_copy_writes_only_tags_that_it_has_checked),
		TEST(test_rawarray_plain_values_come_back_as_they_were),
		TEST(test_rawarray_other_values_are_refused),
		TEST(test_rawarray_a_copied_list_is_one_for_lua),
		TEST(test_rawarray_an_old_list_may_be_filled),
	};

	if (!FZ_RAWARRAY)
		return cmocka_run_group_tests(off, NULL, NULL);
	unsetenv("FZLUA_RAWARRAY"); /* as set by a run of all tests */
	return cmocka_run_group_tests(tests, NULL, NULL);
}
