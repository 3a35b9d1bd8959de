#include "bind/codec.h"

#include <limits.h>
#include <string.h>

#include <lauxlib.h>

#include "base/buf.h"
#include "base/err.h"
#include "bind/encode.h"
#include "bind/format.h"
#include "bind/lerror.h"
#include "bind/names.h"

enum {
	LONG_STRING = 4096,  /* remembered for good at first sight */
	HOLES_MAX = 64,      /* nils an array part may have for nothing */
	STRING_LITERAL = -1, /* a glance at a string not in the list */
};

/* Its address is the registry key of the encoder. */
static const char encoder_key;

int
fz_encode_refuse(
    struct fz_encoder *e, const char *what, const struct fz_place *at)
{
	luaL_checkstack(e->L, 10, NULL);
	lua_pushfstring(e->L, "%s cannot be sent", what);
	fz_place_push_error(e->L, FZ_ERR_UNSENDABLE, at);
	lua_pushinteger(e->L, e->value);
	lua_setfield(e->L, -2, "value");
	return lua_error(e->L);
}

int
fz_encode_no_memory(lua_State *L)
{
	struct fz_err err;

	fz_err_set(&err, FZ_ERR_MEMORY, "no memory for a message");
	return fz_lerror_raise(L, &err);
}

static void
put_integer(struct fz_buf *out, lua_Integer v)
{
	unsigned char *p = fz_buf_reserve(out, 9);
	uint64_t u = (uint64_t)v;
	uint64_t bits = v < 0 ? ~u : u; /* sign taken away */

	if (p == NULL)
		return;
	if (bits < 0x80) {
		if (v < 0)
			*p++ = FZ_FORMAT_INT8;
		*p = (unsigned char)u;
		out->len += v < 0 ? 2 : 1;
	} else if (bits < 0x8000) {
		p[0] = FZ_FORMAT_INT16;
		p[1] = (unsigned char)u;
		p[2] = (unsigned char)(u >> 8);
		out->len += 3;
	} else if (bits < 0x80000000) {
		p[0] = FZ_FORMAT_INT32;
		fz_le32_store(p + 1, (uint32_t)u);
		out->len += 5;
	} else {
		p[0] = FZ_FORMAT_INT64;
		fz_le64_store(p + 1, u);
		out->len += 9;
	}
}

static uint64_t
float_bits(lua_Number v)
{
	uint64_t u;

	memcpy(&u, &v, sizeof(u));
	return u;
}

static void
put_float_bits(struct fz_buf *out, uint64_t bits)
{
	unsigned char *p = fz_buf_reserve(out, 9);

	if (p == NULL)
		return;
	p[0] = FZ_FORMAT_FLOAT;
	fz_le64_store(p + 1, bits);
	out->len += 9;
}

static void
put_literal(struct fz_buf *out, const char *s, size_t len)
{
	if (len < 64) {
		unsigned char *p = fz_buf_reserve(out, 1 + len);

		if (p == NULL)
			return;
		p[0] = (unsigned char)(FZ_FORMAT_STR6 + len);
		memcpy(p + 1, s, len);
		out->len += 1 + len;
		return;
	}
	if (len <= UINT8_MAX) {
		fz_buf_put_u8(out, FZ_FORMAT_STR8);
		fz_buf_put_u8(out, (uint8_t)len);
	} else if (len <= UINT32_MAX) {
		fz_buf_put_u8(out, FZ_FORMAT_STR32);
		fz_buf_put_u32(out, (uint32_t)len);
	} else {
		fz_buf_put_u8(out, FZ_FORMAT_STR64);
		fz_buf_put_u64(out, len);
	}
	fz_buf_put(out, s, len);
}

static void
put_string_ref(struct fz_buf *out, uint32_t number)
{
	if (number < 32) {
		fz_buf_put_u8(out, (uint8_t)(FZ_FORMAT_SREF5 + number));
	} else if (number <= UINT8_MAX) {
		fz_buf_put_u8(out, FZ_FORMAT_SREF8);
		fz_buf_put_u8(out, (uint8_t)number);
	} else {
		fz_buf_put_u8(out, FZ_FORMAT_SREF32);
		fz_buf_put_u32(out, number);
	}
}

