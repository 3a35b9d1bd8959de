#include "digest/digest_state.h"

#include <string.h>

#include <lauxlib.h>

/* The fields of Lua's own modules that are no functions. */
static bool
is_constant(const char *name)
{
	static const char *const names[] = { "huge", "maxinteger", "mininteger",
		"pi", "charpattern" };

	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		if (strcmp(names[i], name) == 0)
			return true;
	}
	return false;
}

/* Whether the function on top is a Lua function of a script. */
static bool
is_of_script(lua_State *L)
{
	static const char ours[] = "@fzlua/";
	lua_Debug ar;

	if (lua_iscfunction(L, -1))
		return false;
	lua_pushvalue(L, -1);
	lua_getinfo(L, ">S", &ar);
	return strncmp(ar.source, ours, sizeof(ours) - 1) != 0;
}

/*
 * Whether the value on top is a setting, in the field whose name is below it.
 * Values that a module keeps for itself would make a new digest in each run.
 */
static bool
is_setting(lua_State *L, bool standard)
{
	const char *name;

	if (lua_type(L, -2) != LUA_TSTRING)
		return false;
	name = lua_tostring(L, -2);
	switch (lua_type(L, -1)) {
	case LUA_TBOOLEAN:
	case LUA_TNUMBER:
	case LUA_TSTRING:
		return standard ? !is_constant(name) : name[0] != '_';
	case LUA_TFUNCTION:
		return standard && is_of_script(L);
	default:
		return false;
	}
}

bool
fz_digest_push_settings(lua_State *L, const char *module, bool standard)
{
	int top = lua_gettop(L), table = top + 1, settings = top + 2;

	luaL_checkstack(L, 10, NULL);
	lua_getfield(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
	lua_pushstring(L, module);
	lua_rawget(L, -2);
	lua_remove(L, table);
	lua_pushnil(L);
	if (!lua_istable(L, table)) {
		lua_settop(L, top);
		return false;
	}
	for (lua_pushnil(L); lua_next(L, table); lua_pop(L, 1)) {
		if (!is_setting(L, standard))
			continue;
		if (lua_isnil(L, settings)) {
			lua_newtable(L);
			lua_replace(L, settings);
		}
		lua_pushvalue(L, -2);
		lua_pushvalue(L, -2);
		lua_rawset(L, settings);
	}
	lua_remove(L, table);
	if (lua_istable(L, -1))
		return true;
	lua_settop(L, top);
	return false;
}
