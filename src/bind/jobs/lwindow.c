#include "bind/jobs/lwindow.h"

#include "base/clock.h"
#include "bind/jobs/llimits.h"
#include "bind/lloop.h"
#include "bind/open.h"

/*
 * If as many results as the limit are returned in less than this time, the
 * limit is doubled.
 */
#define WINDOW_WORK_NS (5 * FZ_CLOCK_MS)
/* A source is slow if one call of it takes longer than this time. */
#define WINDOW_SLOW_NS (FZ_CLOCK_MS / 20)
/* Items of a source that is not slow are sent after this time at the latest. */
#define WINDOW_HOLD_NS FZ_CLOCK_MS

enum {
	/* maximum number of items of a window that sizes itself */
	WINDOW_ITEMS = 1024,
	/*
	 * maximum number of bytes of the values in a window that sizes itself
	 */
	WINDOW_BYTES = 8 << 20,
	/* a window with this limit or more is read when a quarter is free */
	WINDOW_LARGE = 64,
};

/*
 * The address of this variable marks userdata that are windows. To check this
 * address is faster than to check the name of the metatable.
 */
static const char window_tag;

void
fz_lwindow_init(lua_State *L, struct fz_lwindow *w,
    const struct fz_lwindow_ops *ops, int idx)
{
	lua_Integer limit;

	lua_getfield(L, idx, "limit");
	limit = luaL_checkinteger(L, -1);
	luaL_argcheck(L, limit > 0, idx, "limit out of range");
	lua_pop(L, 1);
	*w = (struct fz_lwindow){ .tag = &window_tag,
		.ops = ops,
		.limit = (uint64_t)limit,
		.fixed = fz_llimits_flag(L, idx, "fixed") };
	lua_newtable(L);
	lua_setiuservalue(L, -2, FZ_LWINDOW_ERRORS);
}

/* The window at `idx`. Unless `ops` is NULL, it must have these functions. */
struct fz_lwindow *
fz_lwindow_check(lua_State *L, int idx, const struct fz_lwindow_ops *ops)
{
	struct fz_lwindow *w = lua_touserdata(L, idx);

	if (w == NULL || lua_rawlen(L, idx) < sizeof(*w) ||
	    w->tag != &window_tag || (ops != NULL && w->ops != ops))
		luaL_typeerror(L, idx, "window");
	return w;
}

void
fz_lwindow_keep_error(lua_State *L, uint64_t number)
{
	lua_getiuservalue(L, 1, FZ_LWINDOW_ERRORS);
	lua_insert(L, -2);
	lua_rawseti(L, -2, (lua_Integer)number);
	lua_pop(L, 1);
}

void
fz_lwindow_push_error(lua_State *L, uint64_t number)
{
	lua_pushnil(L);
	lua_getiuservalue(L, 1, FZ_LWINDOW_ERRORS);
	lua_rawgeti(L, -1, (lua_Integer)number);
	lua_pushnil(L);
	lua_rawseti(L, -3, (lua_Integer)number);
	lua_remove(L, -2);
}

/*
 * Called when the loop of the script waits for a result. Doubles the limit if
 * as many results as the limit were returned in a short time.
 */
static void
widen(struct fz_lwindow *w)
{
	if (w->fixed || w->nreturned - w->marked < w->limit)
		return;
	if (w->began_ns - w->marked_ns < WINDOW_WORK_NS &&
	    w->limit < WINDOW_ITEMS)
		w->limit =
		    w->limit < WINDOW_ITEMS / 2 ? 2 * w->limit : WINDOW_ITEMS;
	w->marked = w->nreturned;
	w->marked_ns = w->began_ns;
}

/* Stack indexes in window_read(). */
enum { READ_SOURCE = 2, READ_ITEM };

