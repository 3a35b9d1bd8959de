/*
 * llimited.h - replaced functions of Lua's libraries, for code under a limit.
 *
 * Lua does not call the hook of a limit in three places: in a finalizer, in the
 * message handler for an error that a hook has raised, and in a thread that has
 * another hook. The replaced functions let no code of a script run in these
 * places without the hook. In addition, a call that has used up its time cannot
 * make threads.
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
