#include "bind/lbatch.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <lauxlib.h>

#include "base/buf.h"
#include "base/clock.h"
#include "bind/codec.h"
#include "bind/format.h"
#include "bind/items.h"
#include "bind/lblob.h"
#include "bind/lerror.h"
#include "bind/lfailure.h"
#include "bind/lfuncs.h"
#include "bind/llimits.h"
#include "bind/llocal.h"
#include "bind/lloop.h"
#include "bind/lpool.h"
#include "bind/random.h"
#include "engine/batch.h"
#include "engine/blob.h"
#include "engine/engine.h"
#include "engine/pool.h"
#include "engine/sched.h"
#include "engine/wire.h"
#include "engine/worker.h"
#include "os/shm.h"

#define BATCH_TYPE "fzlua.Batch"

/* User values of a batch: what it needs stays alive with it. */
enum { BATCH_POOL = 1, BATCH_THREAD, BATCH_NUSER = BATCH_THREAD };

/* Stack of the thread that encodes items. */
enum { THREAD_LIST = 1, THREAD_TOP = THREAD_LIST };

/* Its address marks our userdata: cheaper than the name of a metatable. */
static const char lbatch_tag;

struct lbatch {
	const char *tag;
	struct fz_batch *batch; /* NULL once closed */
	struct fz_engine *engine;
	struct fz_lfuncs *funcs;
	int slot;      /* pinned there, -1: none */
	uint32_t kind; /* enum fz_wire_kind */
	uint64_t seed;
	int64_t timeout_ns;
	struct fz_local local;     /* linked while the pool has no workers */
	unsigned calls;            /* of its functions in this process */
	bool closing;              /* by one of these: to be freed after it */
	struct fz_shm_buf buf;     /* items being encoded */
	lua_State *thread;         /* that encodes them */
	uint64_t n;                /* of the list */
	bool counted;              /* by the list's field n */
	uint32_t together;         /* items that were encoded at once of late */
	uint32_t nread;            /* of the blob of the news, with `items` */
	struct fz_batch_news news; /* being read; n is 0 where none is */
	struct fz_reader items;    /* what is left of its blob */
	const void *mapped;
};

static struct lbatch *
to_lbatch(lua_State *L, int idx)
{
	struct lbatch *lb = lua_touserdata(L, idx);

	if (lb == NULL || lua_rawlen(L, idx) != sizeof(*lb) ||
	    lb->tag != &lbatch_tag)
		luaL_typeerror(L, idx, BATCH_TYPE);
	return lb;
}

static struct lbatch *
check_batch(lua_State *L)
{
	struct lbatch *lb = to_lbatch(L, 1);

	luaL_argcheck(L, lb->batch != NULL && !lb->closing, 1, "is closed");
	return lb;
}

/* ---- encoding items ----------------------------------------------------- */

struct encoding {
	struct lbatch *lb;
	uint64_t first;
	uint32_t n;
};

/* The list must be what it was when the map began. */
static void
check_list(lua_State *L, const struct lbatch *lb)
{
	lua_Integer n = -1;

	if (!lb->counted) {
		n = luaL_len(L, THREAD_LIST);
	} else {
		lua_getfield(L, THREAD_LIST, "n");
		n = lua_tointeger(L, -1);
		lua_pop(L, 1);
	}
	if (n != (lua_Integer)lb->n)
		luaL_error(L,
		    "the list was changed while it was being mapped: it had "
		    "%I elements, now %I",
		    (LUAI_UACINT)lb->n, (LUAI_UACINT)n);
}

/* (list, encoding): items as one table; protected, on the batch's thread */
static int
encode_body(lua_State *L)
{
	struct encoding *e = lua_touserdata(L, 2);
	struct lbatch *lb = e->lb;
	struct fz_buf *out = &lb->buf.buf;

	check_list(L, lb);
	for (;;) {
		lua_createtable(L, (int)e->n, 0);
		for (uint32_t i = 0; i < e->n; i++) {
			lua_geti(L, THREAD_LIST, (lua_Integer)(e->first + i));
			lua_rawseti(L, -2, (lua_Integer)i + 1);
		}
		fz_buf_clear(out);
		fz_codec_encode(L, lua_gettop(L), 1, out);
		/* What two items share would be shared in the worker, too. */
		if (e->n == 1 || !(out->data[1] & FZ_FORMAT_HAS_REFS))
			return 0;
		lua_pop(L, 1);
		e->n /= 2;
	}
}

