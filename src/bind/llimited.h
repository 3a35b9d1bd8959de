/*
 * llimited.h - functions of Lua's libraries, as code under a limit gets them.
 *
 * The hook of a limit does not run in three places: in a finalizer, in the
 * message handler of an error that a hook has raised, and in a thread whose
 * hook is another one. The replaced functions keep code out of these, and a
 * call that has used up its time from making more threads.
 */
#ifndef FZ_LLIMITED_H
#define FZ_LLIMITED_H

#include <lua.h>

/* Replace them; again after code has put the originals back. [-0, +0, e] */
void fz_llimited_install(lua_State *L);

#endif
