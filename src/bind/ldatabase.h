/* ldatabase.h - databases as userdata, for the bindings that read from them. */
#ifndef FZ_LDATABASE_H
#define FZ_LDATABASE_H

#include <lua.h>

#include "base/buf.h"
#include "cache/sqlite.h"
#include "cache/zstd.h"

struct fz_err;

#define FZ_LDATABASE_TYPE "fzlua.Database"

/* A database. The user value is a table of compiled statements by text. */
struct fz_ldatabase {
	struct fz_sqlite s;
	struct fz_zstd z; /* loaded at the first use */
};

/* The database at index 1. Raises an error if it is closed. [-0, +0, e] */
struct fz_ldatabase *fz_ldatabase_check(lua_State *L);

/* The compiled statement for the text at index 2. [-0, +0, e] */
sqlite3_stmt *fz_ldatabase_statement(lua_State *L, struct fz_ldatabase *ld);

/* Raise an error. Its field `code` is the error code of SQLite. */
int fz_ldatabase_raise(lua_State *L, const struct fz_err *err);

#endif