/* The string enters the receiver's list; returns its place there. */
static uint32_t
define_string(struct fz_encoder *e, const char *s, size_t len)
{
	uint32_t number = e->nstrings;
	bool fresh = false;

	if (number >= INT32_MAX ||
	    fz_refmap_enter(&e->strings, e->L, s, number, &fresh) == NULL)
		fz_encode_no_memory(e->L);
	e->nstrings++;
	e->flags |= FZ_FORMAT_HAS_STRINGS;
	fz_buf_put_u8(e->out, FZ_FORMAT_DEF);
	put_literal(e->out, s, len);
	return number;
}

/*
 * The second time a string comes it enters the receiver's list, so that one
 * that comes once costs nothing there and a key of many records little.
 */
void
fz_encode_string(struct fz_encoder *e, int idx)
{
	size_t len;
	const char *s = lua_tolstring(e->L, idx, &len);
	struct fz_encode_glance *g =
	    &e->glances[((uintptr_t)s >> 4) % FZ_ENCODE_GLANCES];
	const struct fz_refmap_slot *slot;

	if (g->bytes == s && g->stamp == e->stamp) {
		if (g->number == STRING_LITERAL)
			g->number = (int32_t)define_string(e, s, len);
		else
			put_string_ref(e->out, (uint32_t)g->number);
		return;
	}
	g->bytes = s;
	g->stamp = e->stamp;
	g->number = STRING_LITERAL;
	slot = fz_refmap_find(&e->strings, s);
	if (slot != NULL) {
		g->number = (int32_t)slot->number;
		put_string_ref(e->out, slot->number);
	} else if (len >= LONG_STRING) {
		g->number = (int32_t)define_string(e, s, len);
	} else {
		put_literal(e->out, s, len);
	}
}

/* A table while lua_next goes over it; its key lies on the stack. */
struct walk {
	int t;            /* stack index of the table */
	lua_Integer narr; /* elements 1..narr are the array part */
	lua_Integer n;    /* of these, written so far */
	bool pair;        /* a key out of order and its value are on top */
	size_t narr_at;   /* where in the message narr stands */
	size_t npairs_at; /* where the number of pairs stands */
};

/*
 * From the key on top to the next: true where that is element n + 1. Going
 * on with lua_next from elements fetched by lua_rawgeti would lose keys.
 */
static inline bool
walk_next(lua_State *L, struct walk *w)
{
	if (!lua_next(L, w->t))
		return false;
	if (w->n < w->narr && lua_isinteger(L, -2) &&
	    lua_tointeger(L, -2) == w->n + 1)
		return true;
	w->pair = true;
	return false;
}

/* Write `n` raw integers in `width` bytes each instead of 8. */
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
 * `n` numbers stand raw behind a reserved header of 3 bytes; `bits` has all
 * bits set that any of the integers needs.
 */
static void
end_run(struct fz_buf *out, size_t n, bool integers, uint64_t bits)
{
	unsigned char *p = out->data + out->len;
	uint64_t few[FZ_FORMAT_RUN_MIN];
	unsigned shift;

	if (n < FZ_FORMAT_RUN_MIN) {
		for (size_t i = 0; i < n; i++)
			few[i] = fz_le64_load(p + 3 + i * 8);
		for (size_t i = 0; i < n; i++) {
			if (integers)
				put_integer(out, (lua_Integer)few[i]);
			else
				put_float_bits(out, few[i]);
		}
		return;
	}
	shift = bits < 0x80 ? 0 : bits < 0x8000 ? 1 : bits < 0x80000000 ? 2 : 3;
	if (integers)
		narrow(p + 3, n, 1U << shift);
	p[0] = (unsigned char)(integers ? FZ_FORMAT_RUN8 + shift
					: FZ_FORMAT_RUN_FLOAT);
	p[1] = (unsigned char)(n - 1);
	p[2] = (unsigned char)((n - 1) >> 8);
	out->len += 3 + (n << (integers ? shift : 3));
}

/* Room for a run of at most this many numbers, or NULL. */
static unsigned char *
start_run(struct fz_buf *out, const struct walk *w, size_t *max)
{
	unsigned char *p;

	*max = FZ_FORMAT_RUN_MAX;
	if (w->narr - w->n < FZ_FORMAT_RUN_MAX)
		*max = (size_t)(w->narr - w->n);
	p = fz_buf_reserve(out, 3 + *max * 8);
	return p != NULL ? p + 3 : NULL;
}

