/* decode.h - shared by the files of the decoder. */
#ifndef FZ_DECODE_H
#define FZ_DECODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <lua.h>

#include "base/buf.h"
#include "codec/codec.h"
#include "codec/format.h"

/*
 * The decoder of one message. It does not trust the message. Each element takes
 * at least one byte, so the element counts of all tables together cannot exceed
 * the length of the message.
 */
struct fz_decoder {
	lua_State *L;
	struct fz_reader in;
	const unsigned char *start;
	/* number of elements that further tables may announce */
	size_t unclaimed;
	size_t due; /* number of postponed tables that are not read yet */
	uint8_t flags;
	enum fz_codec_trust trust;
	unsigned level; /* nesting of C calls */
	int shared;     /* stack index of fz_cells_new(); 0: none */
	int strings;    /* stack index: {number + 1 -> string} */
	int objects;    /* stack index: {number + 1 -> object} */
	/*
	 * stack index: {function, upvalue index} of each upvalue; at negative
	 * indexes the number, name and version of each upvalue to share
	 */
	int cells;
	int later; /* stack index: {postponed tables} */
	lua_Integer nstrings;
	lua_Integer nobjects;
	lua_Integer ncells;
	lua_Integer nnamed; /* number of upvalues to share */
	/*
	 * stack index of the local object that replaces the next object; or 0
	 */
	int alias;
	lua_Integer nlater;
};

/* Raise an error: the bytes are not a message because of `what`. */
int fz_decode_refuse(const struct fz_decoder *d, const char *what);

/*
 * The class named on top is not registered here: log that once, or raise,
 * depending on the trust.
 */
void fz_decode_miss_class(struct fz_decoder *d);

/* Enter one more C call; the caller decrements `level` afterwards. */
void fz_decode_enter(struct fz_decoder *d);

uint64_t fz_decode_varint(struct fz_decoder *d);

/*
 * fz_decode_value(): push the next value. fz_decode_name(): push the next
 * value, or raise unless it is a string. [-0, +1, e]
 */
void fz_decode_value(struct fz_decoder *d);
void fz_decode_name(struct fz_decoder *d);

/* Read postponed tables, until `mark` of them are left. */
void fz_decode_later(struct fz_decoder *d, lua_Integer mark);

/*
 * Each function pushes the value that follows one tag. The name of the function
 * says which tag.
 */
void fz_decode_packed(struct fz_decoder *d);
void fz_decode_function(struct fz_decoder *d);
void fz_decode_cfunction(struct fz_decoder *d);
void fz_decode_module(struct fz_decoder *d);
void fz_decode_globals(struct fz_decoder *d);
void fz_decode_here(struct fz_decoder *d);

/* After a message was read: note its new cells, for later messages. */
void fz_decode_share(struct fz_decoder *d);

/* The next `n` bytes; raises if fewer are left. */
static inline const unsigned char *
fz_decode_take(struct fz_decoder *d, uint64_t n)
{
	const unsigned char *p = d->in.p;

	if (n > fz_reader_left(&d->in))
		fz_decode_refuse(d, "cut short");
	d->in.p += n;
	return p;
}

static inline unsigned
fz_decode_u8(struct fz_decoder *d)
{
	return *fz_decode_take(d, 1);
}

/* Number the value on top as the next object. */
static inline void
fz_decode_remember(struct fz_decoder *d)
{
	d->nobjects++;
	if (d->flags & FZ_FORMAT_HAS_REFS) {
		lua_pushvalue(d->L, d->alias != 0 ? d->alias : -1);
		lua_rawseti(d->L, d->objects, d->nobjects);
	}
	d->alias = 0;
}

#endif
