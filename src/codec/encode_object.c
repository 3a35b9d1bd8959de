#include "codec/encode.h"

#include <string.h>

#include <lauxlib.h>

#include "base/buf.h"
#include "codec/format.h"
#include "value/byname.h"
#include "value/bytecode.h"
#include "value/cells.h"
#include "value/handle.h"
#include "value/registered.h"
#include "value/upvalue.h"

/* Part of an error: the reason why a handle cannot be sent. */
#define SHARED ", which belongs to one run,"

void
fz_encode_enter(struct fz_encoder *e, const struct fz_path *at)
{
	luaL_checkstack(e->L, 80, "an object is too deep");
	if (e->level++ >= FZ_FORMAT_NEST)
		fz_encode_refuse(e, "a value nested this deep", at);
}

/*
 * Write a handle. False if the value is not a handle, or if the message may
 * leave this run.
 */
static bool
put_handle(struct fz_encoder *e, int idx)
{
	unsigned char bytes[FZ_HANDLE_BYTES];

	if (e->leaves || !fz_handle_store(e->L, idx, bytes))
		return false;
	fz_encode_here(e, FZ_FORMAT_HERE_HANDLE);
	fz_encode_bytes(e, bytes, sizeof(bytes));
	return true;
}

/*
 * If the value is inside a packed object of fzlua, raise an error about that
 * object.
 */
static void
refuse_packed(struct fz_encoder *e, const struct fz_path *at)
{
	const struct fz_path *packed = NULL;

	for (const struct fz_path *p = at; p != NULL; p = p->up) {
		if (p->kind == FZ_PATH_PACKED &&
		    strncmp(p->name, FZ_REGISTERED_OURS,
			sizeof(FZ_REGISTERED_OURS) - 1) == 0)
			packed = p;
	}
	if (packed == NULL)
		return;
	lua_pushfstring(e->L, "a %s%s", packed->name, SHARED);
	fz_encode_refuse(e, lua_tostring(e->L, -1), packed->up);
}

void
fz_encode_userdata(struct fz_encoder *e, int idx, const struct fz_path *at)
{
	lua_State *L = e->L;
	int file;

	luaL_checkstack(L, 10, NULL);
	file = fz_byname_file(L, idx);
	if (file >= 0) {
		fz_encode_here(e, (unsigned)file);
		return;
	}
	fz_encode_need_full(e, FZ_ENCODE_MODULES);
	if (fz_encode_known(e, idx, at) || fz_encode_named(e, idx) ||
	    put_handle(e, idx) || fz_encode_object(e, idx, at))
		return;
	refuse_packed(e, at);
	if (luaL_getmetafield(L, idx, "__name") == LUA_TSTRING)
		lua_pushfstring(L, "a %s%s", lua_tostring(L, -1),
		    fz_handle_is(L, idx) ? SHARED : "");
	else
		lua_pushliteral(L, "a userdata");
	fz_encode_refuse(e, lua_tostring(L, -1), at);
}

static void
put_cfunction(struct fz_encoder *e, int idx, const struct fz_path *at)
{
	lua_State *L = e->L;

	if (!fz_byname_cfunction(L, idx))
		fz_encode_refuse(
		    e, "a C function that no loaded module has", at);
	fz_encode_u8(e, FZ_FORMAT_CFUNCTION);
	fz_encode_string(e, lua_gettop(L) - 1);
	fz_encode_string(e, lua_gettop(L));
	lua_pop(L, 2);
}

static void
put_dump(struct fz_encoder *e, int f)
{
	struct fz_buf *out = e->out;
	size_t at;

	fz_encode_sync(e);
	at = out->len;
	fz_buf_put_u32(out, 0);
	lua_pushvalue(e->L, f);
	lua_dump(e->L, fz_bytecode_write, out, 0);
	lua_pop(e->L, 1);
	if (out->failed || out->len - at - 4 > UINT32_MAX)
		fz_encode_no_memory(e);
	fz_le32_store(out->data + at, (uint32_t)(out->len - at - 4));
	fz_encode_resume(e);
}

/* Keep the cell alive: debug.upvaluejoin may give the function another one. */
static void
keep_cell(struct fz_encoder *e, int f, int i)
{
	lua_State *L = e->L;

	/* an empty chunk has one upvalue, which can hold the cell */
	if (luaL_loadbufferx(L, "", 0, "=cell", "t") == LUA_ERRMEM)
		lua_error(L);
	lua_upvaluejoin(L, -1, 1, f, i);
	fz_encode_keep(e, lua_gettop(L));
	lua_pop(L, 1);
}

