/*
 * allowed.h - what a state may decode: functions whose code its owner knows.
 *
 * The digest of a function is the SHA-256 of what lua_dump() writes for it,
 * without the name of its source. So it says which code runs, whose bytecode
 * Lua itself does not check; arguments and upvalues are the sender's to choose.
 */
#ifndef FZ_ALLOWED_H
#define FZ_ALLOWED_H

#include <stdbool.h>
#include <stddef.h>

#include <lua.h>

struct fz_allow;

/* Restrict this state to what is in `allow`, which stays as long. [-0, +0, m]
 */
void fz_allowed_set(lua_State *L, struct fz_allow *allow);

bool fz_allowed_is_set(lua_State *L);

/*
 * Add the functions in a dump that the receiver trusts. 0, or -1 without memory
 * or if it is no dump of this Lua.
 */
int fz_allowed_add(struct fz_allow *allow, const void *dump, size_t len);

/*
 * Raise an error unless this state may load the dump; or the module whose name
 * is at `module`, or its function whose name is at `field` unless that is 0.
 * [-0, +0, e]
 */
void fz_allowed_check_code(lua_State *L, const void *dump, size_t len);
void fz_allowed_check_name(lua_State *L, int module, int field);

/*
 * Open: core.code_digests(dump) -> a list of { line, digest } of the functions
 * in it, inner ones first. [-0, +0, m]
 */
int fz_allowed_open(lua_State *L);

#endif
