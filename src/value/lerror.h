/*
 * lerror.h - makes an fz.Error of a struct fz_err; all intended errors of C go
 * this way.
 */
#ifndef FZ_LERROR_H
#define FZ_LERROR_H

#include <stdbool.h>

#include <lua.h>

#include "base/err.h"

/* Registry name of the metatable of every fz.Error; lua/core/error.lua fills
 * it. */
#define FZ_LERROR_TYPE "fzlua.Error"

/* Push a new fz.Error with this kind and message. [-0, +1, m] */
void fz_lerror_push(lua_State *L, enum fz_err_kind kind, const char *message);

/* Raise `err` as an fz.Error. Use it as "return fz_lerror_raise()". */
int fz_lerror_raise(lua_State *L, const struct fz_err *err);

/*
 * Raise a new fz.Error with a formatted message. Never returns; use as "return
 * fz_lerror_fail()".
 */
int fz_lerror_fail(lua_State *L, enum fz_err_kind kind, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* Raise an error: there is no memory for `what`. */
int fz_lerror_nomem(lua_State *L, const char *what);

/*
 * Set `cause` of the fz.Error on top to the value at `idx`. If that value is an
 * fz.Error, also copy its kind. [-0, +0, m]
 */
void fz_lerror_set_cause(lua_State *L, int idx);

/*
 * If the value on top is an fz.Error of the codec about one value, put `prefix`
 * before its message; a "%d" in the prefix stands for the number of that value.
 * [-0, +0, m]
 */
void fz_lerror_name_value(lua_State *L, const char *prefix);

/* Whether the value at `idx` is an fz.Error. [-0, +0, -] */
int fz_lerror_is(lua_State *L, int idx);

/* Whether the value at `idx` is an fz.Error of this kind. [-0, +0, m] */
bool fz_lerror_has_kind(lua_State *L, int idx, enum fz_err_kind kind);

/*
 * Push a text for any value. A table without __tostring is shown as a literal.
 * An error in a __tostring becomes part of the text. Raises only for memory.
 * [-0, +1, m]
 */
const char *fz_lerror_text(lua_State *L, int idx);

/* Pop an error of any kind and describe it in `err`. [-1, +0, m] */
void fz_lerror_pop(lua_State *L, struct fz_err *err);

/* Open: core.Error and core.error_text(value). [-0, +0, m] */
int fz_lerror_open(lua_State *L);

#endif
