/* encode.h - writes values into a message, recursively. */
#ifndef FZ_ENCODE_H
#define FZ_ENCODE_H

#include <setjmp.h>
#include <stdbool.h>

#include <lua.h>

#include "codec/encode_writer.h"
#include "codec/path.h"
#include "codec/scalar.h"
#include "value/refmap.h"

/*
 * Push the message of fz_codec_encode() as a string. Long strings are copied
 * once, from the value into the result. `out` is an empty scratch buffer. [-0,
 * +1, e]
 */
void fz_encode_pack(lua_State *L, int first, int n, struct fz_buf *out);

/* The functions below write into the message and may raise. */

/*
 * fz_encode_value(): write any value. fz_encode_large(): write a value that
 * fz_encode_at() cannot write itself.
 */
void fz_encode_value(struct fz_encoder *e, int idx, const struct fz_path *at);
void fz_encode_large(
    struct fz_encoder *e, int idx, int type, const struct fz_path *at);

/* Write the contents of the table at `t`. */
void fz_encode_contents(struct fz_encoder *e, int t, const struct fz_path *at);

/*
 * If the message has the object at `idx` already, write a reference to it and
 * return true; if not, give it a number.
 */
bool fz_encode_known(struct fz_encoder *e, int idx, const struct fz_path *at);

/*
 * If the new object at `idx` crosses processes by a name, write the name and
 * return true.
 */
bool fz_encode_named(struct fz_encoder *e, int idx);

/*
 * From here on check whether values are loaded modules, which cross by their
 * names. Called only if a value may be a module, so that messages of plain data
 * are not slower.
 */
void fz_encode_need_modules(struct fz_encoder *e);

/* Reasons for a full pass. */
enum { FZ_ENCODE_CALLS = 1, FZ_ENCODE_MODULES = 2 };

/*
 * Called before anything that may run Lua code or the collector, and before the
 * first effect outside of the message. In the first pass this function does not
 * return: the full pass begins.
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
 * Write the table at `t`, or postpone it if it is nested too deep. If `classed`
 * is set, the name of the table's class is on top.
 */
void fz_encode_plain(
    struct fz_encoder *e, int t, bool classed, const struct fz_path *at);

/* Write the postponed tables, until `mark` of them are left. */
void fz_encode_later(struct fz_encoder *e, lua_Integer mark);

/*
 * Write the object at `idx`, which has a metatable, by the rules of its class.
 * False if there is no class, or if a userdata has a class without __fzpack.
 */
bool fz_encode_object(struct fz_encoder *e, int idx, const struct fz_path *at);

/* Enter one more C call; the caller decrements `level` afterwards. */
void fz_encode_enter(struct fz_encoder *e, const struct fz_path *at);

/*
 * If the table at `idx` is the value of a cell of the snapshot, and the message
 * does not have that cell yet, write the cell instead and return true.
 */
bool fz_encode_root(struct fz_encoder *e, int idx, const struct fz_path *at);

/*
 * fz_encode_userdata(): write a userdata. fz_encode_function(): write a
 * function, with its upvalues or by its name.
 */
void fz_encode_userdata(
    struct fz_encoder *e, int idx, const struct fz_path *at);
void fz_encode_function(
    struct fz_encoder *e, int idx, const struct fz_path *at);

/* Whether the object at `p` may cross processes by a name. */
static inline bool
fz_encode_may_be_named(const struct fz_encoder *e, const void *p)
{
	return fz_refmap_find(e->registered, p) != NULL ||
	       fz_refmap_find(&e->loaded, p) != NULL;
}

/*
 * Write the value at `idx` to `p`, the end of the message, where
 * FZ_ENCODE_SMALL bytes are free. Inline, because most values are small.
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
