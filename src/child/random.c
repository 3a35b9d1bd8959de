#include "child/random.h"

#include <string.h>

#include <lauxlib.h>

/* Its address is the registry key of the function that holds the state. */
static const char random_key;

/* What both wrappers need; the second upvalue of each. */
struct late {
	struct fz_random_pending pending;
	lua_CFunction random, randomseed; /* of Lua's library */
};

/* Replaces math.random; its first upvalue is the same state. */
static int
random_late(lua_State *L)
{
	struct late *late = lua_touserdata(L, lua_upvalueindex(2));

	if (late->pending.set)
		fz_random_set(
		    lua_touserdata(L, lua_upvalueindex(1)), late->pending.seed);
	late->pending.set = false;
	return late->random(L);
}

static int
randomseed_late(lua_State *L)
{
	struct late *late = lua_touserdata(L, lua_upvalueindex(2));

	late->pending.set = false;
	return late->randomseed(L);
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

/* The struct late is on top. */
static bool
wrap(
    lua_State *L, const char *name, lua_CFunction wrapper, lua_CFunction *plain)
{
	int top = lua_gettop(L);
	bool can;

	lua_getglobal(L, "math");
	lua_getfield(L, -1, name);
	can = push_state(L);
	if (can) {
		*plain = lua_tocfunction(L, -2);
		lua_pushvalue(L, top);
		lua_pushcclosure(L, wrapper, 2);
		lua_setfield(L, top + 1, name);
	}
	lua_settop(L, top);
	return can;
}

void
fz_random_wrap(lua_State *L)
{
	struct late *late = lua_newuserdatauv(L, sizeof(*late), 0);

	late->pending = (struct fz_random_pending){ .set = false };
	if (wrap(L, "randomseed", randomseed_late, &late->randomseed))
		wrap(L, "random", random_late, &late->random);
	lua_pop(L, 1);
}

/* The pending seed of the function at `idx`; NULL: it is not wrapped. */
static struct fz_random_pending *
find_pending(lua_State *L, int idx)
{
	struct late *late;

	if (lua_tocfunction(L, idx) != random_late)
		return NULL;
	lua_getupvalue(L, idx, 2);
	late = lua_touserdata(L, -1);
	lua_pop(L, 1);
	return &late->pending;
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
		r->pending = find_pending(L, -2);
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
