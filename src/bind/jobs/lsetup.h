/*
 * lsetup.h - encodes the setup of a worker that is a program, because such a
 * worker inherits no memory.
 */
#ifndef FZ_LSETUP_H
#define FZ_LSETUP_H

#include <stdint.h>

#include <lua.h>

struct fz_blob;
struct fz_err;
struct fz_batch_pool;

/*
 * Encode the functions of a pool. `L` is a thread of fz_child_prepare(). In a
 * pool with `batches` the functions are sent later, one by one, and refer to
 * the same upvalues as init. Returns NULL and sets `err` on failure. [-0, +0,
 * -]
 */
struct fz_blob *fz_lsetup_encode(
    lua_State *L, struct fz_batch_pool *batches, struct fz_err *err);

/*
 * Encode a process that makes one call: `L` is the thread of a fz_process_home
 * with this seed. Returns NULL and sets `err` on failure. [-0, +0, -]
 */
struct fz_blob *fz_lsetup_encode_process(
    lua_State *L, uint64_t seed, struct fz_err *err);

#endif