/* Integers from element n + 1 on, which is on top. As walk_next(). */
static bool
put_integers(struct fz_buf *out, lua_State *L, struct walk *w)
{
	size_t max, n = 0;
	unsigned char *p = start_run(out, w, &max);
	uint64_t bits = 0;
	bool more;

	if (p == NULL) {
		w->n++;
		lua_pop(L, 1);
		return walk_next(L, w);
	}
	do {
		lua_Integer v = lua_tointeger(L, -1);

		bits |= v < 0 ? ~(uint64_t)v : (uint64_t)v;
		fz_le64_store(p + n++ * 8, (uint64_t)v);
		w->n++;
		lua_pop(L, 1);
		more = walk_next(L, w);
	} while (more && n < max && lua_isinteger(L, -1));
	end_run(out, n, true, bits);
	return more;
}

/* The same for floats. */
static bool
put_floats(struct fz_buf *out, lua_State *L, struct walk *w)
{
	size_t max, n = 0;
	unsigned char *p = start_run(out, w, &max);
	bool more;

	if (p == NULL) {
		w->n++;
		lua_pop(L, 1);
		return walk_next(L, w);
	}
	do {
		fz_le64_store(p + n++ * 8, float_bits(lua_tonumber(L, -1)));
		w->n++;
		lua_pop(L, 1);
		more = walk_next(L, w);
	} while (more && n < max && lua_type(L, -1) == LUA_TNUMBER &&
		 !lua_isinteger(L, -1));
	end_run(out, n, false, 0);
	return more;
}

/* The array part is as long as what was written: same number of bytes. */
static void
cut_array(struct fz_buf *out, const struct walk *w)
{
	uint64_t n = (uint64_t)w->n;
	unsigned char *p = out->data + w->narr_at;
	unsigned char *last = out->data + w->npairs_at - 1;

	for (; p < last; n >>= 7)
		*p++ = (unsigned char)(n | 0x80);
	*last = (unsigned char)n;
}

/*
 * Elements behind the first that did not come in order. A border can lie as
 * far out as 2^62 in a table of 63 elements: more holes than elements, and
 * the rest are pairs.
 */
static void
put_rest(struct fz_encoder *e, struct walk *w, struct fz_place *here)
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
			if (!e->out->failed)
				cut_array(e->out, w);
			return;
		}
		here->index = ++w->n;
		fz_encode_value(e, lua_gettop(e->L), here);
		lua_pop(e->L, 1);
	}
}

static void
put_array(struct fz_encoder *e, struct walk *w, struct fz_place *here)
{
	lua_State *L = e->L;
	bool more = walk_next(L, w);

	here->kind = FZ_PLACE_INDEX;
	while (more) {
		if (lua_isinteger(L, -1)) {
			more = put_integers(e->out, L, w);
		} else if (lua_type(L, -1) == LUA_TNUMBER) {
			more = put_floats(e->out, L, w);
		} else {
			here->index = ++w->n;
			fz_encode_value(e, lua_gettop(L), here);
			lua_pop(L, 1);
			more = walk_next(L, w);
		}
	}
	if (w->n < w->narr)
		put_rest(e, w, here);
}

/* 255 pairs and more are counted in 4 bytes. */
static void
widen(struct fz_buf *out, const struct walk *w)
{
	unsigned char *p;

	if (fz_buf_reserve(out, 3) == NULL)
		return;
	p = out->data + w->npairs_at;
	memmove(p + 4, p + 1, out->len - w->npairs_at - 1);
	out->len += 3;
	out->data[w->narr_at - 1] = FZ_FORMAT_TABLE_WIDE;
}

/* The pair on top and all that follow, but not the array part again. */
static void
put_pairs(struct fz_encoder *e, struct walk *w, struct fz_place *here)
{
	lua_State *L = e->L;
	int key = lua_gettop(L) - 1;
	uint32_t n = 0;

	here->key = key;
	do {
		int type = lua_type(L, key);

		if (type == LUA_TSTRING) {
			fz_encode_string(e, key);
		} else if (lua_isinteger(L, key) && lua_tointeger(L, key) > 0 &&
			   lua_tointeger(L, key) <= w->narr) {
			lua_pop(L, 1);
			continue;
		} else {
			here->kind = FZ_PLACE_KEY;
			fz_encode_value(e, key, here);
		}
		here->kind = FZ_PLACE_FIELD;
		fz_encode_value(e, key + 1, here);
		lua_pop(L, 1);
		if (++n == UINT8_MAX)
			widen(e->out, w);
	} while (lua_next(L, w->t));
	if (e->out->failed)
		return;
	if (n < UINT8_MAX)
		e->out->data[w->npairs_at] = (unsigned char)n;
	else
		fz_le32_store(e->out->data + w->npairs_at, n);
}

