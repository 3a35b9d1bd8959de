/* decode.h - what the files of the decoder share. */
#ifndef FZ_DECODE_H
#define FZ_DECODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <lua.h>

#include "base/buf.h"
#include "value/codec.h"
#include "value/format.h"

/*
 * The bytes are nobody's friend. Element counts are believed up to the
 * length of the message, over all tables together: an element takes a byte.
 */
struct fz_decoder {
	lua_State *L;
	struct fz_reader in;
	const unsigned char *start;
	size_t unclaimed; /* elements that may still be announced */
	size_t due;       /* bodies promised and not yet read */
	uint8_t flags;
	enum fz_codec_trust trust;
	unsigned level; /* C calls deep */
	int shared;     /* stack index of fz_cells_new(), 0: none */
	int strings;    /* stack index: {strings by number + 1} */
	int objects;    /* {tables, functions, ... by number + 1} */
	int cells;      /* {function, upvalue index} of every upvalue; below 0
			   those to be shared: its number, name, version */
	int later;      /* {tables whose bodies are due} */
	lua_Integer nstrings;
	lua_Integer nobjects;
	lua_Integer ncells;
	lua_Integer nnamed; /* to be shared */
	int alias; /* stack index of what the next object is here; 0: itself */
	lua_Integer nlater;
};

/* Raise: the bytes are no message, as `what` says. */
int fz_decode_refuse(const struct fz_decoder *d, const char *what);

/* Log, the first time, that the class named on top is not registered here. */
void fz_decode_miss_class(struct fz_decoder *d);

/* One level deeper on the C stack; the caller lowers `level` again. */
void fz_decode_enter(struct fz_decoder *d);

uint64_t fz_decode_varint(struct fz_decoder *d);

/* Push the next value; the same where it must be a string. [-0, +1, e] */
void fz_decode_value(struct fz_decoder *d);
void fz_decode_name(struct fz_decoder *d);

/* Read the bodies of promised tables, down to `mark` of them. */
void fz_decode_later(struct fz_decoder *d, lua_Integer mark);

/* decode_object.c: push what follows the tag that each is named for. */
void fz_decode_packed(struct fz_decoder *d);
void fz_decode_function(struct fz_decoder *d);
void fz_decode_cfunction(struct fz_decoder *d);
void fz_decode_module(struct fz_decoder *d);
void fz_decode_globals(struct fz_decoder *d);
void fz_decode_here(struct fz_decoder *d);

/* The message is read: later ones find the cells that it brought. */
void fz_decode_share(struct fz_decoder *d);

/* The next `n` bytes; raises where fewer are left. */
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

/* The value on top is the next object. */
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
