/*
 * A host that forks by itself, as servers do. A child of the host becomes a
 * member of the shared heap when it first uses an object there. Runs and
 * workers stay those of the parent, whatever the child does.
 */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

#include <lauxlib.h>
#include <lualib.h>

#include "api/fzlua.h"
#include "bind/shared/lshared.h"
#include "lua_state.h"

/* Fork; in the child exit with what f() returns. Returns the exit status. */
static int
in_fork(int (*f)(lua_State *L), lua_State *L)
{
	pid_t pid = fork();
	int status;

	assert_int_not_equal(pid, -1);
	if (pid == 0) {
		alarm(60);
		_exit(f(L));
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static int
look(lua_State *L)
{
	return fz_lshared_member(fz_lshared(L)) == 0 ? 0 : 1;
}

static void
test_host_forks_join_nothing(void **state)
{
	lua_State *L = *state;
	uint32_t n;

	lua_state_run(L, "a, b = fz.pipe() q = fz.queue()");
	n = fz_heap_nplaces();
	assert_true(n > 0);
	for (int i = 0; i < 20; i++)
		assert_int_equal(in_fork(look, L), 0);
	assert_int_equal(fz_heap_nplaces(), n);
	/* recv() does not wait for the children: they never used the pipe. */
	lua_state_run(L, "b:close() local v, why = a:recv(10) "
			 "assert(v == nil and why == 'closed', why)");
}

static int
use(lua_State *L)
{
	return luaL_dostring(L, "assert(b:recv(10) == 'ping') b:send('pong') "
				"local c, d = fz.pipe() c:send(1) "
				"assert(d:recv(10) == 1)") == LUA_OK
		   ? 0
		   : 1;
}

static void
test_host_forks_may_use_a_pipe(void **state)
{
	lua_State *L = *state;

	lua_state_run(L, "a, b = fz.pipe() a:send('ping')");
	assert_int_equal(in_fork(use, L), 0);
	lua_state_run(L, "assert(a:recv(10) == 'pong')");
	/* The child has closed only its own ends of the pipe when it exited. */
	lua_state_run(
	    L, "b:send('still here') assert(a:recv(10) == 'still here')");
}

/* A process that is not a member puts an item after its parent has died. */
static int
leave_orphan(lua_State *L)
{
	pid_t pid = fork();

	if (pid == 0) {
		alarm(60);
		usleep(400 * 1000);
		_exit(luaL_dostring(L, "q:put('late')") == LUA_OK ? 0 : 1);
	}
	return pid > 0 ? 0 : 1;
}

static void
test_a_wait_for_a_process_that_is_not_known_is_no_deadlock(void **state)
{
	lua_State *L = *state;

	lua_state_run(L, "q = fz.queue()");
	assert_int_equal(in_fork(leave_orphan, L), 0);
	lua_state_run(L, "assert(q:get() == 'late')");
}

static void *
make_pipe(void *L)
{
	if (luaL_dostring(L, "a, b = fz.pipe() q = fz.queue()") != LUA_OK)
		return L;
	return NULL;
}

/* Different threads use the state one after the other. */
static void
test_host_threads_may_end_before_what_they_made(void **state)
{
	lua_State *L = *state;
	pthread_t thread;

	assert_int_equal(pthread_create(&thread, NULL, make_pipe, L), 0);
	assert_int_equal(pthread_join(thread, NULL), 0);
	lua_state_run(L, "local p <close> = fz.process(function() "
			 "local v = b:recv(20) b:send(v) return v end) "
			 "p:start() a:send('x') assert(a:recv(20) == 'x') "
			 "assert(p:result(20) == 'x')");
	lua_state_run(L,
	    "local pool <close> = fz.pool(2) "
	    "local r = pool:map(function(i) q:put(i) return i end, {1, 2}) "
	    "assert(r[2] == 2 and q:get(20) + q:get(20) == 3)");
}

static int
call_pool(lua_State *L)
{
	return luaL_dostring(L, "local p <close> = fz.pool(2) "
				"assert(p:apply(math.abs, -2) == 2) "
				"assert(pool:apply(math.abs, -3) == 3)");
}

static int
run_task(lua_State *L)
{
	return luaL_dostring(L,
	    "local t = fz.spawn(function() fz.sleep(0.01) return 'own' end) "
	    "assert(fz.await(t) == 'own')");
}

static int
await_parents_call(lua_State *L)
{
	return luaL_dostring(L, "local ok, e = pcall(first.get, first) "
				"assert(not ok and e.kind == 'closed', e)");
}

static int
step(lua_State *L)
{
	void *tag;

	for (int i = 0; i < 3; i++) {
		if (fzlua_step(L, 0.01) != FZLUA_OK)
			return 1;
	}
	return fzlua_next(L, 0, &tag) != FZLUA_NONE;
}

static int
finish(lua_State *L)
{
	return fzlua_finish(L) != FZLUA_OK;
}

static int
close_state(lua_State *L)
{
	lua_close(L);
	return 0;
}

static int
close_with_fzlua(lua_State *L)
{
	fzlua_close(L);
	return 0;
}

static int
make_state(lua_State *L)
{
	lua_State *other;
	int failed;

	lua_close(L);
	failed = fzlua_new(&other, NULL) != FZLUA_OK ||
		 luaL_dostring(other, "pool = fz.pool(1)") != LUA_OK ||
		 call_pool(other);
	fzlua_close(other);
	return failed;
}

/*
 * A child uses or closes the state while its parent waits for two workers,
 * which return nothing before the child has ended.
 */
static void
test_host_forks_leave_a_run_alone(void **state)
{
	static int (*const uses[])(lua_State *) = { call_pool, run_task,
		await_parents_call, step, finish, close_state, make_state };
	lua_State *L = *state;
	void *tag;

	for (size_t i = 0; i < sizeof(uses) / sizeof(uses[0]); i++) {
		luaL_loadstring(L,
		    "pool = fz.pool(2) local calls = {} go = fz.event() "
		    "local function f(i) go:wait() return i end "
		    "for i = 1, 8 do calls[i] = pool:apply_async(f, {i}) end "
		    "first = calls[1] local sum = 0 "
		    "for i = 1, 8 do sum = sum + calls[i]:get() end "
		    "return sum");
		assert_int_equal(fzlua_spawn(L, 0, state), FZLUA_OK);
		assert_int_equal(fzlua_step(L, 0), FZLUA_OK);
		assert_int_equal(in_fork(uses[i], L), 0);
		lua_state_run(L, "go:set()");
		while (fzlua_next(L, 1, &tag) == FZLUA_NONE)
			assert_int_equal(fzlua_step(L, 60), FZLUA_OK);
		assert_ptr_equal(tag, state);
		assert_int_equal(lua_tointeger(L, -1), 36);
		lua_pop(L, 1);
		lua_state_run(L, "pool:close() pool:join()");
	}
}

static void *
use_state(void *L)
{
	lua_state_run(L, "pool = fz.pool(1) pool:apply(math.abs, -1)");
	return NULL;
}

/* The fork handler skips the state, because another thread used it. */
static void
test_host_forks_may_use_the_state_of_another_thread(void **state)
{
	pthread_t thread;

	assert_int_equal(pthread_create(&thread, NULL, use_state, *state), 0);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(in_fork(call_pool, *state), 0);
	assert_int_equal(in_fork(close_with_fzlua, *state), 0);
	lua_state_run(*state, "assert(pool:apply(math.abs, -2) == 2)");
}

static int
setup(void **state)
{
	lua_State *L = luaL_newstate();

	if (L == NULL)
		return -1;
	luaL_openlibs(L);
	luaL_requiref(L, "fzlua", luaopen_fzlua, 0);
	lua_setglobal(L, "fz");
	*state = L;
	return 0;
}

static int
teardown(void **state)
{
	lua_close(*state);
	return 0;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_host_forks_join_nothing),
		TEST(test_host_forks_may_use_a_pipe),
		TEST(
		    test_a_wait_for_a_process_that_is_not_known_is_no_deadlock),
		TEST(test_host_threads_may_end_before_what_they_made),
		TEST(test_host_forks_leave_a_run_alone),
		TEST(test_host_forks_may_use_the_state_of_another_thread),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
