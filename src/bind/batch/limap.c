#include "bind/open.h"

#include <stdbool.h>
#include <stdint.h>

#include <lauxlib.h>

#include "base/err.h"
#include "bind/batch/lbatch_state.h"
#include "bind/jobs/llimits.h"
#include "bind/jobs/lwindow.h"
#include "bind/lloop.h"
#include "value/lerror.h"
#include "value/luserdata.h"

/*
 * The window of an imap. Its items are the items of a growing batch, with the
 * same numbers. Plain items wait in a list, and many of them are encoded
 * together when a worker is free. Results are in a ring. If results are
 * ordered, the index of a result is derived from the number of its item; else,
 * from the number of results that arrived before.
 *
 *   nreturned <= results <= nsent <= nread
 *
 * The ring has room for all items that are read and not returned, so its
 * indexes can be reused. If results are ordered, items are in such a ring, too.
 * Otherwise items are in a plain list, because an item that takes long may be
 * older than all items in a ring.
 */

#define IMAP_TYPE "fzlua.ImapItems"

static const struct fz_luserdata_class imap_class;

enum {
	IMAP_SIZE = 1024,        /* minimum size of the rings */
	IMAP_SIZE_MAX = 1 << 20, /* maximum size of the rings */
	/* shorter strings are not counted in `nbytes` */
	IMAP_SHORT = 1024,
};

/* User values of an imap. */
enum {
	IMAP_BATCH = FZ_LWINDOW_ERRORS + 1,
	/* list of the items; an encoded item is replaced by its size */
	IMAP_ITEMS,
	IMAP_VALUES, /* ring of the results */
	/* ring of the item numbers of the results; unused if ordered */
	IMAP_ORDER,
	IMAP_KNOWN, /* the encoded result of the next item, or nil */
	IMAP_NUSER = IMAP_KNOWN
};

struct limap {
	struct fz_lwindow window;
	struct fz_lbatch *lb;
	uint64_t mask; /* number of places in a ring, minus 1 */
	uint64_t nsent, narrived;
	size_t nbytes; /* number of bytes of the long values in the window */
	bool ordered;
};

/*
 * The addresses of these variables stand for the result nil and for an error.
 */
static const char nothing, failed;

static const struct fz_lwindow_ops imap_ops;

static struct limap *
check_imap(lua_State *L)
{
	struct limap *li = (struct limap *)fz_lwindow_check(L, 1, &imap_ops);

	if (li->lb->batch == NULL || li->lb->ll.closing)
		fz_lerror_fail(L, FZ_ERR_CLOSED, "the batch is closed");
	return li;
}

/* The index in a ring for the number `at`. Indexes begin at 1. */
static lua_Integer
index_of(const struct limap *li, uint64_t at)
{
	return (lua_Integer)((at - 1) & li->mask) + 1;
}

static lua_Integer
item_index(const struct limap *li, uint64_t number)
{
	return li->ordered ? index_of(li, number) : (lua_Integer)number;
}

/*
 * The number of bytes of the value on top if it is a long string, or 0, because
 * other values are not counted in `nbytes`.
 */
static size_t
weight(lua_State *L)
{
	size_t len = lua_type(L, -1) == LUA_TSTRING ? lua_rawlen(L, -1) : 0;

	return len > IMAP_SHORT ? len : 0;
}

/*
 * Same as weight(), for the item on top. An encoded item is replaced by a light
 * userdata, whose address is the size of the item.
 */
static size_t
item_weight(lua_State *L)
{
	if (lua_islightuserdata(L, -1))
		return (size_t)(uintptr_t)lua_touserdata(L, -1);
	return weight(L);
}

/*
 * Push an imap without a batch. The list of items is at 3, and the options are
 * at 4.
 */
