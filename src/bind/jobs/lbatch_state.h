/* lbatch_state.h - common to core.batch, core.call and core.apply. */
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

/* User values of a batch: objects that it keeps alive. */
enum {
	FZ_LBATCH_POOL = 1,
	FZ_LBATCH_THREAD,
	/* the record of a function that travels with its arguments */
	FZ_LBATCH_RECORD,
	FZ_LBATCH_NUSER = FZ_LBATCH_RECORD
};

struct fz_lbatch {
	const char *tag;
	struct fz_batch *batch; /* the batch; NULL: closed */
	struct fz_engine *engine;
	struct fz_lfuncs *funcs;
	/* pinned entry of the batch's function; -1: none */
	int entry;
	/* version up to which workers have the cells of the record */
	uint64_t had;
	uint32_t kind; /* enum fz_wire_kind */
	uint64_t seed;
	int64_t timeout_ns;
	/* for calls in this process; started if the pool has no workers */
	struct fz_llocal ll;
	/* the batch is the pool's spare batch, and in use */
	bool busy;
	struct fz_arena_buf buf; /* buffer for the items being encoded */
	/* the Lua thread that has the list and encodes its items */
	lua_State *thread;
	uint64_t n;    /* length of the list */
	bool counted;  /* the length is the field n of the list */
	bool growing;  /* items are added after the start */
	uint64_t mask; /* item i is element ((i - 1) & mask) + 1 of the list */
	size_t added;  /* bytes of the last added item */
	lua_Integer first_error; /* item whose error was taken first; 0: none */
	/* maximum number of items to encode together next: twice as many as
	 * last time */
	uint32_t together;
	/* number of items before `items` in the blob of the result */
	uint32_t nread;
	struct fz_batch_result result; /* the result being read; n is 0: none */
	/* unread rest of the blob of the result */
	struct fz_reader items;
	const void *mapped; /* the blob of the result, mapped */
	/* the layout of tables; NULL: no raw results */
	const struct fz_rawarray *raw;
};

/* Return the batch at `idx`; raises if there is none. */
struct fz_lbatch *fz_lbatch_to(lua_State *L, int idx);

/* Push an empty batch of the pool at `pool`. [-0, +1, m] */
struct fz_lbatch *fz_lbatch_push(lua_State *L, int pool);

/* The batches of the pool at `pool`, which must be open. [-0, +0, e] */
struct fz_batch_pool *fz_lbatch_check_pool(lua_State *L, int pool);

/* Read the limits and the seed in the options at `options`, or nil. */
void fz_lbatch_read_limits(
    lua_State *L, int options, struct fz_batch_opts *opts);

void fz_lbatch_init_buf(struct fz_lbatch *lb, bool local);

/*
 * Find an entry for the function at `f`, for the batch at `idx`. If there is
 * none, the function travels with the items (FZ_WIRE_INLINE). [-0, +0, e]
 */
void fz_lbatch_find_entry(
    lua_State *L, struct fz_lbatch *lb, int idx, int pool, int f);

/* Create the fz_batch of `lb`. */
void fz_lbatch_make(
    lua_State *L, struct fz_lbatch *lb, struct fz_batch_opts *opts);

/*
 * batch(pool, f, list, options) -> batch, not started. Options: kind ("map" or
 * "starmap"), n, counted (n is the field n of the list), inherited (the workers
 * have the list and f from the fork), growing (items are added, or are put into
 * the list before grow() is called), chunk, on_error, seed, events, timeout,
 * retries, backoff, memory.
 */
int fz_lbatch_new(lua_State *L);

/*
 * Set the known result of an item. Takes the caller's reference to `blob`: see
 * fz_batch_know(). [-0, +0, e]
 */
void fz_lbatch_know(
    lua_State *L, struct fz_lbatch *lb, uint64_t item, struct fz_blob *blob);

/* As fz_lbatch_know(), for the encoded string at `bytes`. [-0, +0, e] */
void fz_lbatch_know_bytes(
    lua_State *L, struct fz_lbatch *lb, uint64_t item, int bytes);

/* Start the batch at `idx`. [-0, +0, e] */
void fz_lbatch_start(lua_State *L, struct fz_lbatch *lb, int idx, int pool);

/* Free all that the batch at `idx` owns except its userdata. [-0, +0, -] */
void fz_lbatch_end(lua_State *L, struct fz_lbatch *lb, int idx);

/*
 * End a call of the batch at `idx`. Frees the batch if it was closed during the
 * call.
 */
void fz_lbatch_leave(lua_State *L, struct fz_lbatch *lb, int idx);

/*
 * Keep the list at `list`, for the batch on top, on a thread that encodes it.
 * [-0, +0, m]
 */
void fz_lbatch_keep(lua_State *L, struct fz_lbatch *lb, int list);

/* Send the code on top with each part of the list. [-1, +0, -] */
void fz_lbatch_keep_code(lua_State *L, struct fz_lbatch *lb);

/* For the engine: see fz_batch_opts. */
struct fz_blob *fz_lbatch_encode(
    void *ctx, uint64_t first, uint32_t *n, struct fz_failure *failure);

/*
 * Add the values from index `first` to the top as the next item, and pop them.
 * Their cells are in the record at `record`; 0: there is none. Returns a
 * status; if they cannot be sent the error is on top. [-n, +0|1, m]
 */
int fz_lbatch_add(lua_State *L, struct fz_lbatch *lb, int first, int record);

/* Read the next result. False if there is none. [-0, +0, e] */
bool fz_lbatch_next_result(lua_State *L, struct fz_lbatch *lb);

/* Release a result. */
void fz_lbatch_drop_result(
    struct fz_lbatch *lb, struct fz_batch_result *result);

/* Store raw results, or numbers, in the list at 2. [-0, +0, m] */
void fz_lbatch_take_small(lua_State *L, struct fz_lbatch *lb);

/*
 * Push the value, or the error, of the next item of the result, and move to the
 * next item. Returns whether it is a value. [-0, +1, m]
 */
bool fz_lbatch_push_next(lua_State *L, struct fz_lbatch *lb);

/*
 * Push true and the results of one call, or false and its error, or nothing if
 * it is not done. Returns the number of values, or -1 with an error on top if
 * the results cannot be decoded. [-0, +n, m]
 */
int fz_lbatch_push_outcome(lua_State *L, struct fz_lbatch *lb);

/* Whether the fz_lbatch is done; for fz_lloop_wait(). */
bool fz_lbatch_is_done(const void *lb);

#endif
