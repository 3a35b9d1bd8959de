#include "value/items.h"

#include <string.h>

#include <lauxlib.h>

#include "base/buf.h"
#include "base/err.h"
#include "value/codec.h"
#include "value/encode.h"
#include "value/format.h"
#include "value/lerror.h"

enum { SHORT_STRING = FZ_FORMAT_NIL - FZ_FORMAT_STR6 - 1 };

size_t
fz_items_store(lua_State *L, int idx, unsigned char *p)
{
	const char *s;
	size_t len;

	if (lua_isinteger(L, idx))
		return (
		    size_t)(fz_encode_store_integer(p, lua_tointeger(L, idx)) -
			    p);
	switch (lua_type(L, idx)) {
	case LUA_TNIL:
		*p = FZ_FORMAT_NIL;
		return 1;
	case LUA_TBOOLEAN:
		*p = lua_toboolean(L, idx) ? FZ_FORMAT_TRUE : FZ_FORMAT_FALSE;
		return 1;
	case LUA_TNUMBER:
		return (
		    size_t)(fz_encode_store_float(p, lua_tonumber(L, idx)) - p);
	case LUA_TSTRING:
		s = lua_tolstring(L, idx, &len);
		if (len > SHORT_STRING)
			return 0;
		*p = (unsigned char)(FZ_FORMAT_STR6 + len);
		memcpy(p + 1, s, len);
		return 1 + len;
	default:
		return 0;
	}
}

void
fz_items_store_head(unsigned char *p, uint32_t len)
{
	*p = FZ_FORMAT_ITEM;
	fz_le32_store(p + 1, len);
}

/* Bytes behind the tag of a small item; -1: it is none. */
static int
payload(unsigned tag)
{
	if (tag < FZ_FORMAT_STR6)
		return 0;
	if (tag < FZ_FORMAT_NIL)
		return (int)tag - FZ_FORMAT_STR6;
	switch (tag) {
	case FZ_FORMAT_NIL:
	case FZ_FORMAT_FALSE:
	case FZ_FORMAT_TRUE:
		return 0;
	case FZ_FORMAT_INT8:
		return 1;
	case FZ_FORMAT_INT16:
		return 2;
	case FZ_FORMAT_INT32:
		return 4;
	case FZ_FORMAT_INT64:
	case FZ_FORMAT_FLOAT:
		return 8;
	default:
		return -1;
	}
}

/* The bytes behind the tag, which is moved to `*tag`; NULL: there are none. */
static const unsigned char *
take(struct fz_reader *items, unsigned *tag, size_t *len)
{
	int n;

	*tag = fz_reader_u8(items);
	n = payload(*tag);
	if (n < 0 && *tag != FZ_FORMAT_ITEM)
		items->failed = true;
	*len = n >= 0 ? (size_t)n : fz_reader_u32(items);
	if (items->failed)
		return NULL;
	return fz_reader_take(items, *len);
}

int
fz_items_skip(struct fz_reader *items)
{
	unsigned tag;
	size_t len;

	return take(items, &tag, &len) != NULL ? 0 : -1;
}

static void
push_float(lua_State *L, const unsigned char *p)
{
	uint64_t bits = fz_le64_load(p);
	double v;

	memcpy(&v, &bits, sizeof(v));
	lua_pushnumber(L, v);
}

/* Raise: a worker that works as it should does not send this. */
static int
refuse(lua_State *L, const char *why)
{
	struct fz_err err = { 0 };

	fz_err_set(&err, FZ_ERR_CRASH, "%s", why);
	return fz_lerror_raise(L, &err);
}

void
fz_items_push(lua_State *L, struct fz_reader *items)
{
	unsigned tag;
	size_t len;
	const unsigned char *p = take(items, &tag, &len);

	if (p == NULL)
		refuse(L, "results are cut short");
	if (tag < FZ_FORMAT_STR6) {
		lua_pushinteger(L, (lua_Integer)tag);
		return;
	}
	switch (tag) {
	case FZ_FORMAT_NIL:
		lua_pushnil(L);
		break;
	case FZ_FORMAT_FALSE:
	case FZ_FORMAT_TRUE:
		lua_pushboolean(L, tag == FZ_FORMAT_TRUE);
		break;
	case FZ_FORMAT_INT8:
		lua_pushinteger(L, (int8_t)p[0]);
		break;
	case FZ_FORMAT_INT16:
		lua_pushinteger(L, (int16_t)(p[0] | p[1] << 8));
		break;
	case FZ_FORMAT_INT32:
		lua_pushinteger(L, (int32_t)fz_le32_load(p));
		break;
	case FZ_FORMAT_INT64:
		lua_pushinteger(L, (lua_Integer)fz_le64_load(p));
		break;
	case FZ_FORMAT_FLOAT:
		push_float(L, p);
		break;
	case FZ_FORMAT_ITEM:
		if (fz_codec_decode(L, p, len, FZ_CODEC_RUN) != 1)
			refuse(L, "a result is not one value");
		break;
	default:
		lua_pushlstring(L, (const char *)p, len);
	}
}

int
fz_items_push_message(lua_State *L, struct fz_reader *items)
{
	unsigned tag;
	size_t len;
	const unsigned char *p = take(items, &tag, &len);

	if (p == NULL || tag != FZ_FORMAT_ITEM)
		return refuse(L, "results are cut short");
	return fz_codec_decode(L, p, len, FZ_CODEC_RUN);
}
