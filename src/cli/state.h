/* cli/state.h - the Lua state of the command. */
#ifndef FZ_STATE_H
#define FZ_STATE_H

#include <lua.h>

/*
 * A state like that of luaL_newstate(), with warnings off. All its blocks come
 * from the allocator of os/alloc.h. NULL if there is no memory. End it with
 * fz_state_exit().
 */
lua_State *fz_state_new(void);

/*
 * Run all finalizers, as lua_close() does, and end the process. The objects are
 * not freed one by one: the kernel frees all memory in less time.
 */
_Noreturn void fz_state_exit(lua_State *L, int status);

#endif
