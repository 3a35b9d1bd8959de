/* exit.h - os.exit() in a Lua state that forks. */
#ifndef FZ_EXIT_H
#define FZ_EXIT_H

#include <lua.h>

/*
 * Replace os.exit(). The new function leaves a child process at once, without
 * the finalizers of the script's objects; in this process it calls the original
 * function. Call this before modules are loaded that keep a copy of os.exit. A
 * second call does nothing. [-0, +0, e]
 */
void fz_exit_wrap(lua_State *L);

/* Add core.exiting to the core table, which is on top. [-0, +0, e] */
int fz_exit_open(lua_State *L);

#endif
