/* forked.h - Lua functions that a forked process calls first. */
#ifndef FZ_FORKED_H
#define FZ_FORKED_H

#include <lua.h>

/*
 * Called first in a forked process: call the functions of on_fork(). [-0, +0,
 * e]
 */
void fz_forked_call(lua_State *L);

/*
 * Call the functions of on_fork(), unless this process has called them. [-0,
 * +0, e]
 */
void fz_forked_check(lua_State *L);

/* Open: core.on_fork. The core table is on top. [-0, +0, e] */
int fz_forked_open(lua_State *L);

#endif
