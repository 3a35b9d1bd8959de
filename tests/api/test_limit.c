/* Limits of a host for the code of scripts: fzlua_limit(). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include <lauxlib.h>

#include "api/fzlua.h"
#include "host_test.h"

static void
test_limits_end_any_code(void **state)
{
	static const char *const codes[] = { "while true do end",
		"while true do pcall(function() while true do end end) end",
		"coroutine.wrap(function() while true do end end)()",
		"local co = coroutine.create(function() while true do end end)"
		"while true do coroutine.resume(co) end",
		"while true do pcall(error, {}) end",
		"while true do pcall(fz.sleep, 1) end",
		"setmetatable({}, {__index = function() while true do end end})"
		".x = nil local t = setmetatable({}, {__index = "
		"function() while true do end end}) return t.x",
		"fz.sleep(60)", "fz.queue():get()",
		"fz.await(fz.spawn(function() while true do end end))",
		"local s = fz.stage 's' function s.A() while true do end end "
		"fz.chain{s}({}, {jobs = 0})",
		"local x <close> = setmetatable({}, {__close = function() "
		"while true do end end}) while true do end",
		"string.rep('x', 100):gsub('x', function() while true do end "
		"end)",
		/* Message handlers, which run without the hook. */
		"while true do xpcall(function() while true do end end, "
		"function() while true do end end) end",
		"xpcall(error, function() while true do end end)",
		/* The count of the hook begins at 0 in each coroutine. */
		"local function f() local co = coroutine.wrap(f) pcall(co) "
		"return f() end f()",
		"local function f() local co = coroutine.create(f) "
		"coroutine.resume(co) return f() end f()",
		/* Few instructions, which take long. */
		"while true do pcall(string.rep, 'x', 1 << 24) end",
		/* Code that replaces the hook. */
		"local co = coroutine.create(function() debug.sethook() "
		"while true do end end) coroutine.resume(co) while true do end",
		"pcall(debug.sethook) while true do end",
		/* Finalizers, which run without the hook. */
		"setmetatable({}, {__gc = function() while true do end end}) "
		"collectgarbage()",
		"local t = setmetatable({}, {__gc = setmetatable({}, {__call = "
		"function() while true do end end})}) t = nil collectgarbage()",
		"debug.setmetatable({}, {__gc = function() while true do "
		"end end}) while true do local t = {} end",
		"setmetatable({}, {__gc = function() while true do pcall(error)"
		" end end}) collectgarbage() while true do end",
		/* The code returns, but too late. */
		"os.execute('sleep 0.1')",
		"local co = coroutine.create(function() local x <close> = "
		"setmetatable({}, {__close = function() while true do end "
		"end}) coroutine.yield() end) coroutine.resume(co) "
		"return coroutine.close(co)" };
	const struct fzlua_limits time = { .size = sizeof(time),
		.seconds = 0.05 };
	lua_State *L = *state;

	for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++) {
		fzlua_limit(L, &time);
		host_assert_status(L, codes[i], FZLUA_TIMEOUT);
		fzlua_limit(L, NULL);
		lua_settop(L, 0);
		host_assert_status(L, "fz.sleep(0.1)", FZLUA_OK);
	}
}

/* Code that a call leaves for lua_close() to run. */
static void
test_limits_hold_for_the_end_of_a_state(void **state)
{
	const struct fzlua_limits time = { .size = sizeof(time),
		.seconds = 0.05 };
	/* A worker may need more time to start than `time` allows. */
	const struct fzlua_limits patience = { .size = sizeof(time),
		.seconds = 60 };
	lua_State *L;

	(void)state;
	assert_int_equal(fzlua_new(&L, NULL), FZLUA_OK);
	fzlua_limit(L, &patience);
	host_assert_status(L,
	    "kept = {} for i = 1, 100 do kept[i] = setmetatable({}, "
	    "{__gc = function() while true do end end}) end "
	    "pool = fz.pool(1) pool:apply(math.abs, -1)",
	    FZLUA_OK);
	fzlua_limit(L, &time);
	fzlua_close(L);
}

static void
test_limits_end_a_task_that_returns_too_late(void **state)
{
	const struct fzlua_limits time = { .size = sizeof(time),
		.seconds = 0.05 };
	lua_State *L = *state;
	void *tag;

	fzlua_limit(L, &time);
	host_push_function(L, "return os.execute('sleep 0.1')");
	assert_int_equal(fzlua_spawn(L, 0, L), FZLUA_OK);
	assert_int_equal(host_poll_next(L, 1, &tag), FZLUA_TIMEOUT);
	lua_settop(L, 0);
	host_assert_status(L, "return 1", FZLUA_OK);
}

