#include "child/exit.h"

#include <stdlib.h>

#include <lauxlib.h>
#include <lualib.h>

#include "proc/proc.h"

static int
check_status(lua_State *L)
{
	if (lua_isboolean(L, 1))
		return lua_toboolean(L, 1) ? EXIT_SUCCESS : EXIT_FAILURE;
	return (int)luaL_optinteger(L, 1, EXIT_SUCCESS);
}

/* its address is a registry key: true after a call of os.exit() */
static const char exiting;

/* os.exit([code [, close]]); upvalue 1 is the original function. */
static int
os_exit(lua_State *L)
{
	int nargs = lua_gettop(L), status = check_status(L);

	if (fz_proc_is_child())
		fz_proc_exit(status);
	lua_pushboolean(L, 1);
	lua_rawsetp(L, LUA_REGISTRYINDEX, &exiting);
	lua_pushvalue(L, lua_upvalueindex(1));
	lua_insert(L, 1);
	lua_call(L, nargs, LUA_MULTRET);
	return lua_gettop(L);
}

void
fz_exit_wrap(lua_State *L)
{
	int top = lua_gettop(L);

	luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
	if (lua_getfield(L, -1, LUA_OSLIBNAME) == LUA_TTABLE &&
	    lua_getfield(L, -1, "exit") == LUA_TFUNCTION &&
	    lua_tocfunction(L, -1) != os_exit) {
		lua_pushcclosure(L, os_exit, 1);
		lua_setfield(L, -2, "exit");
	}
	lua_settop(L, top);
}

/* exiting() -> whether os.exit() has been called */
static int
exit_exiting(lua_State *L)
{
	lua_rawgetp(L, LUA_REGISTRYINDEX, &exiting);
	lua_pushboolean(L, lua_toboolean(L, -1));
	return 1;
}

int
fz_exit_open(lua_State *L)
{
	lua_pushcfunction(L, exit_exiting);
	lua_setfield(L, -2, "exiting");
	return 0;
}
