#include "bind/open.h"

#include <lauxlib.h>

#include "base/clock.h"
#include "base/container.h"
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

struct acquiring {
	struct fz_lwait wait;
	struct fz_semaphore *semaphore;
	/* guard of the permit; NULL: acquire() was called */
	struct fz_lguard *guard;
	fz_lguard_then then;
};

static bool
try_acquire(struct fz_lwait *wait, bool late)
{
	(void)late;
	return fz_semaphore_try(
	    FZ_CONTAINER_OF(wait, struct acquiring, wait)->semaphore);
}

static void
release_guarded(struct fz_lguard *guard)
{
	fz_semaphore_release(guard->of, 1);
}

static int
acquire_end(lua_State *L, struct fz_lwait *wait, bool in_time)
{
	struct acquiring *a = FZ_CONTAINER_OF(wait, struct acquiring, wait);

	if (in_time && wait->slept)
		fz_semaphore_pass_on(a->semaphore);
	if (a->guard != NULL) {
		a->guard->release = release_guarded;
		return a->then(L, a->guard, false);
	}
	lua_pushboolean(L, in_time);
	return 1;
}

static const struct fz_lwait_class acquiring_class = {
	.what = "a semaphore", .try = try_acquire, .end = acquire_end
};

/*
 * Acquire a permit. `timeout` is a stack index, or 0 if there is no timeout. It
 * is read only if the caller must wait.
 */
static int
acquire(lua_State *L, struct acquiring *a, int timeout)
{
	a->wait.class = &acquiring_class;
	a->wait.at = &a->semaphore->waiters;
	a->wait.slept = false;
	if (fz_semaphore_try(a->semaphore))
		return acquire_end(L, &a->wait, true);
	a->wait.until_ns =
	    timeout == 0 ? FZ_CLOCK_NEVER : fz_lwait_until(L, timeout);
	return fz_lwait(L, &a->wait, sizeof(*a));
}

/* semaphore:acquire([timeout]) -> true | false after the timeout */
static int
semaphore_acquire(lua_State *L)
{
	struct acquiring a = { .semaphore = check_semaphore(L) };

	if (!lua_isnoneornil(L, 2))
		luaL_checknumber(L, 2);
	return acquire(L, &a, 2);
}

/*
 * semaphore:release([n = 1]): add n permits. Raises an error if a bounded
 * semaphore would get more permits than its limit.
 */
static int
semaphore_release(lua_State *L)
{
	struct fz_semaphore *s = check_semaphore(L);
	lua_Integer n = luaL_optinteger(L, 2, 1);

	luaL_argcheck(L, n >= 1, 2, "must be at least 1");
	if (fz_semaphore_release(s, n))
		return 0;
	return fz_lerror_fail(L, FZ_ERR_ERROR,
	    "the semaphore is released more often than acquired");
}

/* semaphore:value() -> number of permits that can be acquired now */
static int
semaphore_value(lua_State *L)
{
	lua_pushinteger(L, atomic_load(&check_semaphore(L)->count));
	return 1;
}

static int
acquire_guarded(lua_State *L, struct fz_lguard *guard, fz_lguard_then then)
{
	struct acquiring a = {
		.semaphore = guard->of, .guard = guard, .then = then
	};

	return acquire(L, &a, 0);
}

static int
semaphore_with(lua_State *L)
{
	return fz_lguard_with(L, acquire_guarded, check_semaphore(L));
}

/* semaphore:guard() -> guard; the permit is held in its scope */
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

	luaL_argcheck(L, n >= 0, 1, "must not be negative");
	ls = fz_lhandle_new(L, FZ_LHANDLE_SEMAPHORE, sizeof(*ls));
	atomic_store(&ls->semaphore.count, n);
	ls->semaphore.limit = bounded ? n : FZ_SEMAPHORE_MAX;
	return 1;
}

/* core.semaphore(n) -> a semaphore with n permits */
static int
semaphore_new(lua_State *L)
{
	return new_semaphore(L, false);
}

/* core.bounded_semaphore(n) -> semaphore with never more than n permits */
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

static const struct fz_lhandle_class class = { .name = "fzlua.Semaphore",
	.methods = methods };

int
fz_lsemaphore_open(lua_State *L)
{
	fz_lhandle_class(L, FZ_LHANDLE_SEMAPHORE, &class);
	lua_pushcfunction(L, semaphore_new);
	lua_setfield(L, -2, "semaphore");
	lua_pushcfunction(L, bounded_semaphore_new);
	lua_setfield(L, -2, "bounded_semaphore");
	return 0;
}
