/* lfailure.h - makes an fz.Error from the failure of a call. */
#ifndef FZ_LFAILURE_H
#define FZ_LFAILURE_H

#include <lua.h>

struct fz_engine;
struct fz_failure;

/* Push the fz.Error of a failure. [-0, +1, m] */
void fz_lfailure_push(
    lua_State *L, struct fz_engine *engine, const struct fz_failure *failure);

/* Set a field of the table on top to the integer `n`. [-0, +0, m] */
void fz_lfailure_set(lua_State *L, const char *field, lua_Integer n);

#endif
