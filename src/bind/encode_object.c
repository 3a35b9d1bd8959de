#include "bind/encode.h"

#include <lauxlib.h>

#include "base/buf.h"
#include "bind/format.h"
#include "bind/lerror.h"
#include "bind/lhandle.h"
#include "bind/names.h"

static void
enter_object(struct fz_encoder *e, const struct fz_place *at)
{
	luaL_checkstack(e->L, 80, "an object is too deep");
	if (e->level++ >= FZ_FORMAT_NEST)
		fz_encode_refuse(e, "something nested this deep", at);
}

/* Raise the error on top, from the __fzpack of the class named at `name`. */
static int
raise_packer(struct fz_encoder *e, int name, const struct fz_place *at)
{
	lua_State *L = e->L;
	int cause = lua_gettop(L);

	luaL_checkstack(L, 10, NULL);
	lua_pushfstring(L, "__fzpack of class '%s': %s", lua_tostring(L, name),
	    fz_lerror_text(L, cause));
	fz_place_push_error(L, FZ_ERR_ERROR, at);
	lua_pushvalue(L, cause);
	lua_setfield(L, -2, "cause");
	if (fz_lerror_is(L, cause)) {
		lua_getfield(L, cause, "kind");
		lua_setfield(L, -2, "kind");
	}
	e->busy = false;
	return lua_error(L);
}

/* The packed form of the object at `idx`; its class name and packer on top. */
static void
put_packed(struct fz_encoder *e, int idx, const struct fz_place *at)
{
	lua_State *L = e->L;
	struct fz_place here = { at, FZ_PLACE_PACKED, 0, 0, NULL };
	const void *p = lua_topointer(L, idx);
	struct fz_refmap_slot *slot = fz_refmap_find(&e->objects, p);
	uint32_t number = slot->number;
	int name = lua_gettop(L) - 1;
	lua_Integer mark = e->nlater;
	int rc;

	enter_object(e, at);
	slot->number |= FZ_ENCODE_OPEN;
	lua_pushvalue(L, idx);
	rc = lua_pcall(L, 1, 1, 0);
	if (rc == LUA_ERRMEM)
		lua_error(L);
	if (rc != LUA_OK)
		raise_packer(e, name, at);
	fz_encode_keep(L, e->kept, ++e->nkept, name + 1);
	fz_encode_u8(e, FZ_FORMAT_PACKED);
	fz_encode_string(e, name);
	fz_encode_value(e, name + 1, &here);
	fz_encode_later(e, mark);
	fz_refmap_find(&e->objects, p)->number = number;
	e->level--;
}

bool
fz_encode_object(struct fz_encoder *e, int idx, const struct fz_place *at)
{
	lua_State *L = e->L;
	int top = lua_gettop(L);

	luaL_checkstack(L, 10, NULL);
	if (!fz_names_class(L, idx))
		return false;
	lua_pushliteral(L, "__fzpack");
	if (lua_rawget(L, top + 1) != LUA_TNIL) {
		put_packed(e, idx, at);
	} else if (lua_istable(L, idx)) {
		lua_pop(L, 1);
		fz_encode_plain(e, idx, true, at);
	} else {
		lua_settop(L, top);
		return false;
	}
	lua_settop(L, top);
	return true;
}

/* False where it is no handle, or the message may leave this run. */
static bool
put_handle(struct fz_encoder *e, int idx)
{
	unsigned char bytes[FZ_LHANDLE_BYTES];

	if (e->spliced != 0 || !fz_lhandle_store(e->L, idx, bytes))
		return false;
	fz_encode_u8(e, FZ_FORMAT_FILE);
	fz_encode_u8(e, FZ_FORMAT_HANDLE);
	fz_encode_bytes(e, bytes, sizeof(bytes));
	return true;
}

