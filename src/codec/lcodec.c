#include "codec/codec.h"

#include <lauxlib.h>

#include "base/buf.h"
#include "codec/encode.h"
#include "value/lerror.h"
#include "value/luserdata.h"
#include "value/registered.h"

enum {
	KEEP_MAX = 1 << 22
}; /* bytes of the buffer that are kept for the next pack */

/*
 * A buffer, kept in the registry. A pack() inside of a pack() uses another one.
 */
struct lcodec {
	struct fz_buf out;
	bool busy;
};

/* The address of this variable is the registry key of the buffer. */
static const char lcodec_key;

static int
lcodec_gc(lua_State *L)
{
	struct lcodec *lc = lua_touserdata(L, 1);

	fz_buf_fini(&lc->out);
	return 0;
}

/* Push a buffer that is empty and not in use. [+1] */
static struct lcodec *
lcodec_get(lua_State *L)
{
	struct lcodec *lc;

	lua_rawgetp(L, LUA_REGISTRYINDEX, &lcodec_key);
	lc = lua_touserdata(L, -1);
	if (lc == NULL || lc->busy) {
		lua_pop(L, 1);
		lc = lua_newuserdatauv(L, sizeof(*lc), 0);
		lc->busy = false;
		fz_buf_init(&lc->out);
		fz_luserdata_finalize(L, lcodec_gc);
		lua_pushvalue(L, -1);
		lua_rawsetp(L, LUA_REGISTRYINDEX, &lcodec_key);
	}
	lc->busy = true;
	return lc;
}

static void
lcodec_put_back(struct lcodec *lc)
{
	if (lc->out.cap > KEEP_MAX)
		fz_buf_fini(&lc->out);
	fz_buf_clear(&lc->out);
	lc->busy = false;
}

/* (values..., buffer) -> string */
static int
call_encode(lua_State *L)
{
	int n = lua_gettop(L) - 1;
	struct fz_buf *out = lua_touserdata(L, n + 1);

	fz_encode_pack(L, 1, n, out);
	return 1;
}

/* As call_encode(), for a message within this run. */
static int
call_encode_run(lua_State *L)
{
	int n = lua_gettop(L) - 1;
	struct fz_buf *out = lua_touserdata(L, n + 1);

	fz_codec_encode(L, 1, n, out);
	lua_pushlstring(L, (const char *)out->data, out->len);
	return 1;
}

static int
pack_by(lua_State *L, lua_CFunction encode)
{
	int n = lua_gettop(L), rc;
	struct lcodec *lc;

	luaL_checkstack(L, 8, NULL);
	lua_pushcfunction(L, encode);
	lua_insert(L, 1);
	lc = lcodec_get(L);
	lua_insert(L, 1);
	lua_pushlightuserdata(L, &lc->out);
	rc = lua_pcall(L, n + 1, 1, 0);
	lcodec_put_back(lc);
	return rc;
}

/* pack(...) -> string */
static int
codec_pack(lua_State *L)
{
	int n = lua_gettop(L);

	if (pack_by(L, call_encode) == LUA_OK)
		return 1;
	if (n > 1)
		fz_lerror_name_value(L, "value %d: ");
	return lua_error(L);
}

int
fz_lcodec_encode(lua_State *L)
{
	return pack_by(L, call_encode_run) == LUA_OK ? 1 : lua_error(L);
}

int
fz_lcodec_decode(lua_State *L)
{
	size_t len;
	const char *bytes = luaL_checklstring(L, 1, &len);
	lua_Integer skip = luaL_optinteger(L, 2, 0);

	luaL_argcheck(L, 0 <= skip && (size_t)skip <= len, 2, "out of range");
	return fz_codec_decode(
	    L, bytes + skip, len - (size_t)skip, FZ_CODEC_RUN);
}

/* unpack(string [, {functions = boolean}]) -> ... */
static int
codec_unpack(lua_State *L)
{
	size_t len;
	const char *bytes = luaL_checklstring(L, 1, &len);
	bool functions = false;

	if (!lua_isnoneornil(L, 2)) {
		luaL_checktype(L, 2, LUA_TTABLE);
		lua_getfield(L, 2, "functions");
		functions = lua_toboolean(L, -1);
	}
	return fz_codec_decode(
	    L, bytes, len, functions ? FZ_CODEC_FUNCTIONS : FZ_CODEC_VALUES);
}

/* register_class(name, metatable) -> metatable */
static int
codec_register_class(lua_State *L)
{
	const char *name = luaL_checkstring(L, 1);

	luaL_argcheck(L, *name != '\0', 1, "the name must not be empty");
	luaL_checktype(L, 2, LUA_TTABLE);
	lua_settop(L, 2);
	lua_pushvalue(L, 2);
	fz_registered_add_class(L, name);
	return 1;
}

/* register_value(name, value) -> value */
static int
codec_register_value(lua_State *L)
{
	const char *name = luaL_checkstring(L, 1);

	luaL_argcheck(L, *name != '\0', 1, "the name must not be empty");
	luaL_argexpected(L, lua_istable(L, 2) || lua_isuserdata(L, 2), 2,
	    "table or userdata");
	lua_settop(L, 2);
	lua_pushvalue(L, 2);
	fz_registered_add_value(L, name);
	return 1;
}

/* classes() -> { [name] = metatable } of all registered classes */
static int
codec_classes(lua_State *L)
{
	fz_registered_classes(L);
	return 1;
}

static const luaL_Reg functions[] = {
	{ "pack", codec_pack },
	{ "unpack", codec_unpack },
	{ "encode", fz_lcodec_encode },
	{ "decode", fz_lcodec_decode },
	{ "register_class", codec_register_class },
	{ "register_value", codec_register_value },
	{ "classes", codec_classes },
	{ NULL, NULL },
};

int
fz_lcodec_open(lua_State *L)
{
	fz_registered_open(L);
	luaL_setfuncs(L, functions, 0);
	return 0;
}
