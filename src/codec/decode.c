#include "codec/decode.h"

#include <limits.h>
#include <stdint.h>
#include <string.h>

#include <lauxlib.h>

#include "base/buf.h"
#include "base/err.h"
#include "codec/codec.h"
#include "codec/format.h"
#include "codec/scalar.h"
#include "value/garbage.h"
#include "value/lerror.h"
#include "value/rawarray.h"
#include "value/registered.h"

enum {
	/* minimum number of bytes of a message that stops the collector */
	BIG_MESSAGE = 65536,
	/*
	 * the collector stops only for a message that has at least 1/HEAP_SHARE
	 * of the bytes of the heap
	 */
	HEAP_SHARE = 16,
	LEVELS_MAX = FZ_FORMAT_NEST + 2,
	/* minimum length of a run of numbers that are not pushed one by one */
	RAW_MIN = 32,
};

int
fz_decode_refuse(const struct fz_decoder *d, const char *what)
{
	luaL_checkstack(d->L, 10, NULL);
	return fz_lerror_fail(d->L, FZ_ERR_ERROR,
	    "not a packed message: %s at byte %zu", what,
	    (size_t)(d->in.p - d->start));
}

static inline unsigned
take_u16(struct fz_decoder *d)
{
	const unsigned char *p = fz_decode_take(d, 2);

	return (unsigned)p[0] | (unsigned)p[1] << 8;
}

uint64_t
fz_decode_varint(struct fz_decoder *d)
{
	uint64_t n = fz_reader_varint(&d->in);

	if (d->in.failed)
		fz_decode_refuse(d, "a damaged count");
	return n;
}

void
fz_decode_enter(struct fz_decoder *d)
{
	if (d->level >= LEVELS_MAX)
		fz_decode_refuse(d, "values nested too deep");
	if (d->level++ % 8 == 0)
		luaL_checkstack(d->L, 64, "a message is too deep");
}

static void
push_bytes(struct fz_decoder *d, uint64_t len)
{
	const unsigned char *p = fz_decode_take(d, len);

	lua_pushlstring(d->L, (const char *)p, (size_t)len);
}

static void
push_string_ref(struct fz_decoder *d, uint32_t number)
{
	if (number >= d->nstrings)
		fz_decode_refuse(d, "a reference to an unknown string");
	lua_rawgeti(d->L, d->strings, (lua_Integer)number + 1);
}

/* The tag of the next value, or FZ_FORMAT_NIL at the end of the message. */
static unsigned
next_tag(const struct fz_decoder *d)
{
	return d->in.p == d->in.end ? FZ_FORMAT_NIL : *d->in.p;
}

static bool
is_literal(unsigned tag)
{
	return (tag >= FZ_FORMAT_STR6 && tag < FZ_FORMAT_NIL) ||
	       (tag >= FZ_FORMAT_STR8 && tag <= FZ_FORMAT_STR64);
}

static void
get_definition(struct fz_decoder *d)
{
	if (!(d->flags & FZ_FORMAT_HAS_STRINGS))
		fz_decode_refuse(d, "a tag that the flags do not allow");
	if (!is_literal(next_tag(d)))
		fz_decode_refuse(d, "a definition without a string");
	fz_decode_value(d);
	lua_pushvalue(d->L, -1);
	lua_rawseti(d->L, d->strings, ++d->nstrings);
}

void
fz_decode_name(struct fz_decoder *d)
{
	unsigned tag = next_tag(d);

	if (!is_literal(tag) && tag < FZ_FORMAT_SREF5 &&
	    (tag < FZ_FORMAT_DEF || tag > FZ_FORMAT_SREF32))
		fz_decode_refuse(d, "a name that is no string");
	fz_decode_value(d);
}

struct header {
	int narr;
	uint32_t npairs;
};