static void
cannot_encode(lua_State *L, struct fz_failure *failure)
{
	const char *text = NULL;

	failure->err.kind = FZ_ERR_ERROR;
	if (fz_lerror_is(L, -1)) {
		lua_getfield(L, -1, "kind");
		for (int k = 1; k < FZ_ERR_NKINDS; k++) {
			if (lua_type(L, -1) == LUA_TSTRING &&
			    strcmp(lua_tostring(L, -1),
				fz_err_kind_name((enum fz_err_kind)k)) == 0)
				failure->err.kind = (enum fz_err_kind)k;
		}
		lua_pop(L, 1);
		lua_getfield(L, -1, "message");
		text = lua_tostring(L, -1);
	} else if (lua_type(L, -1) == LUA_TSTRING) {
		text = lua_tostring(L, -1);
	}
	/* The path begins inside our own table. */
	if (text != NULL && failure->err.kind == FZ_ERR_UNSENDABLE &&
	    text[0] == '[' && strchr(text, ']') != NULL)
		text = strchr(text, ']') + 1;
	fz_err_set(&failure->err, failure->err.kind, "%s%s",
	    failure->err.kind == FZ_ERR_UNSENDABLE ? "argument 1" : "",
	    text != NULL ? text : "an item cannot be sent");
}

/* For the engine: see fz_batch_opts. */
static struct fz_blob *
encode_items(void *ctx, uint64_t first, uint32_t *n, struct fz_failure *failure)
{
	struct lbatch *lb = ctx;
	lua_State *L = lb->thread;
	struct encoding e = { lb, first, *n };
	bool collects = lua_gc(L, LUA_GCISRUNNING) == 1;
	bool outer = fz_lloop_hold(L, true);
	struct fz_blob *blob = NULL;
	int status;

	/* No finalizer may come here, where the engine is under way. */
	lua_gc(L, LUA_GCSTOP);
	if (e.n > lb->together)
		e.n = lb->together;
	do {
		lua_settop(L, THREAD_TOP);
		lua_pushcfunction(L, encode_body);
		lua_pushvalue(L, THREAD_LIST);
		lua_pushlightuserdata(L, &e);
		status = lua_pcall(L, 2, 0, 0);
		if (status == LUA_OK || e.n == 1)
			break;
		e.n /= 2; /* those before the one that cannot be sent */
	} while (true);
	if (status != LUA_OK) {
		cannot_encode(L, failure);
		fz_buf_clear(&lb->buf.buf);
	} else {
		blob = fz_lblob_take(lb->engine, &lb->buf, &failure->err);
	}
	lua_settop(L, THREAD_TOP);
	lb->together = 2 * e.n;
	*n = e.n;
	if (collects)
		lua_gc(L, LUA_GCRESTART);
	fz_lloop_hold(L, outer);
	return blob;
}

/* ---- making one --------------------------------------------------------- */

/* Whether a local pool's item was called. */
static int work(lua_State *L, struct fz_local *local);

static uint32_t
check_kind(lua_State *L, int idx)
{
	static const char *const kinds[] = { "call", "map", "starmap", NULL };

	return (uint32_t)luaL_checkoption(L, idx, NULL, kinds);
}

/* An empty one on top of the stack; the pool is at `pool`. */
static struct lbatch *
push_batch(lua_State *L, int pool)
{
	struct lbatch *lb = lua_newuserdatauv(L, sizeof(*lb), BATCH_NUSER);

	memset(lb, 0, sizeof(*lb));
	lb->tag = &lbatch_tag;
	lb->slot = -1;
	lb->together = 1;
	lb->engine = fz_lloop_engine(L);
	luaL_setmetatable(L, BATCH_TYPE);
	lua_pushvalue(L, pool);
	lua_setiuservalue(L, -2, BATCH_POOL);
	return lb;
}

/* The slot of the function at `f`; without one it travels with the items. */
static void
find_slot(lua_State *L, struct lbatch *lb, int pool, int f)
{
	struct fz_sched *sched = fz_lpool_sched(L, pool);
	int top = lua_gettop(L);

	lb->funcs = fz_lpool_funcs(L, pool);
	lb->slot = fz_lfuncs_slot(L, lb->funcs, top + 1, top + 2, f, sched,
	    fz_pool_nworkers(fz_lpool_check(L, pool)) != 0);
	lua_settop(L, top);
	if (lb->slot == -1)
		lb->kind |= FZ_WIRE_INLINE;
}

