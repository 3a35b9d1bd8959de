#include "bind/jobs/lpool.h"

#include <stddef.h>
#include <string.h>

#include <lauxlib.h>

#include "base/clock.h"
#include "base/container.h"
#include "base/err.h"
#include "bind/jobs/lfuncs.h"
#include "bind/jobs/llimits.h"
#include "bind/jobs/lnodes.h"
#include "bind/jobs/lsetup.h"
#include "bind/jobs/lslots.h"
#include "bind/lloop.h"
#include "child/call.h"
#include "child/worker_main.h"
#include "os/fd.h"
#include "sched/batch.h"
#include "sched/batch_pool.h"
#include "sched/pool.h"
#include "value/garbage.h"
#include "value/lerror.h"
#include "value/luserdata.h"
#include "worker/engine.h"

#define POOL_TYPE "fzlua.Pool"

static const struct fz_luserdata_class pool_class;
#define POOL_MAX 65536

/* User values of a pool: objects that the pool keeps alive. */
enum {
	POOL_THREAD = 1,
	POOL_FUNCS,
	POOL_INIT,
	POOL_LIST,
	POOL_TABLES,
	POOL_SPARE,
	POOL_EXIT,
	POOL_NUSER = POOL_EXIT
};

/*
 * The address of this variable marks userdata that are pools. To check this
 * address is faster than to check the name of the metatable.
 */
static const char lpool_tag;

struct lpool {
	const char *tag;
	struct fz_pool *pool; /* NULL until it is made */
	/* the batches of the pool; NULL in a pool for runs */
	struct fz_batch_pool *batches;
	uint64_t seed, ncalls;
	unsigned calls; /* number of running calls in this process */
	struct fz_child_home home;
	struct fz_garbage *garbage;
	bool spawns; /* whether workers are programs, not forks */
	/* the pool makes only one map, after which the workers end */
	bool once;
	struct fz_lpool_init init; /* the state of init in this process */
	/*
	 * A pool for runs is allocated without this member, because each fork
	 * copies the memory of all pools, and a chain has one for each stage.
	 */
	struct fz_lfuncs funcs;
};

/* Size in bytes of a pool for runs. */
#define LPOOL_OF_RUNS offsetof(struct lpool, funcs)

static struct lpool *
to_lpool(lua_State *L, int idx)
{
	struct lpool *lp = lua_touserdata(L, idx);

	if (lp == NULL || lua_rawlen(L, idx) < LPOOL_OF_RUNS ||
	    lp->tag != &lpool_tag)
		luaL_typeerror(L, idx, POOL_TYPE);
	return lp;
}

struct fz_pool *
fz_lpool_check(lua_State *L, int idx)
{
	return to_lpool(L, idx)->pool;
}

struct fz_batch_pool *
fz_lpool_batches(lua_State *L, int idx)
{
	return to_lpool(L, idx)->batches;
}

struct fz_lfuncs *
fz_lpool_funcs(lua_State *L, int idx)
{
	idx = lua_absindex(L, idx);
	lua_getiuservalue(L, idx, POOL_TABLES);
	lua_getiuservalue(L, idx, POOL_FUNCS);
	return &to_lpool(L, idx)->funcs;
}

uint64_t
fz_lpool_seed(lua_State *L, int idx)
{
	return to_lpool(L, idx)->seed;
}

uint64_t
fz_lpool_ncalls(lua_State *L, int idx)
{
	return ++to_lpool(L, idx)->ncalls;
}

unsigned *
fz_lpool_calls(lua_State *L, int idx)
{
	return &to_lpool(L, idx)->calls;
}

void
fz_lpool_push_spare(lua_State *L, int idx)
{
	lua_getiuservalue(L, idx, POOL_SPARE);
}

void
fz_lpool_set_spare(lua_State *L, int idx)
{
	lua_setiuservalue(L, idx, POOL_SPARE);
}

struct fz_lpool_init *
fz_lpool_init(lua_State *L, int idx)
{
	return &to_lpool(L, idx)->init;
}

