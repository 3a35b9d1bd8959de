#include "api/fzlua.h"

#include <errno.h>
#include <math.h>

#include <lauxlib.h>

#include "api/call.h"
#include "api/use.h"
#include "base/clock.h"
#include "bind/lloop.h"

/* (function, arguments ..., tag) */
static int
call_spawn(lua_State *L)
{
	fzlua_push_host(L, "spawn");
	lua_insert(L, 1);
	lua_insert(L, 2); /* the tag is the first argument */
	lua_call(L, lua_gettop(L) - 1, 0);
	return 0;
}

/* Call `f`, which starts or ends tasks, and make the next step due at once. */
static int
change(lua_State *L, lua_CFunction f, int nargs)
{
	int status = fzlua_protect(L, f, nargs, 0);

	fz_lloop_arm_fd(L, 0);
	return status;
}

static int
spawn(lua_State *L, int nargs, void *tag)
{
	if (!lua_checkstack(L, 1))
		return fzlua_refuse_full(L, nargs + 1);
	lua_pushlightuserdata(L, tag);
	return change(L, call_spawn, nargs + 2);
}

int
fzlua_spawn(lua_State *L, int nargs, void *tag)
{
	struct fzlua_use use;

	if (!fzlua_begin_use(L, &use))
		return FZLUA_IN_USE;
	return fzlua_end_use(&use, spawn(L, nargs, tag));
}

/* () -> ok, tag, results ... or error; nil if no task has ended */
static int
call_next(lua_State *L)
{
	fzlua_push_host(L, "next");
	lua_call(L, 0, LUA_MULTRET);
	return lua_gettop(L);
}

static int
next(lua_State *L, int nresults, void **tag)
{
	int top = lua_gettop(L), ok;
	int status = fzlua_protect(L, call_next, 0, LUA_MULTRET);

	*tag = NULL;
	if (status != FZLUA_OK)
		return status;
	if (lua_isnil(L, top + 1)) {
		lua_settop(L, top);
		return FZLUA_NONE;
	}
	ok = lua_toboolean(L, top + 1);
	*tag = lua_touserdata(L, top + 2);
	lua_remove(L, top + 1);
	lua_remove(L, top + 1);
	if (!ok)
		return fzlua_status_of(L);
	if (nresults != LUA_MULTRET)
		lua_settop(L, top + nresults);
	return FZLUA_OK;
}

int
fzlua_next(lua_State *L, int nresults, void **tag)
{
	struct fzlua_use use;

	*tag = NULL;
	if (!fzlua_begin_use(L, &use))
		return FZLUA_IN_USE;
	return fzlua_end_use(&use, next(L, nresults, tag));
}

/* (tag) */
static int
call_cancel(lua_State *L)
{
	fzlua_push_host(L, "cancel");
	lua_insert(L, 1);
	lua_call(L, 1, 0);
	return 0;
}

static int
cancel(lua_State *L, void *tag)
{
	if (!lua_checkstack(L, 1))
		return fzlua_refuse_full(L, 0);
	lua_pushlightuserdata(L, tag);
	return change(L, call_cancel, 1);
}

int
fzlua_cancel(lua_State *L, void *tag)
{
	struct fzlua_use use;

	if (!fzlua_begin_use(L, &use))
		return FZLUA_IN_USE;
	return fzlua_end_use(&use, cancel(L, tag));
}

int
fzlua_fd(lua_State *L)
{
	return fz_lloop_fd(L);
}

/* (seconds) -> time of the next turn or nil */
static int
call_step(lua_State *L)
{
	fzlua_push_host(L, "step");
	lua_insert(L, 1);
	lua_call(L, 1, 1);
	return 1;
}

static int
step(lua_State *L, double seconds)
{
	int64_t at_ns = FZ_CLOCK_NEVER;
	int status;

	if (!lua_checkstack(L, 1))
		return fzlua_refuse_full(L, 0);
	if (isnan(seconds))
		seconds = 0;
	lua_pushnumber(L, seconds < 0 ? HUGE_VAL : seconds);
	status = fzlua_protect(L, call_step, 1, 1);
	if (status != FZLUA_OK)
		return status;
	if (lua_isnumber(L, -1))
		at_ns = fz_clock_from_seconds(lua_tonumber(L, -1));
	lua_pop(L, 1);
	fz_lloop_arm_fd(L, at_ns);
	return FZLUA_OK;
}

int
fzlua_step(lua_State *L, double seconds)
{
	struct fzlua_use use;

	if (!fzlua_begin_use(L, &use))
		return FZLUA_IN_USE;
	return fzlua_end_use(&use, step(L, seconds));
}

/* () -> nothing; the body of a protected call */
static int
call_finish(lua_State *L)
{
	fzlua_push_host(L, "finish");
	lua_call(L, 0, 0);
	return 0;
}

static int
finish(lua_State *L)
{
	return change(L, call_finish, 0);
}

int
fzlua_finish(lua_State *L)
{
	struct fzlua_use use;

	if (!fzlua_begin_use(L, &use))
		return FZLUA_IN_USE;
	return fzlua_end_use(&use, finish(L));
}