static void
make_batch(lua_State *L, struct lbatch *lb, struct fz_batch_opts *opts)
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

static struct fz_sched *
check_open_pool(lua_State *L, int pool)
{
	struct fz_sched *sched = fz_lpool_sched(L, pool);
	struct fz_err err = { 0 };

	luaL_argcheck(L, sched != NULL, pool, "the pool is one of a run");
	if (fz_pool_is_closed(fz_lpool_check(L, pool))) {
		fz_err_set(&err, FZ_ERR_CLOSED, "the pool is closed");
		fz_lerror_raise(L, &err);
	}
	return sched;
}

static void
read_limits(lua_State *L, int options, struct fz_batch_opts *opts)
{
	int top = lua_gettop(L);

	opts->limits.timeout_ns = FZ_CLOCK_NEVER;
	if (lua_isnil(L, options))
		return;
	lua_getfield(L, options, "timeout");
	lua_getfield(L, options, "retries");
	lua_getfield(L, options, "backoff");
	lua_getfield(L, options, "memory");
	fz_llimits_read(L, top + 1, &opts->limits);
	lua_getfield(L, options, "seed");
	opts->seed =
	    (uint64_t)luaL_optinteger(L, -1, (lua_Integer)opts->seed);
	lua_getfield(L, options, "told");
	opts->told = lua_toboolean(L, -1);
	lua_settop(L, top);
}

static void
keep_thread(lua_State *L, struct lbatch *lb, int list)
{
	lb->thread = lua_newthread(L);
	lua_pushvalue(L, list);
	lua_xmove(L, lb->thread, 1);
	lua_setiuservalue(L, -2, BATCH_THREAD);
}

static void
init_buf(struct lbatch *lb, bool local)
{
	fz_shm_buf_init(
	    &lb->buf, local ? NULL : fz_engine_shm(lb->engine), FZ_ENGINE_BULK);
}

/*
 * batch(pool, f, list | nil, options) -> batch, not yet started. Options: kind
 * ("map" or "starmap"), n, counted (n is the list's field), inherited (the
 * workers have list and f by the fork), chunk, on_error, seed, events, timeout,
 * retries, backoff, memory. Without a list items are added.
 */
static int
batch_new(lua_State *L)
{
	struct fz_batch_opts opts = { .encode = encode_items };
	struct fz_sched *sched;
	struct lbatch *lb;

	luaL_checktype(L, 2, LUA_TFUNCTION);
	luaL_checktype(L, 4, LUA_TTABLE);
	lua_settop(L, 4);
	sched = opts.sched = check_open_pool(L, 1);
	lb = push_batch(L, 1);
	lua_getfield(L, 4, "kind");
	lb->kind = check_kind(L, -1);
	lua_getfield(L, 4, "n");
	opts.n = lb->n = (uint64_t)luaL_optinteger(L, -1, 0);
	lua_getfield(L, 4, "counted");
	lb->counted = lua_toboolean(L, -1);
	lua_getfield(L, 4, "chunk");
	opts.chunk = (uint32_t)luaL_optinteger(L, -1, 0);
	lua_getfield(L, 4, "on_error");
	opts.policy = fz_llimits_policy(L, -1);
	lua_getfield(L, 4, "events");
	opts.events = lua_toboolean(L, -1);
	lua_getfield(L, 4, "inherited");
	if (lua_toboolean(L, -1))
		lb->kind |= FZ_WIRE_INHERITED;
	lua_settop(L, 5);
	read_limits(L, 4, &opts);
	/* The numbers of its items follow it: neighbours must not share them.
	 */
	opts.seed = fz_random_mix(opts.seed, 0);
	opts.growing = lua_isnil(L, 3);
	init_buf(lb, fz_sched_is_local(sched));
	keep_thread(L, lb, opts.growing ? 2 : 3);
	find_slot(L, lb, 1, 2);
	if (lb->kind & FZ_WIRE_INLINE) {
		struct fz_err err;

		fz_err_set(&err, FZ_ERR_ERROR,
		    "more than %d functions are being mapped at once",
		    FZ_WORKER_FUNCS);
		return fz_lerror_raise(L, &err);
	}
	make_batch(L, lb, &opts);
	return 1;
}

