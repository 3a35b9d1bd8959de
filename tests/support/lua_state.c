#include "lua_state.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>

#include <lauxlib.h>
#include <lualib.h>

#include "api/fzlua.h"
#include "codec/codec.h"
#include "value/lerror.h"

static lua_State *
open_state(struct lua_memory *memory)
{
	lua_State *L;

	*memory = (struct lua_memory){ .left = -1 };
	L = lua_newstate(lua_memory_allocate, memory);
	if (L == NULL)
		abort();
	luaL_openlibs(L);
	return L;
}

lua_State *
lua_state_with_codec(struct lua_memory *memory)
{
	lua_State *L = open_state(memory);

	lua_newtable(L);
	fz_lerror_open(L);
	fz_lcodec_open(L);
	lua_setglobal(L, "core");
	return L;
}

lua_State *
lua_state_with_library(struct lua_memory *memory)
{
	lua_State *L = open_state(memory);

	luaL_requiref(L, "fzlua", luaopen_fzlua, 1);
	lua_setglobal(L, "fz");
	lua_settop(L, 0);
	return L;
}

void
lua_state_run(lua_State *L, const char *code)
{
	if (luaL_dostring(L, code) != LUA_OK)
		fail_msg("%s: %s", code, luaL_tolstring(L, -1, NULL));
	lua_settop(L, 0);
}
