#include "bind/open.h"

#include <stdbool.h>
#include <stdint.h>

#include <lauxlib.h>

#include "base/clock.h"
#include "base/err.h"
#include "bind/jobs/lbatch_state.h"
#include "bind/lloop.h"
#include "value/lerror.h"

/*
 * The items of an imap between its source and its loop. Items are numbered as
 * they are read, and their numbers in the batch are the same. A result is
 * stored in a slot: that of its number, or that of its place in the order of
 * arrival.
 *
 *   nreturned <= slots with a result <= nsent <= nread
 *
 * Slots are used again, because at most as many items as there are slots are
 * read and not returned. Items have slots, too, if results are ordered;
 * otherwise an item that takes long may be older than that.
 */

#define WINDOW_TYPE "fzlua.Window"
/* A source whose call takes longer is slow. */
#define WINDOW_SLOW_NS (FZ_CLOCK_MS / 20)

enum {
	WINDOW_SLOTS = 1024,        /* at least */
	WINDOW_SLOTS_MAX = 1 << 20, /* at most */
	WINDOW_SHORT = 1024,        /* bytes of values that do not count */
};

/* User values of a window. */
enum {
	WINDOW_BATCH = 1,
	WINDOW_ITEMS,  /* by slot: items, and sizes of those that are encoded */
	WINDOW_VALUES, /* by slot: results */
	WINDOW_ERRORS, /* by number: errors of items that failed */
	WINDOW_NUSER = WINDOW_ERRORS
};

struct lwindow {
	struct fz_lbatch *lb; /* NULL until the batch is known */
	uint64_t mask;        /* number of slots - 1 */
	uint64_t nread, nsent, narrived, nreturned;
	size_t nbytes;     /* of the long values that it holds */
	int64_t called_ns; /* when the source was called last */
	bool ordered;
	bool ended;       /* the source is not read any more */
	bool closed;      /* nothing is returned any more */
	uint64_t order[]; /* unordered: by slot, the number of its item */
};

/* Their addresses stand in slots for a nil, and for an error. */
static const char nothing, failed;

static struct lwindow *
check_window(lua_State *L)
{
	return luaL_checkudata(L, 1, WINDOW_TYPE);
}

static struct lwindow *
check_bound(lua_State *L)
{
	struct lwindow *w = check_window(L);

	if (w->lb == NULL || w->lb->batch == NULL || w->lb->ll.closing)
		fz_lerror_fail(L, FZ_ERR_CLOSED, "the batch is closed");
	return w;
}

/* The index in Lua of the slot for number `at`. */
static lua_Integer
slot(const struct lwindow *w, uint64_t at)
{
	return (lua_Integer)((at - 1) & w->mask) + 1;
}

static lua_Integer
item_slot(const struct lwindow *w, uint64_t number)
{
	return w->ordered ? slot(w, number) : (lua_Integer)number;
}

/* Bytes of the value on top that count: those of a long string. */
static size_t
weight(lua_State *L)
{
	size_t len = lua_type(L, -1) == LUA_TSTRING ? lua_rawlen(L, -1) : 0;

	return len > WINDOW_SHORT ? len : 0;
}

/* The same for an item, which may be the size of an encoded one. */
static size_t
item_weight(lua_State *L)
{
	if (lua_islightuserdata(L, -1))
		return (size_t)(uintptr_t)lua_touserdata(L, -1);
	return weight(L);
}

/* window(ordered [, inflight]) -> window, for at most `inflight` items */
static int
window_new(lua_State *L)
{
	bool ordered = lua_toboolean(L, 1);
	lua_Integer inflight = luaL_optinteger(L, 2, WINDOW_SLOTS);
	size_t n = WINDOW_SLOTS;
	struct lwindow *w;

	while (n < WINDOW_SLOTS_MAX && (lua_Integer)n < inflight)
		n *= 2;
	w = lua_newuserdatauv(L,
	    sizeof(*w) + (ordered ? 0 : n * sizeof(*w->order)), WINDOW_NUSER);
	*w = (struct lwindow){ .mask = n - 1, .ordered = ordered };
	luaL_setmetatable(L, WINDOW_TYPE);
	lua_createtable(L, ordered ? WINDOW_SLOTS : 0, 0);
	lua_setiuservalue(L, -2, WINDOW_ITEMS);
	lua_createtable(L, WINDOW_SLOTS, 0);
	lua_setiuservalue(L, -2, WINDOW_VALUES);
	lua_newtable(L);
	lua_setiuservalue(L, -2, WINDOW_ERRORS);
	return 1;
}

