/*
 * lhold.h - a lock of an object that is held for one operation, or one call of
 * with(f).
 *
 * The same process may hold it several times. A holder's death is not reported:
 * the object is consistent at any time.
 */
#ifndef FZ_LHOLD_H
#define FZ_LHOLD_H

#include <stdbool.h>

#include <lua.h>

struct fz_lock;

/*
 * Acquire it, once more, if that is possible at once: true. Otherwise wait for
 * it with fz_lhold_wait(). [-0, +0, e]
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
 * A method `with`: call the function that is the second argument with the
 * object, which is the first, and return its results. The object's lock is held
 * until the function has returned, raised, or was cancelled. [-0, +n, e]
 */
int fz_lhold_with(lua_State *L, struct fz_lock *lock);

#endif
