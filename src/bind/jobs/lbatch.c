#include "bind/open.h"

#include <stdbool.h>
#include <string.h>

#include <lauxlib.h>

#include "base/clock.h"
#include "base/seed.h"
#include "bind/jobs/lbatch_state.h"
#include "bind/jobs/lfailure.h"
#include "bind/jobs/lfuncs.h"
#include "bind/jobs/llimits.h"
#include "bind/jobs/lpool.h"
#include "bind/lloop.h"
#include "child/random.h"
#include "sched/batch.h"
#include "sched/batch_pool.h"
#include "sched/job_event.h"
#include "sched/pool.h"
#include "shared/arena.h"
#include "value/garbage.h"
#include "value/lerror.h"
#include "value/rawarray.h"
#include "worker/engine.h"
#include "worker/wire.h"
#include "worker/worker.h"

#define BATCH_TYPE "fzlua.Batch"

/* Lists that are longer are no reason to collect ahead. */
enum { COLLECT_MAX = 1 << 26 };

/* Its address marks our userdata: cheaper than the name of a metatable. */
static const char lbatch_tag;

static struct fz_lbatch *
to_lbatch(lua_State *L, int idx)
{
	struct fz_lbatch *lb = lua_touserdata(L, idx);

	if (lb == NULL || lua_rawlen(L, idx) != sizeof(*lb) ||
	    lb->tag != &lbatch_tag)
		luaL_typeerror(L, idx, BATCH_TYPE);
	return lb;
}

static struct fz_lbatch *
check_batch(lua_State *L)
{
	struct fz_lbatch *lb = to_lbatch(L, 1);

	if (lb->batch == NULL || lb->ll.closing)
		fz_lerror_fail(L, FZ_ERR_CLOSED, "the batch is closed");
	return lb;
}

static int batch_next(lua_State *L);

static uint32_t
check_kind(lua_State *L, int idx)
{
	static const char *const kinds[] = { "call", "map", "starmap", NULL };

	return (uint32_t)luaL_checkoption(L, idx, NULL, kinds);
}

/* An empty one on top of the stack; the pool is at `pool`. */
static struct fz_lbatch *
push_batch(lua_State *L, int pool)
{
	struct fz_lbatch *lb =
	    lua_newuserdatauv(L, sizeof(*lb), FZ_LBATCH_NUSER);

	memset(lb, 0, sizeof(*lb));
	lb->tag = &lbatch_tag;
	lb->slot = -1;
	lb->together = 1;
	lb->engine = fz_lloop_engine(L);
	luaL_setmetatable(L, BATCH_TYPE);
	lua_pushvalue(L, pool);
	lua_setiuservalue(L, -2, FZ_LBATCH_POOL);
	return lb;
}

/*
 * The same for a call that is over before the caller goes on: mostly the one
 * that the pool keeps, since making and collecting them takes long.
 */
static struct fz_lbatch *
push_spare(lua_State *L, int pool)
{
	struct fz_lbatch *lb;

	fz_lpool_push_spare(L, pool);
	if (lua_isnil(L, -1)) {
		lua_pop(L, 1);
		push_batch(L, pool);
		lua_pushvalue(L, -1);
		fz_lpool_set_spare(L, pool);
	}
	lb = to_lbatch(L, -1);
	if (lb->busy) { /* waited for in one of its own callbacks */
		lua_pop(L, 1);
		return push_batch(L, pool);
	}
	lb->busy = true;
	return lb;
}

/*
 * The slot of the function at `f`, for the batch at `idx`; without one it
 * travels with the items.
 */
static void
find_slot(lua_State *L, struct fz_lbatch *lb, int idx, int pool, int f)
{
	struct fz_batch_pool *batches = fz_lpool_batches(L, pool);
	int top = lua_gettop(L);

	fz_lpool_new_thread(L, pool);
	lb->funcs = fz_lpool_funcs(L, pool);
	lb->slot = fz_lfuncs_slot(L, lb->funcs, top + 1, top + 2, f, batches,
	    fz_pool_nworkers(fz_lpool_check(L, pool)) != 0);
	if (lb->slot == -1) {
		lb->kind |= FZ_WIRE_INLINE;
		lb->had = fz_batch_pool_oldest(batches);
		lua_setiuservalue(L, idx, FZ_LBATCH_RECORD);
	}
	lua_settop(L, top);
	/* What is read, or packed, for the call may change what it uses. */
	if (!fz_batch_pool_is_local(batches))
		fz_lpool_fill_first(L, pool);
}

