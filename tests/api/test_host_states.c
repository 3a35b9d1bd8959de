/*
 * A host that opens and closes many states: nothing is left of any.
 *
 * wrap: malloc calloc realloc free
 */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <unistd.h>

#include <lauxlib.h>

#include "api/fzlua.h"
#include "descriptors.h"
#include "host_test.h"
#include "sanitized.h"

void *__real_malloc(size_t n);
void *__wrap_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t n);
void *__wrap_realloc(void *p, size_t n);
void __real_free(void *p);
void __wrap_free(void *p);

/* Allocated blocks of the library and of Lua, without malloc's caches. */
static long nblocks;

static void *
counted(void *p)
{
	nblocks += p != NULL;
	return p;
}

void *
__wrap_malloc(size_t n)
{
	return counted(__real_malloc(n));
}

void *
__wrap_calloc(size_t n, size_t size)
{
	return counted(__real_calloc(n, size));
}

void *
__wrap_realloc(void *p, size_t n)
{
	return p == NULL ? counted(__real_realloc(p, n)) : __real_realloc(p, n);
}

void
__wrap_free(void *p)
{
	nblocks -= p != NULL;
	__real_free(p);
}

static void
use_once(const char *start)
{
	struct fzlua_options options = { .size = sizeof(options),
		.start = start,
		.worker_command = getenv("FZLUA") };
	lua_State *L;

	assert_int_equal(fzlua_new(&L, &options), FZLUA_OK);
	assert_int_not_equal(fzlua_fd(L), -1);
	if (luaL_dostring(L,
		"local s = fz.stage 's' "
		"s:register('B', 'A', function(a) return a + 1 end) "
		"local c = fz.chain { s } "
		"assert(c:invoke({ A = 1 }).output.B == 2)") != LUA_OK)
		fail_msg("%s", luaL_tolstring(L, -1, NULL));
	fzlua_close(L);
}

/* Opening and closing n states leaves no memory or descriptor. */
static void
assert_all_go(const char *start, int n)
{
	const char *wanted = getenv("FZLUA_STATES");
	int nfds;
	long before;

	if (wanted != NULL)
		n = atoi(wanted);
	alarm(HOST_HANGS_S + (unsigned)n / 10);
	for (int i = 0; i < 10; i++)
		use_once(start); /* allocates memory that is never freed */
	nfds = count_fds();
	before = nblocks;
	for (int i = 0; i < n; i++)
		use_once(start);
	assert_int_equal(count_fds(), nfds);
	assert_int_equal(nblocks, before);
	alarm(0);
}

static void
test_states_come_and_go(void **state)
{
	(void)state;
	assert_all_go("fork", UNDER_ASAN || UNDER_TSAN ? 200 : 1000);
}

static void
test_states_with_spawned_workers_come_and_go(void **state)
{
	(void)state;
	assert_all_go("spawn", 40);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_states_come_and_go),
		cmocka_unit_test(test_states_with_spawned_workers_come_and_go),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