/* (batch, ...): what is behind it as the one part; protected */
static int
part_body(lua_State *L)
{
	struct lbatch *lb = lua_touserdata(L, 1);
	struct fz_err err = { 0 };
	struct fz_blob *blob;
	int n = lua_gettop(L) - 1;

	fz_buf_clear(&lb->buf.buf);
	if ((lb->kind & FZ_WIRE_KINDS) != FZ_WIRE_CALL) {
		lua_createtable(L, n, 0);
		lua_insert(L, 2);
		for (int i = n; i >= 1; i--)
			lua_rawseti(L, 2, i);
		n = 1;
	}
	fz_codec_encode(L, 2, n, &lb->buf.buf);
	blob = fz_lblob_take(lb->engine, &lb->buf, &err);
	if (blob == NULL || fz_batch_add(lb->batch, blob, &err) != 0)
		return fz_lerror_raise(L, &err);
	return 0;
}

/*
 * Put where it went wrong before the path in the fz.Error on top: "argument
 * 2.cfg: a coroutine cannot be sent".
 */
static int
raise_part(lua_State *L, const struct lbatch *lb)
{
	bool is_call = (lb->kind & FZ_WIRE_KINDS) == FZ_WIRE_CALL;
	bool has_func = lb->kind & FZ_WIRE_INLINE;
	const char *text;
	lua_Integer n;

	if (!fz_lerror_is(L, -1))
		return lua_error(L);
	lua_getfield(L, -1, "value");
	n = lua_tointeger(L, -1) - (has_func ? 1 : 0);
	lua_pop(L, 1);
	if (lua_getfield(L, -1, "message") == LUA_TSTRING) {
		text = lua_tostring(L, -1);
		if (!is_call && text[0] == '[' && strchr(text, ']') != NULL)
			text = strchr(text, ']') + 1;
		if (is_call && n == 0)
			lua_pushfstring(L, "the function%s", text);
		else
			lua_pushfstring(L, "argument %I%s",
			    (LUAI_UACINT)(is_call ? n : 1), text);
		lua_setfield(L, -3, "message");
	}
	lua_pop(L, 1);
	lua_pushnil(L);
	lua_setfield(L, -2, "value");
	return lua_error(L);
}

static void close_batch(lua_State *L, struct lbatch *lb);

/*
 * Add the values from index `first` on as the next item of the batch. A call
 * has no other one: it ends with what cannot be sent.
 */
static void
add_item(lua_State *L, struct lbatch *lb, int first)
{
	int n = lua_gettop(L) - first + 1;

	luaL_checkstack(L, 4, "too many arguments");
	lua_pushcfunction(L, part_body);
	lua_insert(L, first);
	lua_pushlightuserdata(L, lb);
	lua_insert(L, first + 1);
	if (lua_pcall(L, n + 1, 0, 0) != LUA_OK) {
		if ((lb->kind & FZ_WIRE_KINDS) == FZ_WIRE_CALL)
			close_batch(L, lb);
		raise_part(L, lb);
	}
}

static void
start(lua_State *L, struct lbatch *lb, int idx, int pool)
{
	struct fz_sched *sched = fz_lpool_sched(L, pool);

	fz_lpool_rehome(L, pool);
	fz_batch_start(lb->batch);
	if (!fz_sched_is_local(sched)) {
		fz_sched_flush(sched);
		return;
	}
	if (fz_batch_done(lb->batch) || lb->local.prev != NULL)
		return;
	lua_pushvalue(L, idx); /* kept alive until it is done */
	lua_rawsetp(L, LUA_REGISTRYINDEX, lb);
	lb->local.work = work;
	fz_lloop_add_local(L, &lb->local);
}

/* Two calls of one pool have different random numbers. */
static uint64_t
call_seed(uint64_t seed, const struct lbatch *lb)
{
	return fz_random_mix(seed, lb->funcs->now);
}

/* Start the call that batch_call() gets; leaves the batch on top. */
static struct lbatch *
start_call(lua_State *L)
{
	struct fz_batch_opts opts = { .n = 0, .growing = true };
	struct lbatch *lb;
	int n = lua_gettop(L);

	luaL_checktype(L, 2, LUA_TFUNCTION);
	luaL_checkstack(L, 8, "too many arguments");
	opts.sched = check_open_pool(L, 1);
	opts.seed = fz_lpool_seed(L, 1);
	read_limits(L, 3, &opts);
	lb = push_batch(L, 1);
	lua_replace(L, 3);
	lb->kind = FZ_WIRE_CALL;
	init_buf(lb, fz_sched_is_local(opts.sched));
	find_slot(L, lb, 1, 2);
	opts.seed = call_seed(opts.seed, lb);
	make_batch(L, lb, &opts);
	if (lb->kind & FZ_WIRE_INLINE) {
		lua_pushvalue(L, 2);
		lua_insert(L, 4);
		n++;
	}
	lua_settop(L, n);
	add_item(L, lb, 4);
	fz_batch_end(lb->batch);
	start(L, lb, 3, 1);
	lua_settop(L, 3);
	return lb;
}

