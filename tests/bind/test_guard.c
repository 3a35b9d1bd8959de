/*
 * What the bindings hold is let go, and freed, when memory is short too.
 * wrap: fz_heap_join
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>

#include "api/fzlua.h"
#include "base/err.h"
#include "lua_state.h"
#include "shared/heap.h"

static struct lua_memory memory;

/* This process cannot join the heap, and so gets no member number. */
static bool stranger;

uint32_t __real_fz_heap_join(struct fz_membership *own, struct fz_err *err);
uint32_t __wrap_fz_heap_join(struct fz_membership *own, struct fz_err *err);

uint32_t
__wrap_fz_heap_join(struct fz_membership *own, struct fz_err *err)
{
	if (!stranger)
		return __real_fz_heap_join(own, err);
	fz_err_set(err, FZ_ERR_ERROR, "no number");
	return 0;
}

static int
setup(void **state)
{
	lua_State *L = lua_state_with_library(&memory);

	lua_state_run(L,
	    "lock, rlock, sem = fz.lock(), fz.rlock(), fz.semaphore(1)\n"
	    "cond, bar = fz.condition(), fz.barrier(1, function()\n"
	    "  return {}\n"
	    "end)\n"
	    "bar2 = fz.barrier(2)\n"
	    "local function f() return {} end\n"
	    "function with() lock:with(f) rlock:with(f) sem:with(f) end\n"
	    "function guard()\n"
	    "  local a <close> = lock:guard()\n"
	    "  local b <close> = rlock:guard()\n"
	    "  local c <close> = sem:guard()\n"
	    "  return f()\n"
	    "end\n"
	    "function wait() cond:acquire() cond:wait(0) cond:wait(0.001)\n"
	    "  cond:wait_for(f) cond:release() end\n"
	    "function barrier() bar:wait() end\n"
	    "function late() pcall(bar2.wait, bar2, 0) end\n"
	    "function check()\n"
	    "  assert(lock:acquire(0)) lock:release()\n"
	    "  assert(not pcall(rlock.release, rlock))\n"
	    "  assert(sem:value() == 1)\n"
	    "  while pcall(cond.release, cond) do end\n"
	    "  bar:reset() assert(bar:wait(0) == 0)\n"
	    "  assert(bar2.n_waiting == 0) bar2:reset()\n"
	    "end");
	*state = L;
	return 0;
}

static int
teardown(void **state)
{
	lua_close(*state);
	return 0;
}

/* Call a global function while each of its allocations fails in turn. */
static void
starve(lua_State *L, const char *function)
{
	long n = 0;

	do {
		int status;

		lua_state_run(L, "collectgarbage()");
		lua_getglobal(L, function);
		memory.nfailed = 0;
		memory.left = n++;
		status = lua_pcall(L, 0, 0, 0);
		memory.left = -1;
		if (status != LUA_OK && status != LUA_ERRMEM)
			fail_msg("%s", luaL_tolstring(L, -1, NULL));
		lua_settop(L, 0);
		lua_state_run(L, "collectgarbage() check()");
		assert_true(n < 1000);
	} while (memory.nfailed != 0);
	assert_true(n > 1);
}

static void
test_guard_holds_nothing_after_an_allocation_failed(void **state)
{
	starve(*state, "with");
	starve(*state, "guard");
}

