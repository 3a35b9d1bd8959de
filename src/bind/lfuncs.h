/*
 * lfuncs.h - the functions that a pool's batches call, and their slots.
 *
 * A function that was used before a worker was forked is inherited there;
 * others are sent by value, once to each worker. A function whose upvalues
 * are other values than when it was last used counts as another one; what
 * is inside a table they hold is not looked at.
 */
#ifndef FZ_LFUNCS_H
#define FZ_LFUNCS_H

#include <stdbool.h>
#include <stdint.h>

#include <lua.h>

#include "engine/worker.h"

struct fz_blob;
struct fz_sched;

struct fz_lfuncs {
	unsigned pins[FZ_WORKER_FUNCS]; /* batches that are not done */
	uint64_t used[FZ_WORKER_FUNCS]; /* when last; 0: empty */
	uint64_t now;
};

/* Make the tables it needs: pushes one. [-0, +1, m] */
void fz_lfuncs_init(lua_State *L, struct fz_lfuncs *funcs);

/*
 * The slot of the function at `f`, pinned until fz_lfuncs_unpin(); -1 where
 * all slots are pinned. `tables` is the index of the table of fz_lfuncs_init(),
 * `list` that of the functions of the pool. With `send` it is encoded for
 * workers that there are; raises where it cannot be. [-0, +0, e]
 */
int fz_lfuncs_slot(lua_State *L, struct fz_lfuncs *funcs, int tables, int list,
    int f, struct fz_sched *sched, bool send);
void fz_lfuncs_unpin(struct fz_lfuncs *funcs, int slot);

#endif
