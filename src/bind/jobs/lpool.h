/* lpool.h - core.pool: the workers of one stage. */
#ifndef FZ_LPOOL_H
#define FZ_LPOOL_H

#include <stdbool.h>
#include <stdint.h>

#include <lua.h>

struct fz_lfuncs;
struct fz_pool;
struct fz_batch_pool;

/* The pool at stack index `idx`. Raises an error if that is not a pool. */
struct fz_pool *fz_lpool_check(lua_State *L, int idx);

/*
 * fz_lpool_batches(): the batches of the pool at `idx`; NULL in a pool for
 * runs. [-0, +0, -] fz_lpool_funcs(): the entries for functions. Pushes the two
 * tables of fz_lfuncs_init(). [-0, +2, -]
 */
struct fz_batch_pool *fz_lpool_batches(lua_State *L, int idx);
struct fz_lfuncs *fz_lpool_funcs(lua_State *L, int idx);
uint64_t fz_lpool_seed(lua_State *L, int idx); /* seed of the calls */
/* number of earlier calls of the pool; incremented by this function */
uint64_t fz_lpool_ncalls(lua_State *L, int idx);

/* Number of calls of the pool's functions that run in this process. */
unsigned *fz_lpool_calls(lua_State *L, int idx);

/* Push the value that batches keep in the pool for reuse. [-0, +1, -] */
void fz_lpool_push_spare(lua_State *L, int idx);
/* Pop a value and keep it in the pool for reuse. [-1, +0, -] */
void fz_lpool_set_spare(lua_State *L, int idx);

/* Whether the workers of the pool at `idx` are forked. [-0, +0, -] */
bool fz_lpool_inherits(lua_State *L, int idx);

/*
 * Push a new Lua thread that can call the functions of the pool at `idx` in
 * this process (see fz_child_prepare). [-0, +1, m]
 */
lua_State *fz_lpool_prepare(lua_State *L, int idx);

/*
 * Called before a fork. In a worker of this pool, the Lua thread of the pool is
 * in use, so the workers of that worker need another one. [-0, +0, m]
 */
void fz_lpool_new_thread(lua_State *L, int idx);

/*
 * Before a call, start the maximum number of workers if the pool has no worker,
 * so that all workers see the same globals and upvalues. If some forks fail,
 * the pool has fewer workers. If all forks fail, the calls report the reason.
 * Does nothing for a pool without workers, and for a pool of one map, which
 * starts workers when it needs them. [-0, +0, m]
 */
void fz_lpool_fill_first(lua_State *L, int idx);

/* The state of the pool's init in this process, changed by llocal.c. */
struct fz_lpool_init {
	bool needed; /* whether init has not run */
	/* directory to which init has changed, or -1; owned */
	int directory;
};
struct fz_lpool_init *fz_lpool_init(lua_State *L, int idx);

/*
 * Add core.pool, core.worker_number and core.note_item to the core table on
 * top. [-0, +0, e]
 */
int fz_lpool_open(lua_State *L);

#endif