static struct limap *
push_imap(lua_State *L)
{
	struct limap *li = lua_newuserdatauv(L, sizeof(*li), IMAP_NUSER);
	uint64_t n = IMAP_SIZE;

	*li = (struct limap){ .ordered = fz_llimits_flag(L, 4, "ordered") };
	fz_lwindow_init(L, &li->window, &imap_ops, 4);
	while (n < IMAP_SIZE_MAX && n < li->window.limit)
		n *= 2;
	li->mask = n - 1;
	if (li->window.limit > n)
		li->window.limit = n;
	fz_luserdata_set(L, &imap_class);
	lua_pushvalue(L, 3);
	lua_setiuservalue(L, -2, IMAP_ITEMS);
	lua_createtable(L, IMAP_SIZE, 0);
	lua_setiuservalue(L, -2, IMAP_VALUES);
	lua_createtable(L, li->ordered ? 0 : IMAP_SIZE, 0);
	lua_setiuservalue(L, -2, IMAP_ORDER);
	return li;
}

/*
 * core.imap(pool, f, options) -> imap, batch. The options are those of
 * core.batch(), and the options `ordered`, `limit` and `fixed` of the window.
 */
static int
imap_new(lua_State *L)
{
	struct limap *li;

	luaL_checktype(L, 3, LUA_TTABLE);
	lua_settop(L, 3);
	lua_createtable(L, fz_llimits_flag(L, 3, "ordered") ? IMAP_SIZE : 0, 0);
	lua_insert(L, 3);
	fz_lbatch_new(L);
	li = push_imap(L);
	li->lb = fz_lbatch_to(L, 5);
	if (li->ordered)
		li->lb->mask = li->mask;
	lua_pushvalue(L, 5);
	lua_setiuservalue(L, -2, IMAP_BATCH);
	lua_pushvalue(L, 5);
	return 2;
}

static bool
ready(lua_State *L, const struct fz_lwindow *w)
{
	bool is;

	lua_getiuservalue(L, 1, IMAP_VALUES);
	is = lua_rawgeti(
		 L, -1, index_of((const struct limap *)w, w->nreturned + 1)) !=
	     LUA_TNIL;
	lua_pop(L, 2);
	return is;
}

static bool
has_room(const struct fz_lwindow *w, size_t bytes)
{
	const struct limap *li = (const struct limap *)w;

	return li->nbytes < bytes && li->lb->batch != NULL &&
	       !fz_batch_done(li->lb->batch);
}

/* Stack indexes while results are stored. */
enum {
	STORE_BATCH = 2,
	STORE_ITEMS,
	STORE_VALUES,
	STORE_ORDER,
	STORE_MADE, /* the argument `made` of gather() */
	STORE_N = 4
};

/*
 * Push the batch and the lists of the imap at 1, below the values that are
 * above the imap. [-0, +4, -]
 */
static void
push_lists(lua_State *L)
{
	int n = lua_gettop(L) - 1;

	for (int i = IMAP_BATCH; i <= IMAP_ORDER; i++)
		lua_getiuservalue(L, 1, i);
	lua_rotate(L, 2, -n);
}

/* Remove an item from the list, because its result has arrived. [-0, +0, m] */
static void
drop_item(lua_State *L, struct limap *li, uint64_t number)
{
	lua_Integer at = item_index(li, number);

	lua_rawgeti(L, STORE_ITEMS, at);
	li->nbytes -= item_weight(L);
	lua_pop(L, 1);
	lua_pushnil(L);
	lua_rawseti(L, STORE_ITEMS, at);
}

/* Store the result on top, or (if not `ok`) the error. [-1, +0, m] */
static void
store_result(lua_State *L, struct limap *li, uint64_t number, bool ok)
{
	uint64_t at = li->ordered ? number : ++li->narrived;

	if (!li->ordered) {
		lua_pushinteger(L, (lua_Integer)number);
		lua_rawseti(L, STORE_ORDER, index_of(li, at));
	}
	if (!ok) {
		fz_lwindow_keep_error(L, number);
		lua_pushlightuserdata(L, (void *)(uintptr_t)&failed);
	} else if (lua_isnil(L, -1)) {
		lua_pop(L, 1);
		lua_pushlightuserdata(L, (void *)(uintptr_t)&nothing);
	} else {
		li->nbytes += weight(L);
	}
	lua_rawseti(L, STORE_VALUES, index_of(li, at));
}

