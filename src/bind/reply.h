/* reply.h - what a worker sent back, as Lua values. */
#ifndef FZ_REPLY_H
#define FZ_REPLY_H

#include <lua.h>

struct fz_blob;
struct fz_engine;
struct fz_failure;

/*
 * Push the `n` values of a blob (LUA_MULTRET: all that it has), or what went
 * wrong. Returns a status of pcall. [-0, +n or 1, m]
 */
int fz_reply_push(
    lua_State *L, struct fz_engine *engine, struct fz_blob *blob, int n);

/* Push the fz.Error of a failure. [-0, +1, m] */
void fz_reply_push_error(
    lua_State *L, struct fz_engine *engine, const struct fz_failure *failure);

#endif