static bool
wants_item(lua_State *L, const struct fz_lwindow *w)
{
	return !w->ended && w->nread - w->nreturned < w->limit &&
	       w->ops->has_room(w, w->fixed ? SIZE_MAX : WINDOW_BYTES) &&
	       !w->ops->ready(L, w);
}

/*
 * The address of this variable stands for an element of a list that is nil. A
 * source cannot return nil for it, because nil means the end.
 */
static const char nil_item;

/* Handle what the source returned. Returns whether to call the source again. */
static bool
take_item(lua_State *L, struct fz_lwindow *w)
{
	if (lua_touserdata(L, READ_ITEM) == &nil_item) {
		lua_pushnil(L);
		lua_replace(L, READ_ITEM);
	} else if (lua_isnil(L, READ_ITEM)) {
		w->ended = true;
	}
	if (w->ended) /* the source may have closed the window */
		return false;
	w->nread++;
	w->ops->put(L, w);
	return true;
}

/* Push the seconds of the last call, if the items must be sent now. */
static int
push_pause(lua_State *L, struct fz_lwindow *w)
{
	int64_t now_ns = fz_clock_ns(), took_ns = now_ns - w->called_ns;

	w->called_ns = now_ns;
	if (took_ns <= WINDOW_SLOW_NS && now_ns - w->began_ns <= WINDOW_HOLD_NS)
		return 0;
	lua_pushnumber(L, (double)took_ns / (double)FZ_CLOCK_SECOND);
	return 1;
}

static int
read_on(lua_State *L, int status, lua_KContext ctx)
{
	struct fz_lwindow *w = lua_touserdata(L, 1);
	/* the source has waited for this item */
	bool waited = status == LUA_YIELD;
	int n = 0;

	(void)ctx;
	while (n == 0 && (waited || wants_item(L, w))) {
		if (waited) {
			w->began_ns = w->called_ns = fz_clock_ns();
		} else {
			lua_pushvalue(L, READ_SOURCE);
			lua_callk(L, 0, 1, 0, read_on);
		}
		waited = false;
		if (take_item(L, w))
			n = push_pause(L, w);
	}
	if (!w->closed)
		w->ops->send(L, w);
	return n;
}

/*
 * window:read(source, again) -> nothing | seconds: read items and send them
 * until the window is full, a result is ready, or the source ends. If the
 * source is slow, or was read for a long time, read() stops earlier and returns
 * the seconds of the last call of the source. The caller then calls read()
 * again with `again` = true. If `again` is false, a large window is read only
 * when a quarter of it is free.
 */
static int
window_read(lua_State *L)
{
	struct fz_lwindow *w = fz_lwindow_check(L, 1, NULL);
	bool again = lua_toboolean(L, READ_ITEM);

	fz_lloop_check_free(L);
	lua_settop(L, READ_SOURCE);
	w->began_ns = w->called_ns = fz_clock_ns();
	widen(w);
	if (!again && w->limit >= WINDOW_LARGE &&
	    w->nread - w->nreturned > w->limit - w->limit / 4)
		return 0;
	return read_on(L, LUA_OK, 0);
}

/* window:send(): send the items that were read, before the source waits */
static int
window_send(lua_State *L)
{
	struct fz_lwindow *w = fz_lwindow_check(L, 1, NULL);

	if (!w->closed)
		w->ops->send(L, w);
	return 0;
}

static int
window_nread(lua_State *L)
{
	lua_pushinteger(L, (lua_Integer)fz_lwindow_check(L, 1, NULL)->nread);
	return 1;
}

/* window:starves() -> whether no result can come until the source is read */
static int
window_starves(lua_State *L)
{
	const struct fz_lwindow *w = fz_lwindow_check(L, 1, NULL);

	lua_pushboolean(L, !w->ended && w->nread == w->nreturned &&
			       w->ops->has_room(w, SIZE_MAX));
	return 1;
}

/* window:ready() -> whether a result can be returned */
static int
window_ready(lua_State *L)
{
	const struct fz_lwindow *w = fz_lwindow_check(L, 1, NULL);

	lua_pushboolean(L, !w->closed && w->ops->ready(L, w));
	return 1;
}

