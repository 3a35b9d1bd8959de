/*
 * A queue in shared memory while there is no memory for it.
 *
 * wrap: madvise malloc calloc
 */
/* MADV_POPULATE_WRITE is Linux. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include <lauxlib.h>
#include <lualib.h>

#include "api/fzlua.h"
#include "box.h"
#include "shared/queue.h"
#include "shared/unfinished.h"
#include "this_member.h"

static bool no_memory;

int __real_madvise(void *at, size_t len, int advice);

int __wrap_madvise(void *at, size_t len, int advice);

int
__wrap_madvise(void *at, size_t len, int advice)
{
	if (no_memory && advice == MADV_POPULATE_WRITE) {
		errno = EFAULT;
		return -1;
	}
	return __real_madvise(at, len, advice);
}

static size_t no_block; /* blocks of this size cannot be allocated; 0: none */
static bool no_heap;

void *__real_malloc(size_t size);
void *__wrap_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__wrap_calloc(size_t n, size_t size);

void *
__wrap_malloc(size_t size)
{
	return size != 0 && size == no_block ? NULL : __real_malloc(size);
}

void *
__wrap_calloc(size_t n, size_t size)
{
	return no_heap ? NULL : __real_calloc(n, size);
}

static void
test_queue_without_memory_it_stays_as_it_is(void **state)
{
	struct box *box = box_new(0);
	size_t before = fz_heap_used();
	unsigned n = 0;

	(void)state;
	no_memory = true;
	assert_int_equal(box_put_big(box, 1, 400 << 20), FZ_QUEUE_FAILED);
	assert_int_equal(fz_heap_used(), before);
	while (n < 100000 && box_put(box, 1, FZ_QUEUE_INLINE) == FZ_QUEUE_DONE)
		n++;
	no_memory = false;
	assert_true(n < 100000);
	assert_int_equal(box_put(box, 2, 10), FZ_QUEUE_DONE);
	for (unsigned i = 0; i < n; i++)
		assert_int_equal(box_take(box, NULL), 1);
	assert_int_equal(box_take(box, NULL), 2);
	assert_int_equal(box_take(box, NULL), 0);
	fz_heap_free(&this_member, &box->object);
}

/* All blocks of the heap have an owner: none is free. */
static void
test_queue_without_memory_for_a_counter_takes_nothing(void **state)
{
	struct box *box = box_new(0);
	unsigned char bytes[FZ_QUEUE_INLINE];
	struct fz_queue_taken taken = { .bytes = bytes, .is_tracked = true };
	void *all[10000];
	pid_t pids[FZ_UNFINISHED_FEW];
	size_t n = 0;

	(void)state;
	box_start_takers(box, pids, FZ_UNFINISHED_FEW);
	box_put(box, 9, 10);
	no_memory = true;
	while (n < 10000 && (all[n] = fz_heap_alloc(join(), 1, NULL)) != NULL)
		n++;
	assert_true(n < 10000);
	assert_int_equal(
	    fz_queue_take(&box->queue, box_self(), &taken), FZ_QUEUE_FAILED);
	assert_int_equal(fz_queue_size(&box->queue), 1);
	no_memory = false;
	while (n > 0)
		fz_heap_give_back(all[--n]);
	assert_int_equal(box_take(box, NULL), 9);
	box_end_takers(pids, FZ_UNFINISHED_FEW);
	fz_heap_free(&this_member, &box->object);
}

/* Run a script, in which starve(what) makes something fail. */
static void
run(lua_State *L, const char *script)
{
	lua_pushcfunction(L, luaopen_fzlua);
	lua_call(L, 0, 1);
	lua_setglobal(L, "fz");
	if (luaL_dostring(L, script) != LUA_OK)
		fail_msg("%s", lua_tostring(L, -1));
}

static void
test_queue_without_memory_put_raises(void **state)
{
	run(*state, "local q = fz.queue()\n"
		    "q:put(1)\n"
		    "starve 'blocks'\n"
		    "local ok, e = pcall(q.put, q, ('x'):rep(300 << 20))\n"
		    "assert(not ok and e.kind == 'memory', tostring(e))\n"
		    "ok, e = pcall(q.put, q, {a = ('x'):rep(300 << 20)})\n"
		    "assert(not ok and e.kind == 'memory', tostring(e))\n"
		    "local n, s = 0, ('x'):rep(30000)\n"
		    "repeat ok, e = pcall(q.put, q, s) n = n + 1\n"
		    "until not ok or n > 100000\n"
		    "assert(not ok and e.kind == 'memory', tostring(e))\n"
		    "starve()\n"
		    "q:put(2)\n"
		    "assert(q:get() == 1)\n"
		    "for i = 2, n do assert(q:get() == s) end\n"
		    "assert(q:get() == 2 and q:size() == 0)\n");
}

/*
 * While an item is decoded, another one is taken from the queue, and there is
 * no memory for its buffer.
 */
static void
test_queue_without_memory_a_nested_get_raises(void **state)
{
	run(*state,
	    "local q, other = fz.queue(), fz.queue()\n"
	    "local Nested = {__fzpack = function() return 1 end,\n"
	    "  __fzunpack = function() return {pcall(other.get, other)} end}\n"
	    "fz.register_class('Nested', Nested)\n"
	    "local v = setmetatable({}, Nested)\n"
	    "other:put(7)\n"
	    "q:put {v}\n"
	    "q:put {v}\n"
	    "starve 'block'\n"
	    "local got = q:get()[1]\n"
	    "starve()\n"
	    "assert(not got[1])\n"
	    "assert(got[2].message:find 'Cannot allocate')\n"
	    "got = q:get()[1]\n"
	    "assert(got[1] and got[2] == 7, tostring(got[2]))\n");
}

static void
test_queue_without_memory_there_is_no_pipe(void **state)
{
	run(*state, "starve 'heap'\n"
		    "local ok, e = pcall(fz.pipe)\n"
		    "starve()\n"
		    "assert(not ok and e.message:find 'Cannot allocate')\n"
		    "local a, b = fz.pipe()\n"
		    "a:send(1)\n"
		    "assert(b:recv() == 1)\n"
		    "a, b = nil\n"
		    "collectgarbage()\n");
	assert_int_equal(fz_heap_used(), 0);
}

static int
starve(lua_State *L)
{
	const char *what = luaL_optstring(L, 1, "");

	no_memory = strcmp(what, "blocks") == 0;
	no_heap = strcmp(what, "heap") == 0;
	no_block = strcmp(what, "block") == 0 ? FZ_QUEUE_INLINE : 0;
	return 0;
}

static int
state_setup(void **state)
{
	lua_State *L = luaL_newstate();

	luaL_openlibs(L);
	lua_register(L, "starve", starve);
	*state = L;
	return 0;
}

static int
state_teardown(void **state)
{
	lua_close(*state);
	no_memory = false;
	return 0;
}

#define TEST(name) cmocka_unit_test(name)

#define TEST_LUA(name) \
	cmocka_unit_test_setup_teardown(name, state_setup, state_teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_queue_without_memory_for_a_counter_takes_nothing),
		TEST(test_queue_without_memory_it_stays_as_it_is),
		TEST_LUA(test_queue_without_memory_put_raises),
		TEST_LUA(test_queue_without_memory_a_nested_get_raises),
		TEST_LUA(test_queue_without_memory_there_is_no_pipe),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
