#include "bind/open.h"

#include <lauxlib.h>

#include "base/seed.h"
#include "bind/batch/lbatch_state.h"
#include "bind/jobs/lfailure.h"
#include "bind/jobs/lpool.h"
#include "bind/lloop.h"
#include "sched/batch_pool.h"
#include "wire/wire.h"

/*
 * Like fz_lbatch_push(), for a call whose caller waits for its end. Uses the
 * spare batch of the pool if that is free, because to make and collect a batch
 * takes long.
 */
static struct fz_lbatch *
push_spare(lua_State *L, int pool)
{
	struct fz_lbatch *lb;

	fz_lpool_push_spare(L, pool);
	if (lua_isnil(L, -1)) {
		lua_pop(L, 1);
		fz_lbatch_push(L, pool);
		lua_pushvalue(L, -1);
		fz_lpool_set_spare(L, pool);
	}
	lb = fz_lbatch_to(L, -1);
	/* The spare batch is busy if a callback of its call makes this call. */
	if (lb->busy) {
		lua_pop(L, 1);
		return fz_lbatch_push(L, pool);
	}
	lb->busy = true;
	return lb;
}

/*
 * The seed of a call. Without a seed of its own, each call gets other random
 * numbers.
 */
static uint64_t
call_seed(lua_State *L, int pool, int options, uint64_t given)
{
	uint64_t now = fz_lpool_ncalls(L, pool);
	bool own = false;

	if (!lua_isnil(L, options)) {
		own = lua_getfield(L, options, "seed") != LUA_TNIL;
		lua_pop(L, 1);
	}
	return own ? fz_seed_mix(given, 0)
		   : fz_seed_mix(fz_lpool_seed(L, pool), now);
}

/* Start a call, with the arguments of call(). Leaves the batch on top. */
static struct fz_lbatch *
start_call(lua_State *L, struct fz_lbatch *(*push)(lua_State *L, int pool))
{
	struct fz_batch_opts opts = { .n = 0, .growing = true };
	struct fz_batch_pool *batches;
	struct fz_lbatch *lb;
	int n = lua_gettop(L), snapshot = 0;

	fz_lloop_check_free(L);
	luaL_checktype(L, 2, LUA_TFUNCTION);
	luaL_checkstack(L, 8, "too many arguments");
	batches = fz_lbatch_check_pool(L, 1);
	opts.owner = fz_batch_pool_owner(batches);
	fz_lbatch_read_limits(L, 3, &opts);
	opts.seed = call_seed(L, 1, 3, opts.seed);
	lb = push(L, 1);
	lua_replace(L, 3);
	if (lb->busy)
		lua_toclose(L, 3);
	lb->kind = FZ_WIRE_CALL;
	fz_lbatch_init_buf(lb, fz_batch_pool_is_local(batches));
	fz_lbatch_find_entry(L, lb, 3, 1, 2);
	/* encoding the arguments may change upvalues */
	fz_lpool_fill_first(L, 1);
	fz_lbatch_make(L, lb, &opts);
	lua_settop(L, n);
	if (lb->kind & FZ_WIRE_INLINE) {
		lua_pushvalue(L, 2);
		lua_insert(L, 4);
		if (lua_getiuservalue(L, 3, FZ_LBATCH_SNAPSHOT) != LUA_TNIL)
			snapshot = 2;
		lua_replace(L, 2);
	}
	if (fz_lbatch_add(L, lb, 4, snapshot) != LUA_OK) {
		fz_lbatch_end(L, lb, 3); /* the batch has no other item */
		lua_error(L);
	}
	fz_batch_end(lb->batch);
	fz_lbatch_start(L, lb, 3, 1);
	lua_settop(L, 3);
	return lb;
}

/*
 * core.call(pool, f, options | nil, ...) -> a started batch of one call.
 * Options: seed, timeout, retries, backoff, memory.
 */
static int
call(lua_State *L)
{
	start_call(L, fz_lbatch_push);
	return 1;
}

/*
 * core.apply(pool, f, options | nil, ...) -> what batch:result() returns after
 * the call. The pool must have workers, and the caller must not be a task. If
 * an error ends the wait, the call is ended.
 */
static int
apply(lua_State *L)
{
	struct fz_lbatch *lb = start_call(L, push_spare);
	int n;

	fz_lloop_wait(L, fz_lbatch_is_done, lb);
	n = fz_lbatch_push_outcome(L, lb);
	if (n == 0 && fz_batch_whole(lb->batch) != NULL) {
		lua_pushboolean(L, false);
		fz_lfailure_push(L, lb->engine, fz_batch_whole(lb->batch));
		n = 2;
	}
	fz_lbatch_end(L, lb, 3);
	return n >= 0 ? n : lua_error(L);
}

/*
 * core.known_call(pool, options | nil, bytes) -> a started batch of one call.
 * The call is not made, because its results are known.
 */
static int
known_call(lua_State *L)
{
	struct fz_batch_opts opts = { .n = 0, .growing = true };
	struct fz_lbatch *lb;

	fz_lloop_check_free(L);
	luaL_checktype(L, 3, LUA_TSTRING);
	lua_settop(L, 3);
	opts.owner = fz_batch_pool_owner(fz_lbatch_check_pool(L, 1));
	fz_lbatch_read_limits(L, 2, &opts);
	lb = fz_lbatch_push(L, 1);
	lb->kind = FZ_WIRE_CALL;
	fz_lbatch_make(L, lb, &opts);
	fz_lbatch_know_bytes(L, lb, 1, 3);
	fz_batch_end(lb->batch);
	fz_lbatch_start(L, lb, 4, 1);
	lua_settop(L, 4);
	return 1;
}

static const luaL_Reg functions[] = {
	{ "call", call },
	{ "known_call", known_call },
	{ "apply", apply },
	{ NULL, NULL },
};

int
fz_lcall_open(lua_State *L)
{
	luaL_setfuncs(L, functions, 0);
	return 0;
}