/* window:items() -> the list of the batch */
static int
window_items(lua_State *L)
{
	check_window(L);
	lua_getiuservalue(L, 1, WINDOW_ITEMS);
	return 1;
}

/* window:bind(batch): the batch that calls its items */
static int
window_bind(lua_State *L)
{
	struct lwindow *w = check_window(L);

	w->lb = fz_lbatch_to(L, 2);
	if (w->ordered)
		w->lb->mask = w->mask;
	lua_settop(L, 2);
	lua_setiuservalue(L, 1, WINDOW_BATCH);
	return 0;
}

static bool
is_ready(lua_State *L, const struct lwindow *w)
{
	bool ready;

	lua_getiuservalue(L, 1, WINDOW_VALUES);
	ready = lua_rawgeti(L, -1, slot(w, w->nreturned + 1)) != LUA_TNIL;
	lua_pop(L, 2);
	return ready;
}

/* window:ready() -> whether a result can be returned */
static int
window_ready(lua_State *L)
{
	lua_pushboolean(L, is_ready(L, check_window(L)));
	return 1;
}

/* window:held() -> number of items that are read and not returned */
static int
window_held(lua_State *L)
{
	const struct lwindow *w = check_window(L);

	lua_pushinteger(L, (lua_Integer)(w->nread - w->nreturned));
	return 1;
}

/* The stack of window_read(). */
enum { READ_SOURCE = 2, READ_LIMIT, READ_BYTES, READ_ITEMS, READ_ITEM };

static bool
wants_item(lua_State *L, const struct lwindow *w)
{
	uint64_t limit = (uint64_t)lua_tointeger(L, READ_LIMIT);

	if (limit > w->mask + 1)
		limit = w->mask + 1;
	return !w->ended && w->nread - w->nreturned < limit &&
	       w->nbytes < (size_t)lua_tointeger(L, READ_BYTES) &&
	       !is_ready(L, w);
}

static bool
is_plain(int type)
{
	return type == LUA_TSTRING || type == LUA_TNUMBER ||
	       type == LUA_TBOOLEAN;
}

/* The item on top is plain: put it into the list. [-1, +0, m] */
static void
list_item(lua_State *L, struct lwindow *w)
{
	w->nbytes += weight(L);
	lua_rawseti(L, READ_ITEMS, item_slot(w, w->nread + 1));
	w->nread++;
}

/*
 * Handle what the source has returned. Returns how many results the caller
 * returns; -1: it goes on.
 */
static int
take_read(lua_State *L, struct lwindow *w)
{
	int64_t now_ns = fz_clock_ns(), took_ns = now_ns - w->called_ns;
	bool plain = is_plain(lua_type(L, READ_ITEM));
	bool slow = took_ns > WINDOW_SLOW_NS;

	w->called_ns = now_ns;
	if (w->ended) /* by the source itself */
		return 0;
	if (plain)
		list_item(L, w);
	if (plain && !slow)
		return -1;
	lua_pushnumber(L, slow ? (double)took_ns / (double)FZ_CLOCK_SECOND : 0);
	lua_pushboolean(L, !plain);
	if (plain)
		return 2;
	lua_pushvalue(L, READ_ITEM);
	return 3;
}

static int
read_on(lua_State *L, int status, lua_KContext ctx)
{
	struct lwindow *w = lua_touserdata(L, 1);
	int n = -1;

	(void)ctx;
	while (n < 0 && (status == LUA_YIELD || wants_item(L, w))) {
		if (status != LUA_YIELD) {
			lua_pushvalue(L, READ_SOURCE);
			lua_callk(L, 0, 1, 0, read_on);
		}
		status = LUA_OK;
		n = take_read(L, w);
	}
	return n < 0 ? 0 : n;
}

/*
 * window:read(source, limit, bytes) -> nothing | seconds, false | seconds,
 * true, item: read plain items until it holds `limit` items or `bytes` bytes,
 * or a result is ready. It stops early if the source is slow, after a call of
 * `seconds`, and at an item that is not plain, or nil. seconds is 0 if the
 * source is not slow.
 */
