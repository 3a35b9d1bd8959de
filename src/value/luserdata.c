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

void
fz_luserdata_set(lua_State *L, const struct fz_luserdata_class *class)
{
	if (fz_luserdata_begin(L, class->name)) {
		luaL_checkstack(L, 4, NULL);
		if (class->metamethods != NULL)
			luaL_setfuncs(L, class->metamethods, 0);
		if (class->methods != NULL) {
			lua_newtable(L);
			luaL_setfuncs(L, class->methods, 0);
			if (class->add_methods != NULL)
				class->add_methods(L);
			lua_setfield(L, -2, "__index");
		}
		fz_luserdata_end(L, class->name);
	}
	lua_setmetatable(L, -2);
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