static void
make_batch(lua_State *L, struct fz_lbatch *lb, struct fz_batch_opts *opts)
{
	struct fz_err err = { 0 };

	opts->kind = lb->kind;
	opts->func = lb->slot != -1 ? (uint32_t)lb->slot : 0;
	opts->ctx = lb;
	lb->seed = opts->seed;
	lb->timeout_ns = opts->limits.timeout_ns;
	lb->batch = fz_batch_new(opts, &err);
	if (lb->batch == NULL)
		fz_lerror_raise(L, &err);
}

static struct fz_batch_pool *
check_open_pool(lua_State *L, int pool)
{
	struct fz_batch_pool *batches = fz_lpool_batches(L, pool);

	luaL_argcheck(L, batches != NULL, pool, "the pool is one of a run");
	if (fz_pool_is_closed(fz_lpool_check(L, pool)))
		fz_lerror_fail(L, FZ_ERR_CLOSED, "the pool is closed");
	return batches;
}

static void
read_limits(lua_State *L, int options, struct fz_batch_opts *opts)
{
	int top = lua_gettop(L);

	opts->limits.timeout_ns = FZ_CLOCK_NEVER;
	if (lua_isnil(L, options))
		return;
	fz_llimits_read_fields(L, options, &opts->limits);
	lua_getfield(L, options, "seed");
	opts->seed = (uint64_t)luaL_optinteger(L, -1, (lua_Integer)opts->seed);
	lua_settop(L, top);
}

static void
init_buf(struct fz_lbatch *lb, bool local)
{
	fz_arena_buf_init(&lb->buf, local ? NULL : fz_engine_arena(lb->engine),
	    FZ_ENGINE_BULK);
}

