/* lpool.h - core.pool: the workers of one stage. */
#ifndef FZ_LPOOL_H
#define FZ_LPOOL_H

#include <stdbool.h>
#include <stdint.h>

#include <lua.h>

struct fz_lfuncs;
struct fz_pool;
struct fz_batch_pool;

/* The pool at stack index `idx`; raises where there is none. */
struct fz_pool *fz_lpool_check(lua_State *L, int idx);

/*
 * What hands its workers to batches, NULL where the pool was made for runs;
 * the slots of its functions, and pushes the tables that go with them: those
 * of fz_lfuncs_init() and the functions. [-0, +2, -]
 */
struct fz_batch_pool *fz_lpool_batches(lua_State *L, int idx);
struct fz_lfuncs *fz_lpool_funcs(lua_State *L, int idx);
uint64_t fz_lpool_seed(lua_State *L, int idx);   /* of its calls */
uint64_t fz_lpool_ncalls(lua_State *L, int idx); /* one more each time */

/* How many of its functions are being called in this process. */
unsigned *fz_lpool_calls(lua_State *L, int idx);

/*
 * A value that is kept with the pool for who makes batches; push it, or set it
 * to the value on top, which goes. [-0, +1, -] [-1, +0, -]
 */
void fz_lpool_push_spare(lua_State *L, int idx);
void fz_lpool_set_spare(lua_State *L, int idx);

/*
 * Push a new thread that can call the functions of the pool at `idx` in this
 * process (see fz_child_prepare). [-0, +1, m]
 */
lua_State *fz_lpool_prepare(lua_State *L, int idx);

/*
 * Before workers may be forked: in a worker of this very pool its thread is in
 * use, so those below need another one. [-0, +0, m]
 */
void fz_lpool_new_thread(lua_State *L, int idx);

/*
 * Before the first call, and when no worker is left: fork all workers that
 * there may be, so that they see the same globals and upvalues. Some are
 * enough, and without any the call tells why. Not those of one map, which come
 * as they are needed, nor in this process. [-0, +0, m]
 */
void fz_lpool_fill_first(lua_State *L, int idx);

/* The pool's init in this process, which its callers set. */
struct fz_lpool_init {
	bool needed;   /* it has not run */
	int directory; /* where it went to, -1: nowhere; closed with the pool */
};
struct fz_lpool_init *fz_lpool_init(lua_State *L, int idx);

/* Open: core.pool. The core table is on top. [-0, +0, e] */
int fz_lpool_open(lua_State *L);

#endif
