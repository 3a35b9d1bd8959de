#include "bind/batch/lbatch_state.h"

#include <lauxlib.h>

#include "base/err.h"
#include "bind/jobs/lblob.h"
#include "bind/jobs/lfailure.h"
#include "codec/codec.h"
#include "codec/items.h"
#include "value/lerror.h"
#include "value/rawarray.h"
#include "wire/blob.h"
#include "worker/engine.h"
#include "worker/worker.h"

void
fz_lbatch_know(
    lua_State *L, struct fz_lbatch *lb, uint64_t item, struct fz_blob *blob)
{
	struct fz_err err = { 0 };

	if (fz_batch_know(lb->batch, item, blob, &err) != 0)
		fz_lerror_raise(L, &err);
}

void
fz_lbatch_know_bytes(
    lua_State *L, struct fz_lbatch *lb, uint64_t item, int bytes)
{
	size_t len;
	const char *at = luaL_checklstring(L, bytes, &len);
	struct fz_err err = { 0 };
	struct fz_blob *blob = fz_blob_new(at, len, &err);

	if (blob == NULL)
		fz_lerror_raise(L, &err);
	fz_lbatch_know(L, lb, item, blob);
}

void
fz_lbatch_drop_result(struct fz_lbatch *lb, struct fz_batch_result *result)
{
	if (lb->mapped != NULL)
		fz_blob_unmap(result->blob, lb->engine->arena, lb->mapped);
	lb->mapped = NULL;
	fz_batch_drop_result(result);
	*result = (struct fz_batch_result){ .n = 0 };
}

/* Map the blob of a new result, and skip to the beginning of the result. */
static void
open_result(lua_State *L, struct fz_lbatch *lb)
{
	struct fz_batch_result *result = &lb->result;
	struct fz_err err = { 0 };

	if (lb->mapped == NULL) {
		lb->mapped = fz_blob_map(result->blob, lb->engine->arena, &err);
		if (lb->mapped == NULL)
			fz_lerror_raise(L, &err);
		fz_reader_init(&lb->items, lb->mapped, result->blob->len);
		lb->nread = 0;
	}
	if (result->raw)
		return;
	for (; lb->nread < result->skip; lb->nread++)
		fz_items_skip(&lb->items);
	lb->nread += result->n;
}

bool
fz_lbatch_next_result(lua_State *L, struct fz_lbatch *lb)
{
	struct fz_batch_result before = lb->result, *result = &lb->result;
	bool more;

	if (result->n != 0)
		return true;
	*result = (struct fz_batch_result){ .n = 0 };
	more = fz_batch_take(lb->batch, result);
	/*
	 * The next result is in the same blob, which stays mapped. Each of the
	 * two results has a reference: drop the second.
	 */
	if (lb->mapped != NULL && more && result->blob == before.blob &&
	    result->skip >= lb->nread)
		fz_blob_unref(before.blob);
	else
		fz_lbatch_drop_result(lb, &before);
	if (more && result->blob != NULL && !result->whole)
		open_result(L, lb);
	return more;
}

/* item_body(reader) -> the value of the next item. Called protected. */
static int
item_body(lua_State *L)
{
	struct fz_reader *items = lua_touserdata(L, 1);

	fz_items_push(L, items);
	return 1;
}

static const struct fz_raw_value *
next_raw(const struct fz_lbatch *lb)
{
	return (const struct fz_raw_value *)lb->mapped + lb->result.skip;
}

/* Push the value of a raw result, or an error if it is damaged. [+1] */
static int
push_raw(lua_State *L, const struct fz_rawarray *raw,
    const struct fz_raw_value *element)
{
	if (fz_rawarray_is_plain(raw, element)) {
		fz_rawarray_push(raw, L, element);
		return LUA_OK;
	}
	fz_lerror_push(L, FZ_ERR_CRASH, "the worker overwrote its results");
	return LUA_ERRRUN;
}

/*
 * Whether the next item is complete and not a message. To push such an item
 * cannot raise an error.
 */
static bool
is_scalar(struct fz_reader items)
{
	return items.p < items.end && *items.p != FZ_FORMAT_ITEM &&
	       fz_items_skip(&items) == 0;
}