lua_State *
fz_lpool_prepare(lua_State *L, int idx)
{
	lua_State *thread;

	idx = lua_absindex(L, idx);
	lua_getiuservalue(L, idx, POOL_FUNCS);
	lua_getiuservalue(L, idx, POOL_INIT);
	lua_getiuservalue(L, idx, POOL_LIST);
	thread = fz_child_prepare(L, -3, -2, -1);
	lua_replace(L, -4);
	lua_pop(L, 2);
	return thread;
}

bool
fz_lpool_inherits(lua_State *L, int idx)
{
	return !to_lpool(L, idx)->spawns;
}

/* Empty all entries for functions of the pool at `idx`. */
static void
renew_funcs(lua_State *L, int idx)
{
	struct lpool *lp = to_lpool(L, idx);

	lua_getiuservalue(L, idx, POOL_INIT);
	fz_lfuncs_init(L, &lp->funcs, -1,
	    (!lp->once || lp->spawns) && !fz_batch_pool_is_local(lp->batches));
	lp->funcs.by_value = lp->spawns;
	lua_getiuservalue(L, idx, POOL_EXIT);
	lua_setfield(L, -2, FZ_CHILD_EXIT);
	lua_setiuservalue(L, idx, POOL_FUNCS);
	lua_setiuservalue(L, idx, POOL_TABLES);
	lua_pop(L, 1);
}

void
fz_lpool_new_thread(lua_State *L, int idx)
{
	struct lpool *lp = to_lpool(L, idx);

	if (!lp->home.serving)
		return;
	idx = lua_absindex(L, idx);
	if (lp->batches != NULL)
		renew_funcs(L, idx);
	lp->home = (struct fz_child_home){ .L = fz_lpool_prepare(L, idx) };
	lua_setiuservalue(L, idx, POOL_THREAD);
}

/* Make the batches of the pool at `idx`. The options are at 1. */
static void
make_batches(lua_State *L, int idx, unsigned workers)
{
	struct lpool *lp = to_lpool(L, idx);
	struct fz_batch_pool_opts opts = { .engine = fz_lloop_engine(L),
		.pool = lp->pool,
		.workers = workers };
	struct fz_err err = { 0 };

	opts.once = lp->once;
	lua_getfield(L, 1, "seed");
	lp->seed = (uint64_t)luaL_optinteger(L, -1, 0);
	lua_pop(L, 1);
	lp->batches = fz_batch_pool_new(&opts, &err);
	if (lp->batches == NULL)
		fz_lerror_raise(L, &err);
	renew_funcs(L, idx);
}

/*
 * Prepare functions and objects for a fork. A pool for only one map does not
 * collect garbage, because the collection would take longer than it saves.
 */
static void
before_fork(void *ctx)
{
	struct fz_child_home *home = ctx;
	struct lpool *lp = FZ_CONTAINER_OF(home, struct lpool, home);

	if (lp->batches != NULL)
		fz_lfuncs_before_fork(
		    home->L, &lp->funcs, FZ_CHILD_FUNCS, lp->batches);
	home->aged = fz_garbage_age(lp->garbage, home->L, !lp->once);
}

static struct fz_blob *
encode_setup(void *ctx, struct fz_err *err)
{
	struct fz_child_home *home = ctx;
	struct lpool *lp = FZ_CONTAINER_OF(home, struct lpool, home);

	return fz_lsetup_encode(home->L, lp->batches, err);
}

/* Whether workers are programs, according to the option `start`. */
static bool
read_start(lua_State *L, const struct fz_engine *engine)
{
	int start = (int)engine->start;

	if (lua_getfield(L, 1, "start") != LUA_TNIL)
		start = fz_start_find(luaL_checkstring(L, -1));
	luaL_argcheck(L, start != -1, 1, "no such start method");
	lua_pop(L, 1);
	return start == FZ_START_SPAWN;
}

