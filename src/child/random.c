#include "child/random.h"

#include <stdbool.h>
#include <string.h>

#include <lauxlib.h>

/*
 * The address of this variable is the registry key of math.random, which refers
 * to its state.
 */
static const char random_key;

/* Push the state, if it is the first upvalue of the function on top. */
static bool
push_state(lua_State *L)
{
	if (!lua_iscfunction(L, -1) || lua_getupvalue(L, -1, 1) == NULL)
		return false;
	return lua_type(L, -1) == LUA_TUSERDATA &&
	       lua_rawlen(L, -1) == FZ_RANDOM_WORDS * sizeof(uint64_t);
}

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
	if (push_state(L)) {
		r->state = lua_touserdata(L, -1);
		lua_pushvalue(L, -2); /* the function keeps the state alive */
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
