/*
 * allowed.h - what a state may decode: functions whose code its owner knows.
 *
 * The digest of a function is the SHA-256 of what lua_dump() writes for it,
 * without the name of its source. Therefore the digest identifies the code
 * that runs. Lua itself does not check bytecode. The sender may still choose
 * arguments and upvalues.
 */
#ifndef FZ_ALLOWED_H
#define FZ_ALLOWED_H

#include <stdbool.h>
#include <stddef.h>

#include <lua.h>

struct fz_allow;

/*
 * Restrict this state to the functions in `allow`, which must live as long as
 * the state. [-0, +0, m]
 */
void fz_allowed_set(lua_State *L, struct fz_allow *allow);

bool fz_allowed_is_set(lua_State *L);

/*
 * Add the functions in a dump that the receiver trusts. 0, or -1 if there is no
 * memory, or if `dump` is not a dump of this Lua.
 */
int fz_allowed_add(struct fz_allow *allow, const void *dump, size_t len);

/*
 * fz_allowed_check_code(): raise an error unless this state may load the dump.
 * fz_allowed_check_name(): the same for the module whose name is at `module`;
 * if `field` is not 0, for the function of this module whose name is at
 * `field`. [-0, +0, e]
 */
void fz_allowed_check_code(lua_State *L, const void *dump, size_t len);
void fz_allowed_check_name(lua_State *L, int module, int field);

/*
 * Open: core.code_digests(dump) -> a list of { line, digest } of the functions
 * in the dump, inner ones first. [-0, +0, m]
 */
int fz_allowed_open(lua_State *L);

#endif
