/*
 * A host that is killed by SIGKILL: its workers end, and all processes that
 * they have started.
 */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <lauxlib.h>

#include "api/fzlua.h"
#include "host_test.h"
#include "sanitized.h"

enum { NTHREADS = 2, NCHILDREN = 6 }; /* threads; children of each state */

/*
 * All processes of the host, and the programs that they run, have the writing
 * end of this pipe open: a reader gets EOF when the last of them has ended.
 */
static int alive[2];

/* report(): a child of the host runs now */
static int
report(lua_State *L)
{
	return write(alive[1], "", 1) == 1 ? 0 : luaL_error(L, "write");
}

/* Posted by each thread when its children have started. */
static sem_t started;

/*
 * all_started(): all children of this state have started. Under the sanitizer
 * the thread makes no further call, see sanitized.h.
 */
static int
all_started(lua_State *L)
{
	(void)L;
	sem_post(&started);
	while (UNDER_ASAN)
		pause();
	return 0;
}

/*
 * Children that compute, wait, are idle or are stopped. A stopped child has a
 * program that reports after the stop, because a child that stopped after the
 * death of the host would stay stopped.
 */
static const char code[] =
    "local function start(f)\n"
    "  pools = pools or {}\n"
    "  local pool = fz.pool(1)\n"
    "  pools[#pools + 1] = pool\n"
    "  return pool:apply_async(function() report() return f() end)\n"
    "end\n"
    "start(function() while true do end end)\n"
    "start(function() fz.sleep(600) end)\n"
    "start(function() os.execute('sleep 600') end)\n"
    "pool = fz.pool(1)\n"
    "pool:apply_async(os.execute,\n"
    "  {'kill -STOP $PPID; printf x >&' .. report_fd})\n"
    "start(function() end):await()\n"
    "fz.process(function() report() fz.sleep(600) end):start()\n"
    "all_started()\n"
    "fz.sleep(600)\n";

static void *
run_state(void *unused)
{
	lua_State *L;

	(void)unused;
	if (fzlua_new(&L, NULL) != FZLUA_OK)
		_exit(1);
	lua_register(L, "report", report);
	lua_register(L, "all_started", all_started);
	lua_pushinteger(L, alive[1]);
	lua_setglobal(L, "report_fd");
	luaL_loadstring(L, code);
	fzlua_call(L, 0, 0); /* fzlua_call() returns only if it fails */
	print_message("%s\n", luaL_tolstring(L, -1, NULL));
	_exit(1);
}

static void
run_host(void)
{
	pthread_t threads[NTHREADS];

	alarm(HOST_HANGS_S);
	close(alive[0]);
	sem_init(&started, 0, 0);
	for (int i = 0; i < NTHREADS; i++) {
		if (pthread_create(&threads[i], NULL, run_state, NULL) != 0)
			_exit(1);
		if (UNDER_ASAN)
			sem_wait(&started);
	}
	pthread_join(threads[0], NULL);
	_exit(1);
}

/* Wait for a report, and read it. Returns 1, or 0 at EOF. */
static ssize_t
read_alive(void)
{
	struct pollfd p = { .fd = alive[0], .events = POLLIN };
	char byte;

	assert_int_equal(poll(&p, 1, HOST_HANGS_S * 1000), 1);
	return read(alive[0], &byte, 1);
}

static void
kill_host(void)
{
	int status;
	pid_t pid;

	assert_int_equal(pipe(alive), 0);
	pid = fork();
	assert_int_not_equal(pid, -1);
	if (pid == 0)
		run_host();
	close(alive[1]);
	for (int i = 0; i < NTHREADS * NCHILDREN; i++)
		assert_int_equal(read_alive(), 1);
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status));
	assert_int_equal(read_alive(), 0);
	close(alive[0]);
}

static void
test_nothing_outlives_a_killed_host(void **state)
{
	(void)state;
	for (int i = 0; i < 3; i++)
		kill_host();
}

static void
test_no_worker_on_a_stream_outlives_a_killed_host(void **state)
{
	(void)state;
	setenv("FZLUA_LINK", "stream", 1);
	kill_host();
	unsetenv("FZLUA_LINK");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_nothing_outlives_a_killed_host),
		cmocka_unit_test(
		    test_no_worker_on_a_stream_outlives_a_killed_host),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
