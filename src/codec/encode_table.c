#include "codec/encode.h"

#include <limits.h>
#include <string.h>

#include <lauxlib.h>

#include "base/buf.h"
#include "codec/format.h"
#include "codec/scalar.h"
#include "value/rawarray.h"

enum {
	/*
	 * put_rest() stops when the nils outnumber the elements by more than
	 * this
	 */
	HOLES_MAX = 64,
	/* minimum number of elements that are not read one by one */
	RAW_MIN = 32,
};

/*
 * A walk by lua_next. Key and value are read by their stack index, because an
 * access relative to the top costs more when the top has just changed.
 */
struct walk {
	int t;            /* stack index of the table */
	int key;          /* stack index of the key; the value follows it */
	bool pair;        /* a key and its value are on the stack */
	lua_Integer narr; /* number of elements in the array part */
	lua_Integer n;    /* number of elements written so far */
	size_t narr_at;   /* offset of narr in the message */
	size_t npairs_at; /* offset of the number of pairs */
};

/* Whether the current key is element n + 1. */
static inline bool
walk_in_order(lua_State *L, const struct walk *w)
{
	return w->n < w->narr && lua_isinteger(L, w->key) &&
	       lua_tointeger(L, w->key) == w->n + 1;
}

/*
 * Go to the next key; returns whether it is element n + 1. The walk must use
 * lua_next alone: if it continued from an element read by lua_rawgeti, it would
 * skip keys.
 */
static inline bool
walk_next(lua_State *L, struct walk *w)
{
	lua_pop(L, 1);
	w->pair = lua_next(L, w->t) != 0;
	return w->pair && walk_in_order(L, w);
}

/* Reduce `n` raw integers from 8 to `width` bytes each. */
static void
narrow(unsigned char *p, size_t n, unsigned width)
{
	if (width == 1) {
		for (size_t i = 0; i < n; i++)
			p[i] = p[i * 8];
	} else if (width == 2) {
		for (size_t i = 0; i < n; i++)
			memmove(p + i * 2, p + i * 8, 2);
	} else if (width == 4) {
		for (size_t i = 0; i < n; i++)
			memmove(p + i * 4, p + i * 8, 4);
	}
}

/*
 * Finish a run of `n` raw numbers, which follow a reserved header of 3 bytes.
 * `bits` has all bits that any of the integers needs.
 */
static void
end_run(struct fz_encoder *e, size_t n, bool integers, uint64_t bits)
{
	unsigned char *p = e->p;
	uint64_t few[FZ_FORMAT_RUN_MIN];
	unsigned shift;

	if (n < FZ_FORMAT_RUN_MIN) {
		for (size_t i = 0; i < n; i++)
			few[i] = fz_le64_load(p + 3 + i * 8);
		for (size_t i = 0; i < n; i++)
			p = integers ? fz_scalar_store_integer(
					   p, (lua_Integer)few[i])
				     : fz_scalar_store_float_bits(p, few[i]);
		e->p = p;
		return;
	}
	shift = bits < 0x80 ? 0 : bits < 0x8000 ? 1 : bits < 0x80000000 ? 2 : 3;
	if (integers)
		narrow(p + 3, n, 1U << shift);
	p[0] = (unsigned char)(integers ? FZ_FORMAT_RUN8 + shift
					: FZ_FORMAT_RUN_FLOAT);
	p[1] = (unsigned char)(n - 1);
	p[2] = (unsigned char)((n - 1) >> 8);
	e->p += 3 + (n << (integers ? shift : 3));
}

/* Make room for a run of at most `max` numbers, or for a few single numbers. */
static unsigned char *
start_run(struct fz_encoder *e, const struct walk *w, size_t *max)
{
	*max = FZ_FORMAT_RUN_MAX;
	if (w->narr - w->n < FZ_FORMAT_RUN_MAX)
		*max = (size_t)(w->narr - w->n);
	return fz_encode_room(e, 3 + *max * 9) + 3;
}

/*
 * Store the numbers from element n + 1 on, `max` at most, up to the first other
 * value. Returns how many; 0 if the layout of tables is not known.
 */
