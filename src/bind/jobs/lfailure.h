/* lfailure.h - the failure of a call as an fz.Error. */
#ifndef FZ_LFAILURE_H
#define FZ_LFAILURE_H

#include <lua.h>

struct fz_engine;
struct fz_failure;

/* Push the fz.Error of a failure. [-0, +1, m] */
void fz_lfailure_push(
    lua_State *L, struct fz_engine *engine, const struct fz_failure *failure);

/* Set a field of the table on top. [-0, +0, m] */
void fz_lfailure_set(lua_State *L, const char *field, lua_Integer n);

#endif
