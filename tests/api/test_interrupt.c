/*
 * A host whose handler of SIGINT sets a hook, as lua.c does: the hook is called
 * in whatever call of the library waits.
 * wrap: epoll_pwait
 */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <lauxlib.h>
#include <lualib.h>

#include "api/fzlua.h"

enum { HANGS_S = 120 };

static lua_State *interrupted_state; /* its hook is set; NULL: none */
static int hook_mask;

static void
stop(lua_State *L, lua_Debug *ar)
{
	(void)ar;
	lua_sethook(L, NULL, 0, 0);
	luaL_error(L, "interrupted!");
}

static void
on_interrupt(int sig)
{
	(void)sig;
	if (interrupted_state != NULL)
		lua_sethook(interrupted_state, stop, hook_mask, 1);
}

int __real_epoll_pwait(
    int ep, struct epoll_event *events, int n, int ms, const sigset_t *signals);
int __wrap_epoll_pwait(
    int ep, struct epoll_event *events, int n, int ms, const sigset_t *signals);

/*
 * `interrupted_sleep` is the number of a wait: SIGINT comes just before this
 * wait. It also comes before each wait of more than a second, because on a busy
 * machine a short sleep may end without the wait with this number. 0: no signal
 * comes. `nsleeps` counts the waits.
 */
static unsigned long interrupted_sleep, nsleeps;

int
__wrap_epoll_pwait(
    int ep, struct epoll_event *events, int n, int ms, const sigset_t *signals)
{
	if (ms != 0 && interrupted_sleep != 0 &&
	    (++nsleeps == interrupted_sleep || ms > 1000))
		raise(SIGINT);
	return __real_epoll_pwait(ep, events, n, ms, signals);
}

/* Start a process that sends SIGINT to this one. The caller must kill it. */
static pid_t
start_sender(void)
{
	const struct timespec nap = { 0, 50000000 };
	pid_t host = getpid(), pid = fork();

	if (pid != 0)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	while (kill(host, SIGINT) == 0)
		nanosleep(&nap, NULL);
	_exit(0);
}

static void
assert_interrupted(lua_State *L, const char *code)
{
	pid_t sender;
	int status;

	assert_int_equal(luaL_loadstring(L, code), LUA_OK);
	interrupted_state = L;
	sender = start_sender();
	alarm(HANGS_S);
	status = lua_pcall(L, 0, 0, 0);
	alarm(0);
	interrupted_state = NULL;
	kill(sender, SIGKILL);
	assert_int_equal(waitpid(sender, NULL, 0), sender);
	lua_sethook(L, NULL, 0, 0);
	if (status == LUA_OK)
		fail_msg("%s: no error", code);
	if (strstr(luaL_tolstring(L, -1, NULL), "interrupted!") == NULL)
		fail_msg("%s: %s", code, lua_tostring(L, -1));
	lua_settop(L, 0);
}

static void
test_interrupt_calls_the_hook_of_a_host_in_every_wait(void **state)
{
	static const char *const waits[] = {
		"fz.pool(1):apply(function() while true do end end)",
		"fz.map(function() while true do end end, {1, 2})",
		"for _ in fz.pool(1):imap(function() while true do end end, "
		"{1}) "
		"do end",
		"local s = fz.stage 's'\n"
		"s:register('A', {}, function() while true do end end)\n"
		"fz.chain({s}):invoke()",
		"local p <close> = fz.process(function() while true do end "
		"end)\n"
		"p.daemon = true p:start() p:join()",
		"fz.exec{'sleep', '77'}",
		"fz.queue():get(60)",
		/* Returns b, because the death of b would end the wait. */
		"local a, b = fz.pipe() a:recv(60) return b",
		"fz.event():wait(60)",
		"fz.semaphore(0):acquire(60)",
	};
	static const int masks[] = {
		LUA_MASKCALL | LUA_MASKRET | LUA_MASKLINE | LUA_MASKCOUNT,
		LUA_MASKCOUNT,
	};
	lua_State *L = *state;

	for (size_t m = 0; m < sizeof(masks) / sizeof(*masks); m++) {
		hook_mask = masks[m];
		for (size_t i = 0; i < sizeof(waits) / sizeof(*waits); i++)
			assert_interrupted(L, waits[i]);
	}
}

