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
	bool recursive; /* whether the holder may acquire the lock again */
	bool inner;     /* whether the lock is a part of a condition */
	/*
	 * The lock of a value or an array. It is recursive, and usually held
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

/* The method with(f) of an object whose lock is brief. Calls f(object). */
int fz_llock_with_object(lua_State *L, struct fz_llock *lock);

/*
 * Acquire a brief lock, or acquire it once more, without waiting. Returns false
 * if it is not free: use fz_llock_hold_late() then. [-0, +0, e]
 */
bool fz_llock_hold(lua_State *L, struct fz_llock *lock);

/*
 * Wait until a brief lock is acquired, and call then(L), which releases it
 * before it raises or returns. The caller returns the result. [-0, +n, e]
 */
int fz_llock_hold_late(lua_State *L, struct fz_llock *lock, lua_CFunction then);

/* Release a brief lock once. */
void fz_llock_unhold(struct fz_llock *lock);

/*
 * Raise an error unless the running task of this process holds the lock. `self`
 * is the member number of the process. [-0, +0, e]
 */
void fz_llock_check_held(
    lua_State *L, const struct fz_llock *lock, uint32_t self);

/*
 * The function try() of a wait for the lock. If `late` is set, the lock of a
 * dead holder is also recovered. `*state` must be FZ_LOCK_BUSY before the call.
 * The caller sets the depth.
 */
bool fz_llock_try(
    struct fz_lock *lock, uint32_t self, bool late, enum fz_lock_state *state);

/* The lock of the handle at `idx`; NULL for any other value. */
struct fz_llock *fz_llock_test(lua_State *L, int idx);

/* Add core.lock and core.rlock to the core table on top. [-0, +0, e] */
int fz_llock_open(lua_State *L);

#endif