/* Push the next result. Returns the number of values; 0 if none is ready. */
static int
take_result(lua_State *L, struct fz_lwindow *w)
{
	int n = w->closed ? 0 : w->ops->take(L, w);

	w->nreturned += n != 0;
	return n;
}

/* window:take() -> nothing | number, value | number, nil, error ... */
static int
window_take(lua_State *L)
{
	struct fz_lwindow *w = fz_lwindow_check(L, 1, NULL);

	lua_settop(L, 1);
	return take_result(L, w);
}

/* Upvalues of the iterator. */
enum { NEXT_WINDOW = 1, NEXT_ADVANCE, NEXT_N = NEXT_ADVANCE };

/* The continuation of next_result(): return what advance() has returned. */
static int
end_advance(lua_State *L, int status, lua_KContext below)
{
	struct fz_lwindow *w = lua_touserdata(L, lua_upvalueindex(NEXT_WINDOW));

	(void)status;
	w->ncalls--;
	return lua_gettop(L) - (int)below;
}

/* The iterator. It returns the next value, or what advance() returns. */
static int
next_result(lua_State *L)
{
	struct fz_lwindow *w = lua_touserdata(L, lua_upvalueindex(NEXT_WINDOW));
	int n, below;

	lua_settop(L, 0);
	lua_pushvalue(L, lua_upvalueindex(NEXT_WINDOW));
	n = w->calls_always || w->ncalls != 0 ? 0 : take_result(L, w);
	if (n == 2)
		return n;
	w->ncalls++;
	below = lua_gettop(L) - n;
	lua_pushvalue(L, lua_upvalueindex(NEXT_ADVANCE));
	lua_insert(L, below + 1);
	lua_callk(L, n, LUA_MULTRET, below, end_advance);
	return end_advance(L, LUA_OK, below);
}

/*
 * window:iterator(advance) -> an iterator, which returns values that are ready
 * without a call of Lua code. If the next result is an error, the iterator
 * calls advance(number, nil, ...). If no result is ready, or if an earlier call
 * of advance() has not returned, the iterator calls advance().
 */
static int
window_iterator(lua_State *L)
{
	fz_lwindow_check(L, 1, NULL);
	luaL_checktype(L, 2, LUA_TFUNCTION);
	lua_settop(L, 2);
	lua_pushcclosure(L, next_result, NEXT_N);
	return 1;
}

/* window:advance_always(): make the iterator call advance() each time */
static int
window_advance_always(lua_State *L)
{
	fz_lwindow_check(L, 1, NULL)->calls_always = true;
	return 0;
}

/*
 * window:stop() -> boolean: stop reading items; false if it had stopped before
 */
static int
window_stop(lua_State *L)
{
	struct fz_lwindow *w = fz_lwindow_check(L, 1, NULL);

	lua_pushboolean(L, !w->ended);
	w->ended = true;
	w->ops->send(L, w);
	return 1;
}

/* window:close(): from now on no items are read and no results are returned */
static int
window_close(lua_State *L)
{
	struct fz_lwindow *w = fz_lwindow_check(L, 1, NULL);

	w->ended = w->closed = true;
	return 0;
}

const luaL_Reg fz_lwindow_methods[] = {
	{ "read", window_read },
	{ "send", window_send },
	{ "nread", window_nread },
	{ "starves", window_starves },
	{ "ready", window_ready },
	{ "take", window_take },
	{ "iterator", window_iterator },
	{ "advance_always", window_advance_always },
	{ "stop", window_stop },
	{ "close", window_close },
	{ NULL, NULL },
};

int
fz_lwindow_open(lua_State *L)
{
	lua_pushlightuserdata(L, (void *)(uintptr_t)&nil_item);
	lua_setfield(L, -2, "nil_item");
	return 0;
}
