/* encode.h - what the files of the encoder share. */
#ifndef FZ_ENCODE_H
#define FZ_ENCODE_H

#include <setjmp.h>
#include <stdbool.h>

#include <lua.h>

#include "value/encode_writer.h"
#include "value/path.h"
#include "value/refmap.h"
#include "value/scalar.h"

/*
 * fz_codec_encode() into a string, which is pushed. Long strings are copied
 * once, from the value to there; `out` is empty and scratch. [-0, +1, e]
 */
void fz_encode_pack(lua_State *L, int first, int n, struct fz_buf *out);

/* All of these write into the message and may raise. */

/* encode.c: any value; one that fz_encode_at() does not write itself. */
void fz_encode_value(struct fz_encoder *e, int idx, const struct fz_path *at);
void fz_encode_large(
    struct fz_encoder *e, int idx, int type, const struct fz_path *at);

/* encode_table.c: the contents of the table at `t`. */
void fz_encode_contents(struct fz_encoder *e, int t, const struct fz_path *at);

/* True, and a reference is written, if the object at `idx` came before. */
bool fz_encode_known(struct fz_encoder *e, int idx, const struct fz_path *at);

/* True, and it is written, if the new object at `idx` crosses by a name. */
bool fz_encode_named(struct fz_encoder *e, int idx);

/*
 * From here on a loaded module crosses by its name. Modules are looked for only
 * where one may be: a message of plain data is not slowed down by them.
 */
void fz_encode_need_modules(struct fz_encoder *e);

/* Why a full pass is needed. */
enum { FZ_ENCODE_CALLS = 1, FZ_ENCODE_MODULES = 2 };

/*
 * Call this before anything that may run Lua code or the collector, and before
 * the first effect outside of the message: does not return in the first pass.
 */
static inline void
fz_encode_need_full(struct fz_encoder *e, int why)
{
	if (!e->full)
		longjmp(e->first_pass, why);
	if (why == FZ_ENCODE_MODULES)
		fz_encode_need_modules(e);
}

/*
 * The table at `t`, whatever its metatable, or its promise for later. With
 * `classed` the name of its class is on top.
 */
void fz_encode_plain(
    struct fz_encoder *e, int t, bool classed, const struct fz_path *at);

/* The bodies of promised tables, down to `mark` of them. */
void fz_encode_later(struct fz_encoder *e, lua_Integer mark);

/* The table of globals of the state. */
const void *fz_encode_globals(struct fz_encoder *e);

/*
 * encode_class.c: the object at `idx`, which has a metatable, by its class;
 * false if it has none, or is a userdata whose class cannot pack it.
 */
bool fz_encode_object(struct fz_encoder *e, int idx, const struct fz_path *at);

/* encode_object.c: one level deeper on the C stack; the caller lowers `level`.
 */
void fz_encode_enter(struct fz_encoder *e, const struct fz_path *at);

/*
 * True if the table at `idx` is the value of a cell of the record that did not
 * come yet: it comes with that.
 */
bool fz_encode_root(struct fz_encoder *e, int idx, const struct fz_path *at);

/* A userdata; a function with its upvalues, or by name. */
void fz_encode_userdata(
    struct fz_encoder *e, int idx, const struct fz_path *at);
void fz_encode_function(
    struct fz_encoder *e, int idx, const struct fz_path *at);

/* True if the object at `p` may cross by a name. */
static inline bool
fz_encode_may_be_named(const struct fz_encoder *e, const void *p)
{
	return fz_refmap_find(e->registered, p) != NULL ||
	       fz_refmap_find(&e->loaded, p) != NULL;
}

/*
 * Write the value at `idx` at `p`, the end of the message with FZ_ENCODE_SMALL
 * bytes of room. Inline, because most values are small.
 */
static inline __attribute__((always_inline)) void
fz_encode_at(struct fz_encoder *e, unsigned char *p, int idx, int type,
    const struct fz_path *at)
{
	unsigned char *end;

	if (type == LUA_TSTRING)
		end = fz_encode_string_ref(e, p, lua_topointer(e->L, idx));
	else
		end = fz_scalar_store(e->L, idx, type, p);
	e->p = end;
	if (end == p)
		fz_encode_large(e, idx, type, at);
}

#endif
