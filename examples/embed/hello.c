/*
 * hello.c - a chain of two C functions, which run in workers.
 *
 *   cc hello.c $(pkg-config --cflags --libs fzlua) -o hello
 */
#include <stdio.h>

#include <fzlua.h>
#include <lauxlib.h>

static int
increment(lua_State *L)
{
	lua_pushinteger(L, luaL_checkinteger(L, 1) + 1);
	return 1;
}

static int
multiply(lua_State *L)
{
	lua_pushinteger(L, luaL_checkinteger(L, 1) * luaL_checkinteger(L, 2));
	return 1;
}

/* Push a new stage with one function. */
static int
stage(lua_State *L, const char *name, lua_CFunction f, const char *output,
    const char *inputs)
{
	int status = fzlua_stage(L, name);

	if (status != FZLUA_OK)
		return status;
	lua_pushcfunction(L, f);
	return fzlua_register(L, -2, output, inputs);
}

static int
run(lua_State *L)
{
	if (stage(L, "count", increment, "A", NULL) != FZLUA_OK ||
	    stage(L, "merge", multiply, "C", "A, B") != FZLUA_OK ||
	    fzlua_chain(L, 2) != FZLUA_OK)
		return 1;
	lua_createtable(L, 0, 2);
	lua_pushinteger(L, 5);
	lua_setfield(L, -2, "A");
	lua_pushinteger(L, 7);
	lua_setfield(L, -2, "B");
	if (fzlua_call(L, 1, 1) != FZLUA_OK) /* call the chain with inputs */
		return 1;
	lua_getfield(L, -1, "C");
	printf("C = %d\n", (int)lua_tointeger(L, -1));
	return 0;
}

int
main(void)
{
	lua_State *L;
	int failed = fzlua_new(&L, NULL) != FZLUA_OK || run(L) != 0;

	if (failed && L != NULL)
		fprintf(stderr, "hello: %s\n", luaL_tolstring(L, -1, NULL));
	fzlua_close(L);
	return failed;
}
