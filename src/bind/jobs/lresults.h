/* lresults.h - the values of recorded calls that were read from the file. */
#ifndef FZ_LRESULTS_H
#define FZ_LRESULTS_H

#include <stdint.h>

#include <lua.h>

struct fz_blob;

/*
 * The `n` values from number `i` on of the results at `idx`. Numbers begin at
 * 1. Adds a reference to each value. Raises an error if the results do not have
 * these values. [-0, +0, e]
 */
struct fz_blob *const *fz_lresults_refs(
    lua_State *L, int idx, lua_Integer i, uint32_t n);

#endif
