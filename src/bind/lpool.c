#include "bind/lpool.h"

#include <lauxlib.h>

#include "base/err.h"
#include "bind/child.h"
#include "bind/lerror.h"
#include "bind/lloop.h"
#include "bind/lslots.h"
#include "engine/pool.h"

#define POOL_TYPE "fzlua.Pool"
#define POOL_MAX 65536

/* User values of a pool. */
enum { POOL_THREAD = 1, POOL_FUNCS, POOL_INIT, POOL_NUSER = POOL_INIT };

struct lpool {
	struct fz_pool *pool; /* NULL until it is made */
	struct fz_child_home home;
	bool needs_init; /* for functions that run in this process */
};

static struct lpool *
to_lpool(lua_State *L, int idx)
{
	return luaL_checkudata(L, idx, POOL_TYPE);
}

struct fz_pool *
fz_lpool_check(lua_State *L, int idx)
{
	return to_lpool(L, idx)->pool;
}

bool *
fz_lpool_needs_init(lua_State *L, int idx)
{
	return &to_lpool(L, idx)->needs_init;
}

lua_State *
fz_lpool_prepare(lua_State *L, int idx)
{
	lua_State *thread;

	idx = lua_absindex(L, idx);
	lua_getiuservalue(L, idx, POOL_FUNCS);
	lua_getiuservalue(L, idx, POOL_INIT);
	thread = fz_child_prepare(L, -2, -1);
	lua_replace(L, -3);
	lua_pop(L, 1);
	return thread;
}

void
fz_lpool_rehome(lua_State *L, int idx)
{
	struct lpool *lp = to_lpool(L, idx);

	if (!lp->home.serving)
		return;
	idx = lua_absindex(L, idx);
	lp->home = (struct fz_child_home){ fz_lpool_prepare(L, idx), false };
	lua_setiuservalue(L, idx, POOL_THREAD);
}

/* pool{ funcs = { f, ... }, workers = n [, init = f] [, slots = s] } -> pool */
static int
pool_new(lua_State *L)
{
	struct fz_pool_opts opts = { .main = fz_child_main };
	struct fz_err err = { 0 };
	lua_Integer workers;
	struct lpool *lp;

	luaL_checktype(L, 1, LUA_TTABLE);
	lua_settop(L, 1);
	lua_getfield(L, 1, "workers");
	workers = luaL_checkinteger(L, -1);
	luaL_argcheck(
	    L, 1 <= workers && workers <= POOL_MAX, 1, "workers out of range");
	if (lua_getfield(L, 1, "slots") != LUA_TNIL)
		opts.slots = fz_lslots_check(L, -1);
	lua_settop(L, 1);
	lp = lua_newuserdatauv(L, sizeof(*lp), POOL_NUSER);
	lp->pool = NULL; /* __gc may come before it is made */
	lp->needs_init = true;
	luaL_setmetatable(L, POOL_TYPE);
	lua_getfield(L, 1, "funcs");
	luaL_checktype(L, -1, LUA_TTABLE);
	lua_setiuservalue(L, 2, POOL_FUNCS);
	lua_getfield(L, 1, "init");
	lua_setiuservalue(L, 2, POOL_INIT);
	opts.engine = fz_lloop_engine(L);
	opts.max = (unsigned)workers;
	lp->home = (struct fz_child_home){ fz_lpool_prepare(L, 2), false };
	opts.main_ctx = &lp->home;
	lua_setiuservalue(L, 2, POOL_THREAD);
	lp->pool = fz_pool_new(&opts, &err);
	return lp->pool != NULL ? 1 : fz_lerror_raise(L, &err);
}

static void
add_pid(void *ctx, pid_t pid)
{
	lua_State *L = ctx;

	lua_pushinteger(L, pid);
	lua_rawseti(L, -2, (lua_Integer)lua_rawlen(L, -2) + 1);
}

/* pool:workers() -> { pid, ... } */
static int
pool_workers(lua_State *L)
{
	const struct fz_pool *pool = fz_lpool_check(L, 1);

	lua_newtable(L);
	fz_pool_pids(pool, add_pid, L);
	return 1;
}

/* pool:close(): again does nothing */
static int
pool_close(lua_State *L)
{
	struct lpool *lp = to_lpool(L, 1);

	if (lp->pool != NULL)
		fz_pool_close(lp->pool);
	return 0;
}

static int
pool_gc(lua_State *L)
{
	struct lpool *lp = to_lpool(L, 1);

	fz_pool_free(lp->pool);
	lp->pool = NULL;
	return 0;
}

static int
pool_tostring(lua_State *L)
{
	lua_pushfstring(L, POOL_TYPE ": %p", (void *)to_lpool(L, 1));
	return 1;
}

static const luaL_Reg methods[] = {
	{ "workers", pool_workers },
	{ "close", pool_close },
	{ NULL, NULL },
};

static const luaL_Reg metamethods[] = {
	{ "__gc", pool_gc },
	{ "__close", pool_close },
	{ "__tostring", pool_tostring },
	{ NULL, NULL },
};

int
fz_lpool_open(lua_State *L)
{
	if (luaL_newmetatable(L, POOL_TYPE)) {
		luaL_setfuncs(L, metamethods, 0);
		luaL_newlib(L, methods);
		lua_setfield(L, -2, "__index");
	}
	lua_pop(L, 1);
	lua_pushcfunction(L, pool_new);
	lua_setfield(L, -2, "pool");
	return 0;
}
