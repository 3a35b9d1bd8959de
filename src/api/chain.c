#include "api/fzlua.h"

#include <string.h>

#include <lauxlib.h>

#include "api/call.h"
#include "api/use.h"

/* Push a field of the library's table. */
static void
push_library(lua_State *L, const char *name)
{
	lua_getglobal(L, "require");
	lua_pushliteral(L, "fzlua");
	lua_call(L, 1, 1);
	lua_getfield(L, -1, name);
	lua_remove(L, -2);
}

/* Push a list of the names in a text such as "A, B". */
static void
push_names(lua_State *L, const char *names)
{
	const char *blank = " \t\n,";
	size_t len;
	int n = 0;

	lua_newtable(L);
	for (names += strspn(names, blank); *names != '\0';
	     names += strspn(names, blank)) {
		len = strcspn(names, blank);
		lua_pushlstring(L, names, len);
		lua_rawseti(L, -2, ++n);
		names += len;
	}
}

/* (light userdata: address of the name) -> stage */
static int
make_stage(lua_State *L)
{
	push_library(L, "stage");
	lua_pushstring(L, *(const char **)lua_touserdata(L, 1));
	lua_call(L, 1, 1);
	return 1;
}

static int
new_stage(lua_State *L, const char *name)
{
	if (!lua_checkstack(L, 1))
		return fzlua_refuse_full(L, 0);
	lua_pushlightuserdata(L, &name);
	return fzlua_protect(L, make_stage, 1, 1);
}

int
fzlua_stage(lua_State *L, const char *name)
{
	struct fzlua_use use;

	if (!fzlua_begin_use(L, &use))
		return FZLUA_IN_USE;
	return fzlua_end_use(&use, new_stage(L, name));
}

struct names {
	const char *outputs, *inputs; /* `inputs` NULL: as `outputs` */
};

/* (function, stage, light userdata: struct names) */
static int
call_register(lua_State *L)
{
	const struct names *names = lua_touserdata(L, 3);

	luaL_checktype(L, 1, LUA_TFUNCTION);
	lua_getfield(L, 2, "register");
	lua_pushvalue(L, 2);
	push_names(L, names->outputs);
	push_names(L, names->inputs != NULL ? names->inputs : names->outputs);
	lua_pushvalue(L, 1);
	lua_call(L, 4, 0);
	return 0;
}

static int
add_function(lua_State *L, int stage, const char *outputs, const char *inputs)
{
	struct names names = { outputs, inputs };

	stage = lua_absindex(L, stage);
	if (!lua_checkstack(L, 2))
		return fzlua_refuse_full(L, 1);
	lua_pushvalue(L, stage);
	lua_pushlightuserdata(L, &names);
	return fzlua_protect(L, call_register, 3, 0);
}

int
fzlua_register(lua_State *L, int stage, const char *outputs, const char *inputs)
{
	struct fzlua_use use;

	if (!fzlua_begin_use(L, &use))
		return FZLUA_IN_USE;
	return fzlua_end_use(&use, add_function(L, stage, outputs, inputs));
}

/* (stages and chains ...) -> chain */
static int
make_chain(lua_State *L)
{
	int n = lua_gettop(L);

	lua_createtable(L, n, 0);
	lua_insert(L, 1);
	for (int i = n; i > 0; i--)
		lua_rawseti(L, 1, i);
	push_library(L, "chain");
	lua_insert(L, 1);
	lua_call(L, 1, 1);
	return 1;
}

static int
new_chain(lua_State *L, int n)
{
	return fzlua_protect(L, make_chain, n, 1);
}

int
fzlua_chain(lua_State *L, int n)
{
	struct fzlua_use use;

	if (!fzlua_begin_use(L, &use))
		return FZLUA_IN_USE;
	return fzlua_end_use(&use, new_chain(L, n));
}
