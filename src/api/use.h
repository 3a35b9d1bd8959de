/* use.h - notices that two threads use one state at the same time. */
#ifndef FZLUA_USE_H
#define FZLUA_USE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include <lua.h>

struct fzlua_use {
	/* the place that this call has marked; NULL: the place was in use */
	_Atomic uint64_t *place;
};

/*
 * Called when a function of fzlua.h begins. False if another thread is in such
 * a function with the same state: this thread must not even read the stack of
 * the state. Calls may be nested.
 */
bool fzlua_begin_use(lua_State *L, struct fzlua_use *use);

/* End the use that fzlua_begin_use() began. Returns `status`. */
int fzlua_end_use(const struct fzlua_use *use, int status);

#endif
