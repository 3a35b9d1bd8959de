#define _GNU_SOURCE
#include "host_test.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <lauxlib.h>

#include "api/fzlua.h"

static void
setup_error(lua_State *L, const char *what)
{
	fail_msg("%s: %s", what, luaL_tolstring(L, -1, NULL));
}

int
host_open_state(void **state)
{
	lua_State *L;

	alarm(HOST_HANGS_S);
	if (fzlua_new(&L, NULL) != FZLUA_OK)
		setup_error(L, "fzlua_new");
	*state = L;
	return 0;
}

int
host_close_state(void **state)
{
	fzlua_close(*state);
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
	assert_int_equal(errno, ECHILD);
	alarm(0);
	return 0;
}

void
host_push_function(lua_State *L, const char *code)
{
	if (luaL_loadstring(L, code) != LUA_OK)
		setup_error(L, code);
}

void
host_assert_status(lua_State *L, const char *code, int status)
{
	host_push_function(L, code);
	assert_int_equal(fzlua_call(L, 0, 1), status);
}

const char *
host_field(lua_State *L, const char *name)
{
	const char *text;

	lua_getfield(L, -1, name);
	text = lua_tostring(L, -1);
	lua_pop(L, 1);
	return text != NULL ? text : "(nil)";
}

int
host_poll_next(lua_State *L, int nresults, void **tag)
{
	struct pollfd p = { .fd = fzlua_fd(L), .events = POLLIN };
	int status;

	assert_int_not_equal(p.fd, -1);
	while ((status = fzlua_next(L, nresults, tag)) == FZLUA_NONE) {
		assert_int_equal(poll(&p, 1, HOST_HANGS_S * 1000), 1);
		assert_int_equal(fzlua_step(L, 0), FZLUA_OK);
	}
	return status;
}