static struct header
get_header(struct fz_decoder *d, unsigned tag)
{
	uint64_t narr = fz_decode_varint(d);
	uint64_t npairs = tag == FZ_FORMAT_TABLE
			      ? fz_decode_u8(d)
			      : fz_le32_load(fz_decode_take(d, 4));
	size_t left = d->unclaimed;

	if (fz_reader_left(&d->in) < left)
		left = fz_reader_left(&d->in);
	if (narr > left || npairs * 2 > left - narr || narr > INT_MAX ||
	    npairs > INT_MAX)
		fz_decode_refuse(d, "a count beyond the end of the message");
	d->unclaimed -= (size_t)(narr + npairs * 2);
	return (struct header){ (int)narr, (uint32_t)npairs };
}

/* One loop per width, because this is the fastest way to read a run. */
#define GET_INTEGERS(type, load)                               \
	for (lua_Integer i = 0; i < n; i++) {                  \
		lua_pushinteger(L, (lua_Integer)(type)(load)); \
		lua_rawseti(L, t, first + i);                  \
	}

#define STORE_NUMBERS(type, load, as)               \
	for (int i = 0; i < n; i++) {               \
		int64_t v = (type)(load);           \
		memcpy(to[i].value, &v, sizeof(v)); \
		to[i].tag = (as);                   \
	}

/*
 * Store the numbers of a run in table `t`. False if the run is short, if the
 * layout of tables is not known, or if the array part of `t` has no room.
 */
static bool
store_run(
    lua_State *L, int t, int first, int n, unsigned tag, const unsigned char *p)
{
	const struct fz_rawarray *raw = fz_rawarray_known();
	const void *table = lua_topointer(L, t);
	struct fz_raw_value *to;

	if (raw == NULL || n < RAW_MIN ||
	    (uint32_t)(first - 1 + n) > fz_rawarray_limit(raw, table))
		return false;
	to = fz_rawarray_elements(raw, table) + first - 1;
	switch (tag) {
	case FZ_FORMAT_RUN8:
		STORE_NUMBERS(int8_t, p[i], raw->integer);
		break;
	case FZ_FORMAT_RUN16:
		STORE_NUMBERS(
		    int16_t, p[i * 2] | p[i * 2 + 1] << 8, raw->integer);
		break;
	case FZ_FORMAT_RUN32:
		STORE_NUMBERS(int32_t, fz_le32_load(p + i * 4), raw->integer);
		break;
	default:
		STORE_NUMBERS(int64_t, fz_le64_load(p + i * 8),
		    tag == FZ_FORMAT_RUN64 ? raw->integer : raw->number);
	}
	return true;
}

/*
 * Read a run into table `t` from element `first` on, `room` elements at most.
 * Returns the number of elements.
 */
static int
get_run(struct fz_decoder *d, int t, int first, int room)
{
	lua_State *L = d->L;
	unsigned tag = fz_decode_u8(d);
	int n = (int)take_u16(d) + 1;
	unsigned shift = tag == FZ_FORMAT_RUN_FLOAT ? 3 : tag - FZ_FORMAT_RUN8;
	const unsigned char *p;

	if (n > room)
		fz_decode_refuse(d, "a count beyond the end of the message");
	p = fz_decode_take(d, (uint64_t)n << shift);
	if (store_run(L, t, first, n, tag, p))
		return n;
	switch (tag) {
	case FZ_FORMAT_RUN8:
		GET_INTEGERS(int8_t, p[i]);
		break;
	case FZ_FORMAT_RUN16:
		GET_INTEGERS(int16_t, p[i * 2] | p[i * 2 + 1] << 8);
		break;
	case FZ_FORMAT_RUN32:
		GET_INTEGERS(int32_t, fz_le32_load(p + i * 4));
		break;
	case FZ_FORMAT_RUN64:
		GET_INTEGERS(int64_t, fz_le64_load(p + i * 8));
		break;
	default:
		for (lua_Integer i = 0; i < n; i++) {
			fz_scalar_push_float(L, p + i * 8);
			lua_rawseti(L, t, first + i);
		}
	}
	return n;
}

static inline bool
is_run(const struct fz_decoder *d)
{
	return d->in.p < d->in.end && *d->in.p >= FZ_FORMAT_RUN8 &&
	       *d->in.p <= FZ_FORMAT_RUN_FLOAT;
}

