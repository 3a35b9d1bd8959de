/* llock.h - core.lock, core.rlock, and the lock methods of other objects. */
#ifndef FZ_LLOCK_H
#define FZ_LLOCK_H

#include <stdbool.h>
#include <stdint.h>

#include <lua.h>

#include "shared/lock.h"

/* A lock in shared memory. All zero: free, neither recursive nor brief. */
struct fz_llock {
	struct fz_lock lock;
	bool recursive; /* the holder may acquire the lock again */
	bool inner;     /* the lock is part of a condition */
	/*
	 * The lock of a value or an array: it is recursive, and usually held
	 * for one short operation. The object is consistent at any time.
	 */
	bool brief;
};

/*
 * The methods acquire([timeout]), release(), with(f, ...) and guard() of the
 * object at index 1, which has this lock. They return as C functions do.
 */
int fz_llock_acquire(lua_State *L, struct fz_llock *lock);
int fz_llock_release(lua_State *L, struct fz_llock *lock);
int fz_llock_with(lua_State *L, struct fz_llock *lock);
int fz_llock_guard(lua_State *L, struct fz_llock *lock);

/* The method with(f) of an object whose lock is brief: call f(object). */
int fz_llock_with_object(lua_State *L, struct fz_llock *lock);

/*
 * Acquire a brief lock, or acquire it once more, without waiting. False if it
 * is not free: wait for it with fz_llock_hold_late(). [-0, +0, e]
 */
bool fz_llock_hold(lua_State *L, struct fz_llock *lock);

/*
 * Wait until the brief lock is acquired, and call then(L), which releases it
 * before it raises or returns. A return value for a C function. [-0, +n, e]
 */
int fz_llock_hold_late(lua_State *L, struct fz_llock *lock, lua_CFunction then);

/* Release a brief lock once. */
void fz_llock_unhold(struct fz_llock *lock);

/*
 * Raise an error unless this task of the process, which is the member `self`,
 * holds the lock. [-0, +0, e]
 */
void fz_llock_check_held(
    lua_State *L, const struct fz_llock *lock, uint32_t self);

/*
 * The try() of a wait for the lock. If `late` is set, it also recovers the lock
 * of a dead holder. `*state` must be FZ_LOCK_BUSY before; the caller sets the
 * depth.
 */
bool fz_llock_try(
    struct fz_lock *lock, uint32_t self, bool late, enum fz_lock_state *state);

/* The lock whose handle is at `idx`; NULL for anything else. */
struct fz_llock *fz_llock_test(lua_State *L, int idx);

/* Open: core.lock, core.rlock. The core table is on top. [-0, +0, e] */
int fz_llock_open(lua_State *L);

#endif
