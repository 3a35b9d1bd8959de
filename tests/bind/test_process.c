/*
 * fz.process when the system fails it: at its start, inside it and at its end.
 * wrap: malloc calloc realloc mmap epoll_create1 epoll_ctl epoll_pwait fork
 * wrap: pipe2 read write pwritev2 prctl
 */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <lauxlib.h>
#include <lualib.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "api/fzlua.h"
#include "descriptors.h"
#include "faults.h"
#include "lua_state.h"
#include "value/lerror.h"
#include "world.h"

enum { TRIES_MAX = 400 };

int __real_prctl(int what, unsigned long arg);
int __wrap_prctl(int what, unsigned long arg);

/* The only process in which prctl() succeeds; 0: it does not fail. */
static pid_t prctl_only_in;

int
__wrap_prctl(int what, unsigned long arg)
{
	if (prctl_only_in == 0 || prctl_only_in == getpid())
		return __real_prctl(what, arg);
	errno = EPERM;
	return -1;
}

struct host {
	lua_State *L;
	int nfds; /* descriptors that were open before the test */
	struct lua_memory memory;
};

/* exhaust(): all further allocations of Lua fail */
static int
exhaust(lua_State *L)
{
	struct host *h = lua_touserdata(L, lua_upvalueindex(1));

	h->memory.left = 0;
	return 0;
}

/* fail_at(n): the n-th call to the system from now on fails */
static int
fail_at(lua_State *L)
{
	faults_at((unsigned long)luaL_checkinteger(L, 1));
	return 0;
}

static bool
truth_of(struct host *h, const char *name)
{
	bool truth;

	lua_getglobal(h->L, name);
	truth = lua_toboolean(h->L, -1);
	lua_pop(h->L, 1);
	return truth;
}

/* Descriptors that stay open are opened before the test. */
static int
setup(void **state)
{
	struct host *h = calloc(1, sizeof(*h));

	h->nfds = count_fds();
	h->L = lua_state_with_library(&h->memory);
	lua_pushlightuserdata(h->L, h);
	lua_pushcclosure(h->L, exhaust, 1);
	lua_setglobal(h->L, "exhaust");
	lua_pushcfunction(h->L, fail_at);
	lua_setglobal(h->L, "fail_at");
	lua_state_run(h->L,
	    "local p <close> = fz.process(function() return 1 end):start()\n"
	    "assert(p:result() == 1)");
	*state = h;
	return 0;
}

static int
teardown(void **state)
{
	struct host *h = *state;

	lua_close(h->L);
	assert_int_equal(count_fds(), h->nfds);
	assert_no_children();
	free(h);
	return 0;
}

static void
test_process_start_that_fails_is_reported_and_can_be_tried_again(void **state)
{
	struct host *h = *state;
	unsigned long n = 0;
	int nfailed = 0, nfds;
	bool came;

	do {
		lua_state_run(h->L,
		    "p = fz.process(function(x) return x end, 'there')\n"
		    "start = p.start\n"
		    "collectgarbage() collectgarbage()");
		nfds = count_fds();
		lua_getglobal(h->L, "start");
		lua_getglobal(h->L, "p");
		faults_at(++n);
		if (lua_pcall(h->L, 1, 0, 0) != LUA_OK) {
			came = faults_end();
			lua_settop(h->L, 0);
			lua_gc(h->L, LUA_GCCOLLECT);
			assert_int_equal(count_fds(), nfds);
			assert_no_children();
			nfailed++;
			lua_state_run(h->L,
			    "assert(p.pid == nil and not p:is_alive())\n"
			    "assert(#fz.active_children() == 0)\n"
			    "p:start()");
		} else {
			came = faults_end();
		}
		lua_state_run(h->L, "assert(p:result() == 'there')\n"
				    "assert(p:join() and p.exitcode == 0)\n"
				    "p:close()");
		assert_no_children();
	} while (came && n < TRIES_MAX);
	assert_true(n < TRIES_MAX);
	assert_true(nfailed > 10);
	print_message("%lu calls, %d failures\n", n, nfailed);
}

static void
test_process_without_a_fork_says_so(void **state)
{
	struct host *h = *state;

	faults_at(0);
	faults.fork_error = EAGAIN;
	lua_state_run(
	    h->L, "ok, e = pcall(fz.process(print).start, fz.process(print))");
	faults_end();
	assert_false(truth_of(h, "ok"));
	lua_getglobal(h->L, "e");
	assert_true(fz_lerror_is(h->L, -1));
	assert_non_null(strstr(
	    fz_lerror_text(h->L, -1), "cannot start a process: Resource"));
	lua_settop(h->L, 0);
}

static void
test_process_that_cannot_be_set_up_says_why(void **state)
{
	struct host *h = *state;

	prctl_only_in = getpid();
	lua_state_run(h->L,
	    "local p <close> = fz.process(print, 'never'):start()\n"
	    "local ok, e = pcall(p.result, p)\n"
	    "assert(p:join() and p.exitcode == 1)\n"
	    "assert(not ok and e.kind == 'error', e)\n"
	    "assert(e.message:find('cannot start a process: '\n"
	    "  .. 'cannot watch the parent', 1, true), e.message)");
	prctl_only_in = 0;
}

/*
 * Let one call of the parent fail while a process sends its result and ends;
 * repeat this for each call in turn. The number of calls varies. So this ends
 * only after several tries in which no call was left to fail. Returns how often
 * the parent got no result.
 */
