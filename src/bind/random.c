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

/* SplitMix64 of Steele, Lea and Flood. */
uint64_t
fz_random_mix(uint64_t seed, uint64_t n)
{
	uint64_t x = seed + (n + 1) * UINT64_C(0x9e3779b97f4a7c15);

	x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
	return x ^ x >> 31;
}

void
fz_random_seed(struct fz_random *r, uint64_t seed)
{
	if (r->state == NULL)
		return;
	for (uint64_t i = 0; i < FZ_RANDOM_WORDS; i++)
		r->state[i] = fz_random_mix(seed, i);
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
