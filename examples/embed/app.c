/*
 * app.c - a program whose users write its pipeline: the host offers functions,
 * the script app.lua joins them, and the host runs it within limits.
 *
 *   cc app.c $(pkg-config --cflags --libs fzlua) -o app
 *   ./app app.lua 86 40
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <fzlua.h>
#include <lauxlib.h>

struct unit {
	const char *quantity, *name;
};

static int
to_celsius(lua_State *L)
{
	lua_pushnumber(L, (luaL_checknumber(L, 1) - 32) * 5 / 9);
	return 1;
}

/* The upvalue is data of the host, which workers inherit. */
static int
unit_of(lua_State *L)
{
	const struct unit *units = lua_touserdata(L, lua_upvalueindex(1));
	const char *quantity = luaL_checkstring(L, 1);

	for (; units->quantity != NULL; units++) {
		if (strcmp(units->quantity, quantity) == 0) {
			lua_pushstring(L, units->name);
			return 1;
		}
	}
	return luaL_error(L, "no unit of %s", quantity);
}

static void
offer_functions(lua_State *L, struct unit *units)
{
	lua_newtable(L);
	lua_pushcfunction(L, to_celsius);
	lua_setfield(L, -2, "to_celsius");
	lua_pushlightuserdata(L, units);
	lua_pushcclosure(L, unit_of, 1);
	lua_setfield(L, -2, "unit_of");
	lua_setglobal(L, "app");
}

/* The limits stop an endless script, and a timeout stops the workers. */
static int
run(lua_State *L, char **argv)
{
	const struct fzlua_limits limits = {
		.size = sizeof(limits), .seconds = 5, .memory = (size_t)64 << 20
	};

	fzlua_limit(L, &limits);
	if (fzlua_dofile(L, argv[1], 1) != FZLUA_OK)
		return 1;
	lua_createtable(L, 0, 2);
	lua_pushnumber(L, atof(argv[2]));
	lua_setfield(L, -2, "fahrenheit");
	lua_pushnumber(L, atof(argv[3]));
	lua_setfield(L, -2, "humidity");
	lua_createtable(L, 0, 1);
	lua_pushnumber(L, 2);
	lua_setfield(L, -2, "timeout");
	if (fzlua_call(L, 2, 1) != FZLUA_OK)
		return 1;
	lua_getfield(L, -1, "text");
	printf("%s\n", luaL_tolstring(L, -1, NULL));
	return 0;
}

int
main(int argc, char **argv)
{
	static struct unit units[] = { { "humidity", "percent" },
		{ "pressure", "hectopascal" }, { NULL, NULL } };
	lua_State *L;
	int failed;

	if (argc != 4) {
		fprintf(stderr, "usage: app SCRIPT FAHRENHEIT HUMIDITY\n");
		return 2;
	}
	failed = fzlua_new(&L, NULL) != FZLUA_OK;
	if (!failed) {
		offer_functions(L, units);
		failed = run(L, argv);
	}
	if (failed && L != NULL)
		fprintf(stderr, "app: %s\n", luaL_tolstring(L, -1, NULL));
	fzlua_close(L);
	return failed;
}
