/*
 * A state is opened, used and closed while the calls to the system fail in
 * turn: each gives a status, and nothing is left.
 *
 * wrap: malloc calloc realloc mmap epoll_create1 epoll_ctl epoll_pwait fork
 * wrap: pipe2 read write pwritev2
 */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <lauxlib.h>

#include "api/fzlua.h"
#include "descriptors.h"
#include "faults.h"
#include "host_test.h"
#include "world.h"

void *__real_realloc(void *p, size_t n);

/* Lua's own allocations do not fail here; they fail in test_host.c. */
static void *
lua_alloc(void *ctx, void *block, size_t old_size, size_t size)
{
	(void)ctx;
	(void)old_size;
	if (size != 0)
		return __real_realloc(block, size);
	free(block);
	return NULL;
}

/* Drop the log: a failure may write a line there. */
static void
drop_log(void *ctx, const char *line, size_t len)
{
	(void)ctx;
	(void)line;
	(void)len;
}

static const char use_all[] =
    "local s, u = fz.stage 's', fz.stage 'u'\n"
    "function s.B(A) return A + 1 end\n"
    "function u.C(B) return ('x'):rep(B * 1000) end\n"
    "local chain <close> = s >> u\n"
    "assert(#chain:invoke{A = 1}.output.C == 2000)\n"
    "local pool <close> = fz.pool(1)\n"
    "local results = pool:map(function(x) return {2 * x} end, {1, 2, 3})\n"
    "assert(results[3][1] == 6)\n"
    "local q = fz.queue()\n"
    "local p <close> = fz.process(function() return q:get(60)[1] end)\n"
    "p:start() q:put{5}\n"
    "assert(p:result(60) == 5)\n"
    "return fz.exec({'true'}).exitcode\n";

/* Run the script as a task that the host polls for. */
static int
run_task(lua_State *L)
{
	struct pollfd p = { .fd = fzlua_fd(L), .events = POLLIN };
	int status;
	void *tag;

	if (p.fd == -1) {
		lua_pushstring(L, strerror(errno));
		return FZLUA_ERROR;
	}
	if (luaL_loadstring(L, use_all) != LUA_OK)
		return FZLUA_MEMORY;
	status = fzlua_spawn(L, 0, NULL);
	while (status == FZLUA_OK &&
	       (status = fzlua_next(L, 1, &tag)) == FZLUA_NONE) {
		poll(&p, 1, -1);
		status = fzlua_step(L, 0);
	}
	return status;
}

/* Returns 0, or -1 if a status says that something has failed. */
static int
use_once(void *ctx)
{
	const struct fzlua_options options = {
		.size = sizeof(options), .alloc = lua_alloc, .log = drop_log
	};
	int *nfds = ctx, status;
	lua_State *L;

	status = fzlua_new(&L, &options);
	if (status == FZLUA_OK)
		status = run_task(L);
	if (status == FZLUA_OK)
		assert_int_equal(lua_tointeger(L, -1), 0);
	else if (L != NULL) /* there is always an error value with a message */
		assert_non_null(luaL_tolstring(L, -1, NULL));
	fzlua_close(L);
	assert_int_equal(count_fds(), *nfds);
	return status == FZLUA_OK ? 0 : -1;
}

static void
test_each_call_to_the_system_may_fail(void **state)
{
	int nfds;

	(void)state;
	alarm(5 * HOST_HANGS_S);
	nfds = count_fds();
	assert_int_equal(use_once(&nfds), 0);
	assert_true(faults_at_each(use_once, &nfds) > 0);
	alarm(0);
}

static void
test_descriptors_may_run_out(void **state)
{
	struct rlimit before, limit;
	int nfds = count_fds(), nfailed = 0;

	(void)state;
	alarm(5 * HOST_HANGS_S);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	limit = before;
	/*
	 * The first limit leaves one descriptor, because count_fds() needs it.
	 */
	for (limit.rlim_cur = (rlim_t)nfds + 1;; limit.rlim_cur++) {
		assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
		if (use_once(&nfds) == 0)
			break;
		nfailed++;
		assert_no_children();
	}
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
	assert_true(nfailed > 10);
	alarm(0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_each_call_to_the_system_may_fail),
		cmocka_unit_test(test_descriptors_may_run_out),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
