#include "codec/encode_writer.h"

#include <string.h>

#include <lauxlib.h>

#include "base/buf.h"
#include "codec/format.h"

enum {
	/*
	 * minimum number of bytes of a string that is numbered when it is first
	 * written; a shorter one is numbered when it is written again
	 */
	NUMBERED_AT_ONCE = 4096,
	/* minimum number of bytes of a string that is left out of the buffer */
	SPLICE_MIN = 64 * 1024,
};

/* Leave the bytes of the string out of the buffer, and note their offset. */
static void
splice(struct fz_encoder *e, int idx)
{
	luaL_checkstack(e->L, 4, NULL);
	e->splices[e->nsplices++] = fz_encode_len(e);
	e->listed = true;
	lua_pushvalue(e->L, idx);
	lua_rawseti(e->L, e->list, -(lua_Integer)e->nsplices);
}

/* Write the string at `idx` with its bytes. */
static void
put_literal(struct fz_encoder *e, int idx)
{
	size_t len;
	const char *s = lua_tolstring(e->L, idx, &len);
	bool apart =
	    len >= SPLICE_MIN && e->leaves && e->nsplices < FZ_ENCODE_SPLICES;
	unsigned char *p = fz_encode_room(e, 9 + (apart ? 0 : len));

	if (len < 64) {
		*p++ = (unsigned char)(FZ_FORMAT_STR6 + len);
	} else if (len <= UINT8_MAX) {
		*p++ = FZ_FORMAT_STR8;
		*p++ = (unsigned char)len;
	} else if (len <= UINT32_MAX) {
		*p = FZ_FORMAT_STR32;
		fz_le32_store(p + 1, (uint32_t)len);
		p += 5;
	} else {
		*p = FZ_FORMAT_STR64;
		fz_le64_store(p + 1, len);
		p += 9;
	}
	e->p = p;
	if (apart) {
		splice(e, idx);
	} else {
		memcpy(p, s, len);
		e->p += len;
	}
}

/* Store the bytes of a reference to string `number` in the cache entry. */
static void
set_reference(struct fz_encode_recent *g, uint32_t number)
{
	if (number < 32) {
		g->ref[0] = (unsigned char)(FZ_FORMAT_SREF5 + number);
		g->len = 1;
	} else if (number <= UINT8_MAX) {
		g->ref[0] = FZ_FORMAT_SREF8;
		g->ref[1] = (unsigned char)number;
		g->len = 2;
	} else {
		g->ref[0] = FZ_FORMAT_SREF32;
		fz_le32_store(g->ref + 1, number);
		g->len = 5;
	}
}

/* Write the string so that the receiver numbers it. Returns the number. */
static uint32_t
define_string(struct fz_encoder *e, int idx)
{
	const void *string = lua_topointer(e->L, idx);
	uint32_t number = e->nstrings;
	bool fresh = false;

	if (number == UINT32_MAX ||
	    fz_refmap_enter(&e->strings, e->L, string, number, &fresh) == NULL)
		fz_encode_no_memory(e);
	e->nstrings++;
	e->flags |= FZ_FORMAT_HAS_STRINGS;
	fz_encode_u8(e, FZ_FORMAT_DEF);
	put_literal(e, idx);
	return number;
}

/*
 * Write a string. A short string is numbered when it occurs for the second
 * time. So a string that occurs once costs the receiver nothing, and a key that
 * many tables have costs little.
 */
void
fz_encode_string(struct fz_encoder *e, int idx)
{
	const void *string = lua_topointer(e->L, idx);
	struct fz_encode_recent *g = fz_encode_recent(e, string);
	bool again = g->string == string && g->stamp == e->stamp;
	const struct fz_refmap_entry *entry;

	if (!again) {
		g->string = string;
		g->stamp = e->stamp;
		g->len = 0;
		if (e->full)
			fz_encode_keep(e, idx);
		entry = fz_refmap_find(&e->strings, string);
		if (entry != NULL)
			set_reference(g, entry->number);
	}
	if (g->len != 0) {
		fz_encode_bytes(e, g->ref, g->len);
		return;
	}
	if (again || lua_rawlen(e->L, idx) >= NUMBERED_AT_ONCE)
		set_reference(g, define_string(e, idx));
	else
		put_literal(e, idx);
}
