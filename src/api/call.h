/* call.h - protected calls for the functions of fzlua.h. */
#ifndef FZLUA_CALL_H
#define FZLUA_CALL_H

#include <lua.h>

/*
 * Call `f` as lua_pcall() does. An error that it raises becomes an fz.Error.
 * Returns an enum fzlua_status. [-(nargs), +(nresults|1), -]
 */
int fzlua_protect(lua_State *L, lua_CFunction f, int nargs, int nresults);

/*
 * The first call in a child that the host has forked drops the tasks and calls
 * of the parent. Other calls do nothing. [-0, +0, -]
 */
void fzlua_enter(lua_State *L);

/*
 * Report a full stack: replace the top `n` values by an error. If `n` is 0, the
 * stack must have one free place. Returns FZLUA_MEMORY. [-n, +1, -]
 */
int fzlua_refuse_full(lua_State *L, int n);

/* The status of the fz.Error on top, in an enum fzlua_status. [-0, +0, -] */
int fzlua_status_of(lua_State *L);

/* Push a function of the Lua module fzlua.host. [-0, +1, e] */
void fzlua_push_host(lua_State *L, const char *name);

/*
 * Make the error for a lack of memory in advance, while there is memory for it.
 * [-0, +0, m]
 */
void fzlua_keep_memory_error(lua_State *L);

#endif
