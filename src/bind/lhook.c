#include "bind/lhook.h"

#include <lauxlib.h>

/* Push an empty chunk, whose call triggers every kind of hook. */
static void
push_nothing(lua_State *L)
{
	luaL_checkstack(L, 1, NULL);
	if (luaL_loadbufferx(L, "", 0, "=fzlua", "t") != LUA_OK)
		lua_error(L);
}

/* Call the hook of the main thread in L, then restore the hook of L. */
static void
run_main(lua_State *L, lua_State *main)
{
	lua_Hook hook = lua_gethook(L), of_main = lua_gethook(main);
	int mask = lua_gethookmask(L), count = lua_gethookcount(L);
	int status;

	push_nothing(L);
	lua_sethook(L, of_main, lua_gethookmask(main), lua_gethookcount(main));
	status = lua_pcall(L, 0, 0, 0);
	if (lua_gethook(L) == NULL && lua_gethook(main) == of_main)
		lua_sethook(main, NULL, 0, 0);
	lua_sethook(L, hook, mask, count);
	if (status != LUA_OK)
		lua_error(L);
}

void
fz_lhook_run(lua_State *L, lua_State *main)
{
	if (lua_gethookmask(L) != 0) {
		push_nothing(L);
		lua_call(L, 0, 0);
	}
	if (L != main && lua_gethookmask(main) != 0)
		run_main(L, main);
}
