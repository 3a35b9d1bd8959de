#include "bind/jobs/llimits.h"

#include <lauxlib.h>

#include "base/clock.h"

int64_t
fz_llimits_seconds(lua_State *L, int idx, int64_t otherwise_ns)
{
	if (lua_isnoneornil(L, idx))
		return otherwise_ns;
	return fz_clock_from_seconds(luaL_checknumber(L, idx));
}

void
fz_llimits_read(lua_State *L, int idx, struct fz_limits *limits)
{
	lua_Integer retries = luaL_optinteger(L, idx + 1, limits->retries);
	lua_Integer memory =
	    luaL_optinteger(L, idx + 3, (lua_Integer)limits->memory);

	luaL_argcheck(
	    L, 0 <= retries && retries <= INT32_MAX, idx + 1, "out of range");
	luaL_argcheck(L, memory >= 0, idx + 3, "out of range");
	limits->timeout_ns = fz_llimits_seconds(L, idx, limits->timeout_ns);
	limits->retries = (unsigned)retries;
	limits->backoff_ns = fz_llimits_seconds(L, idx + 2, limits->backoff_ns);
	limits->memory = (uint64_t)memory;
	limits->ask |= lua_toboolean(L, idx + 4) != 0;
}

void
fz_llimits_read_fields(lua_State *L, int idx, struct fz_limits *limits)
{
	int top = lua_gettop(L);

	lua_getfield(L, idx, "timeout");
	lua_getfield(L, idx, "retries");
	lua_getfield(L, idx, "backoff");
	lua_getfield(L, idx, "memory");
	lua_getfield(L, idx, "retry_if");
	fz_llimits_read(L, top + 1, limits);
	lua_settop(L, top);
}

bool
fz_llimits_flag(lua_State *L, int idx, const char *name)
{
	bool on;

	lua_getfield(L, idx, name);
	on = lua_toboolean(L, -1);
	lua_pop(L, 1);
	return on;
}

enum fz_policy
fz_llimits_policy(lua_State *L, int idx)
{
	static const char *const policies[] = { "stop", "now", "continue",
		NULL };

	return (enum fz_policy)luaL_checkoption(L, idx, "stop", policies);
}
