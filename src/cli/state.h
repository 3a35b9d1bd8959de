/* cli/state.h - the Lua state of the command. */
#ifndef FZ_STATE_H
#define FZ_STATE_H

#include <lua.h>

/*
 * A state like that of luaL_newstate(), with warnings off, whose allocator is
 * that of os/alloc.h from the first block on. NULL if there is no memory. Close
 * it with lua_close().
 */
lua_State *fz_state_new(void);

#endif
