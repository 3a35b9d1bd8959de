#include "child/random.h"

#include <string.h>

#include <lauxlib.h>

/* Its address is the registry key of the function that holds the state. */
static const char random_key;

static struct fz_random_pending pending;
static lua_CFunction lua_random, lua_randomseed;

/* Replaces math.random; its upvalue is the same state. */
static int
random_late(lua_State *L)
{
	if (pending.set)
		fz_random_set(
		    lua_touserdata(L, lua_upvalueindex(1)), pending.seed);
	pending.set = false;
	return lua_random(L);
}

static int
randomseed_late(lua_State *L)
{
	pending.set = false;
	return lua_randomseed(L);
}

/*
 * If the function on top has the state as its upvalue, push it and return true.
 */
static bool
push_state(lua_State *L)
{
	if (!lua_iscfunction(L, -1) || lua_getupvalue(L, -1, 1) == NULL)
		return false;
	return lua_type(L, -1) == LUA_TUSERDATA &&
	       lua_rawlen(L, -1) == FZ_RANDOM_WORDS * sizeof(uint64_t);
}

static bool
wrap(lua_State *L, const char *name, lua_CFunction late, lua_CFunction *plain)
{
	int top = lua_gettop(L);
	bool can;

	lua_getglobal(L, "math");
	lua_getfield(L, -1, name);
	can = push_state(L);
	if (can) {
		*plain = lua_tocfunction(L, -2);
		lua_pushcclosure(L, late, 1);
		lua_setfield(L, top + 1, name);
	}
	lua_settop(L, top);
	return can;
}

void
fz_random_wrap(lua_State *L)
{
	if (wrap(L, "randomseed", randomseed_late, &lua_randomseed))
		wrap(L, "random", random_late, &lua_random);
}

void
fz_random_find(lua_State *L, struct fz_random *r)
{
	int top = lua_gettop(L);

	r->state = NULL;
	r->pending = NULL;
	luaL_checkstack(L, 4, NULL);
	if (lua_rawgetp(L, LUA_REGISTRYINDEX, &random_key) == LUA_TNIL) {
		luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
		if (lua_getfield(L, -1, "math") == LUA_TTABLE)
			lua_getfield(L, -1, "random");
	}
	if (push_state(L)) {
		r->state = lua_touserdata(L, -1);
		if (lua_tocfunction(L, -2) == random_late)
			r->pending = &pending;
		lua_pushvalue(L, -2); /* keeps the state alive */
		lua_rawsetp(L, LUA_REGISTRYINDEX, &random_key);
	}
	lua_settop(L, top);
}

void
fz_random_save(struct fz_random *r)
{
	if (r->state != NULL)
		memcpy(r->saved, r->state, sizeof(r->saved));
	if (r->pending != NULL)
		r->saved_pending = *r->pending;
}

void
fz_random_restore(struct fz_random *r)
{
	if (r->state != NULL)
		memcpy(r->state, r->saved, sizeof(r->saved));
	if (r->pending != NULL)
		*r->pending = r->saved_pending;
}
