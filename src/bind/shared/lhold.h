/*
 * lhold.h - holding a lock for what is done now, not for what others are to
 * see.
 *
 * The same process may hold it several times. Of a holder that has died nobody
 * is told: what it guarded is whole at any time.
 */
#ifndef FZ_LHOLD_H
#define FZ_LHOLD_H

#include <lua.h>

struct fz_lock;

/* Once more; waits for it. [-0, +0, e] */
void fz_lhold_take(lua_State *L, struct fz_lock *lock);

/* Once less. */
void fz_lhold_give(struct fz_lock *lock);

/*
 * A method `with`: call the function that is the second argument with the first
 * and return its results. The lock, of that first one, is held until the
 * function has returned, raised, or was cancelled. [-0, +n, e]
 */
int fz_lhold_with(lua_State *L, struct fz_lock *lock);

#endif
