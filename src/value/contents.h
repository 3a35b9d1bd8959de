/*
 * contents.h - a sum over all contents of a value, to detect changes.
 *
 * The sum covers tables at any depth, and their strings and numbers by content.
 * These count by address: objects that cross processes by a name (globals,
 * modules, registered classes and values), objects that cannot cross,
 * functions, userdata, coroutines and metatables. The caller must keep those
 * objects alive for as long as it compares the sum. The upvalues of functions
 * are not part of the sum.
 */
#ifndef FZ_CONTENTS_H
#define FZ_CONTENTS_H

#include <stdbool.h>
#include <stdint.h>

#include <lua.h>

#include "value/refmap.h"

struct fz_contents {
	struct fz_refmap seen; /* numbers of the tables of the current value */
	struct fz_refmap modules;
	bool filled; /* `modules` contains the loaded modules */
	/*
	 * Called with each table of a sum whose objects are listed (`found` is
	 * not 0). The table is on top, and the stack has room for 10 more. May
	 * be NULL.
	 */
	void (*met)(lua_State *L, void *ctx);
	void *ctx;
};

struct fz_contents_sum {
	uint64_t hash;
	uint64_t size; /* words in the sum, about as in a message */
	bool certain;  /* every change of the value changes `hash` */
	/* the object has contents that cannot be sent as plain bytes */
	bool opaque;
};

void fz_contents_init(struct fz_contents *c);
void fz_contents_fini(struct fz_contents *c, lua_State *L);

/*
 * Call this before a sum that is noted: it drops the list of loaded modules. A
 * comparison with the noted sum may use the same list.
 */
void fz_contents_begin(struct fz_contents *c, lua_State *L,
    void (*met)(lua_State *L, void *ctx), void *ctx);

/*
 * Whether the value at `idx` has contents that cross processes: it is a table,
 * or a userdata that packs itself, and has no name. [-0, +0, m]
 */
bool fz_contents_has(struct fz_contents *c, lua_State *L, int idx);

/*
 * The sum of the value at `idx`. The objects that count by address are added to
 * the list at stack index `found`; 0: there is no list, because the sum is only
 * compared. [-0, +0, m]
 */
struct fz_contents_sum fz_contents_sum(
    struct fz_contents *c, lua_State *L, int idx, int found);

#endif
