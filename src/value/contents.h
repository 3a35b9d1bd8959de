/*
 * contents.h - a sum over all that a value holds, to see that it has changed.
 *
 * Tables are walked at any depth, with their strings and numbers by content.
 * What crosses by a name (globals, modules, registered classes and values) or
 * not at all, functions, userdata, coroutines and metatables count by their
 * address: hold those that were found for as long as the sum is used. The
 * upvalues of functions are not part of the sum.
 */
#ifndef FZ_CONTENTS_H
#define FZ_CONTENTS_H

#include <stdbool.h>
#include <stdint.h>

#include <lua.h>

#include "value/refmap.h"

struct fz_contents {
	struct fz_refmap seen; /* tables of the value at hand */
	struct fz_refmap modules;
	bool filled; /* `modules` is */
	/*
	 * Called with each table that is walked for a sum that is noted, which
	 * is on top of the stack and has room for 10 others; may be NULL.
	 */
	void (*met)(lua_State *L, void *ctx);
	void *ctx;
};

struct fz_contents_sum {
	uint64_t hash;
	uint64_t size; /* about that of a message with the value, in words */
	bool certain;  /* else it may have changed without a change of `hash` */
	bool opaque;   /* it holds what cannot be sent, or by an effort */
};

void fz_contents_init(struct fz_contents *c);
void fz_contents_fini(struct fz_contents *c, lua_State *L);

/*
 * Modules may have been loaded since: look for them again. Needed for sums that
 * are noted; one that is compared may find the same names as these.
 */
void fz_contents_begin(struct fz_contents *c, lua_State *L,
    void (*met)(lua_State *L, void *ctx), void *ctx);

/*
 * True if the value at `idx` has contents that cross: it is a table, or a
 * userdata that packs itself, and has no name. [-0, +0, m]
 */
bool fz_contents_has(struct fz_contents *c, lua_State *L, int idx);

/*
 * The sum of the value at `idx`. The list at `found` gets what counted by
 * its address; 0: no list, it is not noted. [-0, +0, m]
 */
struct fz_contents_sum fz_contents_sum(
    struct fz_contents *c, lua_State *L, int idx, int found);

#endif
