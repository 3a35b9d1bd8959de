/* lstate.h - a new Lua state, by the interface of each version of Lua. */
#ifndef FZ_LSTATE_H
#define FZ_LSTATE_H

#include <lauxlib.h>
#include <lua.h>

/* lua_newstate() of Lua 5.4; works with Lua 5.5, too. */
static inline lua_State *
fz_lstate_new(lua_Alloc alloc, void *ctx)
{
#if LUA_VERSION_NUM >= 505
	return lua_newstate(alloc, ctx, luaL_makeseed(NULL));
#else
	return lua_newstate(alloc, ctx);
#endif
}

#endif
