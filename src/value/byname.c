#include "value/byname.h"

#include <stdio.h>
#include <string.h>

#include <lauxlib.h>
#include <lualib.h>

#include "value/refmap.h"

static bool
push_loaded(lua_State *L)
{
	if (lua_getfield(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE) == LUA_TTABLE)
		return true;
	lua_pop(L, 1);
	return false;
}

/* Whether string `a` sorts before string `b`. True if `b` is nil. */
static bool
is_first(lua_State *L, int a, int b)
{
	return lua_isnil(L, b) ||
	       strcmp(lua_tostring(L, a), lua_tostring(L, b)) < 0;
}

/* Push the first key of `t` that holds the function at `f`, or nil. [+1] */
static void
push_field(lua_State *L, int t, int f)
{
	int best;

	lua_pushnil(L);
	best = lua_gettop(L);
	lua_pushnil(L);
	while (lua_next(L, t)) {
		if (lua_type(L, -2) == LUA_TSTRING && lua_rawequal(L, -1, f) &&
		    is_first(L, -2, best)) {
			lua_pushvalue(L, -2);
			lua_replace(L, best);
		}
		lua_pop(L, 1);
	}
}

bool
fz_byname_cfunction(lua_State *L, int idx)
{
	int best;

	luaL_checkstack(L, 12, NULL);
	idx = lua_absindex(L, idx);
	lua_pushnil(L);
	lua_pushnil(L);
	best = lua_gettop(L) - 1;
	if (!push_loaded(L))
		lua_newtable(L);
	lua_pushnil(L);
	while (lua_next(L, best + 2)) {
		if (lua_type(L, -2) == LUA_TSTRING &&
		    lua_type(L, -1) == LUA_TTABLE && is_first(L, -2, best)) {
			push_field(L, lua_gettop(L), idx);
			if (lua_isnil(L, -1)) {
				lua_pop(L, 1);
			} else {
				lua_replace(L, best + 1);
				lua_pushvalue(L, -2);
				lua_replace(L, best);
			}
		}
		lua_pop(L, 1);
	}
	lua_settop(L, best + 1);
	if (!lua_isnil(L, best))
		return true;
	lua_pop(L, 2);
	return false;
}

bool
fz_byname_module(lua_State *L, int idx)
{
	int best;

	luaL_checkstack(L, 8, NULL);
	idx = lua_absindex(L, idx);
	lua_pushnil(L);
	best = lua_gettop(L);
	if (push_loaded(L)) {
		lua_pushnil(L);
		while (lua_next(L, best + 1)) {
			if (lua_type(L, -2) == LUA_TSTRING &&
			    lua_rawequal(L, -1, idx) && is_first(L, -2, best)) {
				lua_pushvalue(L, -2);
				lua_replace(L, best);
			}
			lua_pop(L, 1);
		}
	}
	lua_settop(L, best);
	if (!lua_isnil(L, best))
		return true;
	lua_pop(L, 1);
	return false;
}

/* Whether the value on top is an object, as a module should be. */
static bool
is_object(lua_State *L)
{
	int type = lua_type(L, -1);

	return type == LUA_TTABLE || type == LUA_TFUNCTION ||
	       type == LUA_TUSERDATA;
}

int
fz_byname_add_modules(lua_State *L, struct fz_refmap *map)
{
	bool fresh;

	if (!push_loaded(L))
		return 0;
	lua_pushnil(L);
	while (lua_next(L, -2)) {
		if (is_object(L) &&
		    fz_refmap_enter(map, L, lua_topointer(L, -1), 0, &fresh) ==
			NULL)
			return -1;
		lua_pop(L, 1);
	}
	lua_pop(L, 1);
	return 0;
}

/* (name) -> module */
static int
require_module(lua_State *L)
{
	lua_getglobal(L, "require");
	lua_insert(L, 1);
	lua_call(L, 1, 1);
	return is_object(L) ? 1
			    : luaL_error(L, "the module is a plain value, not "
					    "a table, function or userdata");
}

bool
fz_byname_require(lua_State *L, int idx)
{
	int top = lua_gettop(L);
	bool found = false;

	luaL_checkstack(L, 6, NULL);
	idx = lua_absindex(L, idx);
	if (push_loaded(L)) {
		lua_pushvalue(L, idx);
		lua_rawget(L, -2);
		found = is_object(L);
	}
	if (!found) {
		lua_settop(L, top);
		lua_pushcfunction(L, require_module);
		lua_pushvalue(L, idx);
		found = lua_pcall(L, 1, 1, 0) == LUA_OK;
	}
	lua_copy(L, -1, top + 1);
	lua_settop(L, top + 1);
	return found;
}

int
fz_byname_file(lua_State *L, int idx)
{
	const luaL_Stream *file = luaL_testudata(L, idx, LUA_FILEHANDLE);

	if (file == NULL)
		return -1;
	return file->f == stdin    ? 0
	       : file->f == stdout ? 1
	       : file->f == stderr ? 2
				   : -1;
}

void
fz_byname_push_file(lua_State *L, int number)
{
	static const char *const fields[] = { "stdin", "stdout", "stderr" };

	lua_pushnil(L);
	if (!push_loaded(L))
		return;
	lua_pushliteral(L, LUA_IOLIBNAME);
	if (lua_rawget(L, -2) == LUA_TTABLE) {
		lua_pushstring(L, fields[number]);
		lua_rawget(L, -2);
		lua_replace(L, -4);
	}
	lua_pop(L, 2);
}
