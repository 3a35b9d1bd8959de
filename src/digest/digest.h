/*
 * digest.h - a number of 128 bits for Lua values, the same for the same values
 * in every process and run.
 *
 * Values are the same if their contents do not differ. The order in which keys
 * were added does not count, but whether two references are to the same object
 * counts. Integers and floats are different, and so are 0.0 and -0.0. A
 * function counts by its bytecode, without names of variables and lines; by its
 * upvalues; by the values of the globals that it reads; and by the sources of
 * the modules that it requires and what was set in their tables. Objects that
 * cross processes by a name count by that name.
 */
#ifndef FZ_DIGEST_H
#define FZ_DIGEST_H

#include <lua.h>

#include "base/hash.h"

/*
 * The digest of `n` values from index `first` on. `session` is the index of a
 * table in which digests of the same moment keep what they have read of
 * modules. If the session has a table at the key true, the digests of plain
 * tables that functions hold are kept there. Raises for a value that has no
 * digest. [-0, +0, e]
 */
void fz_digest(lua_State *L, int first, int n, int session,
    unsigned char out[FZ_HASH_BYTES]);

/*
 * Open: core.digest(...) -> 32 hexadecimal digits, core.digest_in(session, ...)
 * -> 16 bytes, core.digest_file(path) -> 16 bytes. [-0, +0, m]
 */
int fz_digest_open(lua_State *L);

#endif
