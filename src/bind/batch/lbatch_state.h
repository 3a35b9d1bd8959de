/* lbatch_state.h - the state of a batch, for core.batch, .call and .apply. */
#ifndef FZ_LBATCH_STATE_H
#define FZ_LBATCH_STATE_H

#include <stdbool.h>
#include <stdint.h>

#include <lua.h>

#include "base/buf.h"
#include "bind/jobs/llocal.h"
#include "sched/batch.h"
#include "shared/arena.h"
#include "value/luserdata.h"

struct fz_lfuncs;
struct fz_rawarray;

#define FZ_LBATCH_TYPE "fzlua.Batch"
extern const struct fz_luserdata_class fz_lbatch_class;

/* User values of a batch: objects that the batch keeps alive. */
enum {
	FZ_LBATCH_POOL = 1,
	FZ_LBATCH_THREAD,
	/* the snapshot of a function that is sent with its arguments */
	FZ_LBATCH_SNAPSHOT,
	FZ_LBATCH_NUSER = FZ_LBATCH_SNAPSHOT
};

struct fz_lbatch {
	const char *tag;
	struct fz_batch *batch; /* NULL after close() */
	struct fz_engine *engine;
	struct fz_lfuncs *funcs;
	/* pinned entry of the batch's function; -1: no entry */
	int entry;
	/* workers have the cells of the snapshot up to this version */
	uint64_t had;
	uint32_t kind; /* enum fz_wire_kind */
	uint64_t seed;
	int64_t timeout_ns;
	/* for calls in this process; used if the pool has no workers */
	struct fz_llocal ll;
	/* true while the spare batch of the pool is in use */
	bool busy;
	struct fz_arena_buf buf; /* buffer for an item */
	/* the Lua thread that keeps the list and encodes its items */
	lua_State *thread;
	uint64_t n;    /* number of elements of the list */
	bool counted;  /* whether `n` is the field n of the list */
	bool growing;  /* whether items are added after the start */
	uint64_t mask; /* item i is element ((i - 1) & mask) + 1 of the list */
	size_t added;  /* bytes of the item that was added last */
	lua_Integer first_error; /* item that failed first; 0: none */
	/* maximum number of items that the next part may contain: twice the
	 * number of items in the previous part */
	uint32_t together;
	/* number of items in the blob of `result` that were read */
	uint32_t nread;
	struct fz_batch_result result; /* no result if its n is 0 */
	/* the rest of the blob of `result` that was not read */
	struct fz_reader items;
	const void *mapped; /* mapped blob of `result`, or NULL */
	/* the layout of Lua tables; NULL: results are not raw */
	const struct fz_rawarray *raw;
};

/* The batch at `idx`. Raises an error if that is not a batch. */
struct fz_lbatch *fz_lbatch_to(lua_State *L, int idx);

/* Push an empty batch of the pool at `pool`. [-0, +1, m] */
struct fz_lbatch *fz_lbatch_push(lua_State *L, int pool);

/* The batches of the pool at `pool`; raises if it is closed. [-0, +0, e] */
struct fz_batch_pool *fz_lbatch_check_pool(lua_State *L, int pool);

/* Read the limits and the seed. At `options` is a table of options, or nil. */
void fz_lbatch_read_limits(
    lua_State *L, int options, struct fz_batch_opts *opts);

void fz_lbatch_init_buf(struct fz_lbatch *lb, bool local);

/*
 * Find an entry for the function at `f`, for the batch at `idx`. If no entry is
 * free, the function is sent with the items (FZ_WIRE_INLINE). [-0, +0, e]
 */
void fz_lbatch_find_entry(
    lua_State *L, struct fz_lbatch *lb, int idx, int pool, int f);

/* Create the fz_batch of `lb`. */
void fz_lbatch_make(
    lua_State *L, struct fz_lbatch *lb, struct fz_batch_opts *opts);

/*
 * core.batch(pool, f, list, options) -> a batch that is not started. Options:
 * kind ("map" or "starmap"), n, counted (n is the field n of the list),
 * inherited (forked workers have f and the list), growing (items are added, or
 * are put into the list before grow() is called), chunk, on_error, seed,
 * events, timeout, retries, backoff, memory.
 */
int fz_lbatch_new(lua_State *L);

/*
 * Set the known result of an item. Takes over the caller's reference to `blob`:
 * see fz_batch_know(). [-0, +0, e]
 */
void fz_lbatch_know(
    lua_State *L, struct fz_lbatch *lb, uint64_t item, struct fz_blob *blob);

/* Same as fz_lbatch_know(), for the encoded string at `bytes`. [-0, +0, e] */
void fz_lbatch_know_bytes(
    lua_State *L, struct fz_lbatch *lb, uint64_t item, int bytes);

/* Start the batch at `idx`. [-0, +0, e] */
void fz_lbatch_start(lua_State *L, struct fz_lbatch *lb, int idx, int pool);

/* Free all that the batch at `idx` owns except its userdata. [-0, +0, -] */
void fz_lbatch_end(lua_State *L, struct fz_lbatch *lb, int idx);

/*
 * End a use of the batch at `idx`. Frees the batch if it was closed during the
 * use.
 */
void fz_lbatch_leave(lua_State *L, struct fz_lbatch *lb, int idx);

/*
 * Make the Lua thread of the batch on top, which encodes items. The thread
 * keeps the list at `list`. [-0, +0, m]
 */
void fz_lbatch_keep(lua_State *L, struct fz_lbatch *lb, int list);

/* Pop the encoded function, to be sent with each part. [-1, +0, -] */
void fz_lbatch_keep_code(lua_State *L, struct fz_lbatch *lb);

/* Called by the engine as the `encode` of fz_batch_opts. */
struct fz_blob *fz_lbatch_encode(
    void *ctx, uint64_t first, uint32_t *n, struct fz_failure *failure);

/*
 * Add the values from index `first` to the top as the next item, and pop them.
 * The snapshot of their cells is at `snapshot`; 0: no snapshot. Returns a
 * status of lua_pcall(); if the values cannot be sent, the error is on top.
 * [-n, +0|1, m]
 */
int fz_lbatch_add(lua_State *L, struct fz_lbatch *lb, int first, int snapshot);

/* Read the next result to lb->result; false if there is none. [-0, +0, e] */
bool fz_lbatch_next_result(lua_State *L, struct fz_lbatch *lb);

/* Release a result. */
void fz_lbatch_drop_result(
    struct fz_lbatch *lb, struct fz_batch_result *result);

/* Store raw results, and results that are numbers, at 2. [-0, +0, m] */
void fz_lbatch_take_small(lua_State *L, struct fz_lbatch *lb);

/*
 * Push the value or the error of the next item of the result. Returns whether
 * this is a value. [-0, +1, m]
 */
bool fz_lbatch_push_next(lua_State *L, struct fz_lbatch *lb);

/*
 * Push true and the results of one call, or false and the error, or nothing if
 * the call is not done. Returns the number of values, or -1 with an error on
 * top if the results cannot be decoded. [-0, +n, m]
 */
int fz_lbatch_push_outcome(lua_State *L, struct fz_lbatch *lb);

/* Whether the batch is done. Used with fz_lloop_wait(). */
bool fz_lbatch_is_done(const void *lb);

#endif
