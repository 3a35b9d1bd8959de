#include "bind/lmember.h"

#include <lauxlib.h>

#include "bind/lhandle.h"
#include "os/commons.h"

/* member() -> the number of this process, another one for each of the run */
static int
member_self(lua_State *L)
{
	lua_pushinteger(L, fz_lhandle_self(L));
	return 1;
}

/* alive(member) -> boolean: whether that process lives */
static int
member_alive(lua_State *L)
{
	lua_Integer member = luaL_checkinteger(L, 1);

	luaL_argcheck(L, 0 < member && member <= UINT32_MAX, 1, "out of range");
	lua_pushboolean(L, fz_commons_alive((uint32_t)member));
	return 1;
}

static const luaL_Reg functions[] = {
	{ "member", member_self },
	{ "alive", member_alive },
	{ NULL, NULL },
};

int
fz_lmember_open(lua_State *L)
{
	luaL_setfuncs(L, functions, 0);
	return 0;
}
