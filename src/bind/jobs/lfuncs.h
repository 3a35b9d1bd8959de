/*
 * lfuncs.h - a cache of the functions that the batches of a pool call.
 *
 * A worker inherits the functions that were used before its fork. Other
 * functions are sent by value, once to each worker. Before each use a function
 * is compared with its snapshot. The snapshot contains the function's upvalues,
 * the upvalues of all functions that it reaches, and the contents of all tables
 * that these functions reach. A function that may have changed gets another
 * entry and is sent again. Waiting calls keep the old entry. cells.h says how
 * functions share unchanged values.
 */
#ifndef FZ_LFUNCS_H
#define FZ_LFUNCS_H

#include <stdbool.h>
#include <stdint.h>

#include <lua.h>

#include "worker/worker.h"

struct fz_blob;
struct fz_batch_pool;

struct fz_lfuncs {
	/* number of unfinished batches of each entry */
	unsigned pins[FZ_WORKER_FUNCS];
	uint64_t used[FZ_WORKER_FUNCS]; /* `now` at the last use; 0: empty */
	bool bare[FZ_WORKER_FUNCS];     /* no upvalues to compare */
	bool again[FZ_WORKER_FUNCS]; /* see the comment on tables in lfuncs.c */
	uint64_t now;
	bool by_value; /* workers inherit no function */
	/*
	 * whether functions are compared with snapshots; false if each function
	 * is called once, or in this process
	 */
	bool compares;
};

/*
 * Push the two tables of a pool (see lfuncs.c). At `init` is the function init,
 * or nil. All entries are empty. [-0, +2, m]
 */
void fz_lfuncs_init(
    lua_State *L, struct fz_lfuncs *funcs, int init, bool compares);

/* Make a snapshot of init. Called before workers are forked. [-0, +0, m] */
void fz_lfuncs_note_init(lua_State *L, const struct fz_lfuncs *funcs,
    int tables, int list, struct fz_batch_pool *batches);

/*
 * The entry of the function at `f`, pinned until fz_lfuncs_unpin(). `tables`
 * and `list` are the indexes of the tables of fz_lfuncs_init(). With `send`,
 * the function is encoded for existing workers; raises if that fails.
 *
 * If all entries are pinned, returns -1, and pushes a snapshot of its cells
 * (cells.h) or nil, to be kept until the call is done. [-0, +(0|1), e]
 */
int fz_lfuncs_entry(lua_State *L, struct fz_lfuncs *funcs, int tables, int list,
    int f, struct fz_batch_pool *batches, bool send);
void fz_lfuncs_unpin(struct fz_lfuncs *funcs, int entry);

/*
 * Push the encoded function at `f`, which has no entry, as a string. Its
 * snapshot or nil is at `snapshot`. Raises if it cannot be sent. [-0, +1, e]
 */
void fz_lfuncs_push_code(
    lua_State *L, int snapshot, int f, const struct fz_batch_pool *batches);

/*
 * Called just before a fork. Finds the entries whose functions have changed,
 * because the new worker inherits the changed functions and not the versions
 * for which calls wait. Raises no error. [-0, +0, -]
 */
void fz_lfuncs_before_fork(lua_State *L, const struct fz_lfuncs *funcs,
    int list, struct fz_batch_pool *batches);

#endif
