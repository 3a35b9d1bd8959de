#include "bind/open.h"

#include <stdbool.h>

#include <lauxlib.h>

#include "bind/batch/lbatch_state.h"
#include "bind/jobs/lfailure.h"
#include "bind/jobs/lprogress.h"
#include "bind/jobs/lresults.h"
#include "bind/lloop.h"
#include "sched/batch.h"
#include "trace/job_event.h"
#include "value/lerror.h"
#include "value/luserdata.h"
#include "value/rawarray.h"
#include "wire/wire.h"
#include "worker/worker.h"

/* For a map with more results, garbage is not collected ahead. */
enum { COLLECT_MAX = 1 << 26 };

static struct fz_lbatch *
check_batch(lua_State *L)
{
	struct fz_lbatch *lb = fz_lbatch_to(L, 1);

	if (lb->batch == NULL || lb->ll.closing)
		fz_lerror_fail(L, FZ_ERR_CLOSED, "the batch is closed");
	return lb;
}

/* batch:list() -> an empty list with room for all results */
static int
batch_list(lua_State *L)
{
	const struct fz_lbatch *lb = check_batch(L);

	lua_createtable(L, lb->n < INT32_MAX ? (int)lb->n : 0, 2);
	return 1;
}

/*
 * Collect garbage before the workers are forked, because the list of results
 * would soon start a collection. After the fork, the collector would copy the
 * page of each object that it marks.
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

/* batch:news() -> whether take() has results */
static int
batch_has_result(lua_State *L)
{
	lua_pushboolean(L, fz_batch_has_result(check_batch(L)->batch));
	return 1;
}

static int
batch_start(lua_State *L)
{
	struct fz_lbatch *lb = check_batch(L);

	fz_lloop_check_free(L);
	if (lb->kind & FZ_WIRE_INHERITED)
		collect_ahead(L, lb);
	lua_getiuservalue(L, 1, FZ_LBATCH_POOL);
	fz_lbatch_start(L, lb, 1, lua_gettop(L));
	return 0;
}

/*
 * Append the index of the first item of a range, and the number of its items,
 * to the list at 4.
 */
static void
note_range(lua_State *L, uint64_t first, uint64_t n)
{
	lua_Integer len;

	if (n == 0 || !lua_istable(L, 4))
		return;
	len = (lua_Integer)lua_rawlen(L, 4);
	lua_pushinteger(L, (lua_Integer)first);
	lua_rawseti(L, 4, len + 1);
	lua_pushinteger(L, (lua_Integer)n);
	lua_rawseti(L, 4, len + 2);
}

/*
 * batch:take(values, errors [, made]): store the results that have arrived, by
 * index. Append to `made` two numbers for each row of values that were not
 * recorded before: the index of its first value, and its length.
 */
static int
batch_take(lua_State *L)
{
	struct fz_lbatch *lb = check_batch(L);

	luaL_checktype(L, 2, LUA_TTABLE);
	luaL_checktype(L, 3, LUA_TTABLE);
	lua_settop(L, 4);
	lb->ll.calls++; /* keep the batch, because an __fzunpack may close it */
	while (!lb->ll.closing && fz_lbatch_next_result(L, lb)) {
		uint64_t first = lb->result.first;
		bool known = lb->result.known, ok;

		fz_lbatch_take_small(L, lb);
		note_range(L, first, lb->result.first - first);
		if (lb->result.n == 0)
			continue;
		first = lb->result.first;
		ok = fz_lbatch_push_next(L, lb);
		lua_rawseti(L, ok ? 2 : 3, (lua_Integer)first);
		note_range(L, first, ok && !known);
	}
	fz_lbatch_leave(L, lb, 1);
	return 0;
}

/*
 * batch:know(item, results, i): set the recorded result of an item: value
 * number `i` of `results`. Called before the start of the batch, in the order
 * of the items.
 */
static int
batch_know(lua_State *L)
{
	struct fz_lbatch *lb = check_batch(L);
	uint64_t item = (uint64_t)luaL_checkinteger(L, 2);
	lua_Integer i = luaL_checkinteger(L, 4);

	fz_lloop_check_free(L);
	fz_lbatch_know(L, lb, item, *fz_lresults_refs(L, 3, i, 1));
	return 0;
}

/* batch:first_error() -> nil | index of the item whose error came first */
static int
batch_first_error(lua_State *L)
{
	const struct fz_lbatch *lb = check_batch(L);

	if (lb->first_error == 0)
		return 0;
	lua_pushinteger(L, lb->first_error);
	return 1;
}