/* Push a pool without a struct fz_pool; keep the options at 1. [-0, +1, e] */
static struct lpool *
push_pool(lua_State *L)
{
	size_t size = fz_llimits_flag(L, 1, "batches") ? sizeof(struct lpool)
						       : LPOOL_OF_RUNS;
	struct lpool *lp = lua_newuserdatauv(L, size, POOL_NUSER);

	memset(lp, 0, size);
	lp->tag = &lpool_tag;
	lp->once = fz_llimits_flag(L, 1, "once");
	lp->garbage = fz_garbage_open(L);
	lp->init = (struct fz_lpool_init){ true, -1 };
	fz_luserdata_set(L, &pool_class);
	lua_getfield(L, 1, "funcs");
	luaL_checktype(L, -1, LUA_TTABLE);
	lua_setiuservalue(L, -2, POOL_FUNCS);
	lua_getfield(L, 1, "init");
	lua_setiuservalue(L, -2, POOL_INIT);
	lua_getfield(L, 1, "exit");
	lua_setiuservalue(L, -2, POOL_EXIT);
	lua_getfield(L, 1, "list");
	lua_setiuservalue(L, -2, POOL_LIST);
	return lp;
}

/*
 * core.pool{ funcs = { f, ... }, workers = n [, init = f] [, list = t] [, slots
 * = s] [, start = s] [, engine = s] } -> pool A pool with the option batches =
 * true also has the options max_tasks, once, seed, idle (in seconds) and exit.
 * If it has no workers, all functions are called in this process.
 */
static int
pool_new(lua_State *L)
{
	struct fz_pool_opts opts = { .engine = fz_lloop_engine(L),
		.before_fork = before_fork,
		.setup = encode_setup,
		.main = fz_child_main };
	struct fz_err err = { 0 };
	struct lpool *lp;
	lua_Integer workers, max_tasks;
	bool batches;

	luaL_checktype(L, 1, LUA_TTABLE);
	lua_settop(L, 1);
	batches = fz_llimits_flag(L, 1, "batches");
	lua_getfield(L, 1, "workers");
	workers = luaL_checkinteger(L, -1);
	luaL_argcheck(L, (batches ? 0 : 1) <= workers && workers <= POOL_MAX, 1,
	    "workers out of range");
	lua_getfield(L, 1, "max_tasks");
	max_tasks = luaL_optinteger(L, -1, 0);
	luaL_argcheck(L, 0 <= max_tasks && max_tasks <= INT32_MAX, 1,
	    "max_tasks out of range");
	if (lua_getfield(L, 1, "idle") != LUA_TNIL)
		opts.idle_ns = fz_clock_from_seconds(luaL_checknumber(L, -1));
	opts.exits = lua_getfield(L, 1, "exit") != LUA_TNIL;
	lua_settop(L, 1);
	opts.max = workers != 0 ? (unsigned)workers : 1;
	opts.max_tasks = (uint32_t)max_tasks;
	/*
	 * Distribute the workers of a single map over the processors at once,
	 * because the map may end before the kernel would distribute them.
	 */
	opts.spread = fz_llimits_flag(L, 1, "once");
	if (lua_getfield(L, 1, "slots") != LUA_TNIL)
		opts.slots = fz_lslots_check(L, -1);
	lua_pop(L, 1); /* the table keeps the functions alive */
	lp = push_pool(L);
	lua_getfield(L, 1, "engine");
	opts.nodes = fz_lnodes_find(L, -1);
	lua_pop(L, 1);
	lp->spawns = opts.spawns =
	    read_start(L, opts.engine) || opts.nodes != NULL;
	opts.main_ctx = &lp->home;
	lp->pool = fz_pool_new(&opts, &err);
	if (lp->pool == NULL)
		return fz_lerror_raise(L, &err);
	if (batches)
		make_batches(L, 2, (unsigned)workers);
	lp->home = (struct fz_child_home){ .L = fz_lpool_prepare(L, 2) };
	lua_setiuservalue(L, 2, POOL_THREAD);
	return 1;
}

static void
add_pid(void *ctx, pid_t pid)
{
	lua_State *L = ctx;

	lua_pushinteger(L, pid);
	lua_rawseti(L, -2, (lua_Integer)lua_rawlen(L, -2) + 1);
}

