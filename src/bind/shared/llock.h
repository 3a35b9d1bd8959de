/* llock.h - core.lock, core.rlock, and the lock methods of other objects. */
#ifndef FZ_LLOCK_H
#define FZ_LLOCK_H

#include <stdbool.h>
#include <stdint.h>

#include <lua.h>

#include "shared/lock.h"

/* In shared memory; zeroed: free and not recursive. */
struct fz_llock {
	struct fz_lock lock;
	bool recursive;
};

/*
 * The methods acquire([timeout]), release(), with(f, ...) and guard() of an
 * object at index 1 that has such a lock. They return as C functions do.
 */
int fz_llock_acquire(lua_State *L, struct fz_llock *lock);
int fz_llock_release(lua_State *L, struct fz_llock *lock);
int fz_llock_with(lua_State *L, struct fz_llock *lock);
int fz_llock_guard(lua_State *L, struct fz_llock *lock);

/* Raise unless the running task of this process, `self`, holds it. [-0, +0, e]
 */
void fz_llock_check_held(
    lua_State *L, const struct fz_llock *lock, uint32_t self);

/*
 * The try() of a wait for the lock. If `late`, it also recovers the lock of a
 * dead holder. `*state` is FZ_LOCK_BUSY before; the caller sets the depth.
 */
bool fz_llock_try(
    struct fz_lock *lock, uint32_t self, bool late, enum fz_lock_state *state);

/* The lock whose handle is at `idx`; NULL for anything else. */
struct fz_llock *fz_llock_test(lua_State *L, int idx);

/* Open: core.lock, core.rlock. The core table is on top. [-0, +0, e] */
int fz_llock_open(lua_State *L);

#endif