void
fz_encode_userdata(struct fz_encoder *e, int idx, const struct fz_place *at)
{
	lua_State *L = e->L;
	int file;

	luaL_checkstack(L, 10, NULL);
	file = fz_names_file(L, idx);
	if (file >= 0) {
		fz_encode_u8(e, FZ_FORMAT_FILE);
		fz_encode_u8(e, (unsigned)file);
		return;
	}
	if (fz_encode_known(e, lua_topointer(L, idx), at) ||
	    put_handle(e, idx) || fz_encode_object(e, idx, at))
		return;
	if (luaL_getmetafield(L, idx, "__name") == LUA_TSTRING)
		lua_pushfstring(L, "a %s%s", lua_tostring(L, -1),
		    fz_lhandle_is(L, idx) ? ", shared within one run alone,"
					  : "");
	else
		lua_pushliteral(L, "a userdata");
	fz_encode_refuse(e, lua_tostring(L, -1), at);
}

static void
put_cfunction(struct fz_encoder *e, int idx, const struct fz_place *at)
{
	lua_State *L = e->L;

	if (fz_encode_known(e, lua_topointer(L, idx), at))
		return;
	if (!fz_names_cfunction(L, idx))
		fz_encode_refuse(e, "a C function of no loaded module", at);
	fz_encode_u8(e, FZ_FORMAT_CFUNCTION);
	fz_encode_string(e, lua_gettop(L) - 1);
	fz_encode_string(e, lua_gettop(L));
	lua_pop(L, 2);
}

static int
append_dump(lua_State *L, const void *bytes, size_t len, void *out)
{
	(void)L;
	fz_buf_put(out, bytes, len);
	return ((struct fz_buf *)out)->failed;
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
	lua_dump(e->L, append_dump, out, 0);
	lua_pop(e->L, 1);
	if (out->failed || out->len - at - 4 > UINT32_MAX)
		fz_encode_no_memory(e);
	fz_le32_store(out->data + at, (uint32_t)(out->len - at - 4));
	fz_encode_resume(e);
}

/* A module held by an upvalue is the receiver's module. */
static void
put_upvalue(struct fz_encoder *e, int idx, const struct fz_place *at)
{
	lua_State *L = e->L;
	const void *p = lua_topointer(L, idx);

	if (lua_istable(L, idx) && p != fz_encode_globals(e) &&
	    fz_refmap_find(&e->objects, p) == NULL && fz_names_module(L, idx)) {
		(void)fz_encode_known(e, p, at);
		fz_encode_u8(e, FZ_FORMAT_MODULE);
		fz_encode_string(e, lua_gettop(L));
		lua_pop(L, 1);
	} else {
		fz_encode_value(e, idx, at);
	}
}

static void
put_upvalues(struct fz_encoder *e, int f, int n, const struct fz_place *at)
{
	lua_State *L = e->L;
	struct fz_place here = { at, FZ_PLACE_UPVALUE, 0, 0, NULL };

	for (int i = 1; i <= n; i++) {
		bool fresh = false;
		const struct fz_refmap_slot *slot = fz_refmap_enter(
		    &e->objects, L, lua_upvalueid(L, f, i), e->ncells, &fresh);

		if (slot == NULL || e->ncells == UINT32_MAX)
			fz_encode_no_memory(e);
		if (!fresh) {
			fz_encode_u8(e, FZ_FORMAT_CELL);
			fz_encode_varint(e, slot->number);
			continue;
		}
		e->ncells++;
		here.name = lua_getupvalue(L, f, i);
		put_upvalue(e, lua_gettop(L), &here);
		lua_pop(L, 1);
	}
}

void
fz_encode_function(struct fz_encoder *e, int idx, const struct fz_place *at)
{
	lua_State *L = e->L;
	lua_Debug ar;

	luaL_checkstack(L, 10, NULL);
	e->flags |= FZ_FORMAT_HAS_FUNCTIONS;
	if (lua_iscfunction(L, idx)) {
		put_cfunction(e, idx, at);
		return;
	}
	if (fz_encode_known(e, lua_topointer(L, idx), at))
		return;
	enter_object(e, at);
	fz_encode_u8(e, FZ_FORMAT_FUNCTION);
	put_dump(e, idx);
	lua_pushvalue(L, idx);
	lua_getinfo(L, ">u", &ar);
	fz_encode_u8(e, ar.nups);
	put_upvalues(e, idx, ar.nups, at);
	e->level--;
}
