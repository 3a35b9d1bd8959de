#include "child/forked.h"

#include <lauxlib.h>

#include "os/process.h"

/*
 * The addresses of these variables are registry keys: of the list of functions
 * of core.on_fork(); and of the generation of the last process that called
 * them, or that opened the library.
 */
static const char list_key, generation_key;

static void
note_generation(lua_State *L)
{
	lua_pushinteger(L, fz_process.generation);
	lua_rawsetp(L, LUA_REGISTRYINDEX, &generation_key);
}

void
fz_forked_call(lua_State *L)
{
	int top = lua_gettop(L);

	luaL_checkstack(L, 2, NULL);
	note_generation(L);
	if (lua_rawgetp(L, LUA_REGISTRYINDEX, &list_key) == LUA_TTABLE) {
		for (lua_Integer i = 1; lua_rawgeti(L, top + 1, i) != LUA_TNIL;
		     i++)
			lua_call(L, 0, 0);
	}
	lua_settop(L, top);
}

void
fz_forked_check(lua_State *L)
{
	lua_Integer noted;

	lua_rawgetp(L, LUA_REGISTRYINDEX, &generation_key);
	noted = lua_tointeger(L, -1);
	lua_pop(L, 1);
	if (noted != (lua_Integer)fz_process.generation)
		fz_forked_call(L);
}

/* on_fork(f): call f() first in each worker and process that is forked later */
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
	note_generation(L);
	return 0;
}
