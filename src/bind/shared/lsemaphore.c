#include "bind/open.h"

#include <lauxlib.h>

#include "base/clock.h"
#include "bind/shared/lguard.h"
#include "bind/shared/lhandle.h"
#include "bind/shared/lwait.h"
#include "shared/heap.h"
#include "shared/semaphore.h"
#include "value/lerror.h"

struct lsemaphore {
	struct fz_object head;
	struct fz_semaphore semaphore;
};

static struct fz_semaphore *
check_semaphore(lua_State *L)
{
	struct lsemaphore *ls =
	    fz_lhandle_check(L, 1, FZ_LHANDLE_SEMAPHORE)->object;

	return &ls->semaphore;
}

static bool
try_acquire(void *ctx, bool late)
{
	(void)late;
	return fz_semaphore_try(ctx);
}

static bool
wait_for(lua_State *L, struct fz_semaphore *s, int64_t until_ns)
{
	bool slept;

	if (!fz_lwait(L, &s->gate, try_acquire, s, until_ns, &slept))
		return false;
	if (slept)
		fz_semaphore_pass_on(s);
	return true;
}

/* semaphore:acquire([timeout]) -> true; false where the time ran out */
static int
semaphore_acquire(lua_State *L)
{
	struct fz_semaphore *s = check_semaphore(L);

	if (!lua_isnoneornil(L, 2))
		luaL_checknumber(L, 2);
	lua_pushboolean(
	    L, fz_semaphore_try(s) || wait_for(L, s, fz_lwait_until(L, 2)));
	return 1;
}

/* semaphore:release([n = 1]): a bounded one raises above what it began with */
static int
semaphore_release(lua_State *L)
{
	struct fz_semaphore *s = check_semaphore(L);
	lua_Integer n = luaL_optinteger(L, 2, 1);

	luaL_argcheck(L, n >= 1, 2, "out of range");
	if (fz_semaphore_give(s, n))
		return 0;
	return fz_lerror_fail(L, FZ_ERR_ERROR,
	    "the semaphore is released more often than acquired");
}

/* semaphore:value() -> how many can be acquired now */
static int
semaphore_value(lua_State *L)
{
	lua_pushinteger(L, atomic_load(&check_semaphore(L)->count));
	return 1;
}

static void
release_guarded(struct fz_lguard *guard)
{
	fz_semaphore_give(guard->of, 1);
}

static bool
acquire_guarded(lua_State *L, void *of, struct fz_lguard *guard)
{
	if (!fz_semaphore_try(of))
		wait_for(L, of, FZ_CLOCK_NEVER);
	guard->release = release_guarded;
	return false;
}

/* semaphore:with(f, ...) -> what f returns */
static int
semaphore_with(lua_State *L)
{
	return fz_lguard_with(L, acquire_guarded, check_semaphore(L));
}

/* semaphore:guard() -> guard: acquired until its scope ends */
static int
semaphore_guard(lua_State *L)
{
	return fz_lguard_push(L, acquire_guarded, check_semaphore(L));
}

static int
new_semaphore(lua_State *L, bool bounded)
{
	lua_Integer n = luaL_checkinteger(L, 1);
	struct lsemaphore *ls;

	luaL_argcheck(L, n >= 0, 1, "out of range");
	ls = fz_lhandle_new(L, FZ_LHANDLE_SEMAPHORE, sizeof(*ls));
	atomic_store(&ls->semaphore.count, n);
	ls->semaphore.limit = bounded ? n : FZ_SEMAPHORE_MAX;
	return 1;
}

/* semaphore(n) -> semaphore of which n can be acquired */
static int
semaphore_new(lua_State *L)
{
	return new_semaphore(L, false);
}

/* bounded_semaphore(n) -> semaphore of which there are never more than n */
static int
bounded_semaphore_new(lua_State *L)
{
	return new_semaphore(L, true);
}

static const luaL_Reg methods[] = {
	{ "acquire", semaphore_acquire },
	{ "release", semaphore_release },
	{ "value", semaphore_value },
	{ "with", semaphore_with },
	{ "guard", semaphore_guard },
	{ NULL, NULL },
};

int
fz_lsemaphore_open(lua_State *L)
{
	fz_lhandle_class(
	    L, FZ_LHANDLE_SEMAPHORE, "fzlua.Semaphore", methods, NULL, NULL);
	lua_pushcfunction(L, semaphore_new);
	lua_setfield(L, -2, "semaphore");
	lua_pushcfunction(L, bounded_semaphore_new);
	lua_setfield(L, -2, "bounded_semaphore");
	return 0;
}
