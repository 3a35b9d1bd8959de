/* cli/state.h - the Lua state of the command, whose memory is that of os/heap.
 */
#ifndef FZ_STATE_H
#define FZ_STATE_H

#include <lua.h>

/*
 * A state as luaL_newstate() makes it, warnings off, but with the allocator of
 * os/heap from its first block on. NULL if there is no memory. Close it with
 * lua_close().
 */
lua_State *fz_state_new(void);

#endif
