/* encode_writer.h - the state of the encoder of one message, and its output. */
#ifndef FZ_ENCODE_WRITER_H
#define FZ_ENCODE_WRITER_H

#include <setjmp.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include <lua.h>

#include "base/buf.h"
#include "codec/format.h"
#include "codec/path.h"
#include "value/refmap.h"

enum {
	/* number of entries of the cache of recent strings */
	FZ_ENCODE_RECENT = 512,
	FZ_ENCODE_SMALL = 16, /* bytes reserved for a small value */
	/* maximum number of strings that are left out of the buffer */
	FZ_ENCODE_SPLICES = 16,
};

/* Set in the number of an object whose __fzpack is running. */
#define FZ_ENCODE_OPEN UINT32_C(0x80000000)

/* A cache entry: a recent string, and the bytes of a reference to it. */
struct fz_encode_recent {
	const void *string; /* address, as of lua_topointer() */
	uint32_t stamp;
	uint32_t len; /* bytes in `ref`; 0: there is no reference yet */
	unsigned char ref[8];
};

/*
 * One encoder writes a message at a time and is kept in the registry. If a Lua
 * call raises, the encoder stays busy, and the next message makes a new one.
 *
 * Objects and strings are noted by address, which is valid only while they
 * live. Therefore a message takes one or two passes. The first pass calls no
 * Lua code and lets the collector make no step, so that no object can die. It
 * cannot write packers, weak tables, functions and userdata: at such a value it
 * ends without any effect, and the full pass starts again at the first value.
 * The full pass keeps a reference to each object that it notes.
 */
struct fz_encoder {
	lua_State *L;
	unsigned char *p;         /* next byte to write, in `out` */
	const unsigned char *end; /* end of the room in `out` */
	/* the message; its `len` is set by fz_encode_sync() */
	struct fz_buf *out;
	const void *globals; /* address of the globals; NULL until needed */
	/* in the first pass: the last metatable without __fzpack */
	const void *plain;
	/* the last metatable that was left out of the message */
	const void *bare;
	bool busy;
	bool full;    /* this is the full pass */
	bool modules; /* `loaded` contains the loaded modules */
	bool leaves;  /* the message may leave this run: fz_encode_pack() */
	bool listed;  /* the table at stack index `list` is not empty */
	uint8_t flags;
	/*
	 * stack index: {postponed tables}; strings left out of the buffer at
	 * -1, -2, ...
	 */
	int list;
	int kept;     /* stack index: {objects kept alive}, in the full pass */
	int snapshot; /* stack index of the snapshot, see cells.h; 0: none */
	uint64_t had; /* all receivers have the cells up to this version */
	unsigned nsplices;
	int value;      /* number of the current value, from 1 */
	unsigned level; /* nesting of C calls for tables, objects, functions */
	lua_Integer nlater; /* number of tables in `list` */
	lua_Integer nkept;
	/* number of log lines, which are in `kept` at 0, -1, ... */
	lua_Integer nmissed;
	uint32_t nobjects; /* number of numbered tables, functions, ... */
	uint32_t ncells;   /* number of numbered upvalues */
	uint32_t nstrings; /* number of strings that the receiver numbers */
	uint32_t stamp;    /* stamp of the cache entries of this message */
	/* offsets in `out` of the strings that are left out */
	size_t splices[FZ_ENCODE_SPLICES];
	/* registered objects, sent by name */
	const struct fz_refmap *registered;
	struct fz_refmap loaded;  /* loaded modules, sent by name */
	struct fz_refmap objects; /* numbers of objects and upvalues */
	struct fz_refmap strings; /* numbers of strings */
	jmp_buf first_pass;       /* for the early end of the first pass */
	struct fz_encode_recent recent[FZ_ENCODE_RECENT];
};

/* In the full pass: keep the value alive until the end of the message. */
void fz_encode_keep(struct fz_encoder *e, int idx);

/*
 * End the message. Call this also before an error is raised, so that the
 * encoder can be used again.
 */
void fz_encode_release(struct fz_encoder *e);

/* Raise an error: the value at `at` cannot be sent, or there is no memory. */
int fz_encode_refuse(
    struct fz_encoder *e, const char *what, const struct fz_path *at);
int fz_encode_no_memory(struct fz_encoder *e);

/*
 * fz_encode_sync() sets the length of the buffer, so that other code may append
 * to it; fz_encode_resume() continues after that. fz_encode_grow() makes room
 * for `n` more bytes.
 */
void fz_encode_sync(struct fz_encoder *e);
void fz_encode_resume(struct fz_encoder *e);
void fz_encode_grow(struct fz_encoder *e, size_t n);
void fz_encode_varint(struct fz_encoder *e, uint64_t v);

/* Store a varint in 10 bytes at most. Returns its end. */
unsigned char *fz_encode_store_varint(unsigned char *p, uint64_t v);

/* Write the string at `idx`. */
void fz_encode_string(struct fz_encoder *e, int idx);

/* Make room for `n` more bytes and return their address. */
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

/*
 * Begin an object of the receiver: write FZ_FORMAT_HERE and the kind of the
 * object.
 */
static inline void
fz_encode_here(struct fz_encoder *e, unsigned what)
{
	fz_encode_u8(e, FZ_FORMAT_HERE);
	fz_encode_u8(e, what);
}

static inline void
fz_encode_bytes(struct fz_encoder *e, const void *bytes, size_t n)
{
	memcpy(fz_encode_room(e, n), bytes, n);
	e->p += n;
}

/* The number of bytes in the buffer. */
static inline size_t
fz_encode_len(const struct fz_encoder *e)
{
	return (size_t)(e->p - e->out->data);
}

static inline struct fz_encode_recent *
fz_encode_recent(struct fz_encoder *e, const void *string)
{
	return &e->recent[((uintptr_t)string >> 4) % FZ_ENCODE_RECENT];
}

/*
 * Store a reference to a string at `p`, which has 8 bytes of room. Returns its
 * end, or `p` if the cache has no reference to the string.
 */
static inline unsigned char *
fz_encode_string_ref(struct fz_encoder *e, unsigned char *p, const void *string)
{
	const struct fz_encode_recent *g = fz_encode_recent(e, string);

	if (g->string != string || g->stamp != e->stamp)
		return p;
	memcpy(p, g->ref, sizeof(g->ref));
	return p + g->len;
}

#endif
