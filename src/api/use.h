/* use.h - notices that two threads use one state at the same time. */
#ifndef FZLUA_USE_H
#define FZLUA_USE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include <lua.h>

struct fzlua_use {
	_Atomic uint64_t *place; /* NULL: a call above, or none, has one */
};

/*
 * A function of fzlua.h begins. False if another thread is in one with the same
 * state: this thread must not even read its stack. Calls may be nested.
 */
bool fzlua_begin_use(lua_State *L, struct fzlua_use *use);

/* That function ends with this status, which is returned. */
int fzlua_end_use(const struct fzlua_use *use, int status);

#endif
