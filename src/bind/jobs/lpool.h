/* lpool.h - core.pool: the workers of one stage. */
#ifndef FZ_LPOOL_H
#define FZ_LPOOL_H

#include <stdbool.h>
#include <stdint.h>

#include <lua.h>

struct fz_lfuncs;
struct fz_pool;
struct fz_batch_pool;

/* The pool at stack index `idx`; raises for anything else. */
struct fz_pool *fz_lpool_check(lua_State *L, int idx);

/*
 * fz_lpool_batches(): the part of the pool at `idx` for batches; NULL if the
 * pool is for runs. fz_lpool_funcs(): the entries of its functions; pushes both
 * tables of fz_lfuncs_init(). [-0, +0, -] [-0, +2, -]
 */
struct fz_batch_pool *fz_lpool_batches(lua_State *L, int idx);
struct fz_lfuncs *fz_lpool_funcs(lua_State *L, int idx);
uint64_t fz_lpool_seed(lua_State *L, int idx); /* seed of the pool's calls */
/* number of calls of the pool so far; incremented by this function */
uint64_t fz_lpool_ncalls(lua_State *L, int idx);

/* Number of running calls of the pool's functions in this process. */
unsigned *fz_lpool_calls(lua_State *L, int idx);

/* Push the value that the batches of the pool keep for reuse. [-0, +1, -] */
void fz_lpool_push_spare(lua_State *L, int idx);
/* Pop a value and keep it for reuse. [-1, +0, -] */
void fz_lpool_set_spare(lua_State *L, int idx);

/* Whether workers of the pool at `idx` are forked. [-0, +0, -] */
bool fz_lpool_inherits(lua_State *L, int idx);

/*
 * Push a new thread that can call the functions of the pool at `idx` in this
 * process (see fz_child_prepare). [-0, +1, m]
 */
lua_State *fz_lpool_prepare(lua_State *L, int idx);

/*
 * Call before workers may be forked. In a worker of this pool the thread of the
 * pool is in use, so the workers of that worker need another one. [-0, +0, m]
 */
void fz_lpool_new_thread(lua_State *L, int idx);

/*
 * Before the first call, and if no worker is left: fork the maximum number of
 * workers, so that all see the same globals and upvalues. If some forks fail,
 * the workers that were forked serve; if all fail, the calls report the reason.
 * Does nothing for a pool of one map, which forks workers when needed, nor for
 * a pool without workers. [-0, +0, m]
 */
void fz_lpool_fill_first(lua_State *L, int idx);

/* The state of the pool's init in this process; llocal.c changes it. */
struct fz_lpool_init {
	bool needed; /* init has not run */
	/* directory that init changed to, or -1; owned by the pool */
	int directory;
};
struct fz_lpool_init *fz_lpool_init(lua_State *L, int idx);

/*
 * Open: core.pool, .worker_number, .note_item. The core table is on top. [-0,
 * +0, e]
 */
int fz_lpool_open(lua_State *L);

#endif
