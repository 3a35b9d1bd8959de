/*
 * Several instances of the library in one process, in one thread and in two:
 * none of them sees the workers, objects or waits of another.
 */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <lauxlib.h>
#include <lualib.h>

#include "api/fzlua.h"
#include "sanitized.h"
#include "shared/heap.h"

enum { HANGS_S = 300, ROUNDS = 8 };

/* Functions that the tests call in each instance. */
static const char functions[] =
    "function work(n)\n"
    "  local seed, lock, q, sum = {n}, fz.lock(), fz.queue(), fz.value('i', "
    "0)\n"
    "  local function put(i)\n"
    "    lock:with(function() sum.value = sum.value + 1 end)\n"
    "    q:put({i, seed[1]})\n"
    "    return i * n\n"
    "  end\n"
    "  local list = {}\n"
    "  for i = 1, 40 do list[i] = i end\n"
    "  for jobs = 1, 2 do\n"
    "    local pool <close> = fz.pool(jobs)\n"
    "    local results = pool:map(put, list)\n"
    "    for i = 1, 40 do\n"
    "      assert(results[i] == i * n)\n"
    "      assert(q:get(60)[2] == n)\n"
    "    end\n"
    "    assert(pool:apply(put, 7) == 7 * n and q:get(60)[1] == 7)\n"
    "  end\n"
    "  assert(sum.value == 82 and not q:try_get())\n"
    "end\n"
    "function talk(n)\n"
    "  local a, b = fz.pipe()\n"
    "  local child <close> = fz.process(function()\n"
    "    b:send(b:recv(60) + 1)\n"
    "  end)\n"
    "  child:start()\n"
    "  a:send(n)\n"
    "  assert(a:recv(60) == n + 1)\n"
    "  child:join()\n"
    "  b:close()\n"
    "  local v, why = a:recv(60)\n"
    "  assert(v == nil and why == 'closed')\n"
    "end\n"
    "function wait_in_vain(seconds)\n"
    "  local c = fz.condition()\n"
    "  c:acquire()\n"
    "  local done = c:wait(seconds)\n"
    "  c:release()\n"
    "  assert(not done)\n"
    "end\n"
    "function crash(n)\n"
    "  local pool <close> = fz.pool(1)\n"
    "  local _, e = pcall(pool.apply, pool, function() os.exit(n) end)\n"
    "  assert(e.kind == 'crash', tostring(e))\n"
    "end\n";

static const char *
run(lua_State *L, const char *code)
{
	if (luaL_dostring(L, code) != LUA_OK)
		return luaL_tolstring(L, -1, NULL);
	lua_settop(L, 0);
	return NULL;
}

static void
must_run(lua_State *L, const char *code)
{
	const char *failed = run(L, code);

	if (failed != NULL)
		fail_msg("%s: %s", code, failed);
}

static lua_State *
open_instance(void)
{
	lua_State *L = luaL_newstate();

	if (L == NULL)
		return NULL;
	luaL_openlibs(L);
	luaL_requiref(L, "fzlua", luaopen_fzlua, 0);
	lua_setglobal(L, "fz");
	must_run(L, functions);
	return L;
}

static int
count_descriptors(void)
{
	int n = 0;

	for (int fd = 0; fd < 4096; fd++) {
		errno = 0;
		n += dup2(fd, fd) == fd;
	}
	return n;
}

static int ndescriptors;

static int
setup(void **state)
{
	(void)state;
	alarm(HANGS_S);
	ndescriptors = count_descriptors();
	return 0;
}

/* Nothing is left of the instances: no child, descriptor or mapping. */
static int
teardown(void **state)
{
	(void)state;
	alarm(0);
	if (waitpid(-1, NULL, WNOHANG) != -1 || errno != ECHILD)
		return -1;
	if (fz_heap_wake_fd() != -1 || fz_heap_used() != 0)
		return -1;
	return count_descriptors() == ndescriptors ? 0 : -1;
}

static void
test_instances_work_in_turn_in_one_thread(void **state)
{
	lua_State *a = open_instance(), *b = open_instance();

	(void)state;
	for (int i = 0; i < 2; i++) {
		must_run(a, "work(3) talk(1)");
		must_run(b, "work(5) talk(2)");
	}
	lua_close(a);
	must_run(b, "work(7) talk(3)");
	lua_close(b);
}

/*
 * Each instance has an open pool while the other one forks workers or closes.
 */
static void
test_instances_keep_their_workers_when_another_closes(void **state)
{
	lua_State *a = open_instance(), *b = open_instance();
	static const char open[] =
	    "q = fz.queue() p = fz.pool(2)\n"
	    "function use() assert(p:map(function(i) q:put(i) return i end,\n"
	    "  {1, 2})[2] == 2) assert(q:get(60) + q:get(60) == 3) end use()";

	(void)state;
	must_run(a, open);
	must_run(b, open);
	must_run(a, "use()");
	must_run(b, "use()");
	lua_close(b);
	must_run(a, "use()");
	lua_close(a);
}

/*
 * Closing an instance frees its own locks and queues, and none of the other
 * instance.
 */
