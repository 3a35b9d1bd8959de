/* cli/state.h - the Lua state of the command. */
#ifndef FZ_STATE_H
#define FZ_STATE_H

#include <lua.h>

/*
 * A new Lua state like that of luaL_newstate(), with warnings off. It uses the
 * allocator of os/alloc.h. Returns NULL if there is no memory. fz_state_exit()
 * ends its use.
 */
lua_State *fz_state_new(void);

/*
 * Run all finalizers, as lua_close() does, and end the process. The objects are
 * not freed: the kernel frees all memory in less time.
 */
_Noreturn void fz_state_exit(lua_State *L, int status);

#endif
