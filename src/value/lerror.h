/* lerror.h - struct fz_err as an fz.Error, the one way C raises on purpose. */
#ifndef FZ_LERROR_H
#define FZ_LERROR_H

#include <lua.h>

#include "base/err.h"

/* Registry name of the metatable of every fz.Error; lua/core/error.lua fills
 * it. */
#define FZ_LERROR_TYPE "fzlua.Error"

/*
 * Push a new fz.Error with `kind` and `message`; other fields are the
 * caller's to set. [-0, +1, may raise for memory]
 */
void fz_lerror_push(lua_State *L, enum fz_err_kind kind, const char *message);

/* Raise `err` as an fz.Error; never returns, "return fz_lerror_raise()". */
int fz_lerror_raise(lua_State *L, const struct fz_err *err);

/*
 * Raise a new fz.Error with a formatted message, such as that of a call in a
 * wrong state; never returns, "return fz_lerror_fail()".
 */
int fz_lerror_fail(lua_State *L, enum fz_err_kind kind, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* True if the value at `idx` is an fz.Error. [-0, +0, -] */
int fz_lerror_is(lua_State *L, int idx);

/*
 * Push a text for any value whatever, an error object whose __tostring
 * raises included. A table without __tostring is shown as a literal. Never
 * raises but for memory. [-0, +1, m]
 */
const char *fz_lerror_text(lua_State *L, int idx);

/*
 * Open: core.Error is the metatable, core.error_text(value) a text; `core` is
 * at the top. [-0, +0, m]
 */
int fz_lerror_open(lua_State *L);

#endif
