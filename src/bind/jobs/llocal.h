/*
 * llocal.h - calls the functions of runs and batches with jobs = 0, in this
 * process.
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

/* How the functions of a userdata are called. */
struct fz_llocal_ops {
	lua_CFunction next; /* (userdata) -> whether it called a function */
	/* whether `next` would call a function */
	bool (*ready)(const struct fz_llocal *ll);
	lua_CFunction close; /* (userdata): free it */
};

/* A node of a run, or an item of a batch, before its function is called. */
struct fz_llocal_taken {
	struct fz_run *run;
	/* if `run` and this are NULL, nothing is taken */
	struct fz_batch *batch;
	uint32_t node;
	uint64_t number;
	struct fz_blob *part; /* part of the item; owned */
};

/*
 * Part of a userdata that has functions to call in this process: one is called
 * in each turn of the loop.
 */
struct fz_llocal {
	struct fz_local local;
	const struct fz_llocal_ops *ops;
	/* the node or item that fails if its call cannot begin */
	struct fz_llocal_taken taken;
	/* number of running calls of the userdata's functions */
	unsigned calls;
	/*
	 * one of these calls has closed the userdata: free its memory after the
	 * call
	 */
	bool closing;
};

/*
 * Until fz_llocal_stop(), call `next` in each turn of the loop in which no call
 * is under way, and keep the userdata at `idx` alive. [-0, +0, m]
 */
void fz_llocal_start(lua_State *L, struct fz_llocal *ll, int idx,
    const struct fz_llocal_ops *ops);

/* Undo fz_llocal_start(). Does nothing if that was not called. [-0, +0, -] */
void fz_llocal_stop(lua_State *L, struct fz_llocal *ll);

/*
 * Call the function of `node` of `run` on a thread of its own, and report its
 * end to the run. If the node is a map, the function is called for the next
 * element of its list. The list of pools is at index `pools`. Values are
 * encoded as for a worker; a timeout is checked every 10,000 instructions; the
 * script's state of math.random is restored. [-0, +?, m]
 */
void fz_llocal_call(lua_State *L, struct fz_llocal *ll, int pools,
    struct fz_run *run, const struct fz_graph *graph, uint32_t node);

/* An item of a batch, from fz_batch_local_next(). */
struct fz_llocal_item {
	struct fz_batch *batch;
	uint64_t number;
	struct fz_blob *part; /* owned by the callee */
	uint32_t kind, func;
	uint64_t seed; /* seed of the batch */
	int64_t timeout_ns;
	/* with FZ_WIRE_KEPT: the kept values and their version */
	struct fz_blob *const *kept;
	uint32_t nkept;
	uint64_t version;
};

/*
 * As fz_llocal_call(), for an item of a batch, with the functions of the pool
 * at index `pool`. [-0, +?, m]
 */
void fz_llocal_item(lua_State *L, struct fz_llocal *ll, int pool,
    const struct fz_llocal_item *item);

#endif