/* batch:result() -> true, ... | false, Error | nothing; for a single call */
static int
batch_result(lua_State *L)
{
	struct fz_lbatch *lb = check_batch(L);
	int n;

	lua_settop(L, 1);
	lb->ll.calls++;
	n = fz_lbatch_push_outcome(L, lb);
	fz_lbatch_leave(L, lb, 1);
	return n >= 0 ? n : lua_error(L);
}

/* batch:undecided() -> nil | failed item, Error; decide() must follow */
static int
batch_undecided(lua_State *L)
{
	struct fz_lbatch *lb = check_batch(L);
	const struct fz_failure *failure;
	struct fz_failure copy;
	uint64_t item = fz_batch_undecided(lb->batch, &failure);

	if (item == 0)
		return 0;
	lua_settop(L, 1);
	lua_pushinteger(L, (lua_Integer)item);
	/*
	 * Copy the failure, because an __fzunpack may close the batch. The
	 * value of the failure stays allocated until fz_lbatch_leave().
	 */
	copy = *failure;
	lb->ll.calls++;
	fz_lfailure_push(L, lb->engine, &copy);
	fz_lbatch_leave(L, lb, 1);
	return 2;
}

/* batch:decide(item, again): retry a failed item, or not */
static int
batch_decide(lua_State *L)
{
	struct fz_lbatch *lb = check_batch(L);
	uint64_t item = (uint64_t)luaL_checkinteger(L, 2);

	fz_lloop_check_free(L);
	fz_batch_decide(lb->batch, item, lua_toboolean(L, 3));
	return 0;
}

/* batch:whole() -> nil | Error: why the whole batch failed */
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

/* batch:id() -> the integer that core.changed() returns after a change */
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
	struct fz_lbatch *lb = check_batch(L);
	struct fz_job_event event;

	if (!fz_batch_next_event(lb->batch, &event))
		return 0;
	fz_lprogress_push_kind(L, &event);
	lua_pushinteger(L, (lua_Integer)event.first);
	lua_pushinteger(L, (lua_Integer)event.n);
	fz_lprogress_push_call(L, &event);
	return 5;
}

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

bool
fz_lbatch_is_done(const void *ctx)
{
	const struct fz_lbatch *lb = ctx;

	return fz_batch_done(lb->batch);
}

/*
 * batch:wait_alone() -> boolean: wait until the batch is done. Returns false
 * without a wait if this process itself makes the calls of the batch.
 */
static int
batch_wait_alone(lua_State *L)
{
	struct fz_lbatch *lb = check_batch(L);
	bool can = !fz_list_is_linked(&lb->ll.local.link);

	if (can)
		fz_lloop_wait(L, fz_lbatch_is_done, lb);
	lua_pushboolean(L, can);
	return 1;
}

/* batch:close(): cancel the rest; a second call does nothing */
static int
batch_close(lua_State *L)
{
	struct fz_lbatch *lb = fz_lbatch_to(L, 1);

	/* A batch whose creation failed may have an entry, too. */
	if (lb->batch == NULL && lb->entry == -1)
		return 0;
	fz_lloop_check_free(L);
	if (lb->ll.calls == 0) {
		fz_lbatch_end(L, lb, 1);
		return 0;
	}
	fz_llocal_stop(L, &lb->ll);
	fz_batch_cancel(lb->batch, FZ_ERR_CANCELLED, "it was closed");
	lb->ll.closing = true;
	return 0;
}

/*
 * A finalizer runs only when no call uses the batch. But a call that an error
 * has ended is still counted.
 */
static int
batch_gc(lua_State *L)
{
	struct fz_lbatch *lb = fz_lbatch_to(L, 1);

	lb->ll.calls = 0;
	fz_lbatch_end(L, lb, 1);
	return 0;
}

static const luaL_Reg methods[] = {
	{ "list", batch_list },
	{ "news", batch_has_result },
	{ "id", batch_id },
	{ "start", batch_start },
	{ "take", batch_take },
	{ "know", batch_know },
	{ "first_error", batch_first_error },
	{ "result", batch_result },
	{ "undecided", batch_undecided },
	{ "decide", batch_decide },
	{ "whole", batch_whole },
	{ "counts", batch_counts },
	{ "event", batch_event },
	{ "done", batch_done },
	{ "wait_alone", batch_wait_alone },
	{ "close", batch_close },
	{ NULL, NULL },
};

static const luaL_Reg metamethods[] = {
	{ "__gc", batch_gc },
	{ "__close", batch_close },
	{ NULL, NULL },
};

const struct fz_luserdata_class fz_lbatch_class = {
	.name = FZ_LBATCH_TYPE, .methods = methods, .metamethods = metamethods
};

static const luaL_Reg functions[] = {
	{ "batch", fz_lbatch_new },
	{ NULL, NULL },
};

int
fz_lbatch_open(lua_State *L)
{
	luaL_setfuncs(L, functions, 0);
	return 0;
}
