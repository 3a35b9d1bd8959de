/* encode.h - what the files of the encoder share. */
#ifndef FZ_ENCODE_H
#define FZ_ENCODE_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include <lua.h>

#include "base/buf.h"
#include "bind/place.h"
#include "bind/refmap.h"

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
 */
struct fz_encoder {
	lua_State *L;
	unsigned char *p;         /* where the next byte goes, in `out` */
	const unsigned char *end; /* of the room there */
	struct fz_buf *out;       /* its `len` is behind; fz_encode_sync() */
	const void *globals;      /* NULL until asked for */
	bool busy;
	uint8_t flags;
	int later;   /* stack index: {tables whose bodies are due} or nil */
	int kept;    /* stack index: {what __fzpack made}, alive till the end */
	int spliced; /* {strings left out} or nil; 0 where none may be */
	unsigned nsplices;
	int value;          /* the value being written, from 1 */
	unsigned level;     /* C calls deep, in tables, objects, functions */
	lua_Integer nlater; /* in the list `later` */
	lua_Integer nkept;
	uint32_t nobjects; /* numbers given to tables, functions, ... */
	uint32_t ncells;   /* numbers given to upvalues */
	uint32_t nstrings; /* strings in the receiver's list */
	uint32_t stamp;    /* of this message's glances */
	size_t splices[FZ_ENCODE_SPLICES]; /* where they belong in `out` */
	struct fz_refmap objects;          /* objects and upvalues */
	struct fz_refmap strings;          /* strings in the list */
	struct fz_encode_glance glances[FZ_ENCODE_GLANCES];
};

/*
 * fz_codec_encode() into a string, which is pushed. Long strings are copied
 * once, from the value to there; `out` is empty and scratch. [-0, +1, e]
 */
void fz_encode_pack(lua_State *L, int first, int n, struct fz_buf *out);

/* All of these write into the message and may raise. */

/* encode.c: any value. */
void fz_encode_value(struct fz_encoder *e, int idx, const struct fz_place *at);

/* True, and a reference is written, where the object at `p` came before. */
bool fz_encode_known(
    struct fz_encoder *e, const void *p, const struct fz_place *at);

/*
 * The table at `t`, whatever its metatable, or its promise for later. With
 * `classed` the name of its class is on top.
 */
void fz_encode_plain(
    struct fz_encoder *e, int t, bool classed, const struct fz_place *at);

/* The bodies of promised tables, down to `mark` of them. */
void fz_encode_later(struct fz_encoder *e, lua_Integer mark);

/* Put the value at `idx` into a list as number `i`; see `later`, `kept`. */
void fz_encode_keep(lua_State *L, int list, lua_Integer i, int idx);

/* The table of globals of the state. */
const void *fz_encode_globals(struct fz_encoder *e);

/* Raise: the value at `at` cannot be sent; there is no memory. */
int fz_encode_refuse(
    struct fz_encoder *e, const char *what, const struct fz_place *at);
int fz_encode_no_memory(struct fz_encoder *e);

/*
 * The buffer gets its length; after others appended to it, go on behind
 * that; make room for `n` more bytes.
 */
void fz_encode_sync(struct fz_encoder *e);
void fz_encode_resume(struct fz_encoder *e);
void fz_encode_grow(struct fz_encoder *e, size_t n);
void fz_encode_varint(struct fz_encoder *e, uint64_t v);

/* Store a number in at most 9 bytes. Returns its end. */
unsigned char *fz_encode_store_integer(unsigned char *p, lua_Integer v);
unsigned char *fz_encode_store_float(unsigned char *p, lua_Number v);

/* encode_string.c: the string at `idx`. */
void fz_encode_string(struct fz_encoder *e, int idx);

/*
 * encode_object.c: the object at `idx` by its class; false where it has
 * none, or is a userdata whose class cannot pack it.
 */
bool fz_encode_object(struct fz_encoder *e, int idx, const struct fz_place *at);

/* A userdata; a function with its upvalues, or by name. */
void fz_encode_userdata(
    struct fz_encoder *e, int idx, const struct fz_place *at);
void fz_encode_function(
    struct fz_encoder *e, int idx, const struct fz_place *at);

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
