#include "bind/shared/lhold.h"

#include <lauxlib.h>

#include "base/clock.h"
#include "bind/shared/lguard.h"
#include "bind/shared/lhandle.h"
#include "bind/shared/lwait.h"
#include "shared/lock.h"

enum { MOST_PAUSES = 64 }; /* between two looks */

struct wanted {
	struct fz_lock *lock;
	uint32_t self;
};

static bool
try_take(void *ctx, bool late)
{
	const struct wanted *w = ctx;

	if (late)
		return fz_lock_inherit(w->lock, w->self) != FZ_LOCK_BUSY;
	return fz_lock_try(w->lock, w->self);
}

/*
 * Most hold it for a moment only; looking less and less often leaves them the
 * memory that they work on.
 */
static void
take_slowly(lua_State *L, struct fz_lock *lock, uint32_t self)
{
	struct wanted w = { lock, self };
	bool slept = false;

	for (int pauses = 1; pauses <= MOST_PAUSES; pauses *= 2) {
		for (int i = 0; i < pauses; i++)
			fz_eventcount_pause();
		if (fz_lock_try(lock, self))
			return;
	}
	fz_lwait(L, &lock->gate, try_take, &w, FZ_CLOCK_NEVER, &slept);
	if (slept)
		fz_eventcount_again(&lock->gate);
}

void
fz_lhold_take(lua_State *L, struct fz_lock *lock)
{
	uint32_t self = fz_lhandle_self(L);

	if (!fz_lock_try(lock, self)) {
		if (fz_lock_is_mine(lock, self)) {
			lock->depth++;
			return;
		}
		take_slowly(L, lock, self);
	}
	lock->depth = 1;
}

void
fz_lhold_give(struct fz_lock *lock)
{
	if (--lock->depth == 0)
		fz_lock_release(lock);
}

static void
release(struct fz_lguard *guard)
{
	fz_lhold_give(guard->of);
}

static bool
acquire(lua_State *L, void *of, struct fz_lguard *guard)
{
	fz_lhold_take(L, of);
	guard->release = release;
	return false;
}

int
fz_lhold_with(lua_State *L, struct fz_lock *lock)
{
	luaL_checkany(L, 2);
	lua_settop(L, 2);
	lua_pushvalue(L, 1);
	return fz_lguard_with(L, acquire, lock);
}
