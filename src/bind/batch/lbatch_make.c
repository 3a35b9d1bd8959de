#include "bind/batch/lbatch_state.h"

#include <string.h>

#include <lauxlib.h>

#include "base/clock.h"
#include "base/container.h"
#include "base/seed.h"
#include "bind/jobs/lfuncs.h"
#include "bind/jobs/llimits.h"
#include "bind/jobs/lpool.h"
#include "bind/jobs/ltrace.h"
#include "bind/lloop.h"
#include "sched/batch_pool.h"
#include "sched/pool.h"
#include "value/garbage.h"
#include "value/lerror.h"
#include "value/luserdata.h"
#include "value/rawarray.h"
#include "wire/wire.h"
#include "worker/engine.h"

/*
 * Minimum number of results for which the layout of tables is learned. To learn
 * the layout takes longer than to decode fewer results.
 */
enum { LEARN_MIN = 1000 };

/*
 * The address of this variable marks userdata that are batches. To check this
 * address is faster than to check the name of the metatable.
 */
static const char lbatch_tag;

struct fz_lbatch *
fz_lbatch_to(lua_State *L, int idx)
{
	struct fz_lbatch *lb = lua_touserdata(L, idx);

	if (lb == NULL || lua_rawlen(L, idx) != sizeof(*lb) ||
	    lb->tag != &lbatch_tag)
		luaL_typeerror(L, idx, FZ_LBATCH_TYPE);
	return lb;
}

static uint32_t
check_kind(lua_State *L, int idx)
{
	static const char *const kinds[] = { "call", "map", "starmap", NULL };

	return (uint32_t)luaL_checkoption(L, idx, NULL, kinds);
}

struct fz_lbatch *
fz_lbatch_push(lua_State *L, int pool)
{
	struct fz_lbatch *lb =
	    lua_newuserdatauv(L, sizeof(*lb), FZ_LBATCH_NUSER);

	memset(lb, 0, sizeof(*lb));
	lb->tag = &lbatch_tag;
	lb->entry = -1;
	lb->together = 1;
	lb->mask = UINT64_MAX;
	lb->engine = fz_lloop_engine(L);
	fz_luserdata_set(L, &fz_lbatch_class);
	lua_pushvalue(L, pool);
	lua_setiuservalue(L, -2, FZ_LBATCH_POOL);
	return lb;
}

void
fz_lbatch_find_entry(
    lua_State *L, struct fz_lbatch *lb, int idx, int pool, int f)
{
	struct fz_batch_pool *batches = fz_lpool_batches(L, pool);
	int top = lua_gettop(L);

	fz_lpool_new_thread(L, pool);
	lb->funcs = fz_lpool_funcs(L, pool);
	lb->entry = fz_lfuncs_entry(L, lb->funcs, top + 1, top + 2, f, batches,
	    fz_pool_nworkers(fz_lpool_check(L, pool)) != 0);
	if (lb->entry == -1) {
		lb->kind |= FZ_WIRE_INLINE;
		lb->had = fz_batch_pool_oldest(batches);
		lua_setiuservalue(L, idx, FZ_LBATCH_SNAPSHOT);
	}
	lua_settop(L, top);
}

void
fz_lbatch_make(lua_State *L, struct fz_lbatch *lb, struct fz_batch_opts *opts)
{
	struct fz_err err = { 0 };

	opts->kind = lb->kind;
	opts->func = lb->entry != -1 ? (uint32_t)lb->entry : 0;
	opts->ctx = lb;
	lb->seed = opts->seed;
	lb->timeout_ns = opts->limits.timeout_ns;
	lb->batch = fz_batch_new(opts, &err);
	if (lb->batch == NULL)
		fz_lerror_raise(L, &err);
}

struct fz_batch_pool *
fz_lbatch_check_pool(lua_State *L, int pool)
{
	struct fz_batch_pool *batches = fz_lpool_batches(L, pool);

	luaL_argcheck(L, batches != NULL, pool, "the pool belongs to a chain");
	if (fz_pool_is_closed(fz_lpool_check(L, pool)))
		fz_lerror_fail(L, FZ_ERR_CLOSED, "the pool is closed");
	return batches;
}

void
fz_lbatch_read_limits(lua_State *L, int options, struct fz_batch_opts *opts)
{
	int top = lua_gettop(L);

	opts->limits.timeout_ns = FZ_CLOCK_NEVER;
	if (lua_isnil(L, options))
		return;
	fz_llimits_read_fields(L, options, &opts->limits);
	opts->trace = fz_ltrace_read(L, options, &opts->trace_name);
	lua_getfield(L, options, "seed");
	opts->seed = (uint64_t)luaL_optinteger(L, -1, (lua_Integer)opts->seed);
	lua_settop(L, top);
}

void
fz_lbatch_init_buf(struct fz_lbatch *lb, bool local)
{
	fz_arena_buf_init(&lb->buf, local ? NULL : fz_engine_arena(lb->engine),
	    FZ_ENGINE_BULK);
}

/*
 * Read all options of fz_lbatch_new() except the limits from the table at
 * `idx`. The pool is at 1.
 */
static void
read_options(
    lua_State *L, int idx, struct fz_lbatch *lb, struct fz_batch_opts *opts)
{
	int top = lua_gettop(L);
	bool inherits = fz_lpool_inherits(L, 1);

	lua_getfield(L, idx, "kind");
	lb->kind = check_kind(L, -1);
	if (inherits && fz_llimits_flag(L, idx, "inherited"))
		lb->kind |= FZ_WIRE_INHERITED;
	lua_getfield(L, idx, "n");
	opts->n = lb->n = (uint64_t)luaL_optinteger(L, -1, 0);
	lb->counted = fz_llimits_flag(L, idx, "counted");
	lb->growing = opts->growing = fz_llimits_flag(L, idx, "growing");
	lua_getfield(L, idx, "chunk");
	opts->chunk = (uint32_t)luaL_optinteger(L, -1, 0);
	lua_getfield(L, idx, "on_error");
	opts->policy = fz_llimits_policy(L, -1);
	opts->events = fz_llimits_flag(L, idx, "events");
	lua_settop(L, top);
}

