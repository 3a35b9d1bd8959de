#include <string.h>

#include "base/buf.h"
#include "bind/encode.h"
#include "bind/format.h"

enum {
	LONG_STRING = 4096,  /* remembered for good at first sight */
	STRING_LITERAL = -1, /* a glance at a string not in the list */
};

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
		fz_encode_no_memory(e);
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
