/*
 * fzlua_interrupt() between any two instructions: the call raises
 * "interrupted" and nothing else, and later calls do no more than before.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <lauxlib.h>

#include "api/fzlua.h"
#include "host_test.h"

/*
 * least(body): minimum number of instructions, because a call has more if its
 * worker is slow. steps(body): interrupt body() at each of its instructions.
 */
static const char PRELUDE[] =
    "local interrupt = ...\n"
    "local function instructions(body)\n"
    "  local n = 0\n"
    "  body()\n"
    "  debug.sethook(function() n = n + 1 end, '', 1)\n"
    "  body()\n"
    "  debug.sethook()\n"
    "  return n\n"
    "end\n"
    "local function least(body)\n"
    "  local n = math.huge\n"
    "  for _ = 1, 20 do n = math.min(n, instructions(body)) end\n"
    "  return n\n"
    "end\n"
    "local function interrupt_at(n, body)\n"
    "  local ok, e = pcall(function()\n"
    "    debug.sethook(function() debug.sethook() interrupt() end, '', n)\n"
    "    body()\n"
    "    debug.sethook()\n"
    "  end)\n"
    "  debug.sethook()\n"
    "  if not ok and not tostring(e):find 'interrupted' then error(e, 0) end\n"
    "  return not ok\n"
    "end\n"
    "local function steps(body)\n"
    "  local before, n = least(body), 0\n"
    "  for at = 1, before do\n"
    "    if interrupt_at(at, body) then n = n + 1 end\n"
    "  end\n"
    "  assert(n > before / 2, n)\n"
    "  local after = least(body)\n"
    "  assert(after < before * 1.2 + 100, after .. ' for ' .. before)\n"
    "end\n"
    "local pool <close> = fz.pool(1)\n";

static int
interrupt(lua_State *L)
{
	fzlua_interrupt(fzlua_instance_of(L));
	return 0;
}

static void
assert_steps(lua_State *L, const char *body)
{
	int status;

	lua_pushfstring(L, "%s%s", PRELUDE, body);
	host_push_function(L, lua_tostring(L, -1));
	lua_pushcfunction(L, interrupt);
	status = fzlua_call(L, 1, 0);
	if (status != FZLUA_OK)
		fail_msg("%s: %s", body, luaL_tolstring(L, -1, NULL));
	lua_settop(L, 0);
}

static void
test_interrupt_at_any_step_of_an_invoke(void **state)
{
	assert_steps(*state,
	    "local s = fz.stage 's'\n"
	    "s:register('y', 'x', function(x) return x + 1 end)\n"
	    "local chain = fz.chain { s }\n"
	    "steps(function() chain:invoke { x = 1 } end)\n"
	    "chain:close()");
}

static void
test_interrupt_at_any_step_of_a_stream(void **state)
{
	assert_steps(*state,
	    "local s = fz.stage 's'\n"
	    "s:register('y', 'x', function(x) return x + 1 end)\n"
	    "local chain = fz.chain { s }\n"
	    "steps(function()\n"
	    "  for _ in chain:stream { { x = 1 }, { x = 2 } } do end\n"
	    "end)\n"
	    "chain:close()");
}

static void
test_interrupt_at_any_step_of_a_pool(void **state)
{
	static const char *const bodies[] = {
		"pool:map(math.abs, { 1, 2 })",
		"for _ in pool:imap(math.abs, { 1, 2 }) do end",
		"pool:apply_async(math.abs, { 1 }):get()",
		"pool:apply(math.abs, 1)",
	};

	for (size_t i = 0; i < sizeof(bodies) / sizeof(*bodies); i++) {
		lua_State *L = *state;

		lua_pushfstring(L, "steps(function() %s end)", bodies[i]);
		assert_steps(L, lua_tostring(L, -1));
	}
}

static void
test_interrupt_at_any_step_of_tasks(void **state)
{
	assert_steps(*state,
	    "steps(function()\n"
	    "  local a = fz.spawn(function() fz.sleep(0) return 1 end)\n"
	    "  fz.spawn(function() return a:await() end):await()\n"
	    "end)");
}

static void
test_interrupt_at_any_step_of_a_queue(void **state)
{
	assert_steps(*state, "local q = fz.queue()\n"
			     "steps(function() q:put(1) q:get() end)\n"
			     "q:close()");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		HOST_TEST(test_interrupt_at_any_step_of_an_invoke),
		HOST_TEST(test_interrupt_at_any_step_of_a_stream),
		HOST_TEST(test_interrupt_at_any_step_of_a_pool),
		HOST_TEST(test_interrupt_at_any_step_of_tasks),
		HOST_TEST(test_interrupt_at_any_step_of_a_queue),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