static int
fail_each_call_at_the_end(struct host *h)
{
	unsigned long n = 0;
	int nfailed = 0, nclean = 0;

	do {
		lua_state_run(h->L, "p = fz.process(f):start()");
		lua_getglobal(h->L, "ask");
		faults_at(++n);
		lua_pcall(h->L, 0, 0, 0);
		nclean = faults_end() ? 0 : nclean + 1;
		nfailed += !truth_of(h, "ok");
		lua_settop(h->L, 0);
		lua_state_run(h->L, "assert(p:join() and p.exitcode)");
		if (nclean != 0)
			lua_state_run(h->L, "assert(ok and #e == 100000)\n"
					    "assert(p.exitcode == 0)");
		lua_state_run(h->L, "p:close()");
		assert_no_children();
	} while (nclean < 5 && n < TRIES_MAX);
	assert_true(n < TRIES_MAX);
	print_message("%lu calls, %d failures\n", n, nfailed);
	return nfailed;
}

/*
 * The parent notices the end of the process even if a call fails. Few calls
 * cost the result if they fail, so a round may miss them.
 */
static void
test_process_any_call_may_fail_at_its_end(void **state)
{
	enum { ROUNDS = 10 };
	struct host *h = *state;
	int round = 0;

	lua_state_run(h->L,
	    "function f() fz.sleep(0.02) return ('x'):rep(100000) end\n"
	    "function ask()\n"
	    "  ok, e = pcall(p.result, p)\n"
	    "  pcall(p.join, p)\n"
	    "end");
	while (fail_each_call_at_the_end(h) == 0)
		assert_true(++round < ROUNDS);
}

/* One call in the process fails. The process succeeds, or exits with 1. */
static void
test_process_any_call_may_fail_inside(void **state)
{
	struct host *h = *state;

	lua_state_run(h->L,
	    "local memory, failed, n = 0, 0, 0\n"
	    "repeat\n"
	    "  n = n + 1\n"
	    "  local p <close> = fz.process(function()\n"
	    "    local s = ('x'):rep(40000)\n"
	    "    fail_at(n)\n"
	    "    return s\n"
	    "  end):start()\n"
	    "  local ok, e = pcall(p.result, p)\n"
	    "  assert(p:join())\n"
	    "  if ok then\n"
	    "    assert(#e == 40000)\n"
	    "  else\n"
	    "    failed = failed + 1\n"
	    "    if e.kind == 'memory' then memory = memory + 1 end\n"
	    "    assert(p.exitcode == 1, tostring(e))\n"
	    "  end\n"
	    "until n == 40\n"
	    "assert(memory > 1 and failed < 40, memory)");
}

static void
test_process_without_memory_for_lua_says_so(void **state)
{
	struct host *h = *state;

	lua_state_run(h->L,
	    "for _, f in ipairs {\n"
	    "  function() exhaust() return {} end,\n"
	    "  function() exhaust() error { 'with', 'a', 'table' } end,\n"
	    "} do\n"
	    "  local p <close> = fz.process(f):start()\n"
	    "  local ok, e = pcall(p.result, p)\n"
	    "  assert(p:join() and p.exitcode == 1)\n"
	    "  assert(not ok and e.kind == 'memory', e)\n"
	    "  assert(e.message == 'not enough memory', e.message)\n"
	    "end");
}

/* If the state is closed while processes run, it ends them. */
static void
test_process_ends_with_its_state(void **state)
{
	struct host *h = *state;

	lua_state_run(h->L,
	    "fz.process(function() while true do end end):start()\n"
	    "fz.process(function() while true do end end):start()\n"
	    "assert(#fz.active_children() == 2)");
}

/* Open all kinds of descriptors: the loop, the arena, the heap, pipes. */
static const char use_all[] =
    "local q, e, l = fz.queue(), fz.event(), fz.lock()\n"
    "local a, b = fz.pipe()\n"
    "local p = fz.process(function() b:send(q:get()) end):start()\n"
    "q:put(('x'):rep(1 << 20))\n"
    "assert(#a:recv() == 1 << 20)\n"
    "p:join()\n"
    "local function where(n)\n"
    "  return fz.exec({ 'readlink', '/proc/' .. fz.current_process().pid\n"
    "    .. '/fd/' .. n }).stdout\n"
    "end\n"
    "local fds = fz.map(where, { 0, 1, 2 }, { jobs = 2 })\n"
    "assert(fds[1] == '/dev/null\\n', fds[1])\n"
    "assert(fds[2]:find '^pipe:' and fds[3]:find '^pipe:')\n"
    "assert(fz.exec({ 'cat' }, { stdin = 'in' }).stdout == 'in')";

/* Returns a bit for each of the descriptors 0 to 2 that is open afterwards. */
static int
use_without_standard_files(void)
{
	int bad = 0;
	lua_State *L;

	for (int fd = 0; fd <= 2; fd++)
		close(fd);
	L = luaL_newstate();
	luaL_openlibs(L);
	luaopen_fzlua(L);
	lua_setglobal(L, "fz");
	if (luaL_dostring(L, use_all) != LUA_OK)
		bad = 8;
	for (int fd = 0; fd <= 2; fd++)
		bad |= (fcntl(fd, F_GETFD) != -1) << fd;
	lua_close(L);
	return bad;
}

static void
test_process_host_without_standard_files_keeps_none(void **state)
{
	int status;
	pid_t pid;

	(void)state;
	pid = fork();
	if (pid == 0)
		_exit(use_without_standard_files());
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
		    test_process_host_without_standard_files_keeps_none),
		TEST(
		    test_process_start_that_fails_is_reported_and_can_be_tried_again),
		TEST(test_process_without_a_fork_says_so),
		TEST(test_process_that_cannot_be_set_up_says_why),
		TEST(test_process_any_call_may_fail_at_its_end),
		TEST(test_process_any_call_may_fail_inside),
		TEST(test_process_without_memory_for_lua_says_so),
		TEST(test_process_ends_with_its_state),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