/* The stack is looked after every 8 levels; each takes 5 slots at most. */
static void
enter_level(struct fz_encoder *e)
{
	if (e->level++ % 8 == 0)
		luaL_checkstack(e->L, 64, "a table is too deep");
}

/* The table at `t`, whatever its metatable. */
static void
put_contents(struct fz_encoder *e, int t, const struct fz_place *at)
{
	struct fz_place here = { at, FZ_PLACE_INDEX, 0, 0, NULL };
	struct walk w = { t, 0, 0, false, e->out->len + 1, 0 };
	lua_Unsigned narr = lua_rawlen(e->L, t);

	enter_level(e);
	w.narr = narr < INT_MAX ? (lua_Integer)narr : INT_MAX;
	fz_buf_put_u8(e->out, FZ_FORMAT_TABLE);
	fz_buf_put_varint(e->out, (uint64_t)w.narr);
	w.npairs_at = e->out->len;
	fz_buf_put_u8(e->out, 0);
	lua_pushnil(e->L);
	put_array(e, &w, &here);
	if (w.pair)
		put_pairs(e, &w, &here);
	e->level--;
}

bool
fz_encode_known(struct fz_encoder *e, const void *p, const struct fz_place *at)
{
	bool fresh = false;
	const struct fz_refmap_slot *slot =
	    fz_refmap_enter(&e->objects, e->L, p, e->nobjects, &fresh);

	if (slot == NULL || e->nobjects >= FZ_ENCODE_OPEN - 1)
		fz_encode_no_memory(e->L);
	if (fresh) {
		e->nobjects++;
		return false;
	}
	if (slot->number & FZ_ENCODE_OPEN)
		fz_encode_refuse(e, "an object inside its own __fzpack", at);
	e->flags |= FZ_FORMAT_HAS_REFS;
	fz_buf_put_u8(e->out, FZ_FORMAT_REF);
	fz_buf_put_varint(e->out, slot->number);
	return true;
}

void
fz_encode_keep(lua_State *L, int list, lua_Integer i, int idx)
{
	if (lua_isnil(L, list)) {
		lua_newtable(L);
		lua_replace(L, list);
	}
	lua_pushvalue(L, idx);
	lua_rawseti(L, list, i);
}

void
fz_encode_plain(
    struct fz_encoder *e, int t, bool classed, const struct fz_place *at)
{
	if (e->level >= FZ_FORMAT_DEPTH) {
		e->flags |= FZ_FORMAT_HAS_LATER;
		fz_buf_put_u8(e->out, FZ_FORMAT_LATER);
		luaL_checkstack(e->L, 8, NULL);
		fz_encode_keep(e->L, e->later, ++e->nlater, t);
		return;
	}
	if (classed) {
		fz_buf_put_u8(e->out, FZ_FORMAT_CLASS);
		fz_encode_string(e, lua_gettop(e->L));
	}
	put_contents(e, t, at);
}

void
fz_encode_later(struct fz_encoder *e, lua_Integer mark)
{
	lua_State *L = e->L;
	struct fz_place deep = { NULL, FZ_PLACE_DEEP, 0, 0, NULL };
	int top = lua_gettop(L);

	for (lua_Integer i = mark + 1; i <= e->nlater; i++) {
		luaL_checkstack(L, 16, "a table is too deep");
		lua_rawgeti(L, e->later, i);
		if (fz_names_class(L, top + 1)) {
			fz_buf_put_u8(e->out, FZ_FORMAT_CLASS);
			fz_encode_string(e, lua_gettop(L));
		}
		put_contents(e, top + 1, &deep);
		lua_settop(L, top);
	}
	e->nlater = mark;
}

const void *
fz_encode_globals(struct fz_encoder *e)
{
	if (e->globals == NULL) {
		lua_rawgeti(e->L, LUA_REGISTRYINDEX, LUA_RIDX_GLOBALS);
		e->globals = lua_topointer(e->L, -1);
		lua_pop(e->L, 1);
	}
	return e->globals;
}

static void
put_table(struct fz_encoder *e, int idx, const struct fz_place *at)
{
	const void *p = lua_topointer(e->L, idx);

	if (p == fz_encode_globals(e)) {
		e->flags |= FZ_FORMAT_HAS_FUNCTIONS;
		fz_buf_put_u8(e->out, FZ_FORMAT_GLOBALS);
		return;
	}
	if (fz_encode_known(e, p, at))
		return;
	if (lua_getmetatable(e->L, idx)) {
		lua_pop(e->L, 1);
		if (fz_encode_object(e, idx, at))
			return;
	}
	fz_encode_plain(e, idx, false, at);
}

