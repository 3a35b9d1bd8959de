#include "bind/shared/lnumber.h"

#include <float.h>
#include <math.h>
#include <stdatomic.h>
#include <string.h>

#include <lauxlib.h>

enum { SIGNED, UNSIGNED, FLOAT };

static const struct fz_number types[] = {
	{ 'b', SIGNED, sizeof(char) },
	{ 'B', UNSIGNED, sizeof(char) },
	{ 'h', SIGNED, sizeof(short) },
	{ 'H', UNSIGNED, sizeof(short) },
	{ 'i', SIGNED, sizeof(int) },
	{ 'I', UNSIGNED, sizeof(int) },
	{ 'l', SIGNED, sizeof(long) },
	{ 'L', UNSIGNED, sizeof(long) },
	{ 'j', SIGNED, sizeof(lua_Integer) },
	{ 'J', UNSIGNED, sizeof(lua_Integer) },
	{ 'f', FLOAT, sizeof(float) },
	{ 'd', FLOAT, sizeof(double) },
	{ 'n', FLOAT, sizeof(lua_Number) },
};

_Static_assert(sizeof(lua_Integer) == sizeof(int64_t) &&
		   sizeof(lua_Number) == sizeof(double),
    "numbers are those of a plain Lua 5.4");

struct fz_number
fz_number_type(lua_State *L, int idx)
{
	size_t len, i = 0, n = sizeof(types) / sizeof(types[0]);
	const char *code = luaL_checklstring(L, idx, &len);

	while (i < n && (len != 1 || types[i].code != *code))
		i++;
	if (i == n)
		luaL_argerror(L, idx,
		    lua_pushfstring(L,
			"unknown type code '%s' (known are b B h H i I l L j J "
			"f d n)",
			code));
	return types[i];
}

static const char *
no_number(lua_State *L, int idx)
{
	return lua_pushfstring(
	    L, "number expected, got %s", luaL_typename(L, idx));
}

static const char *
no_fit(lua_State *L, int idx, struct fz_number type)
{
	const char *text;

	/* Use a copy, because lua_tolstring() changes the number in place. */
	lua_pushvalue(L, idx);
	text = lua_pushfstring(
	    L, "%s does not fit type '%c'", lua_tostring(L, -1), type.code);
	lua_remove(L, -2);
	return text;
}

static bool
integer_fits(struct fz_number type, int64_t n)
{
	unsigned bits = 8U * type.size;

	if (bits == 64)
		return true;
	if (type.kind == UNSIGNED)
		return n >= 0 && n < INT64_C(1) << bits;
	return n >= -(INT64_C(1) << (bits - 1)) && n < INT64_C(1) << (bits - 1);
}

static bool
real_fits(struct fz_number type, double x)
{
	return type.size == sizeof(double) || !(fabs(x) > (double)FLT_MAX) ||
	       isinf(x);
}

static uint64_t
real_bits(struct fz_number type, double x)
{
	uint64_t bits = 0;
	uint32_t half;
	float f;

	if (type.size == sizeof(double)) {
		memcpy(&bits, &x, sizeof(x));
		return bits;
	}
	f = (float)x;
	memcpy(&half, &f, sizeof(f));
	return half;
}

static double
real_of(struct fz_number type, uint64_t bits)
{
	uint32_t half = (uint32_t)bits;
	double x;
	float f;

	if (type.size == sizeof(double)) {
		memcpy(&x, &bits, sizeof(x));
		return x;
	}
	memcpy(&f, &half, sizeof(f));
	return (double)f;
}

static int64_t
integer_of(struct fz_number type, uint64_t bits)
{
	unsigned unused = 64U - 8U * type.size;

	if (type.kind == UNSIGNED)
		return (int64_t)bits;
	return (int64_t)(bits << unused) >> unused;
}

const char *
fz_number_term(
    lua_State *L, int idx, struct fz_number type, union fz_number_term *term)
{
	int good = 1;

	if (lua_type(L, idx) != LUA_TNUMBER)
		return no_number(L, idx);
	if (type.kind == FLOAT)
		term->real = lua_tonumber(L, idx);
	else
		term->integer = lua_tointegerx(L, idx, &good);
	if (!good)
		return lua_pushliteral(
		    L, "number has no integer representation");
	return NULL;
}

const char *
fz_number_bits(lua_State *L, int idx, struct fz_number type, uint64_t *bits)
{
	union fz_number_term term;
	const char *why = fz_number_term(L, idx, type, &term);

	if (why != NULL)
		return why;
	if (type.kind == FLOAT) {
		if (!real_fits(type, term.real))
			return no_fit(L, idx, type);
		*bits = real_bits(type, term.real);
	} else {
		if (!integer_fits(type, term.integer))
			return no_fit(L, idx, type);
		*bits = (uint64_t)term.integer;
	}
	return NULL;
}

void
fz_number_push(lua_State *L, struct fz_number type, uint64_t bits)
{
	if (type.kind == FLOAT)
		lua_pushnumber(L, real_of(type, bits));
	else
		lua_pushinteger(L, integer_of(type, bits));
}

uint64_t
fz_number_load(struct fz_number type, const void *at)
{
	switch (type.size) {
	case 1:
		return atomic_load_explicit(
		    (const _Atomic uint8_t *)at, memory_order_acquire);
	case 2:
		return atomic_load_explicit(
		    (const _Atomic uint16_t *)at, memory_order_acquire);
	case 4:
		return atomic_load_explicit(
		    (const _Atomic uint32_t *)at, memory_order_acquire);
	default:
		return atomic_load_explicit(
		    (const _Atomic uint64_t *)at, memory_order_acquire);
	}
}

void
fz_number_store(struct fz_number type, void *at, uint64_t bits)
{
	switch (type.size) {
	case 1:
		atomic_store_explicit(
		    (_Atomic uint8_t *)at, (uint8_t)bits, memory_order_release);
		break;
	case 2:
		atomic_store_explicit((_Atomic uint16_t *)at, (uint16_t)bits,
		    memory_order_release);
		break;
	case 4:
		atomic_store_explicit((_Atomic uint32_t *)at, (uint32_t)bits,
		    memory_order_release);
		break;
	default:
		atomic_store_explicit(
		    (_Atomic uint64_t *)at, bits, memory_order_release);
		break;
	}
}

static bool
add_real(struct fz_number type, uint64_t *bits, double term)
{
	double sum = real_of(type, *bits) + term;

	if (!real_fits(type, sum))
		return false;
	*bits = real_bits(type, sum);
	return true;
}

bool
fz_number_add(struct fz_number type, uint64_t *bits, union fz_number_term term)
{
	uint64_t large;
	int64_t sum;

	if (type.kind == FLOAT)
		return add_real(type, bits, term.real);
	if (type.kind == UNSIGNED && type.size == sizeof(large)) {
		if (__builtin_add_overflow(*bits, term.integer, &large))
			return false;
		*bits = large;
		return true;
	}
	if (__builtin_add_overflow(
		integer_of(type, *bits), term.integer, &sum) ||
	    !integer_fits(type, sum))
		return false;
	*bits = (uint64_t)sum;
	return true;
}
