#include "bind/shared/llock.h"

#include <lauxlib.h>

#include "base/clock.h"
#include "base/container.h"
#include "bind/shared/lguard.h"
#include "bind/shared/lhandle.h"
#include "bind/shared/lheld.h"
#include "bind/shared/lshared.h"
#include "bind/shared/lwait.h"
#include "shared/heap.h"
#include "value/lerror.h"

struct llock {
	struct fz_object head;
	struct fz_llock lock;
};

enum {
	MAX_PAUSES = 64
}; /* maximum number of pauses between two tries for a brief lock */

/*
 * State of an acquire in progress. If `held` and `guard` are NULL, acquire()
 * was called.
 */
struct acquiring {
	struct fz_lwait wait;
	struct fz_llock *lock;
	uint32_t self, task;
	enum fz_lock_state state;
	lua_CFunction held; /* for fz_llock_hold_late(), or NULL */
	struct fz_lguard *guard;
	fz_lguard_then then;
};

bool
fz_llock_try(
    struct fz_lock *lock, uint32_t self, bool late, enum fz_lock_state *state)
{
	*state = late ? fz_lock_recover(lock, self) : fz_lock_adopt(lock, self);
	return *state != FZ_LOCK_BUSY;
}

static bool
try_acquire(struct fz_lwait *wait, bool late)
{
	struct acquiring *a = FZ_CONTAINER_OF(wait, struct acquiring, wait);

	return fz_llock_try(&a->lock->lock, a->self, late, &a->state);
}

/* Release a lock whose depth is 0. */
static void
release(struct fz_lshared *shared, struct fz_llock *lock)
{
	if (shared->held.n != 0)
		fz_lheld_remove(shared, &lock->lock, lock->lock.task);
	fz_lock_release(&lock->lock);
}

/*
 * Restore the depth that the lock had before it was acquired, unless it was
 * released already.
 */
static void
release_guarded(struct fz_lguard *guard)
{
	struct fz_llock *lock = guard->of;

	if (!fz_lock_is_of(&lock->lock, guard->self, guard->task) ||
	    lock->lock.depth <= guard->before)
		return;
	lock->lock.depth = guard->before;
	if (guard->before == 0)
		release(guard->shared, lock);
}

/*
 * The object that contains the lock: the condition at index 1 if the lock is a
 * part of it, else a lock object.
 */
static const struct fz_object *
object_of(lua_State *L, const struct fz_llock *lock)
{
	if (lock->inner)
		return fz_lhandle_at(L, 1)->object;
	return &FZ_CONTAINER_OF(lock, const struct llock, lock)->head;
}

static inline void
own_once(lua_State *L, struct acquiring *a)
{
	a->lock->lock.depth = 1;
	a->lock->lock.task = a->task;
	if (a->task != 0 && !a->lock->brief)
		fz_lheld_add(fz_lshared(L), &a->lock->lock,
		    object_of(L, a->lock), a->task);
}

/*
 * End an acquire. If the state is not BUSY, this process holds the lock, and
 * the depth is set.
 */
static int
acquired(lua_State *L, struct acquiring *a)
{
	if (a->held != NULL)
		return a->held(L);
	if (a->guard != NULL) {
		a->guard->before = a->lock->lock.depth - 1;
		a->guard->release = release_guarded;
		return a->then(L, a->guard, a->state == FZ_LOCK_ABANDONED);
	}
	lua_pushboolean(L, a->state != FZ_LOCK_BUSY);
	if (a->state != FZ_LOCK_ABANDONED)
		return 1;
	lua_pushliteral(L, "abandoned");
	return 2;
}

static int
acquire_end(lua_State *L, struct fz_lwait *wait, bool in_time)
{
	struct acquiring *a = FZ_CONTAINER_OF(wait, struct acquiring, wait);

	if (in_time && wait->slept)
		fz_eventcount_rearm(&a->lock->lock.waiters);
	if (in_time)
		own_once(L, a);
	return acquired(L, a);
}

static const struct fz_lwait_class acquiring_class = {
	.what = "a lock", .try = try_acquire, .end = acquire_end
};

