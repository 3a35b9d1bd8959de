#include "bind/lhold.h"

#include <lauxlib.h>

#include "base/clock.h"
#include "bind/lhandle.h"
#include "bind/lwait.h"
#include "os/commons.h"
#include "os/lock.h"

#define HOLD_TYPE "fzlua.Hold"

enum { MOST_PAUSES = 64 }; /* between two looks */

/* ---- the lock -------------------------------------------------------------
 */

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

static inline void
relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ __volatile__("yield");
#endif
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
			relax();
		if (fz_lock_try(lock, self))
			return;
	}
	fz_lwait(L, &lock->gate, try_take, &w, FZ_CLOCK_NEVER, &slept);
	if (slept)
		fz_gate_again(&lock->gate);
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

/* ---- with -----------------------------------------------------------------
 */

/* Its user value is whose lock it is. */
struct hold {
	struct fz_lock *lock; /* NULL: not held */
	uint32_t self;        /* by whom: not by a child forked meanwhile */
};

static int
hold_close(lua_State *L)
{
	struct hold *hold = lua_touserdata(L, 1);
	struct fz_lock *lock = hold->lock;

	hold->lock = NULL;
	if (lock != NULL && fz_lock_is_mine(lock, hold->self) &&
	    fz_commons_self(NULL) == hold->self)
		fz_lhold_give(lock);
	return 0;
}

/* What f has returned is above the hold, which is closed with the return. */
static int
finish_with(lua_State *L, int status, lua_KContext base)
{
	(void)status;
	return lua_gettop(L) - (int)base;
}

int
fz_lhold_with(lua_State *L, struct fz_lock *lock)
{
	struct hold *hold;

	luaL_checkany(L, 2);
	lua_settop(L, 2);
	hold = lua_newuserdatauv(L, sizeof(*hold), 1);
	*hold = (struct hold){ NULL, fz_lhandle_self(L) };
	luaL_setmetatable(L, HOLD_TYPE);
	lua_pushvalue(L, 1);
	lua_setiuservalue(L, 3, 1);
	lua_toclose(L, 3);
	fz_lhold_take(L, lock);
	hold->lock = lock;
	lua_pushvalue(L, 2);
	lua_pushvalue(L, 1);
	lua_callk(L, 1, LUA_MULTRET, 3, finish_with);
	return finish_with(L, LUA_OK, 3);
}

static const luaL_Reg metamethods[] = {
	{ "__close", hold_close },
	{ "__gc", hold_close }, /* of a coroutine that was left */
	{ NULL, NULL },
};

int
fz_lhold_open(lua_State *L)
{
	if (luaL_newmetatable(L, HOLD_TYPE))
		luaL_setfuncs(L, metamethods, 0);
	lua_pop(L, 1);
	return 0;
}
