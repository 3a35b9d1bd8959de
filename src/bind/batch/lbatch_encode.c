#include "bind/batch/lbatch_state.h"

#include <string.h>

#include <lauxlib.h>

#include "base/buf.h"
#include "base/err.h"
#include "bind/jobs/lblob.h"
#include "bind/lloop.h"
#include "codec/codec.h"
#include "codec/format.h"
#include "value/garbage.h"
#include "value/lerror.h"
#include "worker/worker.h"

/* Stack indexes of the Lua thread that encodes items. */
enum { THREAD_LIST = 1, THREAD_CODE, THREAD_TOP = THREAD_CODE };

struct encoding {
	struct fz_lbatch *lb;
	uint64_t first;
	uint32_t n;
};

/* Raise an error if the length of the list has changed since the start. */
static void
check_list(lua_State *L, const struct fz_lbatch *lb)
{
	lua_Integer n = -1;

	if (lb->growing)
		return;
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

/*
 * encode_body(list, code | nil, encoding): encode items as one table, after the
 * code of a function. Protected, on the thread of the batch.
 */
static int
encode_body(lua_State *L)
{
	struct encoding *e = lua_touserdata(L, 3);
	/* number of values of the message: perhaps the code, and the table */
	int nvalues = lua_isnil(L, THREAD_CODE) ? 1 : 2;
	struct fz_lbatch *lb = e->lb;
	struct fz_buf *out = &lb->buf.buf;

	check_list(L, lb);
	for (;;) {
		lua_settop(L, 3);
		lua_pushvalue(L, THREAD_CODE);
		lua_createtable(L, (int)e->n, 0);
		for (uint32_t i = 0; i < e->n; i++) {
			uint64_t at = (e->first + i - 1) & lb->mask;

			lua_geti(L, THREAD_LIST, (lua_Integer)at + 1);
			lua_rawseti(L, -2, (lua_Integer)i + 1);
		}
		fz_buf_clear(out);
		fz_codec_encode(L, lua_gettop(L) - nvalues + 1, nvalues, out);
		/*
		 * If several items refer to the same object, their copies would
		 * share an object in the worker. So send fewer items together.
		 */
		if (e->n == 1 || !(out->data[1] & FZ_FORMAT_HAS_REFS))
			return 0;
		e->n /= 2;
	}
}

/*
 * The message without the first index of its path, because this is an index of
 * the temporary table of items.
 */
static const char *
inner_text(const char *text)
{
	const char *end = text[0] == '[' ? strchr(text, ']') : NULL;

	if (end == NULL)
		return text;
	return strncmp(end, "]: ", 3) == 0 ? end + 3 : end + 1;
}

/* The name of an item in messages. */
static const char *
item_name(uint32_t kind)
{
	return (kind & FZ_WIRE_KINDS) == FZ_WIRE_STARMAP ? "the arguments"
							 : "argument 1";
}

static void
cannot_encode(
    lua_State *L, const struct fz_lbatch *lb, struct fz_failure *failure)
{
	struct fz_err err;

	fz_lerror_pop(L, &err);
	fz_err_set(&failure->err, err.kind, "%s: %s", item_name(lb->kind),
	    inner_text(err.text));
}

/* This is the `encode` of fz_batch_opts. */
struct fz_blob *
fz_lbatch_encode(
    void *ctx, uint64_t first, uint32_t *n, struct fz_failure *failure)
{
	struct fz_lbatch *lb = ctx;
	lua_State *L = lb->thread;
	struct encoding e = { lb, first, *n };
	bool outer = fz_lloop_hold(L, true);
	struct fz_blob *blob = NULL;
	int status;

	/* Delay finalizers, because the engine calls this function. */
	fz_garbage_delay(fz_garbage_open(L), L);
	if (e.n > lb->together)
		e.n = lb->together;
	do {
		lua_settop(L, THREAD_TOP);
		lua_pushcfunction(L, encode_body);
		lua_pushvalue(L, THREAD_LIST);
		lua_pushvalue(L, THREAD_CODE);
		lua_pushlightuserdata(L, &e);
		status = lua_pcall(L, 3, 0, 0);
		if (status == LUA_OK || e.n == 1)
			break;
		/*
		 * Try fewer items, so that the items before the one that cannot
		 * be sent are sent.
		 */
		e.n /= 2;
	} while (true);
	if (status != LUA_OK) {
		cannot_encode(L, lb, failure);
		fz_buf_clear(&lb->buf.buf);
	} else {
		blob = fz_lblob_take(lb->engine, &lb->buf, &failure->err);
	}
	lua_settop(L, THREAD_TOP);
	lb->together = 2 * e.n;
	*n = e.n;
	fz_lloop_hold(L, outer);
	return blob;
}

void
fz_lbatch_keep(lua_State *L, struct fz_lbatch *lb, int list)
{
	lb->thread = lua_newthread(L);
	lua_pushvalue(L, list);
	lua_pushnil(L);
	lua_xmove(L, lb->thread, 2);
	lua_setiuservalue(L, -2, FZ_LBATCH_THREAD);
}

void
fz_lbatch_keep_code(lua_State *L, struct fz_lbatch *lb)
{
	lua_xmove(L, lb->thread, 1);
	lua_replace(lb->thread, THREAD_CODE);
}

/* Insert the code, which is a part of each item, below the table on top. */
static void
insert_code(lua_State *L, const struct fz_lbatch *lb)
{
	lua_pushvalue(lb->thread, THREAD_CODE);
	lua_xmove(lb->thread, L, 1);
	lua_insert(L, -2);
}

/* part_body(batch, snapshot | nil, ...): protected; add the values as a part */
static int
part_body(lua_State *L)
{
	struct fz_lbatch *lb = lua_touserdata(L, 1);
	struct fz_err err = { 0 };
	struct fz_blob *blob;
	int n = lua_gettop(L) - 2;

	fz_buf_clear(&lb->buf.buf);
	if ((lb->kind & FZ_WIRE_KINDS) != FZ_WIRE_CALL) {
		lua_createtable(L, n, 0);
		lua_insert(L, 3);
		for (int i = n; i >= 1; i--)
			lua_rawseti(L, 3, i);
		n = 1;
		if (lb->kind & FZ_WIRE_INLINE) {
			insert_code(L, lb);
			n = 2;
		}
	}
	fz_codec_encode_shared(
	    L, 3, n, &lb->buf.buf, lua_isnil(L, 2) ? 0 : 2, lb->had);
	lb->added = lb->buf.buf.len;
	blob = fz_lblob_take(lb->engine, &lb->buf, &err);
	if (blob == NULL || fz_batch_add(lb->batch, blob, &err) != 0)
		return fz_lerror_raise(L, &err);
	return 0;
}

/*
 * Put the name of the value before the path in the message of the fz.Error on
 * top: "argument 2: .cfg: a coroutine cannot be sent".
 */
static void
name_part(lua_State *L, const struct fz_lbatch *lb)
{
	bool is_call = (lb->kind & FZ_WIRE_KINDS) == FZ_WIRE_CALL;
	bool has_func = lb->kind & FZ_WIRE_INLINE;
	const char *text;
	lua_Integer n;

	if (!fz_lerror_is(L, -1))
		return;
	if (lua_getfield(L, -1, "value") != LUA_TNUMBER) {
		lua_pop(L, 1); /* the error does not concern a value */
		return;
	}
	n = lua_tointeger(L, -1) - (has_func ? 1 : 0);
	lua_pop(L, 1);
	if (lua_getfield(L, -1, "message") == LUA_TSTRING) {
		text = lua_tostring(L, -1);
		if (!is_call)
			text = inner_text(text);
		if (!is_call)
			lua_pushstring(L, item_name(lb->kind));
		else if (n == 0)
			lua_pushliteral(L, "the function");
		else
			lua_pushfstring(L, "argument %I", (LUAI_UACINT)n);
		lua_pushfstring(L, ": %s", text);
		lua_concat(L, 2);
		lua_setfield(L, -3, "message");
	}
	lua_pop(L, 1);
	lua_pushnil(L);
	lua_setfield(L, -2, "value");
}

int
fz_lbatch_add(lua_State *L, struct fz_lbatch *lb, int first, int snapshot)
{
	int n = lua_gettop(L) - first + 1, status;

	luaL_checkstack(L, 4, "too many arguments");
	lua_pushcfunction(L, part_body);
	lua_insert(L, first);
	lua_pushlightuserdata(L, lb);
	lua_insert(L, first + 1);
	if (snapshot != 0)
		lua_pushvalue(L, snapshot);
	else
		lua_pushnil(L);
	lua_insert(L, first + 2);
	fz_lloop_hold(L, true);
	status = lua_pcall(L, n + 2, 0, 0);
	fz_lloop_hold(L, false);
	if (status != LUA_OK)
		name_part(L, lb);
	return status;
}