static size_t
put_raw(lua_State *L, const struct walk *w, unsigned char *p, size_t max,
    uint64_t *bits)
{
	const struct fz_rawarray *raw = fz_rawarray_known();
	const void *table = lua_topointer(L, w->t);
	const struct fz_raw_value *elements;
	size_t n = 0, limit;

	if (raw == NULL || max < RAW_MIN)
		return 0;
	limit = fz_rawarray_limit(raw, table);
	if (limit <= (size_t)w->n)
		return 0;
	if (max > limit - (size_t)w->n)
		max = limit - (size_t)w->n;
	elements = fz_rawarray_elements(raw, table) + w->n;
	for (; n < max && elements[n].tag == elements->tag; n++) {
		lua_Integer v;

		memcpy(&v, elements[n].value, sizeof(v));
		*bits |= v < 0 ? ~(uint64_t)v : (uint64_t)v;
		fz_le64_store(p + n * 8, (uint64_t)v);
	}
	return n;
}

/* Continue the walk after `n` elements that were written without the walk. */
static bool
walk_after(lua_State *L, struct walk *w, size_t n)
{
	w->n += (lua_Integer)n;
	lua_pushinteger(L, w->n);
	lua_replace(L, w->key);
	return walk_next(L, w);
}

/*
 * Write the integer on top and the integers that follow it in the table.
 * Returns what walk_next() returns.
 */
static bool
put_integers(struct fz_encoder *e, struct walk *w)
{
	lua_State *L = e->L;
	size_t max, n;
	unsigned char *p = start_run(e, w, &max);
	int value = w->key + 1;
	uint64_t bits = 0;
	bool more = true;

	n = put_raw(L, w, p, max, &bits);
	if (n != 0)
		more = walk_after(L, w, n);
	while (more && n < max && lua_isinteger(L, value)) {
		lua_Integer v = lua_tointeger(L, value);

		bits |= v < 0 ? ~(uint64_t)v : (uint64_t)v;
		fz_le64_store(p + n++ * 8, (uint64_t)v);
		w->n++;
		more = walk_next(L, w);
	}
	end_run(e, n, true, bits);
	return more;
}

/* As put_integers(), for floats. */
static bool
put_floats(struct fz_encoder *e, struct walk *w)
{
	lua_State *L = e->L;
	size_t max, n;
	unsigned char *p = start_run(e, w, &max);
	int value = w->key + 1;
	uint64_t unused = 0;
	bool more = true;

	n = put_raw(L, w, p, max, &unused);
	if (n != 0)
		more = walk_after(L, w, n);
	while (more && n < max && lua_type(L, value) == LUA_TNUMBER &&
	       !lua_isinteger(L, value)) {
		fz_le64_store(
		    p + n++ * 8, fz_scalar_float_bits(lua_tonumber(L, value)));
		w->n++;
		more = walk_next(L, w);
	}
	end_run(e, n, false, 0);
	return more;
}

/*
 * Set the length of the array part in the message to the number of written
 * elements, in the same number of bytes.
 */
static void
shorten_array(struct fz_encoder *e, const struct walk *w)
{
	uint64_t n = (uint64_t)w->n;
	unsigned char *p = e->out->data + w->narr_at;
	unsigned char *last = e->out->data + w->npairs_at - 1;

	for (; p < last; n >>= 7)
		*p++ = (unsigned char)(n | 0x80);
	*last = (unsigned char)n;
}

/*
 * Write the rest of the array part up to the border, after an element that came
 * out of order. Stops if there are too many holes, because a table of 63
 * elements may have a border of 2^62. The remaining elements follow as pairs.
 */
static void
put_rest(struct fz_encoder *e, struct walk *w, struct fz_path *here)
{
	lua_Integer holes = HOLES_MAX;

	while (w->n < w->narr) {
		if (lua_rawgeti(e->L, w->t, w->n + 1) == LUA_TNIL)
			holes--;
		else
			holes++;
		if (holes < 0) {
			lua_pop(e->L, 1);
			w->narr = w->n;
			shorten_array(e, w);
			return;
		}
		here->index = ++w->n;
		fz_encode_value(e, lua_gettop(e->L), here);
		lua_pop(e->L, 1);
	}
}

/* Write the array part, if the first key is an integer. */
static inline void
put_array(struct fz_encoder *e, struct walk *w, struct fz_path *here)
{
	lua_State *L = e->L;
	int value = w->key + 1;
	bool more = lua_tointeger(L, w->key) == 1;

	while (more) {
		int type = lua_type(L, value);

		if (type != LUA_TNUMBER) {
			here->index = ++w->n;
			fz_encode_at(e, fz_encode_room(e, FZ_ENCODE_SMALL),
			    value, type, here);
			more = walk_next(L, w);
		} else if (lua_isinteger(L, value)) {
			more = put_integers(e, w);
		} else {
			more = put_floats(e, w);
		}
	}
	if (w->n < w->narr)
		put_rest(e, w, here);
}