/*
 * Let workers send raw results if the list is long, or if the layout of tables
 * is known already. Called before a fork, so that new workers inherit the
 * layout.
 */
static void
use_raw_results(lua_State *L, struct fz_lbatch *lb, struct fz_batch_opts *opts)
{
	if (lb->growing)
		return;
	lb->raw =
	    lb->n < LEARN_MIN ? fz_rawarray_known() : fz_rawarray_learn(L);
	if (lb->raw != NULL)
		opts->raw_size = sizeof(struct fz_raw_value);
}

int
fz_lbatch_new(lua_State *L)
{
	struct fz_batch_opts opts = { .encode = fz_lbatch_encode };
	struct fz_batch_pool *batches;
	struct fz_lbatch *lb;

	fz_lloop_check_free(L);
	luaL_checktype(L, 2, LUA_TFUNCTION);
	luaL_checktype(L, 3, LUA_TTABLE);
	luaL_checktype(L, 4, LUA_TTABLE);
	lua_settop(L, 4);
	batches = fz_lbatch_check_pool(L, 1);
	opts.owner = fz_batch_pool_owner(batches);
	lb = fz_lbatch_push(L, 1);
	read_options(L, 4, lb, &opts);
	fz_lbatch_read_limits(L, 4, &opts);
	/*
	 * The seed of an item is the sum of this seed and the index of the
	 * item. Mix the seed, so that batches with similar seeds have items
	 * with different seeds.
	 */
	opts.seed = fz_seed_mix(opts.seed, 0);
	use_raw_results(L, lb, &opts);
	fz_lbatch_init_buf(lb, fz_batch_pool_is_local(batches));
	fz_lbatch_keep(L, lb, 3);
	fz_lbatch_find_entry(L, lb, 5, 1, 2);
	/* reading and encoding the items may change upvalues */
	fz_lpool_fill_first(L, 1);
	fz_lbatch_make(L, lb, &opts);
	if (lb->kind & FZ_WIRE_INLINE) {
		lua_getiuservalue(L, 5, FZ_LBATCH_SNAPSHOT);
		fz_lfuncs_push_code(L, -1, 2, batches);
		fz_lbatch_keep_code(L, lb);
		lua_settop(L, 5);
	}
	return 1;
}

void
fz_lbatch_end(lua_State *L, struct fz_lbatch *lb, int idx)
{
	if (lb->batch != NULL) {
		fz_llocal_stop(L, &lb->ll);
		fz_lbatch_drop_result(lb, &lb->result);
		fz_batch_free(lb->batch);
		lb->batch = NULL;
	}
	if (lb->entry != -1)
		fz_lfuncs_unpin(lb->funcs, lb->entry);
	else if (lb->kind & FZ_WIRE_INLINE) {
		lua_pushnil(L);
		lua_setiuservalue(L, idx, FZ_LBATCH_SNAPSHOT);
	}
	lb->entry = -1;
	fz_buf_fini(&lb->buf.buf);
	lb->busy = false;
}

void
fz_lbatch_leave(lua_State *L, struct fz_lbatch *lb, int idx)
{
	if (--lb->ll.calls == 0 && lb->ll.closing)
		fz_lbatch_end(L, lb, idx);
}

/*
 * call_next(batch) -> whether this process has called the function for an item
 */
static int
call_next(lua_State *L)
{
	struct fz_lbatch *lb = fz_lbatch_to(L, 1);
	struct fz_llocal_item item = { .batch = lb->batch,
		.kind = lb->kind,
		.func = lb->entry != -1 ? (uint32_t)lb->entry : 0,
		.seed = lb->seed,
		.timeout_ns = lb->timeout_ns };

	fz_garbage_catch_up(fz_garbage_open(L), L);
	item.number = fz_batch_local_next(lb->batch, &item.part);
	if (item.number != 0) {
		lua_getiuservalue(L, 1, FZ_LBATCH_POOL);
		fz_llocal_item(L, &lb->ll, lua_gettop(L), &item);
	}
	lua_pushboolean(L, item.number != 0);
	return 1;
}

static bool
is_ready(const struct fz_llocal *ll)
{
	return fz_batch_local_ready(
	    FZ_CONTAINER_OF(ll, const struct fz_lbatch, ll)->batch);
}

static int
end_batch(lua_State *L)
{
	fz_lbatch_end(L, fz_lbatch_to(L, 1), 1);
	return 0;
}

static const struct fz_llocal_ops local_ops = { call_next, is_ready,
	end_batch };

void
fz_lbatch_start(lua_State *L, struct fz_lbatch *lb, int idx, int pool)
{
	struct fz_batch_pool *batches = fz_lpool_batches(L, pool);

	fz_batch_start(lb->batch);
	if (!fz_batch_pool_is_local(batches)) {
		fz_lpool_fill_first(L, pool);
		fz_loop_flush(lb->engine->loop);
		fz_garbage_catch_up(fz_garbage_open(L), L);
		return;
	}
	if (!fz_batch_done(lb->batch) && !fz_list_is_linked(&lb->ll.local.link))
		fz_llocal_start(L, &lb->ll, idx, &local_ops);
}
