#include "bind/shared/lguard.h"

#include <lauxlib.h>

#include "bind/shared/lhandle.h"
#include "shared/heap.h"

#define GUARD_TYPE "fzlua.Guard"

/* The guard's user value keeps what it releases alive. */
static struct fz_lguard *
new_guard(lua_State *L)
{
	struct fz_lguard *guard = lua_newuserdatauv(L, sizeof(*guard), 1);

	*guard = (struct fz_lguard){ NULL, NULL, 0, 0 };
	luaL_setmetatable(L, GUARD_TYPE);
	lua_pushvalue(L, 1);
	lua_setiuservalue(L, -2, 1);
	return guard;
}

struct fz_lguard *
fz_lguard_enter(lua_State *L)
{
	struct fz_lguard *guard = new_guard(L);

	guard->self = fz_lhandle_self(L);
	lua_toclose(L, -1);
	return guard;
}

static bool
acquire_for(
    lua_State *L, fz_lguard_acquire acquire, void *of, struct fz_lguard *guard)
{
	guard->of = of;
	guard->self = fz_lhandle_self(L);
	return acquire(L, of, guard);
}

int
fz_lguard_push(lua_State *L, fz_lguard_acquire acquire, void *of)
{
	struct fz_lguard *guard = new_guard(L);

	if (!acquire_for(L, acquire, of, guard))
		return 1;
	lua_pushliteral(L, "abandoned");
	return 2;
}

/* The results of f are above the guard, which is closed on the way out. */
static int
with_end(lua_State *L, int status, lua_KContext ctx)
{
	(void)status;
	(void)ctx;
	return lua_gettop(L) - 2;
}

int
fz_lguard_with(lua_State *L, fz_lguard_acquire acquire, void *of)
{
	struct fz_lguard *guard;

	luaL_checkany(L, 2);
	guard = new_guard(L);
	lua_insert(L, 2);
	lua_toclose(L, 2);
	acquire_for(L, acquire, of, guard);
	lua_callk(L, lua_gettop(L) - 3, LUA_MULTRET, 0, with_end);
	return with_end(L, LUA_OK, 0);
}

/* guard:release(): at once; again, or at the end of the scope: nothing */
static int
guard_release(lua_State *L)
{
	struct fz_lguard *guard = luaL_checkudata(L, 1, GUARD_TYPE);
	void (*release)(struct fz_lguard *) = guard->release;

	guard->release = NULL;
	if (release != NULL && guard->self == fz_heap_me())
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
	{ "__gc", guard_release }, /* of a coroutine that was left */
	{ "__tostring", guard_tostring },
	{ NULL, NULL },
};

int
fz_lguard_open(lua_State *L)
{
	if (luaL_newmetatable(L, GUARD_TYPE)) {
		luaL_setfuncs(L, metamethods, 0);
		luaL_newlib(L, methods);
		lua_setfield(L, -2, "__index");
	}
	lua_pop(L, 1);
	return 0;
}