/* Push the value of the next item, or the error of its decoding. [+1] */
static int
push_value(lua_State *L, struct fz_lbatch *lb)
{
	struct fz_reader before;
	int status, top = lua_gettop(L);

	if (lb->result.raw)
		return push_raw(L, lb->raw, next_raw(lb));

	if (lb->result.whole) {
		status = fz_lblob_decode(L, lb->engine, lb->result.blob);
		lua_settop(L, top + 1);
		return status;
	}
	if (is_scalar(lb->items)) {
		fz_items_push(L, &lb->items);
		return LUA_OK;
	}
	before = lb->items;
	lua_pushcfunction(L, item_body);
	lua_pushlightuserdata(L, &before);
	status = lua_pcall(L, 1, 1, 0);
	if (fz_items_skip(&lb->items) != 0)
		lb->items.p =
		    lb->items.end; /* the rest was damaged by a worker */
	return status;
}

/* Push the error of a result, which has only one item. [+1] */
static void
push_failure(lua_State *L, const struct fz_lbatch *lb)
{
	fz_lfailure_push(L, lb->engine, lb->result.failure);
	fz_lfailure_set(L, "index", (lua_Integer)lb->result.first);
}

bool
fz_lbatch_push_next(lua_State *L, struct fz_lbatch *lb)
{
	struct fz_batch_result *result = &lb->result;
	bool ok = result->failure == NULL;

	if (ok)
		ok = push_value(L, lb) == LUA_OK;
	else
		push_failure(L, lb);
	if (!ok && lb->first_error == 0)
		lb->first_error = (lua_Integer)result->first;
	result->first++;
	result->skip++;
	result->n--;
	return ok;
}

/* Copy raw results into the list at 2. Returns the number of copied results. */
static uint32_t
copy_raw(lua_State *L, const struct fz_lbatch *lb)
{
	const struct fz_batch_result *result = &lb->result;

	return (uint32_t)fz_rawarray_copy(lb->raw, lua_topointer(L, 2),
	    result->first, next_raw(lb), result->n);
}

/*
 * Store numbers in the list at 2, until the next item is not a number. Returns
 * how many were stored.
 */
static uint32_t
take_numbers(lua_State *L, struct fz_lbatch *lb)
{
	struct fz_reader items = lb->items;
	lua_Integer i = (lua_Integer)lb->result.first;
	uint32_t n = 0;

	while (n < lb->result.n && fz_items_push_number(L, &items)) {
		lua_rawseti(L, 2, i++);
		n++;
	}
	lb->items = items;
	return n;
}

void
fz_lbatch_take_small(lua_State *L, struct fz_lbatch *lb)
{
	struct fz_batch_result *result = &lb->result;
	uint32_t n;

	if (result->failure != NULL || result->whole)
		return;
	n = result->raw ? copy_raw(L, lb) : take_numbers(L, lb);
	result->first += n;
	result->skip += n;
	result->n -= n;
}

/* message_body(reader) -> the values of the next item. Called protected. */
static int
message_body(lua_State *L)
{
	struct fz_reader *items = lua_touserdata(L, 1);

	lua_settop(L, 0);
	fz_items_push_message(L, items);
	return lua_gettop(L);
}

int
fz_lbatch_push_outcome(lua_State *L, struct fz_lbatch *lb)
{
	int top = lua_gettop(L), status = LUA_OK;

	if (!fz_lbatch_next_result(L, lb))
		return 0;
	lua_pushboolean(L, lb->result.failure == NULL);
	if (lb->result.failure != NULL) {
		fz_lfailure_push(L, lb->engine, lb->result.failure);
	} else if (lb->result.whole) {
		status = fz_lblob_decode(L, lb->engine, lb->result.blob);
	} else {
		lua_pushcfunction(L, message_body);
		lua_pushlightuserdata(L, &lb->items);
		status = lua_pcall(L, 1, LUA_MULTRET, 0);
	}
	lb->result.n = 0;
	return status == LUA_OK ? lua_gettop(L) - top : -1;
}
