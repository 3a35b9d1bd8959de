/* encode_writer.h - the encoder of one message: its state, and writing bytes.
 */
#ifndef FZ_ENCODE_WRITER_H
#define FZ_ENCODE_WRITER_H

#include <setjmp.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include <lua.h>

#include "base/buf.h"
#include "value/path.h"
#include "value/refmap.h"

enum {
	FZ_ENCODE_GLANCES = 512, /* strings remembered at first sight */
	FZ_ENCODE_SMALL = 16,    /* bytes of room that a small value takes */
	FZ_ENCODE_SPLICES = 16,  /* strings left out of the buffer */
};

/* The number of an object whose __fzpack has not ended has this bit. */
#define FZ_ENCODE_OPEN UINT32_C(0x80000000)

/* A string seen a while ago, and the bytes of a reference to it. */
struct fz_encode_glance {
	const void *string; /* as lua_topointer() has it */
	uint32_t stamp;
	uint32_t len; /* of `ref`; 0 where it is not in the list yet */
	unsigned char ref[8];
};

/*
 * One per message, kept in the registry for the next one. Where a Lua call
 * raises it stays busy, and the next message makes a new one.
 *
 * Objects and strings are remembered by address, which holds only as long as
 * they live. A message is therefore written in one or two passes. The first
 * calls no Lua code and lets no collector step run, so that all that it reaches
 * stays where it is. A packer, a weak table, a function or a userdata needs
 * more than that: there the first pass is given up with nothing done, and the
 * full pass begins at the first value. It holds a reference to all that it
 * remembers.
 */
struct fz_encoder {
	lua_State *L;
	unsigned char *p;         /* where the next byte goes, in `out` */
	const unsigned char *end; /* of the room there */
	struct fz_buf *out;       /* its `len` is behind; fz_encode_sync() */
	const void *globals;      /* NULL until asked for */
	const void *plain; /* a registered metatable without __fzpack, or NULL;
			      in the first pass */
	const void *bare;  /* a metatable that objects cross without, or NULL */
	bool busy;
	bool full;    /* this is the full pass */
	bool modules; /* `loaded` is filled */
	bool leaves;  /* the run: no handles, and long strings stay apart */
	bool listed;  /* `list` was used */
	uint8_t flags;
	int list; /* stack index: {tables whose bodies are due; strings left out
		     of the buffer below 0} */
	int kept; /* stack index, in the full pass: {what is remembered} */
	int record;   /* stack index of one of cells.h, 0: cells have no name */
	uint64_t had; /* receivers have the cells up to this version */
	unsigned nsplices;
	int value;          /* the value being written, from 1 */
	unsigned level;     /* C calls deep, in tables, objects, functions */
	lua_Integer nlater; /* tables in `list` */
	lua_Integer nkept;
	lua_Integer nmissed; /* lines for the log, in `kept` below 1 */
	uint32_t nobjects;   /* numbers given to tables, functions, ... */
	uint32_t ncells;     /* numbers given to upvalues */
	uint32_t nstrings;   /* strings in the receiver's list */
	uint32_t stamp;      /* of this message's glances */
	size_t splices[FZ_ENCODE_SPLICES];  /* where they belong in `out` */
	const struct fz_refmap *registered; /* what crosses by name */
	struct fz_refmap loaded;            /* the same, modules */
	struct fz_refmap objects;           /* objects and upvalues */
	struct fz_refmap strings;           /* strings in the list */
	jmp_buf first_pass;                 /* where it is given up */
	struct fz_encode_glance glances[FZ_ENCODE_GLANCES];
};

/* Hold the value at `idx` until the end of the message; in the full pass. */
void fz_encode_keep(struct fz_encoder *e, int idx);

/* The message is done, or about to raise: the encoder is free for another. */
void fz_encode_release(struct fz_encoder *e);

/* Raise: the value at `at` cannot be sent; there is no memory. */
int fz_encode_refuse(
    struct fz_encoder *e, const char *what, const struct fz_path *at);
int fz_encode_no_memory(struct fz_encoder *e);

/*
 * The buffer gets its length; after others appended to it, go on behind
 * that; make room for `n` more bytes.
 */
void fz_encode_sync(struct fz_encoder *e);
void fz_encode_resume(struct fz_encoder *e);
void fz_encode_grow(struct fz_encoder *e, size_t n);
void fz_encode_varint(struct fz_encoder *e, uint64_t v);

/* Store a varint of at most 10 bytes. Returns its end. */
unsigned char *fz_encode_store_varint(unsigned char *p, uint64_t v);

/* encode_string.c: the string at `idx`. */
void fz_encode_string(struct fz_encoder *e, int idx);

/* Room for `n` more bytes. */
static inline unsigned char *
fz_encode_room(struct fz_encoder *e, size_t n)
{
	if (__builtin_expect((size_t)(e->end - e->p) < n, 0))
		fz_encode_grow(e, n);
	return e->p;
}

static inline void
fz_encode_u8(struct fz_encoder *e, unsigned v)
{
	*fz_encode_room(e, 1) = (unsigned char)v;
	e->p++;
}

static inline void
fz_encode_bytes(struct fz_encoder *e, const void *bytes, size_t n)
{
	memcpy(fz_encode_room(e, n), bytes, n);
	e->p += n;
}

/* How many bytes the buffer holds. */
static inline size_t
fz_encode_len(const struct fz_encoder *e)
{
	return (size_t)(e->p - e->out->data);
}

static inline struct fz_encode_glance *
fz_encode_glance(struct fz_encoder *e, const void *string)
{
	return &e->glances[((uintptr_t)string >> 4) % FZ_ENCODE_GLANCES];
}

/*
 * Store a reference to a string at `p`, which has 8 bytes of room. Returns
 * its end, or `p` where the string is not known to have come twice.
 */
static inline unsigned char *
fz_encode_string_ref(struct fz_encoder *e, unsigned char *p, const void *string)
{
	const struct fz_encode_glance *g = fz_encode_glance(e, string);

	if (g->string != string || g->stamp != e->stamp)
		return p;
	memcpy(p, g->ref, sizeof(g->ref));
	return p + g->len;
}

#endif