void
fz_encode_value(struct fz_encoder *e, int idx, const struct fz_place *at)
{
	lua_State *L = e->L;

	switch (lua_type(L, idx)) {
	case LUA_TNIL:
		fz_buf_put_u8(e->out, FZ_FORMAT_NIL);
		break;
	case LUA_TBOOLEAN:
		fz_buf_put_u8(e->out,
		    lua_toboolean(L, idx) ? FZ_FORMAT_TRUE : FZ_FORMAT_FALSE);
		break;
	case LUA_TNUMBER:
		if (lua_isinteger(L, idx))
			put_integer(e->out, lua_tointeger(L, idx));
		else
			put_float_bits(
			    e->out, float_bits(lua_tonumber(L, idx)));
		break;
	case LUA_TSTRING:
		fz_encode_string(e, idx);
		break;
	case LUA_TTABLE:
		put_table(e, idx, at);
		break;
	case LUA_TFUNCTION:
		fz_encode_function(e, idx, at);
		break;
	case LUA_TUSERDATA:
		fz_encode_userdata(e, idx, at);
		break;
	case LUA_TTHREAD:
		fz_encode_refuse(e, "a coroutine", at);
		break;
	default:
		fz_encode_refuse(e, "a light userdata", at);
	}
}

static int
encoder_gc(lua_State *L)
{
	struct fz_encoder *e = lua_touserdata(L, 1);

	fz_refmap_fini(&e->objects, L);
	fz_refmap_fini(&e->strings, L);
	return 0;
}

/* A new encoder for this and later messages. [+1] */
static struct fz_encoder *
encoder_new(lua_State *L)
{
	struct fz_encoder *e = lua_newuserdatauv(L, sizeof(*e), 0);

	memset(e, 0, sizeof(*e));
	fz_refmap_init(&e->objects);
	fz_refmap_init(&e->strings);
	lua_createtable(L, 0, 1);
	lua_pushcfunction(L, encoder_gc);
	lua_setfield(L, -2, "__gc");
	lua_setmetatable(L, -2);
	lua_pushvalue(L, -1);
	lua_rawsetp(L, LUA_REGISTRYINDEX, &encoder_key);
	return e;
}

/* An encoder at the top of the stack that no other message uses. [+1] */
static struct fz_encoder *
encoder_get(lua_State *L)
{
	struct fz_encoder *e;

	lua_rawgetp(L, LUA_REGISTRYINDEX, &encoder_key);
	e = lua_touserdata(L, -1);
	if (e == NULL || e->busy) {
		lua_pop(L, 1);
		e = encoder_new(L);
	}
	return e;
}

static void
encoder_start(struct fz_encoder *e, lua_State *L, struct fz_buf *out)
{
	e->L = L;
	e->out = out;
	e->busy = true;
	e->globals = NULL;
	e->flags = 0;
	e->level = 0;
	e->nlater = e->nkept = 0;
	e->nobjects = e->ncells = e->nstrings = 0;
	fz_refmap_clear(&e->objects, L);
	fz_refmap_clear(&e->strings, L);
	if (++e->stamp == 0) {
		memset(e->glances, 0, sizeof(e->glances));
		e->stamp = 1;
	}
}

void
fz_codec_encode(lua_State *L, int first, int n, struct fz_buf *out)
{
	const struct fz_place root = { NULL, FZ_PLACE_ROOT, 0, 0, NULL };
	size_t start = out->len;
	struct fz_encoder *e;
	int top = lua_gettop(L);

	luaL_checkstack(L, 16, "no room to pack");
	e = encoder_get(L);
	encoder_start(e, L, out);
	e->later = top + 2;
	e->kept = top + 3;
	lua_settop(L, top + 3);
	fz_buf_put_u8(out, FZ_FORMAT_VERSION);
	fz_buf_put_u8(out, 0);
	fz_buf_put_varint(out, (uint64_t)n);
	for (e->value = 1; e->value <= n; e->value++)
		fz_encode_value(e, first + e->value - 1, &root);
	fz_encode_later(e, 0);
	if (out->failed)
		fz_encode_no_memory(L);
	out->data[start + 1] = e->flags;
	e->busy = false;
	lua_settop(L, top);
}
