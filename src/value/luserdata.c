#include "value/luserdata.h"

#include <stdint.h>

bool
fz_luserdata_begin(lua_State *L, const char *name)
{
	if (luaL_getmetatable(L, name) != LUA_TNIL)
		return false;
	lua_pop(L, 1);
	lua_createtable(L, 0, 4);
	lua_pushstring(L, name);
	lua_setfield(L, -2, "__name");
	return true;
}

void
fz_luserdata_end(lua_State *L, const char *name)
{
	lua_pushvalue(L, -1);
	lua_setfield(L, LUA_REGISTRYINDEX, name);
}

static void
new_library(lua_State *L, const luaL_Reg *functions)
{
	int n = 0;

	while (functions[n].name != NULL)
		n++;
	lua_createtable(L, 0, n);
	luaL_setfuncs(L, functions, 0);
}

void
fz_luserdata_class(lua_State *L, const char *name, const luaL_Reg *methods,
    const luaL_Reg *metamethods)
{
	if (fz_luserdata_begin(L, name)) {
		luaL_setfuncs(L, metamethods, 0);
		if (methods != NULL) {
			new_library(L, methods);
			lua_setfield(L, -2, "__index");
		}
		fz_luserdata_end(L, name);
	}
	lua_pop(L, 1);
}

void
fz_luserdata_finalize(lua_State *L, lua_CFunction gc)
{
	const void *key = (const void *)(uintptr_t)gc;

	if (lua_rawgetp(L, LUA_REGISTRYINDEX, key) == LUA_TNIL) {
		lua_pop(L, 1);
		lua_createtable(L, 0, 1);
		lua_pushcfunction(L, gc);
		lua_setfield(L, -2, "__gc");
		lua_pushvalue(L, -1);
		lua_rawsetp(L, LUA_REGISTRYINDEX, key);
	}
	lua_setmetatable(L, -2);
}
