/* exit.h - os.exit() in a Lua state that forks. */
#ifndef FZ_EXIT_H
#define FZ_EXIT_H

#include <lua.h>

/*
 * Replace os.exit by a function that does the same in this process, but leaves
 * a child at once, without finalizers of the script's objects. Call it before
 * loading modules that keep a copy of os.exit. A second call does nothing. [-0,
 * +0, e]
 */
void fz_exit_wrap(lua_State *L);

/* Open: core.exiting. [-0, +0, e] */
int fz_exit_open(lua_State *L);

#endif
