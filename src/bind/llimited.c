#include "bind/llimited.h"

#include <string.h>

#include <lauxlib.h>
#include <lualib.h>

#include "bind/llimit.h"
#include "bind/lloop.h"

/* Call the original function, which is upvalue 1, with all arguments. */
static int
call_original(lua_State *L)
{
	lua_pushvalue(L, lua_upvalueindex(1));
	lua_insert(L, 1);
	lua_call(L, lua_gettop(L) - 1, LUA_MULTRET);
	return lua_gettop(L);
}

/* Make a coroutine, unless a limit is exceeded. */
static int
make_coroutine(lua_State *L)
{
	fz_llimit_refuse(L, fz_lloop_limit(L));
	return call_original(L);
}

/* replaces debug.sethook */
static int
set_hook(lua_State *L)
{
	if (fz_lloop_limit(L)->on)
		return luaL_error(
		    L, "cannot set a hook: the limits of the host use it");
	return call_original(L);
}

/*
 * Replaces the message handler of the script, which is upvalue 1. The handler
 * of the script is not called for the error of a limit, because the handler
 * would run without a hook.
 */
static int
handle_message(lua_State *L)
{
	if (fz_lloop_limit(L)->over)
		return 1;
	lua_settop(L, 1);
	return call_original(L);
}

static int
return_all(lua_State *L, int status, lua_KContext ctx)
{
	(void)status;
	(void)ctx;
	return lua_gettop(L);
}

/* replaces xpcall */
static int
protect(lua_State *L)
{
	luaL_checktype(L, 2, LUA_TFUNCTION);
	lua_pushvalue(L, 2);
	lua_pushcclosure(L, handle_message, 1);
	lua_replace(L, 2);
	lua_pushvalue(L, lua_upvalueindex(1));
	lua_insert(L, 1);
	lua_callk(L, lua_gettop(L) - 1, LUA_MULTRET, 0, return_all);
	return lua_gettop(L);
}

/* Run a coroutine to its end. Its function and one argument are on it. */
static void
run_to_end(lua_State *L, lua_State *co)
{
	struct fz_llimit *limit = fz_lloop_limit(L);
	struct fz_llimit_hook hook;
	int nresults, status;

	fz_llimit_begin(limit, co, &hook);
	fz_llimit_follow(limit, co);
	status = lua_resume(co, L, 1, &nresults);
	fz_llimit_end(limit, co, &hook);
	if (status == LUA_OK)
		return;
	if (status == LUA_YIELD)
		luaL_error(L, "attempt to yield in a finalizer");
	lua_xmove(co, L, 1);
	lua_error(L);
}

/*
 * Replaces the finalizer of the script, which is upvalue 1. The finalizer runs
 * in a new Lua thread, in which Lua calls the hook of the limit.
 */
static int
finalize(lua_State *L)
{
	lua_State *co;

	if (!fz_llimit_is_set(fz_lloop_limit(L)))
		return call_original(L);
	co = lua_newthread(L);
	lua_pushvalue(L, lua_upvalueindex(1));
	lua_pushvalue(L, 1);
	lua_xmove(L, co, 2);
	run_to_end(L, co);
	return 0;
}

/* Replace the finalizer in the metatable at index 2, unless it is in C. */
static void
replace_finalizer(lua_State *L)
{
	lua_pushliteral(L, "__gc");
	lua_pushvalue(L, -1);
	if (lua_rawget(L, 2) > LUA_TSTRING && !lua_iscfunction(L, -1)) {
		lua_pushcclosure(L, finalize, 1);
		lua_rawset(L, 2);
	}
}

/* replaces setmetatable and debug.setmetatable */
static int
set_metatable(lua_State *L)
{
	if (lua_istable(L, 2)) {
		int top = lua_gettop(L);

		luaL_checkstack(L, 4, NULL);
		replace_finalizer(L);
		lua_settop(L, top);
	}
	return call_original(L);
}

static const struct {
	const char *library, *name;
	lua_CFunction function;
} replaced[] = {
	{ LUA_GNAME, "setmetatable", set_metatable },
	{ LUA_GNAME, "xpcall", protect },
	{ LUA_COLIBNAME, "create", make_coroutine },
	{ LUA_COLIBNAME, "wrap", make_coroutine },
	{ LUA_DBLIBNAME, "sethook", set_hook },
	{ LUA_DBLIBNAME, "setmetatable", set_metatable },
};

/* Replace the function `name` of the library on top. */
static void
replace(lua_State *L, const char *name, lua_CFunction function)
{
	if (lua_getfield(L, -1, name) != LUA_TFUNCTION ||
	    lua_tocfunction(L, -1) == function) {
		lua_pop(L, 1);
		return;
	}
	lua_pushcclosure(L, function, 1);
	lua_setfield(L, -2, name);
}

void
fz_llimited_install(lua_State *L)
{
	int top = lua_gettop(L);

	luaL_checkstack(L, 5, NULL);
	lua_getglobal(L, "require");
	lua_pushliteral(L, "fzlua.unlimited");
	lua_call(L, 1, 0);
	luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
	for (size_t i = 0; i < sizeof(replaced) / sizeof(replaced[0]); i++) {
		if (lua_getfield(L, -1, replaced[i].library) == LUA_TTABLE)
			replace(L, replaced[i].name, replaced[i].function);
		lua_pop(L, 1);
	}
	lua_settop(L, top);
}