/* Read a key; raises for nil and NaN, which lua_rawset refuses. */
static void
get_key(struct fz_decoder *d)
{
	unsigned tag = next_tag(d);

	fz_decode_value(d);
	if (tag < FZ_FORMAT_NIL || tag >= FZ_FORMAT_SREF5)
		return;
	if (lua_isnil(d->L, -1) ||
	    (lua_type(d->L, -1) == LUA_TNUMBER && !lua_rawequal(d->L, -1, -1)))
		fz_decode_refuse(d, "a key that is nil or NaN");
}

/* Read the contents of the table on top. */
static void
get_contents(struct fz_decoder *d, struct header h)
{
	lua_State *L = d->L;
	int t = lua_gettop(L);

	fz_decode_enter(d);
	for (int i = 1; i <= h.narr;) {
		if (is_run(d)) {
			i += get_run(d, t, i, h.narr - i + 1);
		} else {
			fz_decode_value(d);
			lua_rawseti(L, t, i++);
		}
	}
	for (; h.npairs > 0; h.npairs--) {
		get_key(d);
		fz_decode_value(d);
		lua_rawset(L, t);
	}
	d->level--;
}

static void
get_table(struct fz_decoder *d, unsigned tag)
{
	struct header h = get_header(d, tag);

	lua_createtable(d->L, h.narr, (int)h.npairs);
	fz_decode_remember(d);
	get_contents(d, h);
}

/*
 * Read a class name; push its metatable or nil. Returns the tag of the table
 * that follows. [+1]
 */
static unsigned
get_class(struct fz_decoder *d)
{
	unsigned tag;

	fz_decode_name(d);
	if (!fz_registered_metatable(d->L, -1)) {
		fz_decode_miss_class(d);
		lua_pushnil(d->L);
	}
	lua_remove(d->L, -2);
	tag = fz_decode_u8(d);
	if (tag != FZ_FORMAT_TABLE && tag != FZ_FORMAT_TABLE_WIDE)
		fz_decode_refuse(d, "a class without a table");
	return tag;
}

static void
get_classed(struct fz_decoder *d)
{
	unsigned tag;

	luaL_checkstack(d->L, 10, NULL);
	tag = get_class(d);
	get_table(d, tag);
	lua_insert(d->L, -2);
	lua_setmetatable(d->L, -2);
}

static void
promise_table(struct fz_decoder *d)
{
	lua_State *L = d->L;

	if (!(d->flags & FZ_FORMAT_HAS_LATER))
		fz_decode_refuse(d, "a tag that the flags do not allow");
	if (++d->due > fz_reader_left(&d->in) / FZ_FORMAT_BODY_MIN)
		fz_decode_refuse(d, "a table body beyond the end");
	lua_newtable(L);
	fz_decode_remember(d);
	lua_pushvalue(L, -1);
	lua_rawseti(L, d->later, ++d->nlater);
}

void
fz_decode_later(struct fz_decoder *d, lua_Integer mark)
{
	lua_State *L = d->L;

	for (lua_Integer i = mark + 1; i <= d->nlater; i++) {
		unsigned tag = fz_decode_u8(d);

		luaL_checkstack(L, 16, "a message is too deep");
		lua_rawgeti(L, d->later, i);
		d->due--;
		if (tag == FZ_FORMAT_CLASS) {
			tag = get_class(d);
			lua_setmetatable(L, -2);
		}
		if (tag != FZ_FORMAT_TABLE && tag != FZ_FORMAT_TABLE_WIDE)
			fz_decode_refuse(d, "a body that is not a table");
		get_contents(d, get_header(d, tag));
		lua_pop(L, 1);
	}
	d->nlater = mark;
}

static void
get_ref(struct fz_decoder *d)
{
	uint64_t number = fz_decode_varint(d);

	if (number >= (uint64_t)d->nobjects ||
	    !(d->flags & FZ_FORMAT_HAS_REFS) ||
	    lua_rawgeti(d->L, d->objects, (lua_Integer)number + 1) == LUA_TNIL)
		fz_decode_refuse(d, "a reference to an unknown object");
}

static int get_message(struct fz_decoder *d);

