/* lresults.h - the values of recorded calls that were read from the file. */
#ifndef FZ_LRESULTS_H
#define FZ_LRESULTS_H

#include <stdint.h>

#include <lua.h>

struct fz_blob;

/*
 * The `n` values from number `i` on, from 1, of the results at `idx`, each with
 * a new reference. Raises if one is missing. [-0, +0, e]
 */
struct fz_blob *const *fz_lresults_refs(
    lua_State *L, int idx, lua_Integer i, uint32_t n);

#endif
