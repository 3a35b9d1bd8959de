#include "bind/shared/llock.h"

#include <lauxlib.h>

#include "base/clock.h"
#include "bind/shared/lguard.h"
#include "bind/shared/lhandle.h"
#include "bind/shared/lwait.h"
#include "shared/heap.h"
#include "value/lerror.h"

struct llock {
	struct fz_object head;
	struct fz_llock lock;
};

/* ---- taking it --------------------------------------------------------- */

struct taking {
	struct fz_lock *lock;
	uint32_t self;
	enum fz_lock_state state;
};

static bool
try_take(void *ctx, bool late)
{
	struct taking *t = ctx;

	if (late)
		t->state = fz_lock_inherit(t->lock, t->self);
	else if (fz_lock_try(t->lock, t->self))
		t->state = FZ_LOCK_TAKEN;
	return t->state != FZ_LOCK_BUSY;
}

enum fz_lock_state
fz_llock_wait(
    lua_State *L, struct fz_lock *lock, uint32_t self, int64_t until_ns)
{
	struct taking t = { lock, self, FZ_LOCK_BUSY };
	bool slept;

	if (fz_lwait(L, &lock->gate, try_take, &t, until_ns, &slept) && slept)
		fz_eventcount_again(&lock->gate);
	return t.state;
}

/* Nobody but this process could let it go, and it would sleep for ever. */
static int
raise_held(lua_State *L)
{
	return fz_lerror_fail(L, FZ_ERR_ERROR,
	    "this process holds the lock already (use fz.rlock to acquire it "
	    "more than once)");
}

/* What takes longer than one look; `timeout` is the index of one, 0: none. */
static enum fz_lock_state
take_slowly(lua_State *L, struct fz_llock *lock, uint32_t self, int timeout)
{
	bool forever = timeout == 0 || lua_isnoneornil(L, timeout);
	enum fz_lock_state state;

	if (fz_lock_is_mine(&lock->lock, self)) {
		if (lock->recursive) {
			lock->lock.depth++;
			return FZ_LOCK_TAKEN;
		}
		if (forever)
			raise_held(L);
	}
	state = fz_llock_wait(L, &lock->lock, self,
	    forever ? FZ_CLOCK_NEVER : fz_lwait_until(L, timeout));
	if (state != FZ_LOCK_BUSY)
		lock->lock.depth = 1;
	return state;
}

static inline enum fz_lock_state
take(lua_State *L, struct fz_llock *lock, uint32_t self, int timeout)
{
	if (!fz_lock_try(&lock->lock, self))
		return take_slowly(L, lock, self, timeout);
	lock->lock.depth = 1;
	return FZ_LOCK_TAKEN;
}

int
fz_llock_acquire(lua_State *L, struct fz_llock *lock)
{
	enum fz_lock_state state;

	if (!lua_isnoneornil(L, 2))
		luaL_checknumber(L, 2);
	state = take(L, lock, fz_lhandle_self(L), 2);
	lua_pushboolean(L, state != FZ_LOCK_BUSY);
	if (state != FZ_LOCK_ABANDONED)
		return 1;
	lua_pushliteral(L, "abandoned");
	return 2;
}

/* ---- letting it go ----------------------------------------------------- */

void
fz_llock_check_held(lua_State *L, const struct fz_llock *lock, uint32_t self)
{
	if (!fz_lock_is_mine(&lock->lock, self))
		fz_lerror_fail(
		    L, FZ_ERR_ERROR, "this process does not hold the lock");
}

int
fz_llock_release(lua_State *L, struct fz_llock *lock)
{
	fz_llock_check_held(L, lock, fz_lhandle_self(L));
	if (--lock->lock.depth == 0)
		fz_lock_release(&lock->lock);
	return 0;
}

/* As it was before, if it is not yet. */
static void
release_guarded(struct fz_lguard *guard)
{
	struct fz_llock *lock = guard->of;

	if (!fz_lock_is_mine(&lock->lock, guard->self) ||
	    lock->lock.depth <= guard->before)
		return;
	lock->lock.depth = guard->before;
	if (guard->before == 0)
		fz_lock_release(&lock->lock);
}

static bool
take_guarded(lua_State *L, void *of, struct fz_lguard *guard)
{
	struct fz_llock *lock = of;
	enum fz_lock_state state = take(L, lock, guard->self, 0);

	guard->before = lock->lock.depth - 1;
	guard->release = release_guarded;
	return state == FZ_LOCK_ABANDONED;
}

int
fz_llock_with(lua_State *L, struct fz_llock *lock)
{
	return fz_lguard_with(L, take_guarded, lock);
}

int
fz_llock_guard(lua_State *L, struct fz_llock *lock)
{
	return fz_lguard_push(L, take_guarded, lock);
}

/* ---- the methods ------------------------------------------------------- */

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
 * lock:acquire([timeout]) -> true; true, "abandoned" where its holder has died;
 * false where the time ran out
 */
static int
lock_acquire(lua_State *L)
{
	return fz_llock_acquire(L, check_lock(L));
}

/* lock:release(): raises unless this process holds it */
static int
lock_release(lua_State *L)
{
	return fz_llock_release(L, check_lock(L));
}

/* lock:with(f, ...) -> what f returns */
static int
lock_with(lua_State *L)
{
	return fz_llock_with(L, check_lock(L));
}

/* lock:guard() -> guard [, "abandoned"]: held until its scope ends */
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

/* lock() -> lock */
static int
lock_new(lua_State *L)
{
	fz_lhandle_new(L, FZ_LHANDLE_LOCK, sizeof(struct llock));
	return 1;
}

/* rlock() -> lock that its holder may acquire again */
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

int
fz_llock_open(lua_State *L)
{
	fz_lguard_open(L);
	fz_lhandle_class(
	    L, FZ_LHANDLE_LOCK, "fzlua.Lock", methods, metamethods, NULL);
	lua_pushcfunction(L, lock_new);
	lua_setfield(L, -2, "lock");
	lua_pushcfunction(L, rlock_new);
	lua_setfield(L, -2, "rlock");
	return 0;
}
