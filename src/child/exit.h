/* exit.h - os.exit() in the processes of a Lua state. */
#ifndef FZ_EXIT_H
#define FZ_EXIT_H

#include <lua.h>

/*
 * Replace os.exit by a function that does the same in this process, and leaves
 * a child at once: no finalizer of the script's objects runs there. A module
 * that keeps the function for later keeps this one, so it is to be replaced
 * before modules are loaded. Again: nothing. [-0, +0, e]
 */
void fz_exit_wrap(lua_State *L);

#endif