static const struct fz_lwait_class brief_class = {
	.what = "the lock of a value or array",
	.try = try_acquire,
	.end = acquire_end
};

/*
 * Try for a while, because a brief lock is usually released soon. The pauses
 * between the tries grow, because each try fetches a cache line of the holder
 * and slows it down.
 */
static bool
spin(const struct acquiring *a)
{
	for (int pauses = 1; pauses <= MAX_PAUSES; pauses *= 2) {
		for (int i = 0; i < pauses; i++)
			fz_eventcount_pause();
		if (fz_lock_try(&a->lock->lock, a->self))
			return true;
	}
	return false;
}

/* Raise an error: the caller holds the lock itself, and would wait forever. */
static int
raise_held(lua_State *L, uint32_t task)
{
	return fz_lerror_fail(L, FZ_ERR_ERROR,
	    "this %s holds the lock already (use fz.rlock to acquire it "
	    "more than once)",
	    task != 0 ? "task" : "process");
}

/*
 * Wait for a lock that is not free. `timeout` is a stack index, or 0 if there
 * is no timeout.
 */
static int
acquire_slowly(lua_State *L, struct acquiring *a, int timeout)
{
	struct fz_llock *lock = a->lock;
	bool forever = timeout == 0 || lua_isnoneornil(L, timeout);

	if (fz_lock_is_of(&lock->lock, a->self, a->task)) {
		if (lock->recursive) {
			lock->lock.depth++;
			a->state = FZ_LOCK_ACQUIRED;
			return acquired(L, a);
		}
		if (forever)
			return raise_held(L, a->task);
	}
	if (lock->brief && spin(a))
		return acquire_end(L, &a->wait, true);
	a->wait.class = lock->brief ? &brief_class : &acquiring_class;
	a->wait.at = &lock->lock.waiters;
	a->wait.until_ns =
	    forever ? FZ_CLOCK_NEVER : fz_lwait_until(L, timeout);
	return fz_lwait(L, &a->wait, sizeof(*a));
}

static inline int
acquire(lua_State *L, struct acquiring *a, int timeout)
{
	if (!fz_lock_try(&a->lock->lock, a->self))
		return acquire_slowly(L, a, timeout);
	own_once(L, a);
	a->state = FZ_LOCK_ACQUIRED;
	return acquired(L, a);
}

int
fz_llock_acquire(lua_State *L, struct fz_llock *lock)
{
	const struct fz_lshared *shared = fz_lshared(L);
	struct acquiring a = { .lock = lock,
		.self = fz_lshared_join(L, shared),
		.task = shared->membership->task,
		.state = FZ_LOCK_BUSY };

	if (!lua_isnoneornil(L, 2))
		luaL_checknumber(L, 2);
	return acquire(L, &a, 2);
}

static int
acquire_guarded(lua_State *L, struct fz_lguard *guard, fz_lguard_then then)
{
	struct acquiring a = { .lock = guard->of,
		.self = guard->self,
		.task = guard->task,
		.state = FZ_LOCK_BUSY,
		.guard = guard,
		.then = then };

	return acquire(L, &a, 0);
}

int
fz_llock_with(lua_State *L, struct fz_llock *lock)
{
	return fz_lguard_with(L, acquire_guarded, lock);
}

int
fz_llock_guard(lua_State *L, struct fz_llock *lock)
{
	return fz_lguard_push(L, acquire_guarded, lock);
}

void
fz_llock_check_held(lua_State *L, const struct fz_llock *lock, uint32_t self)
{
	if (fz_lock_is_of(&lock->lock, self, fz_lshared(L)->membership->task))
		return;
	if (fz_lock_is_mine(&lock->lock, self))
		fz_lerror_fail(L, FZ_ERR_ERROR,
		    "another task of this process holds the lock");
	fz_lerror_fail(L, FZ_ERR_ERROR, "this process does not hold the lock");
}

int
fz_llock_with_object(lua_State *L, struct fz_llock *lock)
{
	luaL_checktype(L, 2, LUA_TFUNCTION);
	lua_settop(L, 2);
	lua_pushvalue(L, 1);
	return fz_llock_with(L, lock);
}

