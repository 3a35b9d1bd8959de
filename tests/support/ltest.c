/* ltest.c - functions of the system for tests in Lua. */
/* nanosleep is not in C. */
#define _POSIX_C_SOURCE 200809L
#include <lauxlib.h>
#include <lua.h>
#include <time.h>

int luaopen_ltest(lua_State *L);

/* sleep(seconds) */
static int
ltest_sleep(lua_State *L)
{
	lua_Number seconds = luaL_checknumber(L, 1);
	struct timespec rest = { .tv_sec = (time_t)seconds };

	rest.tv_nsec = (long)((seconds - (lua_Number)rest.tv_sec) * 1e9);
	while (nanosleep(&rest, &rest) == -1)
		continue;
	return 0;
}

int
luaopen_ltest(lua_State *L)
{
	static const luaL_Reg functions[] = {
		{ "sleep", ltest_sleep },
		{ NULL, NULL },
	};

	luaL_newlib(L, functions);
	return 1;
}
