#include "bind/random.h"

#include <string.h>

#include <lauxlib.h>

/* Its address is the registry key of the function that has the state. */
static const char random_key;

void
fz_random_find(lua_State *L, struct fz_random *r)
{
	int top = lua_gettop(L);

	r->state = NULL;
	luaL_checkstack(L, 4, NULL);
	if (lua_rawgetp(L, LUA_REGISTRYINDEX, &random_key) == LUA_TNIL) {
		luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
		if (lua_getfield(L, -1, "math") == LUA_TTABLE)
			lua_getfield(L, -1, "random");
	}
	if (lua_iscfunction(L, -1) && lua_getupvalue(L, -1, 1) != NULL &&
	    lua_type(L, -1) == LUA_TUSERDATA &&
	    lua_rawlen(L, -1) == sizeof(r->saved)) {
		r->state = lua_touserdata(L, -1);
		lua_pushvalue(L, -2); /* what holds it stays */
		lua_rawsetp(L, LUA_REGISTRYINDEX, &random_key);
	}
	lua_settop(L, top);
}

void
fz_random_save(struct fz_random *r)
{
	if (r->state != NULL)
		memcpy(r->saved, r->state, sizeof(r->saved));
}

void
fz_random_restore(struct fz_random *r)
{
	if (r->state != NULL)
		memcpy(r->state, r->saved, sizeof(r->saved));
}