/*
 * Read a value that is a message of its own, such as an element of a joined
 * list.
 */
static void
get_inner_message(struct fz_decoder *d)
{
	struct fz_decoder inner = { .L = d->L,
		.start = d->start,
		.trust = d->trust,
		.level = d->level };
	const unsigned char *bytes;
	uint32_t len;

	if (d->trust == FZ_CODEC_VALUES || d->trust == FZ_CODEC_FUNCTIONS) {
		d->in.p--;
		fz_decode_refuse(d, "an unknown tag");
	}
	len = fz_le32_load(fz_decode_take(d, 4));
	inner.unclaimed = len;
	fz_decode_enter(d);
	inner.level++;
	bytes = fz_decode_take(d, len);
	/* a receiver that refuses functions checks only the outer flags */
	if (len > 1 && (bytes[1] & ~d->flags & FZ_FORMAT_HAS_FUNCTIONS) != 0)
		fz_decode_refuse(d, "an inner message with other flags");
	fz_reader_init(&inner.in, bytes, len);
	if (get_message(&inner) != 1)
		fz_decode_refuse(
		    d, "an inner message without exactly one value");
	d->level--;
}

/*
 * Read a value that contains other values or names an object of the receiver.
 */
static void
get_object(struct fz_decoder *d, unsigned tag)
{
	switch (tag) {
	case FZ_FORMAT_LATER:
		promise_table(d);
		break;
	case FZ_FORMAT_REF:
		get_ref(d);
		break;
	case FZ_FORMAT_CLASS:
		get_classed(d);
		break;
	case FZ_FORMAT_PACKED:
		fz_decode_packed(d);
		break;
	case FZ_FORMAT_FUNCTION:
		fz_decode_function(d);
		break;
	case FZ_FORMAT_CFUNCTION:
		fz_decode_cfunction(d);
		break;
	case FZ_FORMAT_MODULE:
		fz_decode_module(d);
		break;
	case FZ_FORMAT_GLOBALS:
		fz_decode_globals(d);
		break;
	case FZ_FORMAT_HERE:
		fz_decode_here(d);
		break;
	case FZ_FORMAT_ITEM:
		get_inner_message(d);
		break;
	default:
		d->in.p--;
		fz_decode_refuse(d, "an unknown tag");
	}
}

static void
get_other(struct fz_decoder *d, unsigned tag)
{
	switch (tag) {
	case FZ_FORMAT_STR8:
		push_bytes(d, fz_decode_u8(d));
		break;
	case FZ_FORMAT_STR32:
		push_bytes(d, fz_le32_load(fz_decode_take(d, 4)));
		break;
	case FZ_FORMAT_STR64:
		push_bytes(d, fz_le64_load(fz_decode_take(d, 8)));
		break;
	case FZ_FORMAT_DEF:
		get_definition(d);
		break;
	case FZ_FORMAT_SREF8:
		push_string_ref(d, fz_decode_u8(d));
		break;
	case FZ_FORMAT_SREF32:
		push_string_ref(d, fz_le32_load(fz_decode_take(d, 4)));
		break;
	default:
		get_object(d, tag);
	}
}

void
fz_decode_value(struct fz_decoder *d)
{
	unsigned tag = fz_decode_u8(d);
	int len = fz_scalar_payload(tag);

	if (len >= 0)
		fz_scalar_push(d->L, tag, fz_decode_take(d, (unsigned)len));
	else if (tag >= FZ_FORMAT_SREF5)
		push_string_ref(d, tag - FZ_FORMAT_SREF5);
	else if (tag == FZ_FORMAT_TABLE || tag == FZ_FORMAT_TABLE_WIDE)
		get_table(d, tag);
	else
		get_other(d, tag);
}

/* Push the tables that the flags require: none for a small message. [+0|4] */
static int
push_lists(struct fz_decoder *d)
{
	int top = lua_gettop(d->L);

	if (d->flags == 0)
		return 0;
	d->strings = top + 1;
	d->objects = top + 2;
	d->cells = top + 3;
	d->later = top + 4;
	for (int i = 0; i < 4; i++)
		lua_newtable(d->L);
	return 4;
}

