/*
 * A host with threads. Its workers are programs, because a fork would copy
 * locks that another thread holds.
 */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <unistd.h>

#include <lauxlib.h>

#include "api/fzlua.h"
#include "lua_state.h"

static atomic_bool over;

static lua_State *
open_state(const char *command)
{
	struct fzlua_options options = { .size = sizeof(options),
		.start = "spawn",
		.worker_command = command };
	lua_State *L;

	assert_int_equal(fzlua_new(&L, &options), FZLUA_OK);
	return L;
}

/* This thread holds the lock of malloc most of the time. */
static void *
allocate(void *ctx)
{
	(void)ctx;
	while (!atomic_load(&over))
		free(malloc(1 << 20));
	return NULL;
}

static void
test_host_spawn_beside_threads(void **state)
{
	lua_State *L = open_state(getenv("FZLUA"));
	pthread_t threads[2];

	(void)state;
	for (int i = 0; i < 2; i++)
		assert_int_equal(
		    pthread_create(&threads[i], NULL, allocate, NULL), 0);
	for (int i = 0; i < 5; i++)
		lua_state_run(L,
		    "local r = fz.map(function(x) return 2 * x end, "
		    "{ 1, 2, 3 }, { jobs = 3 }) "
		    "assert(r[1] == 2 and r[3] == 6)");
	lua_state_run(L, "local s = fz.stage 's' "
			 "s:register('B', 'A', function(a) return a + 1 end) "
			 "local c <close> = fz.chain { s } "
			 "assert(c:invoke({ A = 1 }).output.B == 2)");
	atomic_store(&over, true);
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	fzlua_close(L);
}

static void
test_host_spawn_with_sigchld_ignored(void **state)
{
	lua_State *L = open_state(getenv("FZLUA"));

	(void)state;
	signal(SIGCHLD, SIG_IGN);
	lua_state_run(L,
	    "local r = fz.map(function(x) return 2 * x end, { 1, 2, 3 }, "
	    "{ jobs = 3 }) assert(r[3] == 6)");
	fzlua_close(L);
	signal(SIGCHLD, SIG_DFL);
}

static void
test_host_spawn_leaves_descriptors_of_the_host(void **state)
{
	lua_State *L = open_state(getenv("FZLUA"));
	int fd = open("/dev/null", O_RDONLY);
	int other = fcntl(fd, F_DUPFD, 100); /* without close-on-exec */

	(void)state;
	lua_pushinteger(L, other);
	lua_setglobal(L, "fd");
	lua_state_run(L,
	    "local fd = fd local pool <close> = fz.pool(1) "
	    "assert(not pool:apply(function() "
	    "return (io.open('/proc/self/fdinfo/' .. fd)) ~= nil end))");
	close(other);
	close(fd);
	fzlua_close(L);
}

static void
count_fork(void *n, int when)
{
	(void)when;
	++*(int *)n;
}

static void
test_host_spawn_is_no_fork_of_the_host(void **state)
{
	lua_State *L = open_state(getenv("FZLUA"));
	int n = 0;

	(void)state;
	fzlua_set_forks(L, count_fork, &n);
	lua_state_run(
	    L, "local pool <close> = fz.pool(2) pool:map(math.abs, { 1, 2 })");
	lua_state_run(L, "fz.process(math.abs, 1):start():join()");
	assert_int_equal(n, 0);
	lua_state_run(
	    L, "fz.map(math.abs, { 1 }, { jobs = 1, start = 'fork' })");
	assert_int_equal(n, 2);
	fzlua_close(L);
}

static void
use_once(void)
{
	lua_State *L = open_state(getenv("FZLUA"));

	lua_state_run(L, "local s = fz.stage 's' "
			 "s:register('B', 'A', function(a) return a + 1 end) "
			 "local c = fz.chain { s } "
			 "assert(c:invoke({ A = 1 }).output.B == 2)");
	fzlua_close(L);
}

static void *
use_often(void *ctx)
{
	for (int i = 0; i < 10; i++)
		use_once();
	return ctx;
}

static void
test_host_spawn_states_come_and_go_in_two_threads(void **state)
{
	pthread_t threads[2];

	(void)state;
	for (int i = 0; i < 2; i++)
		assert_int_equal(
		    pthread_create(&threads[i], NULL, use_often, NULL), 0);
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
}

/* A process and a manager are programs as well, so nothing forks. */
static void
test_host_spawn_processes_beside_threads(void **state)
{
	lua_State *L = open_state(getenv("FZLUA"));
	pthread_t threads[2];

	(void)state;
	atomic_store(&over, false);
	for (int i = 0; i < 2; i++)
		assert_int_equal(
		    pthread_create(&threads[i], NULL, allocate, NULL), 0);
	for (int i = 0; i < 5; i++)
		lua_state_run(L, "local p <close> = fz.process(function(x) "
				 "return 2 * x end, 21):start() "
				 "assert(p:result() == 42 and p:join(60))");
	lua_state_run(L,
	    "local m <close> = fz.manager() local d = m:dict { x = 1 } "
	    "assert(d:incr('x') == 2)");
	atomic_store(&over, true);
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	fzlua_close(L);
}

static void
test_host_spawn_without_the_command(void **state)
{
	lua_State *L = open_state("/nowhere/fzlua");

	(void)state;
	lua_state_run(L,
	    "local pool <close> = fz.pool(1) "
	    "local ok, e = pcall(pool.apply, pool, function() end) "
	    "assert(not ok and e.kind == 'error' and "
	    "e.message:find('/nowhere/fzlua', 1, true), e)");
	fzlua_close(L);
}

static int
only_here(lua_State *L)
{
	(void)L;
	return 0;
}

static void
test_host_spawn_names_the_c_function_that_workers_lack(void **state)
{
	lua_State *L = open_state(getenv("FZLUA"));

	(void)state;
	lua_register(L, "only_here", only_here);
	lua_state_run(L,
	    "local pool <close> = fz.pool(1) "
	    "local ok, e = pcall(pool.apply, pool, only_here) "
	    "assert(not ok and e.message:find(\"the module '_G' has no C "
	    "function 'only_here' here\", 1, true), e)");
	fzlua_close(L);
}

static void
test_host_spawn_refuses_another_method(void **state)
{
	struct fzlua_options options = { .size = sizeof(options),
		.start = "thread" };
	lua_State *L;

	(void)state;
	assert_int_equal(fzlua_new(&L, &options), FZLUA_ERROR);
	assert_non_null(L);
	fzlua_close(L);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_host_spawn_beside_threads),
		cmocka_unit_test(test_host_spawn_processes_beside_threads),
		cmocka_unit_test(
		    test_host_spawn_states_come_and_go_in_two_threads),
		cmocka_unit_test(test_host_spawn_with_sigchld_ignored),
		cmocka_unit_test(
		    test_host_spawn_leaves_descriptors_of_the_host),
		cmocka_unit_test(test_host_spawn_is_no_fork_of_the_host),
		cmocka_unit_test(test_host_spawn_without_the_command),
		cmocka_unit_test(
		    test_host_spawn_names_the_c_function_that_workers_lack),
		cmocka_unit_test(test_host_spawn_refuses_another_method),
	};

	alarm(600);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
