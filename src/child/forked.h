/* forked.h - Lua functions that a forked process calls first. */
#ifndef FZ_FORKED_H
#define FZ_FORKED_H

#include <lua.h>

/*
 * Call the functions of core.on_fork() in a process that was just forked. [-0,
 * +0, e]
 */
void fz_forked_call(lua_State *L);

/*
 * Call the functions of core.on_fork() if this process was forked and has not
 * called them yet. [-0, +0, e]
 */
void fz_forked_check(lua_State *L);

/* Add core.on_fork to the core table, which is on top. [-0, +0, e] */
int fz_forked_open(lua_State *L);

#endif
