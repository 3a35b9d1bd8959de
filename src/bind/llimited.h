/*
 * llimited.h - replaced functions of Lua's libraries, for code under a limit.
 *
 * The hook of a limit does not run in three places: in a finalizer, in the
 * message handler of an error that a hook has raised, and in a thread whose
 * hook is another one. With the replaced functions no code runs in these places
 * without a hook, and a call that has used up its time cannot make threads.
 */
#ifndef FZ_LLIMITED_H
#define FZ_LLIMITED_H

#include <lua.h>

/*
 * Replace the functions of Lua's library by limited ones. If a script has put
 * an original function back, another call replaces it again. [-0, +0, e]
 */
void fz_llimited_install(lua_State *L);

#endif
