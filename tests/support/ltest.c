/* ltest.c - functions of the system for tests in Lua. */
/* kill and nanosleep are not in C. */
#define _POSIX_C_SOURCE 200809L
#include <lauxlib.h>
#include <lua.h>
#include <signal.h>
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

/* kill(pid, signal) -> whether the signal was sent */
static int
ltest_kill(lua_State *L)
{
	pid_t pid = (pid_t)luaL_checkinteger(L, 1);

	lua_pushboolean(L, kill(pid, (int)luaL_checkinteger(L, 2)) == 0);
	return 1;
}

int
luaopen_ltest(lua_State *L)
{
	static const luaL_Reg functions[] = {
		{ "kill", ltest_kill },
		{ "sleep", ltest_sleep },
		{ NULL, NULL },
	};

	luaL_newlib(L, functions);
	return 1;
}