static void
test_instances_are_different_members(void **state)
{
	lua_State *a = open_instance(), *b = open_instance();
	size_t used;

	(void)state;
	must_run(a, "l = fz.lock() l:acquire() q = fz.queue() q:put({'x'})");
	used = fz_heap_used();
	must_run(b, "l = fz.lock() q = fz.queue() for i = 1, 9 do q:put({i}) "
		    "end c = fz.barrier(2) l:acquire()");
	assert_true(fz_heap_used() > used);
	assert_int_equal(fz_heap_nplaces(), 2);
	lua_close(b);
	assert_int_equal(fz_heap_used(), used);
	must_run(a, "l:release() assert(q:get(60)[1] == 'x')");
	b = open_instance();
	must_run(b, "fz.lock():acquire()");
	assert_int_equal(fz_heap_nplaces(), 2); /* the free place is reused */
	lua_close(a);
	lua_close(b);
}

/*
 * The death of a worker is noticed although workers of the other instance are
 * alive, because they have not inherited its pipes.
 */
static void
test_instances_notice_a_crash_beside_each_other(void **state)
{
	lua_State *a = open_instance(), *b = open_instance();

	(void)state;
	must_run(a, "p = fz.pool(2) p:map(math.abs, {1, 2})");
	must_run(b, "crash(3) p = fz.pool(1) p:apply(math.abs, 1)");
	must_run(a, "crash(4)");
	lua_close(a);
	lua_close(b);
}

/* The functions run in a worker, which makes a pool of its own. */
static void
test_instances_are_inherited_by_workers(void **state)
{
	lua_State *a = open_instance(), *b = open_instance();
	static const char nested[] =
	    "local q, p <close> = fz.queue(), fz.pool(1)\n"
	    "p:apply(function()\n"
	    "  local inner <close> = fz.pool(1)\n"
	    "  q:put(inner:apply(function() q:put(1) return 2 end))\n"
	    "end)\n"
	    "assert(q:get(60) + q:get(60) == 3)";

	(void)state;
	must_run(a, "p = fz.pool(1) p:apply(math.abs, 1)");
	must_run(b, nested);
	must_run(a, nested);
	lua_close(a);
	lua_close(b);
}

struct thread {
	pthread_t id;
	int number;
	const char *failed; /* the error of the code; NULL: it has not failed */
	bool ends_first;
};

static pthread_barrier_t opened, closed;

/*
 * Under the sanitizer a thread locks this mutex while it may fork or allocate,
 * see sanitized.h. Without a sanitizer the mutex is not used.
 */
static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER;

static void
begin_turn(void)
{
	if (UNDER_ASAN)
		pthread_mutex_lock(&turn);
}

static void
end_turn(void)
{
	if (UNDER_ASAN)
		pthread_mutex_unlock(&turn);
}

/* A copy of the error of the code, or NULL. */
static const char *
run_in_turn(lua_State *L, const char *code)
{
	const char *failed;

	begin_turn();
	failed = run(L, code);
	if (failed != NULL)
		failed = strdup(failed);
	end_turn();
	return failed;
}

static lua_State *
open_in_turn(void)
{
	lua_State *L;

	begin_turn();
	L = open_instance();
	end_turn();
	return L;
}

static void *
use_instance(void *ctx)
{
	struct thread *t = ctx;
	lua_State *L = open_in_turn();
	char code[128];

	pthread_barrier_wait(&opened);
	snprintf(code, sizeof(code),
	    "local n = %d wait_in_vain(0.05) work(n) %s crash(n)", t->number,
	    UNDER_TSAN ? "" : "talk(n)");
	for (int i = 0; i < ROUNDS && t->failed == NULL; i++)
		t->failed = run_in_turn(L, code);
	if (!t->ends_first)
		pthread_barrier_wait(&closed);
	if (!t->ends_first && t->failed == NULL)
		t->failed = run_in_turn(L, code);
	begin_turn();
	lua_close(L);
	end_turn();
	if (t->ends_first)
		pthread_barrier_wait(&closed);
	return NULL;
}

/*
 * Under the thread sanitizer no fork is made while there is another thread: if
 * that thread holds a lock of the sanitizer's allocator, the lock is never
 * released in the child.
 */
static void
run_in_threads(bool first_ends_first)
{
	struct thread threads[2] = {
		{ .number = 3, .ends_first = first_ends_first },
		{ .number = 5, .ends_first = !first_ends_first },
	};

	if (UNDER_TSAN)
		setenv("FZLUA_START", "spawn", 1);
	assert_int_equal(pthread_barrier_init(&opened, NULL, 2), 0);
	assert_int_equal(pthread_barrier_init(&closed, NULL, 2), 0);
	begin_turn();
	for (int i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&threads[i].id, NULL,
				     use_instance, &threads[i]),
		    0);
	end_turn();
	for (int i = 0; i < 2; i++)
		assert_int_equal(pthread_join(threads[i].id, NULL), 0);
	for (int i = 0; i < 2; i++)
		if (threads[i].failed != NULL)
			fail_msg("%s", threads[i].failed);
	pthread_barrier_destroy(&opened);
	pthread_barrier_destroy(&closed);
}

static void
test_instances_work_in_two_threads(void **state)
{
	(void)state;
	run_in_threads(true);
	run_in_threads(false);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_instances_work_in_turn_in_one_thread),
		TEST(test_instances_keep_their_workers_when_another_closes),
		TEST(test_instances_are_different_members),
		TEST(test_instances_notice_a_crash_beside_each_other),
		TEST(test_instances_are_inherited_by_workers),
		TEST(test_instances_work_in_two_threads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
