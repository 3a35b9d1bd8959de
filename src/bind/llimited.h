/*
 * llimited.h - replaced functions of Lua's libraries, for code under a limit.
 *
 * Lua does not call the hook of a limit in a finalizer, in the message handler
 * of an error that a hook has raised, and in a thread with another hook. With
 * the replaced functions no code runs there without the hook, and a call that
 * has used up its time cannot make threads.
 */
#ifndef FZ_LLIMITED_H
#define FZ_LLIMITED_H

#include <lua.h>

/*
 * Replace functions of Lua's libraries by limited ones. Another call replaces a
 * function again if a script has restored the original function. [-0, +0, e]
 */
void fz_llimited_install(lua_State *L);

#endif