/* The functions that a limit replaces do the same as those of Lua. */
static void
test_limits_leave_lua_as_it_is(void **state)
{
	const struct fzlua_limits time = { .size = sizeof(time),
		.seconds = 60 };
	lua_State *L = *state;

	fzlua_limit(L, &time);
	fzlua_limit(L, &time);
	host_assert_status(L,
	    "local log = {} "
	    "local t = setmetatable({7}, {__gc = function(o) log[1] = o[1] "
	    "end}) t = nil collectgarbage() assert(log[1] == 7) "
	    "assert(getmetatable(setmetatable({}, {__gc = true})).__gc) "
	    "assert(not pcall(setmetatable, {}, 1)) "
	    "assert(select('#', xpcall(function(...) return ... end, print, "
	    "1, nil)) == 3) "
	    "local ok, e = xpcall(error, function(m) return m .. '!' end, 'x')"
	    "assert(not ok and e == 'x!') "
	    "assert(not pcall(xpcall, print)) "
	    "local f = coroutine.wrap(function() return xpcall(function() "
	    "return coroutine.yield(1) end, print) end) "
	    "assert(f() == 1) ok, e = f('y') assert(ok and e == 'y') "
	    "assert(coroutine.resume(coroutine.create(type), 1)) "
	    "return fz.map(function(x) return setmetatable({x}, {}) end, {1})",
	    FZLUA_OK);
}

/* Library functions that code has captured before and after fzlua_limit(). */
static void
test_limits_let_functions_cross_to_spawned_workers(void **state)
{
	const struct fzlua_options options = { .size = sizeof(options),
		.start = "spawn",
		.worker_command = getenv("FZLUA") };
	const struct fzlua_limits time = { .size = sizeof(time),
		.seconds = 60 };
	static const char code[] =
	    "local set, x, create = setmetatable, xpcall, coroutine.create "
	    "function f() local t = set({}, {__index = {y = 2}}) "
	    "return x(function() return t.y end, print), create(print) ~= nil "
	    "end";
	static const char call[] = "local pool <close> = fz.pool(1) "
				   "return assert(pool:apply(f))";
	lua_State *L;

	(void)state;
	assert_int_equal(fzlua_new(&L, &options), FZLUA_OK);
	host_assert_status(L, code, FZLUA_OK);
	fzlua_limit(L, &time);
	host_assert_status(L, call, FZLUA_OK);
	host_assert_status(L, code, FZLUA_OK);
	host_assert_status(L, call, FZLUA_OK);
	fzlua_close(L);
}

static void
test_limits_may_be_shorter_than_the_clock_counts(void **state)
{
	const struct fzlua_limits none = { .size = sizeof(none),
		.seconds = 1e-300 };

	fzlua_limit(*state, &none);
	host_assert_status(*state, "for i = 1, 1e5 do end", FZLUA_TIMEOUT);
}

static void
test_limits_count_instructions(void **state)
{
	const struct fzlua_limits few = { .size = sizeof(few),
		.instructions = 100000 };
	lua_State *L = *state;

	fzlua_limit(L, &few);
	host_assert_status(L, "for i = 1, 1000 do end", FZLUA_OK);
	host_assert_status(L, "for i = 1, 1e9 do end", FZLUA_TIMEOUT);
	assert_non_null(
	    strstr(host_field(L, "message"), "100000 instructions"));
	host_assert_status(L,
	    "for i = 1, 1e9 do coroutine.wrap(function() for j = 1, 10 do "
	    "end end)() end",
	    FZLUA_TIMEOUT);
}

static void
test_limits_hold_for_memory(void **state)
{
	const struct fzlua_limits small = { .size = sizeof(small),
		.memory = 1 << 20 };
	lua_State *L = *state;

	fzlua_limit(L, &small);
	for (int i = 0; i < 3; i++) {
		host_assert_status(L, "return ('x'):rep(1 << 10)", FZLUA_OK);
		host_assert_status(L,
		    "local t = {} while true do t[#t + 1] = {} end",
		    FZLUA_MEMORY);
		lua_settop(L, 0);
	}
	/* Workers have limits of their own. */
	host_assert_status(L,
	    "local p <close> = fz.pool(1)"
	    "assert(p:apply(function() return #('x'):rep(1 << 22) end))",
	    FZLUA_OK);
}

static void
test_limits_end_a_task_and_no_other(void **state)
{
	const struct fzlua_limits time = { .size = sizeof(time),
		.seconds = 0.05 };
	lua_State *L = *state;
	char good, bad;
	void *tag;

	fzlua_limit(L, &time);
	host_push_function(
	    L, "for i = 1, 10 do fz.sleep(0.02) end return 'good'");
	assert_int_equal(fzlua_spawn(L, 0, &good), FZLUA_OK);
	host_push_function(L, "fz.sleep(0.01) while true do pcall(error) end");
	assert_int_equal(fzlua_spawn(L, 0, &bad), FZLUA_OK);
	assert_int_equal(host_poll_next(L, 1, &tag), FZLUA_TIMEOUT);
	assert_ptr_equal(tag, &bad);
	lua_settop(L, 0);
	assert_int_equal(host_poll_next(L, 1, &tag), FZLUA_OK);
	assert_ptr_equal(tag, &good);
	assert_string_equal(lua_tostring(L, 1), "good");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		HOST_TEST(test_limits_end_any_code),
		cmocka_unit_test(test_limits_hold_for_the_end_of_a_state),
		HOST_TEST(test_limits_end_a_task_that_returns_too_late),
		HOST_TEST(test_limits_leave_lua_as_it_is),
		cmocka_unit_test(
		    test_limits_let_functions_cross_to_spawned_workers),
		HOST_TEST(test_limits_may_be_shorter_than_the_clock_counts),
		HOST_TEST(test_limits_count_instructions),
		HOST_TEST(test_limits_hold_for_memory),
		HOST_TEST(test_limits_end_a_task_and_no_other),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