/* Whether a value of this type can be encoded later: it cannot change. */
static bool
is_plain(int type)
{
	return type == LUA_TSTRING || type == LUA_TNUMBER ||
	       type == LUA_TBOOLEAN;
}

/* Store the value on top as the item that was read last. [-1, +0, m] */
static void
list_item(lua_State *L, const struct limap *li)
{
	lua_getiuservalue(L, 1, IMAP_ITEMS);
	lua_insert(L, -2);
	lua_rawseti(L, -2, item_index(li, li->window.nread));
	lua_pop(L, 1);
}

/* Add the items in the list up to number `n` to the batch. */
static void
send_list(lua_State *L, struct limap *li, uint64_t n)
{
	struct fz_err err = { 0 };

	if (fz_batch_grow(li->lb->batch, n - li->nsent, &err) != 0)
		fz_lerror_raise(L, &err);
	li->nsent = n;
}

/*
 * Encode the item on top at once, because the script may change it later. If it
 * cannot be sent, the error is left on top. [-1, +0|1, m]
 */
static int
encode_item(lua_State *L, struct limap *li)
{
	int status = fz_lbatch_add(L, li->lb, lua_gettop(L), 0);
	size_t nbytes = li->lb->added;

	if (status != LUA_OK || nbytes <= IMAP_SHORT)
		return status;
	li->nbytes += nbytes;
	lua_pushlightuserdata(L, (void *)(uintptr_t)nbytes);
	list_item(L, li);
	return status;
}

/*
 * If the source has passed a known result for the item on top, pop the item,
 * store the result, and return true. [-0|1, +0, e]
 */
static bool
put_known(lua_State *L, struct limap *li)
{
	uint64_t number = li->window.nread;
	bool known = lua_getiuservalue(L, 1, IMAP_KNOWN) == LUA_TSTRING;

	if (known) {
		send_list(L, li, number - 1);
		fz_lbatch_know_bytes(L, li->lb, number, lua_gettop(L));
		li->nsent = number;
		lua_pushnil(L);
		lua_setiuservalue(L, 1, IMAP_KNOWN);
	}
	lua_pop(L, known ? 2 : 1);
	return known;
}

static void
put(lua_State *L, struct fz_lwindow *w)
{
	struct limap *li = (struct limap *)w;
	struct fz_err err = { 0 };

	if (put_known(L, li))
		return;
	if (is_plain(lua_type(L, -1))) {
		li->nbytes += weight(L);
		list_item(L, li);
		return;
	}
	send_list(L, li, w->nread - 1);
	if (encode_item(L, li) != LUA_OK) {
		if (fz_lerror_has_kind(L, -1, FZ_ERR_INTERRUPTED))
			lua_error(L);
		if (fz_batch_skip(li->lb->batch, &err) != 0)
			fz_lerror_raise(L, &err);
		push_lists(L);
		store_result(L, li, w->nread, false);
		lua_rotate(L, 2, -STORE_N);
		lua_pop(L, STORE_N);
	}
	li->nsent = w->nread;
}

static void
send(lua_State *L, struct fz_lwindow *w)
{
	struct limap *li = check_imap(L);

	send_list(L, li, w->nread);
	lua_getiuservalue(L, 1, IMAP_BATCH);
	lua_getiuservalue(L, -1, FZ_LBATCH_POOL);
	fz_lbatch_start(L, li->lb, lua_gettop(L) - 1, lua_gettop(L));
	lua_pop(L, 2);
	if (w->ended)
		fz_batch_end(li->lb->batch);
}

