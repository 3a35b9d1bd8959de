/* forked.h - Lua functions that a forked process calls first. */
#ifndef FZ_FORKED_H
#define FZ_FORKED_H

#include <lua.h>

/* In a forked process, first of all: call these functions. [-0, +0, e] */
void fz_forked_call(lua_State *L);

/* The same, unless this was called in this process before. [-0, +0, e] */
void fz_forked_check(lua_State *L);

/* Open: core.on_fork. The core table is on top. [-0, +0, e] */
int fz_forked_open(lua_State *L);

#endif
