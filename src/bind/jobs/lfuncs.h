/*
 * lfuncs.h - the functions that a pool's batches call, and their slots.
 *
 * A function that was used before a worker was forked is inherited there;
 * others are sent by value, once to each worker. Before each use a function is
 * compared with what was noted: its upvalues, those of the functions that it
 * reaches, and the contents of the tables that they reach, at any depth. One
 * that has changed, or may have, goes into another slot and is sent again,
 * while calls that wait keep the one they were made with. See cells.h for how
 * functions share what has not changed.
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
	unsigned pins[FZ_WORKER_FUNCS]; /* batches that are not done */
	uint64_t used[FZ_WORKER_FUNCS]; /* when last; 0: empty */
	bool bare[FZ_WORKER_FUNCS];     /* nothing to compare */
	bool again[FZ_WORKER_FUNCS];    /* called more than once */
	uint64_t now;
	bool compares; /* else a function is called once, or here */
};

/*
 * Push the table that it needs and the list of the functions, for a pool with
 * the function or nil at `init`; no slot is in use. [-0, +2, m]
 */
void fz_lfuncs_init(
    lua_State *L, struct fz_lfuncs *funcs, int init, bool compares);

/* Workers are about to be forked: note the upvalues of init. [-0, +0, m] */
void fz_lfuncs_note_init(lua_State *L, const struct fz_lfuncs *funcs,
    int tables, int list, struct fz_batch_pool *batches);

/*
 * The slot of the function at `f`, pinned until fz_lfuncs_unpin(). `tables` and
 * `list` are the indexes of what fz_lfuncs_init() pushed. With `send` it is
 * encoded for workers that there are; raises if it cannot be.
 *
 * -1 if all slots are pinned: then pushes a record of its cells (see cells.h)
 * or nil, to be kept until the call is done. [-0, +(0|1), e]
 */
int fz_lfuncs_slot(lua_State *L, struct fz_lfuncs *funcs, int tables, int list,
    int f, struct fz_batch_pool *batches, bool send);
void fz_lfuncs_unpin(struct fz_lfuncs *funcs, int slot);

/*
 * Push the code of the function at `f` without a slot, whose record or nil is
 * at `record`, as a string. Raises if it cannot be sent. [-0, +1, e]
 */
void fz_lfuncs_push_code(
    lua_State *L, int record, int f, const struct fz_batch_pool *batches);

/*
 * Right before a fork: see which functions the worker inherits as they were
 * noted. Does not raise. [-0, +0, -]
 */
void fz_lfuncs_before_fork(lua_State *L, const struct fz_lfuncs *funcs,
    int list, struct fz_batch_pool *batches);

#endif