/* Widen the count of pairs from 1 to 4 bytes, for 255 pairs or more. */
static void
widen_count(struct fz_encoder *e, const struct walk *w)
{
	unsigned char *p;

	(void)fz_encode_room(e, 3);
	p = e->out->data + w->npairs_at;
	memmove(p + 4, p + 1, (size_t)(e->p - p - 1));
	e->p += 3;
	for (unsigned i = e->nsplices; i > 0; i--) {
		if (e->splices[i - 1] <= w->npairs_at)
			break;
		e->splices[i - 1] += 3;
	}
	e->out->data[w->narr_at - 1] = FZ_FORMAT_TABLE_WIDE;
}

/* Whether the current key was written with the array part. */
static bool
is_element(lua_State *L, const struct walk *w)
{
	return lua_isinteger(L, w->key) && lua_tointeger(L, w->key) > 0 &&
	       lua_tointeger(L, w->key) <= w->narr;
}

/*
 * Write the current pair and all further ones, except those of the array part.
 */
static inline void
put_pairs(struct fz_encoder *e, struct walk *w, struct fz_path *here)
{
	lua_State *L = e->L;
	int key = w->key;
	uint32_t n = 0;

	here->key = key;
	here->kind = FZ_PATH_FIELD;
	do {
		unsigned char *p = fz_encode_room(e, 2 * FZ_ENCODE_SMALL);
		unsigned char *end = p;

		if (lua_type(L, key) == LUA_TSTRING)
			end = fz_encode_string_ref(e, p, lua_topointer(L, key));
		if (end == p) {
			if (is_element(L, w)) {
				lua_pop(L, 1);
				continue;
			}
			here->kind = FZ_PATH_KEY;
			fz_encode_value(e, key, here);
			here->kind = FZ_PATH_FIELD;
			end = fz_encode_room(e, FZ_ENCODE_SMALL);
		}
		fz_encode_at(e, end, key + 1, lua_type(L, key + 1), here);
		lua_pop(L, 1);
		if (++n == UINT8_MAX)
			widen_count(e, w);
	} while (lua_next(L, w->t));
	if (n < UINT8_MAX)
		e->out->data[w->npairs_at] = (unsigned char)n;
	else
		fz_le32_store(e->out->data + w->npairs_at, n);
}

/* Check the stack every 8 levels; each level takes 5 slots at most. */
static void
enter_level(struct fz_encoder *e)
{
	if (e->level++ % 8 == 0)
		luaL_checkstack(e->L, 64, "a table is too deep");
}

static inline void
put_header(struct fz_encoder *e, struct walk *w)
{
	unsigned char *p = fz_encode_room(e, 12);
	size_t at = fz_encode_len(e);

	p[0] = FZ_FORMAT_TABLE;
	p[1] = (unsigned char)w->narr;
	e->p = w->narr < 0x80
		   ? p + 2
		   : fz_encode_store_varint(p + 1, (uint64_t)w->narr);
	w->narr_at = at + 1;
	w->npairs_at = at + (size_t)(e->p - p);
	*e->p++ = 0;
}

/*
 * Write the table at `t`, ignoring its metatable. Its length is read only if
 * the first key is an integer, because lua_rawlen searches the hash part.
 */
void
fz_encode_contents(struct fz_encoder *e, int t, const struct fz_path *at)
{
	struct fz_path here = { at, FZ_PATH_INDEX, 0, 0, NULL };
	struct walk w = { .t = t, .key = lua_gettop(e->L) + 1 };
	lua_Unsigned narr = 0;

	enter_level(e);
	lua_pushnil(e->L);
	w.pair = lua_next(e->L, t) != 0;
	if (w.pair && lua_isinteger(e->L, w.key))
		narr = lua_rawlen(e->L, t);
	w.narr = narr < INT_MAX ? (lua_Integer)narr : INT_MAX;
	put_header(e, &w);
	if (w.narr != 0)
		put_array(e, &w, &here);
	if (w.pair)
		put_pairs(e, &w, &here);
	e->level--;
}
