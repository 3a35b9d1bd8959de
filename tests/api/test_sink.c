/*
 * A host with functions of its own for the output of workers and for the log.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <lauxlib.h>
#include <lualib.h>

#include "api/fzlua.h"

struct host {
	lua_State *L;
	char out[256], err[256], log[512];
	int fails; /* errno with which the next output fails; 0: it succeeds */
};

static void
append(char *to, size_t room, const char *bytes, size_t len)
{
	size_t n = strlen(to);

	assert_true(n + len < room);
	memcpy(to + n, bytes, len);
	to[n + len] = '\0';
}

static int
take_output(void *ctx, int fd, const char *bytes, size_t len)
{
	struct host *h = ctx;

	if (h->fails != 0)
		return h->fails;
	if (fd == STDOUT_FILENO)
		append(h->out, sizeof(h->out), bytes, len);
	else
		append(h->err, sizeof(h->err), bytes, len);
	return 0;
}

static void
take_log(void *ctx, const char *line, size_t len)
{
	struct host *h = ctx;

	append(h->log, sizeof(h->log), line, len);
}

static int
setup(void **state)
{
	static struct host h;

	memset(&h, 0, sizeof(h));
	h.L = luaL_newstate();
	assert_non_null(h.L);
	luaL_openlibs(h.L);
	lua_pushcfunction(h.L, luaopen_fzlua);
	lua_call(h.L, 0, 1);
	lua_setglobal(h.L, "fz");
	fzlua_set_output(h.L, take_output, &h);
	fzlua_set_log(h.L, take_log, &h);
	*state = &h;
	return 0;
}

static int
teardown(void **state)
{
	struct host *h = *state;

	lua_close(h->L);
	return 0;
}

static int
run(struct host *h, const char *code)
{
	return luaL_dostring(h->L, code);
}

static void
test_sink_takes_what_workers_print(void **state)
{
	struct host *h = *state;

	assert_int_equal(run(h, "fz.map(function(x) print('line', x)\n"
				"io.stderr:write('to stderr\\n') end, {7},\n"
				"{jobs = 1})"),
	    LUA_OK);
	assert_string_equal(h->out, "line\t7\n");
	assert_string_equal(h->err, "to stderr\n");
	assert_string_equal(h->log, "");
}

static void
test_sink_takes_the_log(void **state)
{
	struct host *h = *state;

	assert_int_equal(
	    run(h, "fz.map(function(x) return x end, {1}, {jobs = 1,\n"
		   "progress = function() error 'broken' end})"),
	    LUA_OK);
	assert_non_null(strstr(h->log, "ERROR"));
	assert_non_null(strstr(h->log, "broken"));
	assert_int_equal(h->log[strlen(h->log) - 1], '\n');
	assert_string_equal(h->err, "");
}

static void
test_sink_a_failed_output_raises(void **state)
{
	struct host *h = *state;

	h->fails = ENOSPC;
	assert_int_not_equal(run(h, "fz.map(print, {1}, {jobs = 1})"), LUA_OK);
	assert_non_null(strstr(luaL_tolstring(h->L, -1, NULL),
	    "cannot write the output of a worker"));
	h->fails = 0;
	assert_int_equal(run(h, "fz.map(print, {2}, {jobs = 1})"), LUA_OK);
	assert_string_equal(h->out, "2\n");
}

static void
test_sink_without_functions_it_prints(void **state)
{
	struct host *h = *state;
	int pipe_fd[2], before = dup(STDOUT_FILENO);
	char bytes[16] = "";

	assert_int_equal(pipe(pipe_fd), 0);
	fflush(stdout);
	dup2(pipe_fd[1], STDOUT_FILENO);
	fzlua_set_output(h->L, NULL, NULL);
	assert_int_equal(run(h, "fz.map(print, {3}, {jobs = 1})"), LUA_OK);
	fflush(stdout);
	dup2(before, STDOUT_FILENO);
	assert_int_equal(read(pipe_fd[0], bytes, sizeof(bytes) - 1), 2);
	assert_string_equal(bytes, "3\n");
	close(before);
	close(pipe_fd[0]);
	close(pipe_fd[1]);
	assert_string_equal(h->out, "");
}

int
main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_sink_takes_what_workers_print),
		TEST(test_sink_takes_the_log),
		TEST(test_sink_a_failed_output_raises),
		TEST(test_sink_without_functions_it_prints),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