/* The options of batch_new() at `idx`, but for its limits. */
static void
read_options(
    lua_State *L, int idx, struct fz_lbatch *lb, struct fz_batch_opts *opts)
{
	int top = lua_gettop(L);

	lua_getfield(L, idx, "kind");
	lb->kind = check_kind(L, -1);
	if (fz_llimits_flag(L, idx, "inherited"))
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
 * batch(pool, f, list, options) -> batch, not yet started. Options: kind ("map"
 * or "starmap"), n, counted (n is the list's field), inherited (the workers
 * have list and f by the fork), growing (items are added, or are put into the
 * list before it is said to grow), chunk, on_error, seed, events, timeout,
 * retries, backoff, memory.
 */
static int
batch_new(lua_State *L)
{
	struct fz_batch_opts opts = { .encode = fz_lbatch_encode };
	struct fz_batch_pool *batches;
	struct fz_lbatch *lb;

	fz_lloop_check_free(L);
	luaL_checktype(L, 2, LUA_TFUNCTION);
	luaL_checktype(L, 3, LUA_TTABLE);
	luaL_checktype(L, 4, LUA_TTABLE);
	lua_settop(L, 4);
	batches = check_open_pool(L, 1);
	opts.owner = fz_batch_pool_owner(batches);
	lb = push_batch(L, 1);
	read_options(L, 4, lb, &opts);
	read_limits(L, 4, &opts);
	/* Item seeds are this seed + index: mix it, so that batches differ. */
	opts.seed = fz_seed_mix(opts.seed, 0);
	lb->raw = opts.growing ? NULL : fz_rawarray_known();
	if (lb->raw != NULL)
		opts.slot = sizeof(struct fz_raw_value);
	init_buf(lb, fz_batch_pool_is_local(batches));
	fz_lbatch_keep(L, lb, 3);
	find_slot(L, lb, 5, 1, 2);
	make_batch(L, lb, &opts);
	if (lb->kind & FZ_WIRE_INLINE) {
		lua_getiuservalue(L, 5, FZ_LBATCH_RECORD);
		fz_lfuncs_push_code(L, -1, 2, batches);
		fz_lbatch_keep_code(L, lb);
		lua_settop(L, 5);
	}
	return 1;
}

static void
start(lua_State *L, struct fz_lbatch *lb, int idx, int pool)
{
	struct fz_batch_pool *batches = fz_lpool_batches(L, pool);

	fz_batch_start(lb->batch);
	if (!fz_batch_pool_is_local(batches)) {
		fz_lpool_fill_first(L, pool);
		fz_loop_flush(lb->engine->loop);
		fz_garbage_catch_up(fz_garbage_open(L), L);
		return;
	}
	if (!fz_batch_done(lb->batch) && lb->ll.local.prev == NULL)
		fz_llocal_start(L, &lb->ll, idx, batch_next);
}

/* Without a seed of their own two calls have different random numbers. */
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

/*
 * Free what the batch at `idx` has; one that the pool keeps may be used again.
 */
static void
end_batch(lua_State *L, struct fz_lbatch *lb, int idx)
{
	if (lb->batch != NULL) {
		fz_llocal_stop(L, &lb->ll);
		fz_lbatch_drop_result(lb, &lb->result);
		fz_batch_free(lb->batch);
		lb->batch = NULL;
	}
	if (lb->slot != -1)
		fz_lfuncs_unpin(lb->funcs, lb->slot);
	else if (lb->kind & FZ_WIRE_INLINE) {
		lua_pushnil(L);
		lua_setiuservalue(L, idx, FZ_LBATCH_RECORD);
	}
	lb->slot = -1;
	fz_buf_fini(&lb->buf.buf);
	lb->busy = false;
}

/* What was using it, which is at 1, does so no more. */
static void
leave_batch(lua_State *L, struct fz_lbatch *lb)
{
	if (--lb->ll.calls == 0 && lb->ll.closing)
		end_batch(L, lb, 1);
}

/* Start the call that batch_call() gets; leaves the batch on top. */
static struct fz_lbatch *
start_call(lua_State *L, struct fz_lbatch *(*push)(lua_State *L, int pool))
{
	struct fz_batch_opts opts = { .n = 0, .growing = true };
	struct fz_batch_pool *batches;
	struct fz_lbatch *lb;
	int n = lua_gettop(L), record = 0;

	fz_lloop_check_free(L);
	luaL_checktype(L, 2, LUA_TFUNCTION);
	luaL_checkstack(L, 8, "too many arguments");
	batches = check_open_pool(L, 1);
	opts.owner = fz_batch_pool_owner(batches);
	read_limits(L, 3, &opts);
	opts.seed = call_seed(L, 1, 3, opts.seed);
	lb = push(L, 1);
	lua_replace(L, 3);
	if (lb->busy)
		lua_toclose(L, 3);
	lb->kind = FZ_WIRE_CALL;
	init_buf(lb, fz_batch_pool_is_local(batches));
	find_slot(L, lb, 3, 1, 2);
	make_batch(L, lb, &opts);
	lua_settop(L, n);
	if (lb->kind & FZ_WIRE_INLINE) {
		lua_pushvalue(L, 2);
		lua_insert(L, 4);
		if (lua_getiuservalue(L, 3, FZ_LBATCH_RECORD) != LUA_TNIL)
			record = 2;
		lua_replace(L, 2);
	}
	if (fz_lbatch_add(L, lb, 4, record) != LUA_OK) {
		end_batch(L, lb, 3); /* there will be no other item */
		lua_error(L);
	}
	fz_batch_end(lb->batch);
	start(L, lb, 3, 1);
	lua_settop(L, 3);
	return lb;
}

/*
 * call(pool, f, options | nil, ...) -> batch of the one call, started. Options:
 * as those of batch() for one item
 */
static int
batch_call(lua_State *L)
{
	start_call(L, push_batch);
	return 1;
}

/* batch:add(item) -> bytes: for one that grows; the item is encoded now */
static int
batch_add(lua_State *L)
{
	struct fz_lbatch *lb = check_batch(L);

	fz_lloop_check_free(L);
	lua_settop(L, 2);
	if (fz_lbatch_add(L, lb, 2, 0) != LUA_OK)
		return lua_error(L);
	lua_pushinteger(L, (lua_Integer)lb->added);
	return 1;
}

/* batch:grow(n): the next `n` items are in the list, and stay until they end */
static int
batch_grow(lua_State *L)
{
	struct fz_lbatch *lb = check_batch(L);
	struct fz_err err = { 0 };
	lua_Integer n = luaL_checkinteger(L, 2);

	luaL_argcheck(L, n >= 0 && lb->growing, 2, "it does not grow so");
	fz_lloop_check_free(L);
	if (fz_batch_grow(lb->batch, (uint64_t)n, &err) != 0)
		return fz_lerror_raise(L, &err);
	return 0;
}

/* batch:mean() -> seconds that an item takes lately; 0: not known yet */
static int
batch_mean(lua_State *L)
{
	int64_t ns = fz_batch_mean_ns(check_batch(L)->batch);

	lua_pushnumber(L, (double)ns / (double)FZ_CLOCK_SECOND);
	return 1;
}

/* batch:list() -> {}: with room for what its items return */
static int
batch_list(lua_State *L)
{
	const struct fz_lbatch *lb = check_batch(L);

	lua_createtable(L, lb->n < INT32_MAX ? (int)lb->n : 0, 2);
	return 1;
}

/*
 * Have the garbage that making the list will lead to collected before the fork:
 * after it each mark would copy a page.
 */
static void
collect_ahead(lua_State *L, const struct fz_lbatch *lb)
{
	int kib = (int)(lb->n < COLLECT_MAX
			    ? lb->n * sizeof(struct fz_raw_value) / 1024
			    : 0);

	if (kib == 0 || lua_gc(L, LUA_GCISRUNNING) == 0)
		return;
	lua_gc(L, LUA_GCSTEP, kib);
	lua_gc(L, LUA_GCSTEP, -kib);
}

/* batch:news() -> whether take() would find some */
static int
batch_has_result(lua_State *L)
{
	lua_pushboolean(L, fz_batch_has_result(check_batch(L)->batch));
	return 1;
}

/* batch:start() */
static int
batch_start(lua_State *L)
{
	struct fz_lbatch *lb = check_batch(L);

	fz_lloop_check_free(L);
	if (lb->kind & FZ_WIRE_INHERITED)
		collect_ahead(L, lb);
	lua_getiuservalue(L, 1, FZ_LBATCH_POOL);
	start(L, lb, 1, lua_gettop(L));
	return 0;
}

/* batch:finish(): no more items */
static int
batch_finish(lua_State *L)
{
	fz_batch_end(check_batch(L)->batch);
	return 0;
}

/* Put the next item into the values at 2 or the errors at 3. Its index. */
static lua_Integer
take_item(lua_State *L, struct fz_lbatch *lb)
{
	struct fz_batch_result *result = &lb->result;
	lua_Integer i = (lua_Integer)result->first;
	bool ok = result->failure == NULL;

	if (ok)
		ok = fz_lbatch_push_value(L, lb) == LUA_OK;
	else
		fz_lbatch_push_failure(L, lb);
	if (!ok && lb->first_error == 0)
		lb->first_error = i;
	result->first++;
	result->skip++;
	result->n--;
	lua_rawseti(L, ok ? 2 : 3, i);
	return i;
}

/*
 * batch:take(values, errors [, order]) -> n: put what has come into the lists
 * by index, and the indexes as they came behind `order`. Of how many items.
 */
static int
batch_take(lua_State *L)
{
	struct fz_lbatch *lb = check_batch(L);
	bool ordered = !lua_isnoneornil(L, 4);
	lua_Integer taken = 0;

	luaL_checktype(L, 2, LUA_TTABLE);
	luaL_checktype(L, 3, LUA_TTABLE);
	lua_settop(L, 4);
	lb->ll.calls++; /* __fzunpack may close it */
	while (!lb->ll.closing && fz_lbatch_next_result(L, lb)) {
		if (!ordered)
			taken += fz_lbatch_take_small(L, lb);
		if (lb->result.n == 0)
			continue;
		taken++;
		lua_pushinteger(L, take_item(L, lb));
		if (ordered)
			lua_rawseti(L, 4, (lua_Integer)lua_rawlen(L, 4) + 1);
		else
			lua_pop(L, 1);
	}
	leave_batch(L, lb);
	lua_pushinteger(L, taken);
	return 1;
}

/* batch:first_error() -> nil | index: the item whose error was taken first */
static int
batch_first_error(lua_State *L)
{
	const struct fz_lbatch *lb = check_batch(L);

	if (lb->first_error == 0)
		return 0;
	lua_pushinteger(L, lb->first_error);
	return 1;
}

/* batch:result() -> true, ... | false, Error | nothing yet: of one call */
static int
batch_result(lua_State *L)
{
	struct fz_lbatch *lb = check_batch(L);
	int n;

	lua_settop(L, 1);
	lb->ll.calls++;
	n = fz_lbatch_push_outcome(L, lb);
	leave_batch(L, lb);
	return n >= 0 ? n : lua_error(L);
}

/* batch:whole() -> nil | Error: why all of it ended */
static int
batch_whole(lua_State *L)
{
	struct fz_lbatch *lb = check_batch(L);
	const struct fz_failure *failure = fz_batch_whole(lb->batch);

	if (failure == NULL)
		return 0;
	fz_lfailure_push(L, lb->engine, failure);
	return 1;
}

/* batch:counts() -> done, failed, running, waiting */
static int
batch_counts(lua_State *L)
{
	struct fz_batch_counts c = fz_batch_counts(check_batch(L)->batch);

	lua_pushinteger(L, (lua_Integer)c.done);
	lua_pushinteger(L, (lua_Integer)c.failed);
	lua_pushinteger(L, (lua_Integer)c.running);
	lua_pushinteger(L, (lua_Integer)c.waiting);
	return 4;
}

/* batch:id() -> integer: in core.changed() when it has changed */
static int
batch_id(lua_State *L)
{
	lua_pushinteger(L, (lua_Integer)fz_batch_id(check_batch(L)->batch));
	return 1;
}

/* batch:event() -> nil | kind, first, n, pid, seconds */
static int
batch_event(lua_State *L)
{
	static const char *const kinds[] = { "start", "done", "failed",
		"retry" };
	struct fz_lbatch *lb = check_batch(L);
	struct fz_job_event event;

	if (!fz_batch_next_event(lb->batch, &event))
		return 0;
	lua_pushstring(L, kinds[event.kind]);
	lua_pushinteger(L, (lua_Integer)event.first);
	lua_pushinteger(L, (lua_Integer)event.n);
	lua_pushinteger(L, event.pid);
	lua_pushnumber(L, (double)event.took_ns / (double)FZ_CLOCK_SECOND);
	return 5;
}

/* (batch) -> whether an item was called */
static int
batch_next(lua_State *L)
{
	struct fz_lbatch *lb = to_lbatch(L, 1);
	struct fz_llocal_item item = { .batch = lb->batch,
		.kind = lb->kind,
		.func = lb->slot != -1 ? (uint32_t)lb->slot : 0,
		.seed = lb->seed,
		.timeout_ns = lb->timeout_ns };
	unsigned *ncalls;

	item.number = fz_batch_local_next(lb->batch, &item.part);
	fz_garbage_catch_up(fz_garbage_open(L), L);
	if (item.number != 0) {
		lua_getiuservalue(L, 1, FZ_LBATCH_POOL);
		ncalls = fz_lpool_calls(L, -1);
		lb->ll.calls++;
		++*ncalls;
		fz_llocal_item(L, lua_gettop(L), &item);
		--*ncalls;
		leave_batch(L, lb);
	}
	lua_pushboolean(L, item.number != 0);
	return 1;
}

/* batch:done() -> boolean */
static int
batch_done(lua_State *L)
{
	struct fz_lbatch *lb = check_batch(L);
	bool done = fz_batch_done(lb->batch);

	if (done)
		fz_llocal_stop(L, &lb->ll);
	lua_pushboolean(L, done);
	return 1;
}

static bool
is_done(const void *ctx)
{
	const struct fz_lbatch *lb = ctx;

	return fz_batch_done(lb->batch);
}

/* batch:wait_alone() -> boolean: until it is done, if that takes no Lua */
static int
batch_wait_alone(lua_State *L)
{
	struct fz_lbatch *lb = check_batch(L);
	bool can = lb->ll.local.prev == NULL;

	if (can)
		fz_lloop_wait(L, is_done, lb);
	lua_pushboolean(L, can);
	return 1;
}

/*
 * apply(pool, f, options | nil, ...) -> as batch:result(), once it is done: for
 * a caller that waits alone, with workers. An error meanwhile ends the call.
 */
static int
batch_apply(lua_State *L)
{
	struct fz_lbatch *lb = start_call(L, push_spare);
	int n;

	fz_lloop_wait(L, is_done, lb);
	n = fz_lbatch_push_outcome(L, lb);
	if (n == 0 && fz_batch_whole(lb->batch) != NULL) {
		lua_pushboolean(L, false);
		fz_lfailure_push(L, lb->engine, fz_batch_whole(lb->batch));
		n = 2;
	}
	end_batch(L, lb, 3);
	return n >= 0 ? n : lua_error(L);
}

/* batch:cancel(): again does nothing */
static int
batch_cancel(lua_State *L)
{
	struct fz_lbatch *lb = check_batch(L);

	fz_lloop_check_free(L);
	fz_llocal_stop(L, &lb->ll);
	fz_batch_cancel(lb->batch, FZ_ERR_CANCELLED, "cancelled");
	return 0;
}

/* batch:close(): cancels what is not done; again does nothing */
static int
batch_close(lua_State *L)
{
	struct fz_lbatch *lb = to_lbatch(L, 1);

	/* One that could not be made may have a slot all the same. */
	if (lb->batch == NULL && lb->slot == -1)
		return 0;
	fz_lloop_check_free(L);
	if (lb->ll.calls == 0) {
		end_batch(L, lb, 1);
		return 0;
	}
	fz_llocal_stop(L, &lb->ll);
	fz_batch_cancel(lb->batch, FZ_ERR_CANCELLED, "it was closed");
	lb->ll.closing = true;
	return 0;
}

static int
batch_tostring(lua_State *L)
{
	const struct fz_lbatch *lb = to_lbatch(L, 1);

	lua_pushfstring(L, BATCH_TYPE " (%s)",
	    lb->batch == NULL          ? "closed"
	    : fz_batch_done(lb->batch) ? "done"
				       : "under way");
	return 1;
}

static const luaL_Reg methods[] = {
	{ "add", batch_add },
	{ "grow", batch_grow },
	{ "mean", batch_mean },
	{ "list", batch_list },
	{ "news", batch_has_result },
	{ "id", batch_id },
	{ "start", batch_start },
	{ "finish", batch_finish },
	{ "take", batch_take },
	{ "first_error", batch_first_error },
	{ "result", batch_result },
	{ "whole", batch_whole },
	{ "counts", batch_counts },
	{ "event", batch_event },
	{ "done", batch_done },
	{ "wait_alone", batch_wait_alone },
	{ "cancel", batch_cancel },
	{ "close", batch_close },
	{ NULL, NULL },
};

static const luaL_Reg metamethods[] = {
	{ "__gc", batch_close },
	{ "__close", batch_close },
	{ "__tostring", batch_tostring },
	{ NULL, NULL },
};

static const luaL_Reg functions[] = {
	{ "batch", batch_new },
	{ "call", batch_call },
	{ "apply", batch_apply },
	{ NULL, NULL },
};

int
fz_lbatch_open(lua_State *L)
{
	if (luaL_newmetatable(L, BATCH_TYPE)) {
		luaL_setfuncs(L, metamethods, 0);
		luaL_newlib(L, methods);
		lua_setfield(L, -2, "__index");
	}
	lua_pop(L, 1);
	luaL_setfuncs(L, functions, 0);
	return 0;
}
