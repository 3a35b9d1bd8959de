#include "api/call.h"

#include <errno.h>
#include <string.h>

#include <lauxlib.h>

#include "api/fzlua.h"
#include "api/use.h"
#include "base/err.h"
#include "bind/llimit.h"
#include "bind/lloop.h"
#include "value/lerror.h"

/*
 * The address of this variable is the registry key of the error for a lack of
 * memory.
 */
static const char memory_error_key;

/* Number of free places on the stack that the functions here use. */
enum { STACK_ROOM = 8 };

_Static_assert((int)FZLUA_GRAPH == (int)FZ_ERR_GRAPH, "one list of kinds");

void
fzlua_keep_memory_error(lua_State *L)
{
	fz_lerror_push(L, FZ_ERR_MEMORY, "not enough memory");
	lua_rawsetp(L, LUA_REGISTRYINDEX, &memory_error_key);
}

void
fzlua_push_host(lua_State *L, const char *name)
{
	luaL_checkstack(L, STACK_ROOM, NULL);
	lua_getglobal(L, "require");
	lua_pushliteral(L, "fzlua.host");
	lua_call(L, 1, 1);
	lua_getfield(L, -1, name);
	lua_remove(L, -2);
}

/* The message handler: (error) -> fz.Error with a traceback */
static int
on_error(lua_State *L)
{
	fzlua_push_host(L, "on_error");
	lua_insert(L, 1);
	lua_call(L, 1, 1);
	return 1;
}

int
fzlua_status_of(lua_State *L)
{
	const char *kind;
	int status = FZLUA_ERROR;

	lua_pushliteral(L, "kind");
	lua_rawget(L, -2);
	kind = lua_tostring(L, -1);
	for (int k = FZLUA_ERROR; kind != NULL && k <= FZLUA_GRAPH; k++) {
		if (strcmp(kind, fz_err_kind_name((enum fz_err_kind)k)) == 0)
			status = k;
	}
	lua_pop(L, 1);
	return status;
}

/*
 * Replace the error on top by the one that fzlua_keep_memory_error() has made.
 * The error on top is not an fz.Error, because Lua ran out of memory or because
 * the message handler failed.
 */
static int
replace_error(lua_State *L)
{
	lua_pop(L, 1);
	lua_rawgetp(L, LUA_REGISTRYINDEX, &memory_error_key);
	return FZLUA_MEMORY;
}

/* () -> nothing; the body of a protected call */
static int
enter(lua_State *L)
{
	fz_lloop_enter(L);
	return 0;
}

void
fzlua_enter(lua_State *L)
{
	if (!fz_lloop_is_inherited(L) || !lua_checkstack(L, STACK_ROOM))
		return;
	lua_pushcfunction(L, enter);
	if (lua_pcall(L, 0, 0, 0) != LUA_OK)
		lua_pop(L, 1);
}

/* Call the function below the arguments. Returns an enum fzlua_status. */
static int
call(lua_State *L, int nargs, int nresults)
{
	int handler = lua_gettop(L) - nargs, status, keep = errno;

	fzlua_enter(L);
	lua_pushcfunction(L, on_error);
	lua_insert(L, handler);
	status = lua_pcall(L, nargs, nresults, handler);
	lua_remove(L, handler);
	errno = keep;
	if (status == LUA_OK)
		return FZLUA_OK;
	return fz_lerror_is(L, -1) ? fzlua_status_of(L) : replace_error(L);
}

/*
 * Call with the limits of fzlua_limit(). The limits are checked again after the
 * call, because a C function may exceed a limit and return normally.
 */
static int
limited_call(lua_State *L, int nargs, int nresults)
{
	struct fz_llimit *limit = fz_lloop_limit(L);
	struct fz_llimit_hook hook;
	int top = lua_gettop(L) - nargs - 1, status;

	fz_llimit_begin(limit, L, &hook);
	status = call(L, nargs, nresults);
	/* the call may have started work: make the next step due */
	fz_lloop_arm_fd(L, 0);
	fz_llimit_end(limit, L, &hook);
	if (!fz_llimit_was_over(limit, &hook) || status == FZLUA_TIMEOUT)
		return status;
	lua_settop(L, top);
	lua_pushcfunction(L, fz_llimit_raise);
	return call(L, 0, 0);
}

int
fzlua_refuse_full(lua_State *L, int n)
{
	lua_pop(L, n);
	lua_rawgetp(L, LUA_REGISTRYINDEX, &memory_error_key);
	return FZLUA_MEMORY;
}

static int
raise_not_open(lua_State *L)
{
	return luaL_error(
	    L, "fzlua is not open in this Lua state: call luaopen_fzlua()");
}

/*
 * Replace `n` values by the error for a host that has not opened the library.
 */
static int
refuse_unopened(lua_State *L, int n)
{
	lua_pop(L, n);
	lua_pushcfunction(L, raise_not_open);
	lua_pcall(L, 0, 0, 0);
	return FZLUA_ERROR;
}

static int
open_call(lua_State *L, int nargs, int nresults)
{
	if (!lua_checkstack(L, STACK_ROOM))
		return fzlua_refuse_full(L, nargs + 1);
	if (!fz_lloop_is_open(L))
		return refuse_unopened(L, nargs + 1);
	return limited_call(L, nargs, nresults);
}

int
fzlua_call(lua_State *L, int nargs, int nresults)
{
	struct fzlua_use use;

	if (!fzlua_begin_use(L, &use))
		return FZLUA_IN_USE;
	return fzlua_end_use(&use, open_call(L, nargs, nresults));
}

int
fzlua_protect(lua_State *L, lua_CFunction f, int nargs, int nresults)
{
	if (!lua_checkstack(L, STACK_ROOM))
		return fzlua_refuse_full(L, nargs);
	if (!fz_lloop_is_open(L))
		return refuse_unopened(L, nargs);
	lua_pushcfunction(L, f);
	lua_insert(L, -(nargs + 1));
	return call(L, nargs, nresults);
}

/* (light userdata: address of the path) -> function */
static int
load(lua_State *L)
{
	if (luaL_loadfile(L, *(const char **)lua_touserdata(L, 1)) != LUA_OK)
		return lua_error(L);
	return 1;
}

static int
do_file(lua_State *L, const char *path, int nresults)
{
	int status;

	if (!lua_checkstack(L, STACK_ROOM))
		return fzlua_refuse_full(L, 0);
	lua_pushlightuserdata(L, &path);
	status = fzlua_protect(L, load, 1, 1);
	return status == FZLUA_OK ? limited_call(L, 0, nresults) : status;
}

int
fzlua_dofile(lua_State *L, const char *path, int nresults)
{
	struct fzlua_use use;

	if (!fzlua_begin_use(L, &use))
		return FZLUA_IN_USE;
	return fzlua_end_use(&use, do_file(L, path, nresults));
}