/*
 * call(pool, f, options | nil, ...) -> batch of the one call, started. Options:
 * as those of batch() for one item, and told: pool:finished() tells of it.
 */
static int
batch_call(lua_State *L)
{
	start_call(L);
	return 1;
}

/* batch:add(item): for one without a list */
static int
batch_add(lua_State *L)
{
	struct lbatch *lb = check_batch(L);

	lua_settop(L, 2);
	add_item(L, lb, 2);
	return 0;
}

/* batch:list() -> {}: with room for what its items return */
static int
batch_list(lua_State *L)
{
	const struct lbatch *lb = check_batch(L);

	lua_createtable(L, lb->n < INT32_MAX ? (int)lb->n : 0, 2);
	return 1;
}

/* batch:start() */
static int
batch_start(lua_State *L)
{
	struct lbatch *lb = check_batch(L);

	lua_getiuservalue(L, 1, BATCH_POOL);
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

/* ---- results ------------------------------------------------------------ */

static void
drop_news(struct lbatch *lb, struct fz_batch_news *news)
{
	if (lb->mapped != NULL)
		fz_blob_unmap(news->blob, lb->engine->shm, lb->mapped);
	lb->mapped = NULL;
	fz_blob_unref(news->blob);
	if (news->failure != NULL) {
		fz_blob_unref(news->failure->value);
		free(news->failure);
	}
	*news = (struct fz_batch_news){ .n = 0 };
}

/* Have the blob of new news read as far as these begin. */
static void
open_news(lua_State *L, struct lbatch *lb)
{
	struct fz_batch_news *news = &lb->news;
	struct fz_err err = { 0 };

	if (lb->mapped == NULL) {
		lb->mapped = fz_blob_map(news->blob, lb->engine->shm, &err);
		if (lb->mapped == NULL)
			fz_lerror_raise(L, &err);
		fz_reader_init(&lb->items, lb->mapped, news->blob->len);
		lb->nread = 0;
	}
	for (; lb->nread < news->skip; lb->nread++)
		fz_items_skip(&lb->items);
	lb->nread += news->n;
}

/* Have some news at hand; false: there are none. */
static bool
next_news(lua_State *L, struct lbatch *lb)
{
	struct fz_batch_news before = lb->news, *news = &lb->news;
	bool more;

	if (news->n != 0)
		return true;
	*news = (struct fz_batch_news){ .n = 0 };
	more = fz_batch_take(lb->batch, news);
	/* Chunks that came in one frame are news one after the other. */
	if (lb->mapped != NULL && more && news->blob == before.blob &&
	    news->skip >= lb->nread)
		fz_blob_unref(before.blob);
	else
		drop_news(lb, &before);
	if (more && news->blob != NULL && !news->whole)
		open_news(L, lb);
	return more;
}

/* (reader) -> value; protected */
static int
item_body(lua_State *L)
{
	struct fz_reader *items = lua_touserdata(L, 1);

	fz_items_push(L, items);
	return 1;
}

/* Push the next value, or what went wrong with it. [+1] */
static int
push_value(lua_State *L, struct lbatch *lb)
{
	struct fz_reader before;
	int status, top = lua_gettop(L);

	if (lb->news.whole) {
		status = fz_lblob_decode(L, lb->engine, lb->news.blob);
		lua_settop(L, top + 1);
		return status;
	}
	if (lb->items.p < lb->items.end && *lb->items.p != FZ_FORMAT_ITEM) {
		fz_items_push(L, &lb->items);
		return LUA_OK;
	}
	before = lb->items;
	lua_pushcfunction(L, item_body);
	lua_pushlightuserdata(L, &before);
	status = lua_pcall(L, 1, 1, 0);
	fz_items_skip(&lb->items);
	return status;
}

/* Push the error of the one item that the news are about. */
static void
push_news_failure(lua_State *L, struct lbatch *lb)
{
	fz_lfailure_push(L, lb->engine, lb->news.failure);
	fz_lfailure_set(L, "index", (lua_Integer)lb->news.first);
}

/* Put small items at hand into the list at 2. Returns how many. */
static uint32_t
take_small(lua_State *L, struct lbatch *lb)
{
	struct fz_batch_news *news = &lb->news;
	struct fz_reader items = lb->items;
	lua_Integer i = (lua_Integer)news->first;
	uint32_t n = 0;

	if (news->failure != NULL || news->whole)
		return 0;
	while (n < news->n && fz_items_push_number(L, &items)) {
		lua_rawseti(L, 2, i++);
		n++;
	}
	lb->items = items;
	news->first += n;
	news->n -= n;
	return n;
}

/*
 * batch:take(values, errors [, order]) -> n: put what has come into the lists
 * by index, and the indexes as they came behind `order`. Of how many items.
 */
static int
batch_take(lua_State *L)
{
	struct lbatch *lb = check_batch(L);
	struct fz_batch_news *news = &lb->news;
	bool ordered = !lua_isnoneornil(L, 4);
	lua_Integer taken = 0;

	luaL_checktype(L, 2, LUA_TTABLE);
	luaL_checktype(L, 3, LUA_TTABLE);
	lua_settop(L, 4);
	while (next_news(L, lb)) {
		lua_Integer i;
		int list = 2;

		if (!ordered)
			taken += take_small(L, lb);
		if (news->n == 0)
			continue;
		i = (lua_Integer)news->first;

		if (news->failure != NULL) {
			push_news_failure(L, lb);
			list = 3;
		} else if (push_value(L, lb) != LUA_OK) {
			list = 3;
		}
		news->first++;
		news->n--;
		taken++;
		lua_rawseti(L, list, i);
		if (ordered) {
			lua_pushinteger(L, i);
			lua_rawseti(L, 4, (lua_Integer)lua_rawlen(L, 4) + 1);
		}
	}
	lua_pushinteger(L, taken);
	return 1;
}

/* Push true and the results of one call, or false and its error. [+n] */
static int
push_outcome(lua_State *L, struct lbatch *lb)
{
	int top = lua_gettop(L);

	if (!next_news(L, lb))
		return 0;
	lua_pushboolean(L, lb->news.failure == NULL);
	if (lb->news.failure != NULL) {
		fz_lfailure_push(L, lb->engine, lb->news.failure);
	} else if (lb->news.whole) {
		if (fz_lblob_decode(L, lb->engine, lb->news.blob) != LUA_OK)
			return lua_error(L);
	} else {
		fz_items_push_message(L, &lb->items);
	}
	lb->news.n = 0;
	return lua_gettop(L) - top;
}

/* batch:result() -> true, ... | false, Error | nothing yet: of one call */
static int
batch_result(lua_State *L)
{
	struct lbatch *lb = check_batch(L);

	lua_settop(L, 1);
	return push_outcome(L, lb);
}

/* batch:whole() -> nil | Error: why all of it ended */
static int
batch_whole(lua_State *L)
{
	struct lbatch *lb = check_batch(L);
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

/* batch:id() -> a key for pool:finished() */
static int
batch_id(lua_State *L)
{
	lua_pushlightuserdata(L, check_batch(L));
	return 1;
}

/* batch:event() -> nil | kind, first, n, pid, seconds */
static int
batch_event(lua_State *L)
{
	static const char *const kinds[] = { "start", "done", "failed",
		"retry" };
	struct lbatch *lb = check_batch(L);
	struct fz_batch_event event;

	if (!fz_batch_next_event(lb->batch, &event))
		return 0;
	lua_pushstring(L, kinds[event.kind]);
	lua_pushinteger(L, (lua_Integer)event.first);
	lua_pushinteger(L, (lua_Integer)event.n);
	lua_pushinteger(L, event.pid);
	lua_pushnumber(L, (double)event.took_ns / (double)FZ_CLOCK_SECOND);
	return 5;
}

/* ---- calls in this process ---------------------------------------------- */

static void
unlink_local(lua_State *L, struct lbatch *lb)
{
	if (lb->local.prev == NULL)
		return;
	fz_lloop_drop_local(&lb->local);
	lua_pushnil(L);
	lua_rawsetp(L, LUA_REGISTRYINDEX, lb);
}

/* (batch) -> whether an item was called; protected by whoever turns */
static int
work_body(lua_State *L)
{
	struct lbatch *lb = to_lbatch(L, 1);
	struct fz_llocal_item item = { .batch = lb->batch,
		.kind = lb->kind,
		.func = lb->slot != -1 ? (uint32_t)lb->slot : 0,
		.seed = lb->seed,
		.timeout_ns = lb->timeout_ns };

	item.number = fz_batch_local_next(lb->batch, &item.part);
	if (item.number != 0) {
		lua_getiuservalue(L, 1, BATCH_POOL);
		lb->calls++;
		fz_llocal_item(L, lua_gettop(L), &item);
		if (--lb->calls == 0 && lb->closing)
			close_batch(L, lb);
	}
	lua_pushboolean(L, item.number != 0);
	return 1;
}

static int
work(lua_State *L, struct fz_local *local)
{
	struct lbatch *lb =
	    (struct lbatch *)((char *)local - offsetof(struct lbatch, local));
	int did;

	if (lb->calls != 0) /* it waits: the next comes after it */
		return 0;
	lua_pushcfunction(L, work_body);
	lua_rawgetp(L, LUA_REGISTRYINDEX, lb); /* while it is linked */
	lua_call(L, 1, 1);
	did = lua_toboolean(L, -1);
	lua_pop(L, 1);
	return did;
}

/* ---- life --------------------------------------------------------------- */

/* batch:done() -> boolean */
static int
batch_done(lua_State *L)
{
	struct lbatch *lb = check_batch(L);
	bool done = fz_batch_done(lb->batch);

	if (done)
		unlink_local(L, lb);
	lua_pushboolean(L, done);
	return 1;
}

static bool
is_done(const void *ctx)
{
	const struct lbatch *lb = ctx;

	return fz_batch_done(lb->batch);
}

/* batch:wait_alone() -> boolean: until it is done, if that takes no Lua */
static int
batch_wait_alone(lua_State *L)
{
	struct lbatch *lb = check_batch(L);
	bool can = lb->local.prev == NULL;

	if (can)
		fz_lloop_wait(L, is_done, lb);
	lua_pushboolean(L, can);
	return 1;
}

/*
 * apply(pool, f, options | nil, ...) -> as batch:result(), once it is done: for
 * who waits alone, with workers. An error that comes meanwhile ends the call.
 */
static int
batch_apply(lua_State *L)
{
	struct lbatch *lb = start_call(L);
	int n;

	lua_toclose(L, 3);
	fz_lloop_wait(L, is_done, lb);
	n = push_outcome(L, lb);
	if (n == 0 && fz_batch_whole(lb->batch) != NULL) {
		lua_pushboolean(L, false);
		fz_lfailure_push(
		    L, lb->engine, fz_batch_whole(lb->batch));
		n = 2;
	}
	return n;
}

/* batch:cancel(): again does nothing */
static int
batch_cancel(lua_State *L)
{
	struct lbatch *lb = check_batch(L);

	unlink_local(L, lb);
	fz_batch_cancel(lb->batch, FZ_ERR_CANCELLED, "cancelled");
	return 0;
}

static void
close_batch(lua_State *L, struct lbatch *lb)
{
	if (lb->batch != NULL) {
		unlink_local(L, lb);
		if (lb->calls != 0) {
			fz_batch_cancel(
			    lb->batch, FZ_ERR_CANCELLED, "it was closed");
			lb->closing = true;
			return;
		}
		drop_news(lb, &lb->news);
		fz_batch_free(lb->batch);
		lb->batch = NULL;
	}
	if (lb->slot != -1)
		fz_lfuncs_unpin(lb->funcs, lb->slot);
	lb->slot = -1;
	fz_buf_fini(&lb->buf.buf);
}

/* batch:close(): cancels what is not done; again does nothing */
static int
batch_close(lua_State *L)
{
	close_batch(L, to_lbatch(L, 1));
	return 0;
}

static int
batch_tostring(lua_State *L)
{
	const struct lbatch *lb = to_lbatch(L, 1);

	lua_pushfstring(L, BATCH_TYPE " (%s)",
	    lb->batch == NULL          ? "closed"
	    : fz_batch_done(lb->batch) ? "done"
				       : "under way");
	return 1;
}

static const luaL_Reg methods[] = {
	{ "add", batch_add },
	{ "list", batch_list },
	{ "id", batch_id },
	{ "start", batch_start },
	{ "finish", batch_finish },
	{ "take", batch_take },
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
