/* lua_state.h - Lua states whose memory is counted, and code for them. */
#ifndef LUA_STATE_H
#define LUA_STATE_H

#include <lua.h>

#include "lua_memory.h"

/* A state with the functions of the codec in the global table `core`. */
lua_State *lua_state_with_codec(struct lua_memory *memory);

/* A state with the library as the global `fz`. */
lua_State *lua_state_with_library(struct lua_memory *memory);

/* Run the code, which must not fail. */
void lua_state_run(lua_State *L, const char *code);

#endif
