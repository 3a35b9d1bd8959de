/*
 * test_local.c - functions that the script's process calls itself (jobs = 0)
 * while allocations fail.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <lauxlib.h>

#include "lua_state.h"

static struct lua_memory memory;

/*
 * Each of these functions is called while each of its allocations fails in
 * turn. check() is called after each of them.
 */
static const char functions[] =
    "local function f(x) return x + 1 end\n"
    "local function g(x) return ('x'):rep(100) .. x end\n"
    "local stage = fz.stage 'S'\n"
    "stage:register('B', 'A', f)\n"
    "stage:map('C', 'L', g)\n"
    "local chain = fz.chain(stage)\n"
    "local input = { A = 1, L = { 1, 2, 3 } }\n"
    "function map()\n"
    "  local list = fz.map(g, { 1, 2, 3 }, { jobs = 0 })\n"
    "  assert(#list == 3)\n"
    "end\n"
    "function invoke()\n"
    "  chain:invoke(input, { jobs = 0, trace = false })\n"
    "  assert(chain.output.B == 2 and #chain.output.C == 3)\n"
    "end\n"
    "function stream()\n"
    "  local n = 0\n"
    "  for i, output in chain:stream({ input, input }, { jobs = 0 }) do\n"
    "    n = n + output.B\n"
    "  end\n"
    "  assert(n == 4)\n"
    "end\n"
    "local calls = ''\n"
    "local function note(x) calls = calls .. x return x end\n"
    "local two, one = fz.stage 'T', fz.stage 'O'\n"
    "two:register('B', 'A', note)\n"
    "two:register('C', 'A', note)\n"
    "one:register('B', 'A', note)\n"
    "two, one = fz.chain(two), fz.chain(one)\n"
    "function check()\n"
    "  calls = ''\n"
    "  local first = two:invoke_async({ A = 'a' }, { jobs = 0 })\n"
    "  local second = one:invoke_async({ A = 'b' }, { jobs = 0 })\n"
    "  fz.gather(second, first)\n"
    "  assert(calls == 'aab', calls)\n"
    "end\n";

static int
setup(void **state)
{
	lua_State *L = lua_state_with_library(&memory);

	lua_state_run(L, functions);
	*state = L;
	return 0;
}

static int
teardown(void **state)
{
	lua_close(*state);
	assert_int_equal(memory.used, 0);
	return 0;
}

/* Whether the error on top says that memory is missing. */
static bool
is_memory_error(lua_State *L, int status)
{
	bool is = status == LUA_ERRMEM;

	if (!is && lua_istable(L, -1)) {
		lua_getfield(L, -1, "kind");
		lua_pushliteral(L, "memory");
		is = lua_rawequal(L, -1, -2);
		lua_pop(L, 2);
	}
	return is;
}

static void
starve(lua_State *L, const char *function, bool once)
{
	long n = 0, nfailed = 0;

	do {
		int status;

		lua_getglobal(L, function);
		memory.once = once;
		memory.nfailed = 0;
		memory.left = n++;
		status = lua_pcall(L, 0, 0, 0);
		memory.left = -1;
		nfailed += status != LUA_OK;
		if (status != LUA_OK && !is_memory_error(L, status))
			fail_msg("%s, %ld: %s", function, n,
			    luaL_tolstring(L, -1, NULL));
		lua_settop(L, 0);
		lua_state_run(L, "collectgarbage() check()");
		assert_true(n < 5000);
	} while (memory.nfailed != 0);
	assert_true(once || nfailed > 10);
}

static void
test_local_calls_go_on_after_an_allocation_failed(void **state)
{
	static const char *const names[] = { "map", "invoke", "stream" };

	for (size_t i = 0; i < 6; i++)
		starve(*state, names[i / 2], i % 2 != 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
		    test_local_calls_go_on_after_an_allocation_failed, setup,
		    teardown),
	};

	return cmocka_run_group_tests_name("local", tests, NULL, NULL);
}