static int
window_read(lua_State *L)
{
	struct lwindow *w = check_window(L);

	luaL_checkinteger(L, READ_LIMIT);
	luaL_checkinteger(L, READ_BYTES);
	lua_settop(L, READ_BYTES);
	lua_getiuservalue(L, 1, WINDOW_ITEMS);
	w->called_ns = fz_clock_ns();
	return read_on(L, LUA_OK, 0);
}

/* window:send(): the batch gets the items of the list */
static int
window_send(lua_State *L)
{
	struct lwindow *w = check_bound(L);
	struct fz_err err = { 0 };

	fz_lloop_check_free(L);
	if (fz_batch_grow(w->lb->batch, w->nread - w->nsent, &err) != 0)
		return fz_lerror_raise(L, &err);
	w->nsent = w->nread;
	return 0;
}

/* window:added(bytes): an item was added to the batch, which has encoded it */
static int
window_added(lua_State *L)
{
	struct lwindow *w = check_window(L);
	lua_Integer nbytes = luaL_checkinteger(L, 2);

	w->nsent = ++w->nread;
	if (nbytes <= WINDOW_SHORT)
		return 0;
	w->nbytes += (size_t)nbytes;
	lua_getiuservalue(L, 1, WINDOW_ITEMS);
	lua_pushlightuserdata(L, (void *)(uintptr_t)nbytes);
	lua_rawseti(L, -2, item_slot(w, w->nread));
	return 0;
}

/* The stack while results are taken. */
enum { TAKE_BATCH = 2, TAKE_ITEMS, TAKE_VALUES, TAKE_ERRORS };

/* The window is at 1; what is above it moves to the top. [-0, +4, -] */
static void
push_lists(lua_State *L)
{
	int n = lua_gettop(L) - 1;

	for (int i = WINDOW_BATCH; i <= WINDOW_NUSER; i++)
		lua_getiuservalue(L, 1, i);
	lua_rotate(L, 2, -n);
}

/* Drop an item, which is done. [-0, +0, m] */
static void
drop_item(lua_State *L, struct lwindow *w, uint64_t number)
{
	lua_Integer at = item_slot(w, number);

	lua_rawgeti(L, TAKE_ITEMS, at);
	w->nbytes -= item_weight(L);
	lua_pop(L, 1);
	lua_pushnil(L);
	lua_rawseti(L, TAKE_ITEMS, at);
}

/* Store the result on top of the stack, or the error. [-1, +0, m] */
static void
store_result(lua_State *L, struct lwindow *w, uint64_t number, bool ok)
{
	uint64_t at = w->ordered ? number : ++w->narrived;

	if (!w->ordered)
		w->order[(at - 1) & w->mask] = number;
	if (!ok) {
		lua_rawseti(L, TAKE_ERRORS, (lua_Integer)number);
		lua_pushlightuserdata(L, (void *)(uintptr_t)&failed);
	} else if (lua_isnil(L, -1)) {
		lua_pop(L, 1);
		lua_pushlightuserdata(L, (void *)(uintptr_t)&nothing);
	} else {
		w->nbytes += weight(L);
	}
	lua_rawseti(L, TAKE_VALUES, slot(w, at));
}

/* window:skip(e): the next item cannot be sent, because of the error `e` */
static int
window_skip(lua_State *L)
{
	struct lwindow *w = check_bound(L);
	struct fz_err err = { 0 };

	if (fz_batch_skip(w->lb->batch, &err) != 0)
		return fz_lerror_raise(L, &err);
	w->nsent = ++w->nread;
	lua_settop(L, 2);
	push_lists(L);
	store_result(L, w, w->nread, false);
	return 0;
}

/* window:take(): store the results that have come */
static int
window_take(lua_State *L)
{
	struct lwindow *w = check_bound(L);
	struct fz_lbatch *lb = w->lb;

	lua_settop(L, 1);
	push_lists(L);
	lb->ll.calls++; /* __fzunpack may close it */
	while (!lb->ll.closing && fz_lbatch_next_result(L, lb)) {
		uint64_t number = lb->result.first;
		bool ok = fz_lbatch_push_next(L, lb);

		drop_item(L, w, number);
		store_result(L, w, number, ok);
	}
	fz_lbatch_leave(L, lb, TAKE_BATCH);
	return 0;
}

/*
 * Take the value on top from its slot of the list at `values`, and push the
 * number of its item below it. [-1, +2, m]
 */
