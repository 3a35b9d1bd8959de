#include "bind/shared/lguard.h"

#include <lauxlib.h>

#include "bind/shared/lshared.h"
#include "value/luserdata.h"

#define GUARD_TYPE "fzlua.Guard"

static const struct fz_luserdata_class guard_class;

/* Push a guard, whose user value keeps the object alive. */
static struct fz_lguard *
new_guard(lua_State *L, void *of)
{
	struct fz_lguard *guard = lua_newuserdatauv(L, sizeof(*guard), 1);

	*guard = (struct fz_lguard){ .of = of };
	fz_luserdata_set(L, &guard_class);
	lua_pushvalue(L, 1);
	lua_setiuservalue(L, -2, 1);
	guard->shared = fz_lshared(L);
	guard->self = fz_lshared_join(L, guard->shared);
	guard->task = guard->shared->membership->task;
	return guard;
}

struct fz_lguard *
fz_lguard_enter(lua_State *L)
{
	struct fz_lguard *guard = new_guard(L, NULL);

	lua_toclose(L, -1);
	return guard;
}

/* Continuation of guard(). The guard is at index 2. */
static int
return_guard(lua_State *L, struct fz_lguard *guard, bool abandoned)
{
	(void)guard;
	lua_pushvalue(L, 2);
	if (!abandoned)
		return 1;
	lua_pushliteral(L, "abandoned");
	return 2;
}

int
fz_lguard_push(lua_State *L, fz_lguard_acquire acquire, void *of)
{
	lua_settop(L, 1);
	return acquire(L, new_guard(L, of), return_guard);
}

/* Continuation after f. The results of f are above the index `ctx`. */
static int
with_end(lua_State *L, int status, lua_KContext ctx)
{
	(void)status;
	return lua_gettop(L) - (int)ctx;
}

/*
 * Call f. The guard is at index 2. The function f and its arguments are at the
 * indexes from 3 to guard->top. A wait may be above them.
 */
static int
call_guarded(lua_State *L, struct fz_lguard *guard, bool abandoned)
{
	int top = lua_gettop(L), nargs = guard->top - 3;

	(void)abandoned;
	if (top == guard->top) {
		top = 2;
	} else {
		luaL_checkstack(L, nargs + 1, "too many arguments");
		for (int i = 3; i <= guard->top; i++)
			lua_pushvalue(L, i);
	}
	lua_callk(L, nargs, LUA_MULTRET, top, with_end);
	return with_end(L, LUA_OK, top);
}

int
fz_lguard_with(lua_State *L, fz_lguard_acquire acquire, void *of)
{
	struct fz_lguard *guard;

	luaL_checktype(L, 2, LUA_TFUNCTION);
	guard = new_guard(L, of);
	lua_insert(L, 2);
	lua_toclose(L, 2);
	guard->top = lua_gettop(L);
	return acquire(L, guard, call_guarded);
}

/*
 * guard:release(): release the object now. A second call then does nothing, and
 * neither does the end of the scope.
 */
static int
guard_release(lua_State *L)
{
	struct fz_lguard *guard = luaL_checkudata(L, 1, GUARD_TYPE);
	void (*release)(struct fz_lguard *) = guard->release;

	guard->release = NULL;
	if (release != NULL && guard->self == fz_lshared_member(guard->shared))
		release(guard);
	return 0;
}

static int
guard_tostring(lua_State *L)
{
	lua_pushfstring(L, GUARD_TYPE ": %p", lua_topointer(L, 1));
	return 1;
}

static const luaL_Reg methods[] = {
	{ "release", guard_release },
	{ NULL, NULL },
};

static const luaL_Reg metamethods[] = {
	{ "__close", guard_release },
	{ "__gc", guard_release }, /* for a dropped coroutine */
	{ "__tostring", guard_tostring },
	{ NULL, NULL },
};

static const struct fz_luserdata_class guard_class = {
	.name = GUARD_TYPE, .methods = methods, .metamethods = metamethods
};