/* Append a number and the value on top to `made` of gather(). [-0, +0, m] */
static void
note_made(lua_State *L, uint64_t number)
{
	lua_Integer n;

	if (!lua_istable(L, STORE_MADE))
		return;
	lua_getfield(L, STORE_MADE, "n");
	n = lua_tointeger(L, -1);
	lua_pop(L, 1);
	lua_pushinteger(L, (lua_Integer)number);
	lua_rawseti(L, STORE_MADE, n + 1);
	lua_pushvalue(L, -1);
	lua_rawseti(L, STORE_MADE, n + 2);
	lua_pushinteger(L, n + 2);
	lua_setfield(L, STORE_MADE, "n");
}

/* imap:know(bytes): set the result of the item that the source returns next */
static int
imap_know(lua_State *L)
{
	check_imap(L);
	luaL_checktype(L, 2, LUA_TSTRING);
	lua_settop(L, 2);
	lua_setiuservalue(L, 1, IMAP_KNOWN);
	return 0;
}

/*
 * imap:gather([made]): store the results that have arrived. The number and the
 * value of each result that was not known before are appended to the list
 * `made`. The field n of this list is its length.
 */
static int
imap_gather(lua_State *L)
{
	struct limap *li = check_imap(L);
	struct fz_lbatch *lb = li->lb;

	lua_settop(L, 2);
	push_lists(L);
	lb->ll.calls++; /* an __fzunpack may close the imap */
	while (!lb->ll.closing && fz_lbatch_next_result(L, lb)) {
		uint64_t number = lb->result.first;
		bool known = lb->result.known;
		bool ok = fz_lbatch_push_next(L, lb);

		if (ok && !known)
			note_made(L, number);
		drop_item(L, li, number);
		store_result(L, li, number, ok);
	}
	fz_lbatch_leave(L, lb, STORE_BATCH);
	return 0;
}

/* Push the number of the item whose result is at index `at` of the ring. */
static void
push_number(lua_State *L, const struct limap *li, lua_Integer at)
{
	if (li->ordered) {
		lua_pushinteger(L, (lua_Integer)li->window.nreturned + 1);
	} else {
		lua_getiuservalue(L, 1, IMAP_ORDER);
		lua_rawgeti(L, -1, at);
		lua_remove(L, -2);
	}
}

static int
take(lua_State *L, struct fz_lwindow *w)
{
	struct limap *li = (struct limap *)w;
	lua_Integer at = index_of(li, w->nreturned + 1);
	const void *mark;

	lua_getiuservalue(L, 1, IMAP_VALUES);
	if (lua_rawgeti(L, -1, at) == LUA_TNIL)
		return 0;
	li->nbytes -= weight(L);
	lua_pushnil(L);
	lua_rawseti(L, -3, at);
	push_number(L, li, at);
	lua_insert(L, -2);
	if (!lua_islightuserdata(L, -1))
		return 2;
	mark = lua_touserdata(L, -1);
	lua_pop(L, 1);
	if (mark == &failed)
		fz_lwindow_push_error(L, (uint64_t)lua_tointeger(L, -1));
	else
		lua_pushnil(L);
	return mark == &failed ? 3 : 2;
}

static const struct fz_lwindow_ops imap_ops = { ready, has_room, put, send,
	take };

static const luaL_Reg methods[] = {
	{ "gather", imap_gather },
	{ "know", imap_know },
	{ NULL, NULL },
};

static void
add_methods(lua_State *L)
{
	luaL_setfuncs(L, fz_lwindow_methods, 0);
}

static const struct fz_luserdata_class imap_class = {
	.name = IMAP_TYPE, .methods = methods, .add_methods = add_methods
};

int
fz_limap_open(lua_State *L)
{
	lua_pushcfunction(L, imap_new);
	lua_setfield(L, -2, "imap");
	return 0;
}