static void
return_value(lua_State *L, struct lwindow *w, int values)
{
	lua_Integer at = slot(w, ++w->nreturned);
	uint64_t number = w->ordered ? w->nreturned : w->order[at - 1];

	w->nbytes -= weight(L);
	lua_pushnil(L);
	lua_rawseti(L, values, at);
	if (lua_islightuserdata(L, -1) && lua_touserdata(L, -1) == &nothing) {
		lua_pop(L, 1);
		lua_pushnil(L);
	}
	lua_pushinteger(L, (lua_Integer)number);
	lua_insert(L, -2);
}

/* window:pop() -> number, value | number, nil, error: of the ready result */
static int
window_pop(lua_State *L)
{
	struct lwindow *w = check_window(L);

	lua_settop(L, 1);
	push_lists(L);
	lua_rawgeti(L, TAKE_VALUES, slot(w, w->nreturned + 1));
	luaL_argcheck(L, !lua_isnil(L, -1), 1, "no result is ready");
	return_value(L, w, TAKE_VALUES);
	if (!lua_islightuserdata(L, -1) || lua_touserdata(L, -1) != &failed)
		return 2;
	lua_pop(L, 1);
	lua_pushnil(L);
	lua_rawgeti(L, TAKE_ERRORS, lua_tointeger(L, -2));
	lua_pushnil(L);
	lua_rawseti(L, TAKE_ERRORS, lua_tointeger(L, -4));
	return 3;
}

/* The results of step() are those of the iterator. */
static int
end_step(lua_State *L, int status, lua_KContext ctx)
{
	(void)status;
	(void)ctx;
	return lua_gettop(L);
}

/* Upvalues of the iterator. */
enum { NEXT_WINDOW = 1, NEXT_VALUES, NEXT_STEP, NEXT_N = NEXT_STEP };

/* The iterator: a result that is ready, or what step() returns. */
static int
next_result(lua_State *L)
{
	const int values = lua_upvalueindex(NEXT_VALUES);
	struct lwindow *w = lua_touserdata(L, lua_upvalueindex(NEXT_WINDOW));
	int type;

	lua_settop(L, 0);
	type = lua_rawgeti(L, values, slot(w, w->nreturned + 1));
	if (type != LUA_TNIL && type != LUA_TLIGHTUSERDATA && !w->closed) {
		return_value(L, w, values);
		return 2;
	}
	lua_settop(L, 0);
	lua_pushvalue(L, lua_upvalueindex(NEXT_STEP));
	lua_callk(L, 0, LUA_MULTRET, 0, end_step);
	return end_step(L, LUA_OK, 0);
}

/*
 * window:iterator(step) -> function: it returns what is ready without calling
 * Lua, and calls step() for all else: errors, nils, and if nothing is ready
 */
static int
window_iterator(lua_State *L)
{
	check_window(L);
	luaL_checktype(L, 2, LUA_TFUNCTION);
	lua_settop(L, 2);
	lua_getiuservalue(L, 1, WINDOW_VALUES);
	lua_insert(L, 2);
	lua_pushcclosure(L, next_result, NEXT_N);
	return 1;
}

/* window:stop(): read no more items */
static int
window_stop(lua_State *L)
{
	check_window(L)->ended = true;
	return 0;
}

/* window:close(): return nothing more, either */
static int
window_close(lua_State *L)
{
	struct lwindow *w = check_window(L);

	w->ended = w->closed = true;
	return 0;
}

static const luaL_Reg methods[] = {
	{ "items", window_items },
	{ "bind", window_bind },
	{ "ready", window_ready },
	{ "held", window_held },
	{ "read", window_read },
	{ "send", window_send },
	{ "added", window_added },
	{ "skip", window_skip },
	{ "take", window_take },
	{ "pop", window_pop },
	{ "iterator", window_iterator },
	{ "stop", window_stop },
	{ "close", window_close },
	{ NULL, NULL },
};

static const luaL_Reg functions[] = {
	{ "window", window_new },
	{ NULL, NULL },
};

int
fz_lwindow_open(lua_State *L)
{
	if (luaL_newmetatable(L, WINDOW_TYPE)) {
		luaL_newlib(L, methods);
		lua_setfield(L, -2, "__index");
	}
	lua_pop(L, 1);
	luaL_setfuncs(L, functions, 0);
	return 0;
}
