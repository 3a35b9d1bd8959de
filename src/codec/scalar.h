/*
 * scalar.h - nil, booleans, numbers and short strings as a tag and its payload.
 *
 * Messages and items (items.h) have the same bytes for these.
 */
#ifndef FZ_SCALAR_H
#define FZ_SCALAR_H

#include <stdint.h>
#include <string.h>

#include <lua.h>

#include "base/buf.h"
#include "codec/format.h"

enum {
	FZ_SCALAR_NUMBER_MAX = 9,  /* maximum number of bytes of a number */
	FZ_SCALAR_STRING_MAX = 63, /* maximum number of bytes of a string */
};

/* The bits of a float. */
static inline uint64_t
fz_scalar_float_bits(lua_Number v)
{
	uint64_t bits;

	memcpy(&bits, &v, sizeof(bits));
	return bits;
}

/* Store a number in FZ_SCALAR_NUMBER_MAX bytes at most. Returns its end. */
static inline unsigned char *
fz_scalar_store_float_bits(unsigned char *p, uint64_t bits)
{
	p[0] = FZ_FORMAT_FLOAT;
	fz_le64_store(p + 1, bits);
	return p + 9;
}

static inline unsigned char *
fz_scalar_store_integer(unsigned char *p, lua_Integer v)
{
	uint64_t u = (uint64_t)v;
	uint64_t bits = v < 0 ? ~u : u; /* the bits that decide the width */

	if (u < 0x80) {
		p[0] = (unsigned char)u;
		return p + 1;
	}
	if (bits < 0x80) {
		p[0] = FZ_FORMAT_INT8;
		p[1] = (unsigned char)u;
		return p + 2;
	}
	if (bits < 0x8000) {
		p[0] = FZ_FORMAT_INT16;
		p[1] = (unsigned char)u;
		p[2] = (unsigned char)(u >> 8);
		return p + 3;
	}
	if (bits < 0x80000000) {
		p[0] = FZ_FORMAT_INT32;
		fz_le32_store(p + 1, (uint32_t)u);
		return p + 5;
	}
	p[0] = FZ_FORMAT_INT64;
	fz_le64_store(p + 1, u);
	return p + 9;
}

/*
 * Store a number or boolean of type `type`. Returns its end, or `p` if the
 * value has another type.
 */
static inline unsigned char *
fz_scalar_store(lua_State *L, int idx, int type, unsigned char *p)
{
	if (type == LUA_TNUMBER && lua_isinteger(L, idx))
		return fz_scalar_store_integer(p, lua_tointeger(L, idx));
	if (type == LUA_TNUMBER)
		return fz_scalar_store_float_bits(
		    p, fz_scalar_float_bits(lua_tonumber(L, idx)));
	if (type == LUA_TBOOLEAN)
		*p++ = lua_toboolean(L, idx) ? FZ_FORMAT_TRUE : FZ_FORMAT_FALSE;
	return p;
}

/* Bytes of the payload after `tag`; -1 if it is not the tag of a scalar. */
static inline int
fz_scalar_payload(unsigned tag)
{
	static const signed char sizes[] = { 0, 0, 0, 1, 2, 4, 8, 8 };

	if (tag < FZ_FORMAT_STR6)
		return 0;
	if (tag < FZ_FORMAT_NIL)
		return (int)tag - FZ_FORMAT_STR6;
	return tag <= FZ_FORMAT_FLOAT ? sizes[tag - FZ_FORMAT_NIL] : -1;
}

static inline void
fz_scalar_push_float(lua_State *L, const unsigned char *p)
{
	uint64_t bits = fz_le64_load(p);
	lua_Number v;

	memcpy(&v, &bits, sizeof(v));
	lua_pushnumber(L, v);
}

/* Push the scalar with tag `tag` and its payload at `p`. [-0, +1, m] */
static inline void
fz_scalar_push(lua_State *L, unsigned tag, const unsigned char *p)
{
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
		fz_scalar_push_float(L, p);
		break;
	default:
		if (tag < FZ_FORMAT_STR6)
			lua_pushinteger(L, (lua_Integer)tag);
		else
			lua_pushlstring(
			    L, (const char *)p, tag - FZ_FORMAT_STR6);
	}
}

#endif
