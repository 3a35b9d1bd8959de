/*
 * lhold.h - the lock of an object during one operation or one call of with(f).
 *
 * A task may acquire it more than once. The death of a holder is not
 * reported, because the object is consistent at any time.
 */
#ifndef FZ_LHOLD_H
#define FZ_LHOLD_H

#include <stdbool.h>

#include <lua.h>

struct fz_lock;

/*
 * Acquire it, or acquire it again, without waiting. False: wait for it with
 * fz_lhold_wait(). [-0, +0, e]
 */
bool fz_lhold_try(lua_State *L, struct fz_lock *lock);

/*
 * Wait until it is acquired and call then(L), which releases it before it
 * raises or returns. A return value for a C function. [-0, +n, e]
 */
int fz_lhold_wait(lua_State *L, struct fz_lock *lock, lua_CFunction then);

/* Release it, once. */
void fz_lhold_release(struct fz_lock *lock);

/*
 * The method with(f): call f, the second argument, with the object, the first
 * argument, and return its results. The object's lock is held
 * until the function has returned, raised, or was cancelled. [-0, +n, e]
 */
int fz_lhold_with(lua_State *L, struct fz_lock *lock);

#endif