/* Without member numbers, a process could release another's lock. */
static void
test_guard_raises_in_a_process_without_a_member_number(void **state)
{
	int status = -1;
	pid_t pid;

	lua_state_run(*state, "lock:with(print) held = lock:guard()");
	pid = fork();
	if (pid == 0) {
		stranger = true;
		lua_state_run(*state,
		    "local function raises(f, ...)\n"
		    "  local ok, e = pcall(f, ...)\n"
		    "  assert(not ok and e.message:find 'no number')\n"
		    "end\n"
		    "for _, x in ipairs { lock, rlock, sem, cond } do\n"
		    "  raises(x.with, x, error)\n"
		    "  raises(x.guard, x)\n"
		    "end\n"
		    "held:release()"); /* no effect: the parent has the lock */
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	lua_state_run(
	    *state, "assert(not lock:acquire(0)) held:release() check()");
}

static void
test_wait_leaves_all_whole_after_an_allocation_failed(void **state)
{
	starve(*state, "wait");
	starve(*state, "barrier");
	starve(*state, "late");
}

static void
test_objects_are_freed_with_their_handles(void **state)
{
	static const char code[] =
	    "for _ = 1, 3000 do fz.lock() fz.rlock() fz.semaphore(1)\n"
	    "  fz.event() fz.condition() fz.condition(fz.lock())\n"
	    "  fz.barrier(2, print):abort() end\n"
	    "collectgarbage()";
	size_t before;

	lua_state_run(*state, code);
	before = fz_heap_used();
	for (int i = 0; i < 5; i++)
		lua_state_run(*state, code);
	assert_true(fz_heap_used() <= before);
	/* Nearly all of the 21000 objects of 256 bytes were freed. */
	assert_true(before < 16 * FZ_HEAP_BLOCK);
}

static void
test_objects_of_a_condition_keep_its_lock(void **state)
{
	lua_state_run(*state, "local c = fz.condition(fz.lock())\n"
			      "collectgarbage() collectgarbage()\n"
			      "for _ = 1, 1000 do fz.lock():acquire() end\n"
			      "assert(c:acquire(0))\n"
			      "assert(not c:acquire(0))\n"
			      "c:release()");
}

/* The finalizers of objects that were made before the library run last. */
static const char early[] =
    "keep = setmetatable({}, { __gc = function()\n"
    "  local function f(x) return x end\n"
    "  local calls = {\n"
    "    function() fz.event() end,\n"
    "    function() value:add(1) end,\n"
    "    function() wait(lock, 0) end,\n"
    "    function() fz.map(f, { 1, 2 }) end,\n"
    "    function() fz.pool(1):apply(f, 1) end,\n"
    "    function() pool:apply(f, 1) end,\n"
    "    function() fz.process(f):start() end,\n"
    "    function() fz.exec { 'true' } end,\n"
    "    function() chain:invoke { a = 1 } end,\n"
    "  }\n"
    "  for i, call in ipairs(calls) do\n"
    "    local ok, e = pcall(call)\n"
    "    told = told .. (ok and 'ok' or tostring(e)) .. '\\n'\n"
    "  end\n"
    "  tell(told)\n"
    "end })\n"
    "told = ''";

static char told[4096];

static int
tell(lua_State *L)
{
	snprintf(told, sizeof(told), "%s", luaL_checkstring(L, 1));
	return 0;
}

static void
test_wait_is_an_error_at_the_end_of_the_state(void **state)
{
	lua_State *L = luaL_newstate();
	unsigned n = 0;

	(void)state;
	luaL_openlibs(L);
	lua_register(L, "tell", tell);
	lua_state_run(L, early);
	luaL_requiref(L, "fzlua", luaopen_fzlua, 1);
	lua_setglobal(L, "fz");
	lua_state_run(L,
	    "local s = fz.stage 's'\n"
	    "function s.b(a) return a end\n"
	    "chain = fz.chain { s }\n"
	    "chain:invoke { a = 1 }\n"
	    "value, lock, wait = fz.value 'i', fz.lock(), fz.lock().acquire\n"
	    "pool = fz.pool(1)\n"
	    "pool:apply(print)\n"
	    "process = fz.process(function() fz.event():wait() end)\n"
	    "process:start()");
	lua_close(L);
	for (char *line = strtok(told, "\n"); line != NULL; n++) {
		if (strstr(line, "closed") == NULL &&
		    strstr(line, "has been collected") == NULL)
			fail_msg("%s", line);
		line = strtok(NULL, "\n");
	}
	assert_int_equal(n, 9);
}

int
main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_guard_holds_nothing_after_an_allocation_failed),
		TEST(test_guard_raises_in_a_process_without_a_member_number),
		TEST(test_wait_leaves_all_whole_after_an_allocation_failed),
		cmocka_unit_test(test_wait_is_an_error_at_the_end_of_the_state),
		TEST(test_objects_are_freed_with_their_handles),
		TEST(test_objects_of_a_condition_keep_its_lock),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