/* The signal handler sets the hook of the main thread; a coroutine waits. */
static void
test_interrupt_ends_the_wait_of_a_coroutine(void **state)
{
	static const char *const codes[] = {
		"coroutine.wrap(fz.sleep)(9e9)",
		"local q = fz.queue()\n"
		"coroutine.wrap(function() q:get(60) end)()",
		"coroutine.wrap(coroutine.wrap(function()\n"
		"  fz.exec{'sleep', '77'}\n"
		"end))()",
		"for _ in coroutine.wrap(function()\n"
		"  local pool <close> = fz.pool(1)\n"
		"  pool:apply(function() while true do end end)\n"
		"end) do end",
		"local p = fz.pool(1)\n"
		"local source = coroutine.wrap(function()\n"
		"  coroutine.yield(1) fz.future():await(60)\n"
		"end)\n"
		"for _ in p:imap(math.abs, source) do end",
		/* With jobs = 0 a function runs in this process, in a coroutine
		 * of its own. */
		"local s = fz.stage 's'\n"
		"function s.A() fz.sleep(9e9) end\n"
		"local e = select(2, pcall(fz.chain{s}, {}, {jobs = 0}))\n"
		"error(tostring(e))",
		/* The error is raised once. */
		"local co = coroutine.create(fz.sleep)\n"
		"local ok, e = coroutine.resume(co, 9e9)\n"
		"for i = 1, 1000 do e = e .. '' end\n"
		"error('the coroutine: ' .. e)",
	};
	lua_State *L = *state;

	hook_mask = LUA_MASKCALL | LUA_MASKRET | LUA_MASKLINE | LUA_MASKCOUNT;
	for (size_t i = 0; i < sizeof(codes) / sizeof(*codes); i++)
		assert_interrupted(L, codes[i]);
}

/* A signal that comes just before a sleep ends that sleep. */
static void
sleeps_end(lua_State *L, const char *code)
{
	hook_mask = LUA_MASKCOUNT;
	interrupted_state = L;
	for (unsigned long n = 1; n <= 4; n++) {
		interrupted_sleep = n;
		nsleeps = 0;
		alarm(HANGS_S);
		assert_int_not_equal(luaL_dostring(L, code), LUA_OK);
		alarm(0);
		assert_in_range(nsleeps, 1, n);
		assert_non_null(strstr(lua_tostring(L, -1), "interrupted!"));
		lua_settop(L, 0);
	}
	interrupted_sleep = 0;
	interrupted_state = NULL;
}

static void
test_interrupt_just_before_a_sleep_ends_it(void **state)
{
	sleeps_end(*state, "fz.sleep(1e-3) fz.sleep(1e-3) fz.sleep(9e9)");
}

static void
test_interrupt_just_before_a_sleep_of_a_coroutine_ends_it(void **state)
{
	sleeps_end(*state, "coroutine.wrap(function()\n"
			   "  fz.sleep(1e-3) fz.sleep(1e-3) fz.sleep(9e9)\n"
			   "end)()");
}

static void
count_calls(lua_State *L, lua_Debug *ar)
{
	(void)L;
	(void)ar;
}

static void
test_interrupt_leaves_a_wait_under_another_hook_alone(void **state)
{
	lua_State *L = *state;

	lua_sethook(L, count_calls, LUA_MASKCOUNT | LUA_MASKCALL, 1000);
	assert_int_equal(
	    luaL_dostring(L,
		"local p <close> = fz.pool(1)\n"
		"assert(p:apply(function(x) return x + 1 end, 1) == 2)\n"
		"coroutine.wrap(fz.sleep)(0.01)"),
	    LUA_OK);
	assert_ptr_equal(lua_gethook(L), count_calls);
	lua_sethook(L, NULL, 0, 0);
}

static int
setup(void **state)
{
	struct sigaction action = { .sa_handler = on_interrupt,
		.sa_flags = SA_RESTART };
	lua_State *L = luaL_newstate();

	sigaction(SIGINT, &action, NULL);
	luaL_openlibs(L);
	luaopen_fzlua(L);
	lua_setglobal(L, "fz");
	*state = L;
	return 0;
}

static int
teardown(void **state)
{
	lua_close(*state);
	signal(SIGINT, SIG_DFL);
	return waitpid(-1, NULL, WNOHANG) == -1 ? 0 : -1;
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
		    test_interrupt_calls_the_hook_of_a_host_in_every_wait,
		    setup, teardown),
		cmocka_unit_test_setup_teardown(
		    test_interrupt_ends_the_wait_of_a_coroutine, setup,
		    teardown),
		cmocka_unit_test_setup_teardown(
		    test_interrupt_just_before_a_sleep_ends_it, setup,
		    teardown),
		cmocka_unit_test_setup_teardown(
		    test_interrupt_just_before_a_sleep_of_a_coroutine_ends_it,
		    setup, teardown),
		cmocka_unit_test_setup_teardown(
		    test_interrupt_leaves_a_wait_under_another_hook_alone,
		    setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