bool
fz_llock_hold(lua_State *L, struct fz_llock *lock)
{
	const struct fz_lshared *shared = fz_lshared(L);
	uint32_t self = fz_lshared_join(L, shared);
	uint32_t task = shared->membership->task;

	if (fz_lock_try(&lock->lock, self)) {
		lock->lock.depth = 1;
		lock->lock.task = task;
		return true;
	}
	if (!fz_lock_is_of(&lock->lock, self, task))
		return false;
	lock->lock.depth++;
	return true;
}

int
fz_llock_hold_late(lua_State *L, struct fz_llock *lock, lua_CFunction then)
{
	const struct fz_lshared *shared = fz_lshared(L);
	struct acquiring a = { .lock = lock,
		.self = fz_lshared_join(L, shared),
		.task = shared->membership->task,
		.state = FZ_LOCK_BUSY,
		.held = then };

	return acquire_slowly(L, &a, 0);
}

void
fz_llock_unhold(struct fz_llock *lock)
{
	if (--lock->lock.depth == 0)
		fz_lock_release(&lock->lock);
}

int
fz_llock_release(lua_State *L, struct fz_llock *lock)
{
	fz_llock_check_held(L, lock, fz_lhandle_self(L));
	if (--lock->lock.depth == 0)
		release(fz_lshared(L), lock);
	return 0;
}

struct fz_llock *
fz_llock_test(lua_State *L, int idx)
{
	struct fz_lhandle *handle = fz_lhandle_test(L, idx, FZ_LHANDLE_LOCK);

	return handle != NULL ? &((struct llock *)handle->object)->lock : NULL;
}

static struct fz_llock *
check_lock(lua_State *L)
{
	struct llock *l = fz_lhandle_check(L, 1, FZ_LHANDLE_LOCK)->object;

	return &l->lock;
}

/*
 * lock:acquire([timeout]) -> true | true, "abandoned" if the previous holder
 * ended without a release | false after the timeout
 */
static int
lock_acquire(lua_State *L)
{
	return fz_llock_acquire(L, check_lock(L));
}

/* lock:release(): raises an error unless the running task holds the lock */
static int
lock_release(lua_State *L)
{
	return fz_llock_release(L, check_lock(L));
}

static int
lock_with(lua_State *L)
{
	return fz_llock_with(L, check_lock(L));
}

/* lock:guard() -> guard [, "abandoned"]; the lock is held in its scope */
static int
lock_guard(lua_State *L)
{
	return fz_llock_guard(L, check_lock(L));
}

static int
lock_tostring(lua_State *L)
{
	struct fz_llock *lock = check_lock(L);

	lua_pushfstring(
	    L, "fzlua.%s: %p", lock->recursive ? "RLock" : "Lock", lock);
	return 1;
}

static int
lock_new(lua_State *L)
{
	fz_lhandle_new(L, FZ_LHANDLE_LOCK, sizeof(struct llock));
	return 1;
}

/* core.rlock() -> a lock that its holder may acquire more than once */
static int
rlock_new(lua_State *L)
{
	struct llock *l =
	    fz_lhandle_new(L, FZ_LHANDLE_LOCK, sizeof(struct llock));

	l->lock.recursive = true;
	return 1;
}

static const luaL_Reg methods[] = {
	{ "acquire", lock_acquire },
	{ "release", lock_release },
	{ "with", lock_with },
	{ "guard", lock_guard },
	{ NULL, NULL },
};

static const luaL_Reg metamethods[] = {
	{ "__tostring", lock_tostring },
	{ NULL, NULL },
};

static const struct fz_lhandle_class class = {
	.name = "fzlua.Lock", .methods = methods, .metamethods = metamethods
};

int
fz_llock_open(lua_State *L)
{
	fz_lheld_open(L);
	fz_lwait_open(L);
	fz_lhandle_class(L, FZ_LHANDLE_LOCK, &class);
	lua_pushcfunction(L, lock_new);
	lua_setfield(L, -2, "lock");
	lua_pushcfunction(L, rlock_new);
	lua_setfield(L, -2, "rlock");
	return 0;
}