static int
get_message(struct fz_decoder *d)
{
	lua_State *L = d->L;
	uint64_t n;
	int nlists;

	luaL_checkstack(L, 16, NULL);
	if (fz_decode_u8(d) != FZ_FORMAT_VERSION)
		fz_decode_refuse(d, "an unknown version");
	d->flags = (uint8_t)fz_decode_u8(d);
	n = fz_decode_varint(d);
	nlists = push_lists(d);
	if (n > fz_reader_left(&d->in) || n > INT_MAX / 2 ||
	    !lua_checkstack(L, (int)n + 16))
		fz_decode_refuse(d, "too many values");
	for (uint64_t i = 0; i < n; i++)
		fz_decode_value(d);
	fz_decode_later(d, 0);
	if (d->in.p != d->in.end)
		fz_decode_refuse(d, "bytes after the last value");
	if (d->nnamed != 0)
		fz_decode_share(d);
	if (nlists != 0) {
		lua_rotate(L, -(int)n - nlists, -nlists);
		lua_pop(L, nlists);
	}
	return (int)n;
}

static int
call_get_message(lua_State *L)
{
	struct fz_decoder *d = lua_touserdata(L, 2);

	lua_settop(L, 1); /* keep only the cells, or nil */
	d->shared = d->shared != 0 ? 1 : 0;
	return get_message(d);
}

/* Whether decoding would allocate enough to start a collection. */
static bool
is_big(lua_State *L, size_t len)
{
	return len >= BIG_MESSAGE && lua_gc(L, LUA_GCISRUNNING) == 1 &&
	       len / 1024 >= (size_t)lua_gc(L, LUA_GCCOUNT) / HEAP_SHARE;
}

static int
decode(lua_State *L, const void *bytes, size_t len, enum fz_codec_trust trust,
    int shared)
{
	struct fz_decoder d = { .L = L,
		.start = bytes,
		.unclaimed = len,
		.trust = trust,
		.shared = shared };
	int top = lua_gettop(L);
	int rc;

	fz_reader_init(&d.in, bytes, len);
	if (!is_big(L, len))
		return get_message(&d);
	luaL_checkstack(L, 4, NULL);
	fz_garbage_before_message(L, len);
	lua_pushcfunction(L, call_get_message);
	if (shared != 0)
		lua_pushvalue(L, shared);
	else
		lua_pushnil(L);
	lua_pushlightuserdata(L, &d);
	lua_gc(L, LUA_GCSTOP);
	rc = lua_pcall(L, 2, LUA_MULTRET, 0);
	lua_gc(L, LUA_GCRESTART);
	if (rc != LUA_OK)
		return lua_error(L);
	return lua_gettop(L) - top;
}

bool
fz_codec_push_scalar(lua_State *L, const void *bytes, size_t len)
{
	const unsigned char *p = bytes;
	unsigned tag;

	if (len <= FZ_FORMAT_ONE_HEAD || p[0] != FZ_FORMAT_VERSION ||
	    p[1] != 0 || p[2] != 1)
		return false;
	tag = p[FZ_FORMAT_ONE_HEAD];
	if ((FZ_FORMAT_STR6 <= tag && tag < FZ_FORMAT_NIL) ||
	    fz_scalar_payload(tag) != (int)(len - FZ_FORMAT_ONE_HEAD - 1) ||
	    !lua_checkstack(L, 1))
		return false;
	fz_scalar_push(L, tag, p + FZ_FORMAT_ONE_HEAD + 1);
	return true;
}

int
fz_codec_decode(
    lua_State *L, const void *bytes, size_t len, enum fz_codec_trust trust)
{
	if (fz_codec_push_scalar(L, bytes, len))
		return 1;
	return decode(L, bytes, len, trust, 0);
}

int
fz_codec_decode_shared(lua_State *L, const void *bytes, size_t len, int cells)
{
	return decode(L, bytes, len, FZ_CODEC_RUN,
	    lua_isnil(L, cells) ? 0 : lua_absindex(L, cells));
}
