#include "codec/warning.h"

#include <lauxlib.h>

/* (text) -> nothing */
static int
call_warn(lua_State *L)
{
	lua_getglobal(L, "require");
	lua_pushliteral(L, "fzlua.log");
	lua_call(L, 1, 1);
	lua_getfield(L, -1, "warn");
	lua_pushliteral(L, "%s");
	lua_pushvalue(L, 1);
	lua_call(L, 2, 0);
	return 0;
}

void
fz_warning(lua_State *L)
{
	luaL_checkstack(L, 4, NULL);
	lua_pushcfunction(L, call_warn);
	lua_insert(L, -2);
	if (lua_pcall(L, 1, 0, 0) != LUA_OK)
		lua_pop(L, 1);
}
