#include "bind/shared/lhold.h"

#include <lauxlib.h>

#include "base/clock.h"
#include "base/container.h"
#include "bind/shared/lguard.h"
#include "bind/shared/lhandle.h"
#include "bind/shared/lshared.h"
#include "bind/shared/llock.h"
#include "bind/shared/lwait.h"

enum { MAX_PAUSES = 64 }; /* between two tries */

struct acquiring {
	struct fz_lwait wait;
	struct fz_lock *lock;
	uint32_t self, task;
	enum fz_lock_state state;
	lua_CFunction held;      /* NULL: called by with() */
	struct fz_lguard *guard; /* set if called by with() */
	fz_lguard_then then;
};

bool
fz_lhold_try(lua_State *L, struct fz_lock *lock)
{
	const struct fz_lshared *shared = fz_lshared(L);
	uint32_t self = fz_lshared_join(L, shared);

	if (fz_lock_try(lock, self)) {
		lock->depth = 1;
		lock->task = shared->membership->task;
		return true;
	}
	if (!fz_lock_is_of(lock, self, shared->membership->task))
		return false;
	lock->depth++;
	return true;
}

void
fz_lhold_release(struct fz_lock *lock)
{
	if (--lock->depth == 0)
		fz_lock_release(lock);
}

static void
release_guarded(struct fz_lguard *guard)
{
	fz_lhold_release(guard->of);
}

static bool
try_acquire(struct fz_lwait *wait, bool late)
{
	struct acquiring *a = FZ_CONTAINER_OF(wait, struct acquiring, wait);

	return fz_llock_try(a->lock, a->self, late, &a->state);
}

static int
acquired(lua_State *L, struct acquiring *a)
{
	if (a->held != NULL)
		return a->held(L);
	a->guard->release = release_guarded;
	return a->then(L, a->guard, false);
}

static int
acquire_end(lua_State *L, struct fz_lwait *wait, bool in_time)
{
	struct acquiring *a = FZ_CONTAINER_OF(wait, struct acquiring, wait);

	(void)in_time; /* always true: there is no deadline */
	if (wait->slept)
		fz_eventcount_rearm(&a->lock->waiters);
	a->lock->depth = 1;
	a->lock->task = a->task;
	return acquired(L, a);
}

static const struct fz_lwait_class acquiring_class = {
	.what = "the lock of a value or array",
	.try = try_acquire,
	.end = acquire_end
};

/*
 * Most holders release the lock soon. The pauses grow, so that the tries do not
 * slow down the holder by fetching its cache lines.
 */
static bool
spin(const struct acquiring *a)
{
	for (int pauses = 1; pauses <= MAX_PAUSES; pauses *= 2) {
		for (int i = 0; i < pauses; i++)
			fz_eventcount_pause();
		if (fz_lock_try(a->lock, a->self))
			return true;
	}
	return false;
}

static int
acquire_slowly(lua_State *L, struct acquiring *a)
{
	const struct fz_lshared *shared = fz_lshared(L);

	a->wait.class = &acquiring_class;
	a->wait.at = &a->lock->waiters;
	a->wait.until_ns = FZ_CLOCK_NEVER;
	a->wait.slept = false;
	a->self = fz_lshared_join(L, shared);
	a->task = shared->membership->task;
	a->state = FZ_LOCK_BUSY;
	if (spin(a))
		return acquire_end(L, &a->wait, true);
	return fz_lwait(L, &a->wait, sizeof(*a));
}

int
fz_lhold_wait(lua_State *L, struct fz_lock *lock, lua_CFunction then)
{
	struct acquiring a = { .lock = lock, .held = then };

	return acquire_slowly(L, &a);
}

static int
acquire_guarded(lua_State *L, struct fz_lguard *guard, fz_lguard_then then)
{
	struct acquiring a = {
		.lock = guard->of, .guard = guard, .then = then
	};

	if (fz_lhold_try(L, a.lock))
		return acquired(L, &a);
	return acquire_slowly(L, &a);
}

int
fz_lhold_with(lua_State *L, struct fz_lock *lock)
{
	luaL_checkany(L, 2);
	lua_settop(L, 2);
	lua_pushvalue(L, 1);
	return fz_lguard_with(L, acquire_guarded, lock);
}
