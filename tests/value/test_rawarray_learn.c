/* Learning the layout of a table, and the cases in which that fails. */
/* setenv and fork are not in C11. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>

#include "lua_memory.h"
#include "rawarray_test.h"
#include "value/rawarray.h"

static struct lua_memory memory = { .left = -1 };

static int
learn(lua_State *L)
{
	lua_pushboolean(L, fz_rawarray_learn(L) != NULL);
	return 1;
}

/*
 * Whether the error on top is a lack of memory. Before Lua 5.4.2, lua_error()
 * changes the status of such an error, but not its text.
 */
static bool
is_memory_error(lua_State *L, int status)
{
	return status == LUA_ERRMEM ||
	       (LUA_VERSION_RELEASE_NUM < 50402 && status == LUA_ERRRUN &&
		   strcmp(lua_tostring(L, -1), "not enough memory") == 0);
}

/*
 * Call `f` while the n-th allocation fails. Returns whether it raised an error.
 * Afterwards the state and its allocator are as before.
 */
static bool
fails_at(lua_State *L, lua_CFunction f, unsigned long n)
{
	void *ud = NULL;
	int status;

	lua_pushcfunction(L, f);
	memory.left = (long)n - 1;
	status = lua_pcall(L, 0, 1, 0);
	memory.left = -1;
	assert_ptr_equal(lua_getallocf(L, &ud), lua_memory_allocate);
	assert_ptr_equal(ud, &memory);
	assert_true(status == LUA_OK || is_memory_error(L, status));
	return status != LUA_OK;
}

static int
learn_without_memory(void)
{
	lua_State *L = lua_newstate(lua_memory_allocate, &memory);
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
	assert_int_equal(memory.used, 0);
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

/* Call `f` in a process that has learned no layout. Returns its status. */
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
	wrong[7].rest = METATABLE; /* differs from all tables */
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
	/* The low four bits are the type that lua_type() returns. */
	assert_int_equal(t->nil & 15, LUA_TNIL);
	assert_int_equal(t->no & 15, LUA_TBOOLEAN);
	assert_int_equal(t->yes & 15, LUA_TBOOLEAN);
	assert_int_equal(t->integer & 15, LUA_TNUMBER);
	assert_int_equal(t->number & 15, LUA_TNUMBER);
}

#define TEST(name) \
	cmocka_unit_test_setup_teardown(name, rawarray_setup, rawarray_teardown)

int
main(void)
{
	const struct CMUnitTest off[] = {
		cmocka_unit_test(
		    test_rawarray_obeys_the_environment_and_the_build),
	};
	/* These tests have no setup, because the setup learns the layout. */
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
		    test_rawarray_is_learned_though_memory_was_short),
		cmocka_unit_test(
		    test_rawarray_is_right_or_off_among_finalizers),
		cmocka_unit_test(
		    test_rawarray_obeys_the_environment_and_the_build),
		TEST(test_rawarray_self_test_finds_a_wrong_layout),
		TEST(test_rawarray_tags_are_those_of_this_lua),
	};

	if (!FZ_RAWARRAY)
		return cmocka_run_group_tests(off, NULL, NULL);
	return rawarray_run(tests, sizeof(tests) / sizeof(*tests));
}
