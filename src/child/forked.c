#include "child/forked.h"

#include <lauxlib.h>

/* Its address is the registry key of the list of functions. */
static const char list_key;

void
fz_forked_call(lua_State *L)
{
	int top = lua_gettop(L);

	luaL_checkstack(L, 2, NULL);
	if (lua_rawgetp(L, LUA_REGISTRYINDEX, &list_key) == LUA_TTABLE) {
		for (lua_Integer i = 1; lua_rawgeti(L, top + 1, i) != LUA_TNIL;
		     i++)
			lua_call(L, 0, 0);
	}
	lua_settop(L, top);
}

/* on_fork(f): f() is called in each worker and process that is forked later */
static int
on_fork(lua_State *L)
{
	luaL_checktype(L, 1, LUA_TFUNCTION);
	lua_settop(L, 1);
	if (lua_rawgetp(L, LUA_REGISTRYINDEX, &list_key) == LUA_TNIL) {
		lua_newtable(L);
		lua_replace(L, 2);
		lua_pushvalue(L, 2);
		lua_rawsetp(L, LUA_REGISTRYINDEX, &list_key);
	}
	lua_pushvalue(L, 1);
	lua_rawseti(L, 2, (lua_Integer)lua_rawlen(L, 2) + 1);
	return 0;
}

int
fz_forked_open(lua_State *L)
{
	lua_pushcfunction(L, on_fork);
	lua_setfield(L, -2, "on_fork");
	return 0;
}
