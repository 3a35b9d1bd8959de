/* lbatch_state.h - what the files of core.batch share of one batch. */
#ifndef FZ_LBATCH_STATE_H
#define FZ_LBATCH_STATE_H

#include <stdbool.h>
#include <stdint.h>

#include <lua.h>

#include "base/buf.h"
#include "bind/jobs/llocal.h"
#include "sched/batch.h"
#include "shared/arena.h"

struct fz_lfuncs;
struct fz_rawarray;

/* User values of a batch: what it needs stays alive with it. */
enum {
	FZ_LBATCH_POOL = 1,
	FZ_LBATCH_THREAD,
	FZ_LBATCH_RECORD, /* of a function that travels with its arguments */
	FZ_LBATCH_NUSER = FZ_LBATCH_RECORD
};

struct fz_lbatch {
	const char *tag;
	struct fz_batch *batch; /* NULL once closed */
	struct fz_engine *engine;
	struct fz_lfuncs *funcs;
	int slot;      /* pinned there, -1: none */
	uint64_t had;  /* workers have the cells of the record up to this */
	uint32_t kind; /* enum fz_wire_kind */
	uint64_t seed;
	int64_t timeout_ns;
	struct fz_llocal ll;     /* started while the pool has no workers */
	bool busy;               /* as the one that the pool keeps */
	struct fz_arena_buf buf; /* items being encoded */
	lua_State *thread;       /* that encodes them */
	uint64_t n;              /* of the list */
	bool counted;            /* by the list's field n */
	bool growing;            /* items come while it is under way */
	size_t added;            /* bytes of the item added last */
	lua_Integer first_error; /* item of the first one taken, 0: none */
	uint32_t together;       /* items that were encoded at once of late */
	uint32_t nread;          /* of the blob of the result, with `items` */
	struct fz_batch_result result; /* being read; n is 0: none */
	struct fz_reader items;        /* the rest of its blob */
	const void *mapped;
	const struct fz_rawarray *raw; /* of raw results, NULL: none come */
};

/* lbatch_encode.c: keep the list at `list` on a thread that encodes it. [+0] */
void fz_lbatch_keep(lua_State *L, struct fz_lbatch *lb, int list);

/* The code on top, which goes, comes with each part of the list. [-1, +0, -] */
void fz_lbatch_keep_code(lua_State *L, struct fz_lbatch *lb);

/* For the engine: see fz_batch_opts. */
struct fz_blob *fz_lbatch_encode(
    void *ctx, uint64_t first, uint32_t *n, struct fz_failure *failure);

/*
 * Add the values from index `first` to the top, which go, as the next item;
 * their cells are in the record at `record`, 0: in none. Returns a status; if
 * they cannot be sent the error is on top. [-n, +0|1, m]
 */
int fz_lbatch_add(lua_State *L, struct fz_lbatch *lb, int first, int record);

/* lbatch_results.c: have a result at hand; false: none. [-0, +0, e] */
bool fz_lbatch_next_result(lua_State *L, struct fz_lbatch *lb);

/* Release a result. */
void fz_lbatch_drop_result(
    struct fz_lbatch *lb, struct fz_batch_result *result);

/* Put small items at hand into the list at 2. Returns how many. [-0, +0, m] */
uint32_t fz_lbatch_take_small(lua_State *L, struct fz_lbatch *lb);

/* Push the next value, or what went wrong with it: a status. [-0, +1, m] */
int fz_lbatch_push_value(lua_State *L, struct fz_lbatch *lb);

/* Push the error of the one item of the result at hand. [-0, +1, m] */
void fz_lbatch_push_failure(lua_State *L, struct fz_lbatch *lb);

/*
 * Push true and the results of one call, or false and its error; nothing
 * if it is not done. Returns how many; -1 with an error on top if the
 * results cannot be made again. [-0, +n, m]
 */
int fz_lbatch_push_outcome(lua_State *L, struct fz_lbatch *lb);

#endif
