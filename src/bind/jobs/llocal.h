/*
 * llocal.h - calls the functions of runs and batches in this process, for jobs
 * = 0.
 */
#ifndef FZ_LLOCAL_H
#define FZ_LLOCAL_H

#include <stdbool.h>
#include <stdint.h>

#include <lua.h>

#include "bind/lwork.h"

struct fz_batch;
struct fz_blob;
struct fz_graph;
struct fz_run;

struct fz_llocal;

/* The functions by which a userdata calls its Lua functions. */
struct fz_llocal_ops {
	lua_CFunction next; /* next(userdata) -> whether it called a function */
	/* whether `next` would call a function */
	bool (*ready)(const struct fz_llocal *ll);
	/* close(userdata): free the memory of the userdata */
	lua_CFunction close;
};

/*
 * A node of a run or an item of a batch that was taken to be called. Empty if
 * `run` and `batch` are NULL.
 */
struct fz_llocal_taken {
	struct fz_run *run;
	struct fz_batch *batch;
	uint32_t node;
	uint64_t number;
	struct fz_blob *part; /* encoded part that contains the item; owned */
};

/*
 * A member of a userdata that has functions to call in this process. One of
 * them is called in each turn of the loop.
 */
struct fz_llocal {
	struct fz_local local;
	const struct fz_llocal_ops *ops;
	/*
	 * what was taken for the next call; it fails if its call cannot begin
	 */
	struct fz_llocal_taken taken;
	/* number of running calls for the userdata */
	unsigned calls;
	/*
	 * the userdata was closed during such a call: free its memory after the
	 * call
	 */
	bool closing;
};

/*
 * Call ops->next once in each turn of the loop, unless a call is running. Keeps
 * the userdata at `idx` alive. fz_llocal_stop() ends this. [-0, +0, m]
 */
void fz_llocal_start(lua_State *L, struct fz_llocal *ll, int idx,
    const struct fz_llocal_ops *ops);

/*
 * Undo fz_llocal_start(). Does nothing if the calls were not started. [-0, +0,
 * -]
 */
void fz_llocal_stop(lua_State *L, struct fz_llocal *ll);

/*
 * Call the function of `node` of `run` on a separate Lua thread, and report the
 * end of the call to the run. If the node is a map, its function is called for
 * the next element of its list. The list of pools is at index `pools`. Values
 * are encoded as for a worker. A timeout is checked every 10,000 instructions.
 * The script's state of math.random is restored after the call. [-0, +?, m]
 */
void fz_llocal_call(lua_State *L, struct fz_llocal *ll, int pools,
    struct fz_run *run, const struct fz_graph *graph, uint32_t node);

/* An item of a batch that fz_batch_local_next() has returned. */
struct fz_llocal_item {
	struct fz_batch *batch;
	uint64_t number;
	/* encoded part that contains the item; owned by the callee */
	struct fz_blob *part;
	uint32_t kind, func;
	uint64_t seed; /* seed of the batch */
	int64_t timeout_ns;
	/* if `kind` has FZ_WIRE_KEPT: the kept values, and their version */
	struct fz_blob *const *kept;
	uint32_t nkept;
	uint64_t version;
};

/*
 * Same as fz_llocal_call(), for an item of a batch. The pool of the functions
 * is at index `pool`. [-0, +?, m]
 */
void fz_llocal_item(lua_State *L, struct fz_llocal *ll, int pool,
    const struct fz_llocal_item *item);

#endif