/* Start the maximum number of workers of the pool at `idx`. */
static int
fill(lua_State *L, int idx, struct fz_err *err)
{
	struct lpool *lp = to_lpool(L, idx);
	int top = lua_gettop(L);

	if (fz_pool_nworkers(lp->pool) == 0) {
		fz_lpool_funcs(L, idx);
		fz_lfuncs_note_init(
		    L, &lp->funcs, top + 1, top + 2, lp->batches);
		lua_settop(L, top);
	}
	return fz_pool_prefork(lp->pool, err);
}

void
fz_lpool_fill_first(lua_State *L, int idx)
{
	struct lpool *lp = to_lpool(L, idx);

	if (lp->once || fz_batch_pool_is_local(lp->batches) ||
	    fz_pool_nworkers(lp->pool) != 0)
		return;
	fill(L, idx, NULL);
}

static int
pool_fill(lua_State *L)
{
	struct lpool *lp = to_lpool(L, 1);
	struct fz_err err = { 0 };

	fz_lloop_check_free(L);
	fz_lpool_new_thread(L, 1);
	if (lp->batches == NULL || fz_batch_pool_is_local(lp->batches))
		return 0;
	if (fill(L, 1, &err) != 0)
		return fz_lerror_raise(L, &err);
	return 0;
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

static struct fz_batch_pool *
check_batches(lua_State *L)
{
	struct lpool *lp = to_lpool(L, 1);

	luaL_argcheck(L, lp->batches != NULL, 1, "the pool belongs to a chain");
	return lp->batches;
}

/* pool:dismiss(): make idle workers end by themselves */
static int
pool_dismiss(lua_State *L)
{
	fz_pool_dismiss_idle(fz_lpool_check(L, 1));
	return 0;
}

/* pool:pending() -> number of batches that are not done */
static int
pool_pending(lua_State *L)
{
	lua_pushinteger(
	    L, (lua_Integer)fz_batch_pool_nbatches(check_batches(L)));
	return 1;
}

/* pool:calling() -> whether a function of the pool runs in this process */
static int
pool_calling(lua_State *L)
{
	lua_pushboolean(L, to_lpool(L, 1)->calls != 0);
	return 1;
}

/* pool:inherits() -> whether the workers are forked */
static int
pool_inherits(lua_State *L)
{
	lua_pushboolean(L, fz_lpool_inherits(L, 1));
	return 1;
}

/*
 * pool:begun() -> whether functions were called in this process. If so, the
 * function init has run here.
 */
static int
pool_begun(lua_State *L)
{
	lua_pushboolean(L, !to_lpool(L, 1)->init.needed);
	return 1;
}

/* pool:close(): a second call does nothing */
static int
pool_close(lua_State *L)
{
	struct lpool *lp = to_lpool(L, 1);

	fz_lloop_check_free(L);
	if (lp->batches != NULL)
		fz_batch_pool_cancel(lp->batches, "its pool was closed");
	if (lp->pool != NULL)
		fz_pool_close(lp->pool);
	return 0;
}

static int
pool_gc(lua_State *L)
{
	struct lpool *lp = to_lpool(L, 1);

	fz_batch_pool_free(lp->batches);
	lp->batches = NULL;
	fz_pool_free(lp->pool);
	lp->pool = NULL;
	fz_fd_close(&lp->init.directory);
	return 0;
}

static const luaL_Reg methods[] = {
	{ "fill", pool_fill },
	{ "workers", pool_workers },
	{ "dismiss", pool_dismiss },
	{ "pending", pool_pending },
	{ "calling", pool_calling },
	{ "begun", pool_begun },
	{ "inherits", pool_inherits },
	{ "close", pool_close },
	{ NULL, NULL },
};

static const luaL_Reg metamethods[] = {
	{ "__gc", pool_gc },
	{ "__close", pool_close },
	{ NULL, NULL },
};

static const struct fz_luserdata_class pool_class = {
	.name = POOL_TYPE, .methods = methods, .metamethods = metamethods
};

int
fz_lpool_open(lua_State *L)
{
	lua_pushcfunction(L, pool_new);
	lua_setfield(L, -2, "pool");
	lua_pushcfunction(L, fz_child_number);
	lua_setfield(L, -2, "worker_number");
	lua_pushcfunction(L, fz_child_note_item);
	lua_setfield(L, -2, "note_item");
	return 0;
}