/*
 * Write upvalue `i` of the function at `f`, a cell of the snapshot: its number
 * and version. The value follows if it is small, or if a receiver lacks it. A
 * small value is sent in any case, because workers that are forked later may
 * inherit another version. A table that all receivers have is not sent, but a
 * byte says whether it occurs for the first time in the message.
 */
static void
put_cell(struct fz_encoder *e, int f, int i, const struct fz_cells_use *use,
    const struct fz_path *at)
{
	lua_State *L = e->L;
	struct fz_path here = { at, FZ_PATH_UPVALUE, 0, 0, NULL };
	int v = lua_gettop(L) + 1;
	bool kept = use->version <= e->had && !use->small, object;

	here.name = lua_getupvalue(L, f, i);
	fz_encode_here(e, kept ? FZ_FORMAT_HERE_KEPT : FZ_FORMAT_HERE_UPVALUE);
	fz_encode_varint(e, use->number);
	fz_encode_varint(e, use->version);
	if (kept) {
		object = lua_istable(L, v) && fz_refmap_find(&e->objects,
						  lua_topointer(L, v)) == NULL;
		fz_encode_u8(e, object);
		if (object)
			fz_encode_known(e, v, at);
	} else {
		fz_encode_value(e, v, &here);
	}
	lua_pop(L, 1);
}

/*
 * Get the number of upvalue `i` of the function at `f`. True if the number is
 * new.
 */
static bool
number_cell(struct fz_encoder *e, int f, int i, uint32_t *number)
{
	bool fresh = false;
	const struct fz_refmap_entry *entry = fz_refmap_enter(
	    &e->objects, e->L, fz_upvalue_id(e->L, f, i), e->ncells, &fresh);

	if (entry == NULL || e->ncells == UINT32_MAX) {
		fz_encode_no_memory(e);
		return false;
	}
	*number = entry->number;
	if (fresh) {
		e->ncells++;
		keep_cell(e, f, i);
	}
	return fresh;
}

bool
fz_encode_root(struct fz_encoder *e, int idx, const struct fz_path *at)
{
	lua_State *L = e->L;
	const struct fz_cells_use *use;
	uint32_t number;

	luaL_checkstack(L, 10, NULL);
	use = fz_cells_find_root(L, e->snapshot, idx);
	if (use == NULL || fz_refmap_find(&e->objects, use->id) != NULL ||
	    fz_refmap_find(&e->objects, lua_topointer(L, idx)) != NULL)
		return false;
	fz_encode_enter(e, at);
	fz_cells_push_holder(L, e->snapshot, use);
	fz_encode_here(e, FZ_FORMAT_HERE_CELL);
	number_cell(e, lua_gettop(L), 1, &number);
	put_cell(e, lua_gettop(L), 1, use, at);
	lua_pop(L, 1);
	e->level--;
	return true;
}

static void
put_upvalue(struct fz_encoder *e, int f, int i, const struct fz_path *at)
{
	lua_State *L = e->L;
	struct fz_path here = { at, FZ_PATH_UPVALUE, 0, 0, NULL };
	const struct fz_cells_use *use = NULL;

	if (e->snapshot != 0)
		use = fz_cells_find(L, e->snapshot, fz_upvalue_id(L, f, i));
	if (use != NULL) {
		put_cell(e, f, i, use, at);
		return;
	}
	here.name = lua_getupvalue(L, f, i);
	fz_encode_value(e, lua_gettop(L), &here);
	lua_pop(L, 1);
}

static void
put_upvalues(struct fz_encoder *e, int f, int n, const struct fz_path *at)
{
	for (int i = 1; i <= n; i++) {
		uint32_t number;

		if (number_cell(e, f, i, &number)) {
			put_upvalue(e, f, i, at);
			continue;
		}
		fz_encode_u8(e, FZ_FORMAT_CELL);
		fz_encode_varint(e, number);
	}
}

void
fz_encode_function(struct fz_encoder *e, int idx, const struct fz_path *at)
{
	lua_State *L = e->L;
	lua_Debug ar;

	fz_encode_need_full(e, FZ_ENCODE_MODULES);
	luaL_checkstack(L, 10, NULL);
	e->flags |= FZ_FORMAT_HAS_FUNCTIONS;
	if (fz_encode_known(e, idx, at) || fz_encode_named(e, idx))
		return;
	if (lua_iscfunction(L, idx)) {
		put_cfunction(e, idx, at);
		return;
	}
	fz_encode_enter(e, at);
	fz_encode_u8(e, FZ_FORMAT_FUNCTION);
	put_dump(e, idx);
	lua_pushvalue(L, idx);
	lua_getinfo(L, ">u", &ar);
	fz_encode_u8(e, ar.nups);
	put_upvalues(e, idx, ar.nups, at);
	e->level--;
}
