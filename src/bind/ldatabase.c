#include "bind/ldatabase.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>

#include <lauxlib.h>

#include "base/err.h"
#include "base/hash.h"
#include "bind/open.h"
#include "codec/plain.h"
#include "value/lerror.h"
#include "value/luserdata.h"

#define ZSTD_TYPE "fzlua.Zstd"

static const struct fz_luserdata_class database_class, zstd_class;

struct fz_ldatabase *
fz_ldatabase_check(lua_State *L)
{
	struct fz_ldatabase *ld = luaL_checkudata(L, 1, FZ_LDATABASE_TYPE);

	if (!fz_sqlite_is_open(&ld->s))
		fz_lerror_fail(L, FZ_ERR_CLOSED, "the database is closed");
	return ld;
}

int
fz_ldatabase_raise(lua_State *L, const struct fz_err *err)
{
	fz_lerror_push(L, err->kind, err->text);
	lua_pushinteger(L, err->code);
	lua_setfield(L, -2, "code");
	return lua_error(L);
}

/*
 * core.database(path, seconds [, mode]) -> database. `seconds` is the maximum
 * time to wait for other processes. The mode is "create", "write" or "read".
 */
static int
database_new(lua_State *L)
{
	static const char *const modes[] = { "create", "write", "read", NULL };
	const char *path = luaL_checkstring(L, 1);
	lua_Number seconds = luaL_checknumber(L, 2);
	int mode = luaL_checkoption(L, 3, "create", modes);
	struct fz_err err = { 0 };
	struct fz_ldatabase *ld;

	luaL_argcheck(L, 0 <= seconds && seconds < 1e6, 2, "out of range");
	ld = lua_newuserdatauv(L, sizeof(*ld), 1);
	/* if the opening fails, __gc finds a closed database */
	memset(ld, 0, sizeof(*ld));
	fz_luserdata_set(L, &database_class);
	lua_newtable(L);
	lua_setiuservalue(L, -2, 1);
	if (fz_sqlite_open(&ld->s, path, (enum fz_sqlite_mode)mode,
		(int)(seconds * 1e3), &err) != 0)
		return fz_ldatabase_raise(L, &err);
	return 1;
}

sqlite3_stmt *
fz_ldatabase_statement(lua_State *L, struct fz_ldatabase *ld)
{
	const char *sql = luaL_checkstring(L, 2);
	struct fz_err err = { 0 };
	sqlite3_stmt *stmt;

	luaL_checkstack(L, 10, NULL);
	lua_getiuservalue(L, 1, 1);
	lua_pushvalue(L, 2);
	lua_rawget(L, -2);
	stmt = lua_touserdata(L, -1);
	if (stmt == NULL) {
		/*
		 * Add the key to the table first: after that, storing the
		 * statement needs no memory, so the statement cannot leak.
		 */
		lua_pushvalue(L, 2);
		lua_pushboolean(L, 0);
		lua_rawset(L, -4);
		stmt = fz_sqlite_prepare(&ld->s, sql, &err);
		if (stmt == NULL)
			fz_ldatabase_raise(L, &err);
		lua_pushvalue(L, 2);
		lua_pushlightuserdata(L, stmt);
		lua_rawset(L, -4);
	}
	lua_pop(L, 2);
	return stmt;
}

static int
bind_value(
    lua_State *L, const struct fz_sqlite *s, sqlite3_stmt *stmt, int i, int idx)
{
	size_t len;
	const char *bytes;

	switch (lua_type(L, idx)) {
	case LUA_TNUMBER:
		if (lua_isinteger(L, idx))
			return s->bind_int64(stmt, i, lua_tointeger(L, idx));
		return s->bind_double(stmt, i, lua_tonumber(L, idx));
	case LUA_TBOOLEAN:
		return s->bind_int64(stmt, i, lua_toboolean(L, idx));
	case LUA_TSTRING:
		bytes = lua_tolstring(L, idx, &len);
		return s->bind_blob64(stmt, i, bytes, len, SQLITE_STATIC);
	default:
		return s->bind_null(stmt, i);
	}
}

/*
 * Bind the values from index 3 on. They must stay on the stack until the
 * statement is reset.
 */
static void
bind_all(lua_State *L, const struct fz_sqlite *s, sqlite3_stmt *stmt)
{
	int n = s->bind_parameter_count(stmt);
	struct fz_err err = { 0 };

	if (lua_gettop(L) < n + 2)
		lua_settop(L, n + 2);
	for (int i = 1; i <= n; i++) {
		int rc = bind_value(L, s, stmt, i, i + 2);

		if (rc == SQLITE_OK)
			continue;
		fz_err_set(&err, FZ_ERR_ERROR, "%s", s->errstr(rc));
		err.code = rc;
		s->clear_bindings(stmt);
		fz_ldatabase_raise(L, &err);
	}
}

static void
push_column(lua_State *L, const struct fz_sqlite *s, sqlite3_stmt *stmt, int i)
{
	const void *bytes;

	switch (s->column_type(stmt, i)) {
	case SQLITE_INTEGER:
		lua_pushinteger(L, s->column_int64(stmt, i));
		break;
	case SQLITE_FLOAT:
		lua_pushnumber(L, s->column_double(stmt, i));
		break;
	case SQLITE_NULL:
		lua_pushnil(L);
		break;
	default:
		bytes = s->column_blob(stmt, i);
		lua_pushlstring(L, bytes != NULL ? bytes : "",
		    bytes != NULL ? (size_t)s->column_bytes(stmt, i) : 0);
	}
}

struct running {
	const struct fz_sqlite *s;
	sqlite3_stmt *stmt;
	struct fz_err err;
	bool failed;
};

/*
 * run_body(running) -> list of rows. Called protected, so that the caller can
 * reset the statement after an error.
 */
static int
run_body(lua_State *L)
{
	struct running *r = lua_touserdata(L, 1);
	int n = r->s->column_count(r->stmt), rc;

	luaL_checkstack(L, 10, NULL);
	lua_newtable(L);
	for (lua_Integer row = 1;; row++) {
		rc = fz_sqlite_step(r->s, r->stmt, &r->err);
		if (rc != 1)
			break;
		lua_createtable(L, n, 0);
		for (int i = 0; i < n; i++) {
			push_column(L, r->s, r->stmt, i);
			lua_rawseti(L, -2, i + 1);
		}
		lua_rawseti(L, -2, row);
	}
	r->failed = rc != 0;
	return 1;
}

/* database:run(sql, ...) -> list of rows (lists), number of changed rows */
static int
database_run(lua_State *L)
{
	const struct fz_ldatabase *ld = fz_ldatabase_check(L);
	struct running r = { .s = &ld->s };
	int status;

	r.stmt = fz_ldatabase_statement(L, fz_ldatabase_check(L));
	bind_all(L, r.s, r.stmt);
	lua_pushcfunction(L, run_body);
	lua_pushlightuserdata(L, &r);
	status = lua_pcall(L, 1, 1, 0);
	r.s->reset(r.stmt);
	r.s->clear_bindings(r.stmt);
	if (status != LUA_OK)
		return lua_error(L);
	if (r.failed)
		return fz_ldatabase_raise(L, &r.err);
	lua_pushinteger(L, r.s->changes(r.s->db));
	return 2;
}

/* database:close(): idempotent; does nothing in a forked child */
static int
database_close(lua_State *L)
{
	struct fz_ldatabase *ld = luaL_checkudata(L, 1, FZ_LDATABASE_TYPE);

	if (fz_sqlite_is_open(&ld->s) &&
	    lua_getiuservalue(L, 1, 1) == LUA_TTABLE) {
		for (lua_pushnil(L); lua_next(L, -2); lua_pop(L, 1))
			ld->s.finalize(lua_touserdata(L, -1));
	}
	fz_sqlite_close(&ld->s);
	fz_zstd_fini(&ld->z);
	return 0;
}

struct lzstd {
	struct fz_zstd z;
};

/* core.zstd() -> zstd. Raises an error if the library is missing. */
static int
zstd_new(lua_State *L)
{
	struct lzstd *lz = lua_newuserdatauv(L, sizeof(*lz), 0);
	struct fz_err err = { 0 };

	memset(lz, 0, sizeof(*lz));
	fz_luserdata_set(L, &zstd_class);
	if (fz_zstd_init(&lz->z, &err) != 0)
		return fz_lerror_raise(L, &err);
	return 1;
}

/* zstd:compress(string) -> string | nil if it cannot be compressed */
static int
zstd_compress(lua_State *L)
{
	const struct lzstd *lz = luaL_checkudata(L, 1, ZSTD_TYPE);
	size_t len, room, n;
	const char *bytes = luaL_checklstring(L, 2, &len);
	luaL_Buffer b;
	char *out;

	room = lz->z.bound(len);
	out = luaL_buffinitsize(L, &b, room);
	n = lz->z.compress(out, room, bytes, len, 3);
	if (lz->z.is_error(n))
		return 0;
	luaL_pushresultsize(&b, n);
	return 1;
}

static int
zstd_gc(lua_State *L)
{
	struct lzstd *lz = luaL_checkudata(L, 1, ZSTD_TYPE);

	fz_zstd_fini(&lz->z);
	return 0;
}

/* core.hash(string) -> 16 bytes */
static int
hash(lua_State *L)
{
	size_t len;
	const char *bytes = luaL_checklstring(L, 1, &len);
	unsigned char out[FZ_HASH_BYTES];

	fz_hash_bytes(bytes, len, out);
	lua_pushlstring(L, (const char *)out, sizeof(out));
	return 1;
}

/* core.is_plain(string) -> whether fz_plain_is() is true for the value */
static int
is_plain(lua_State *L)
{
	size_t len;
	const char *bytes = luaL_checklstring(L, 1, &len);

	lua_pushboolean(L, fz_plain_is(bytes, len));
	return 1;
}

/*
 * core.is_read_only(path) -> whether the database exists and cannot be written
 */
static int
is_read_only(lua_State *L)
{
	lua_pushboolean(L, fz_sqlite_is_read_only(luaL_checkstring(L, 1)));
	return 1;
}

/* core.file_id(path) -> nil | text that is unique while the file exists */
static int
file_id(lua_State *L)
{
	struct stat st;

	if (stat(luaL_checkstring(L, 1), &st) != 0)
		return 0;
	lua_pushfstring(
	    L, "%I:%I", (LUAI_UACINT)st.st_dev, (LUAI_UACINT)st.st_ino);
	return 1;
}

/* core.is_emptied(path) -> whether the file has lost its contents */
static int
is_emptied(lua_State *L)
{
	lua_pushboolean(L, fz_sqlite_is_emptied(luaL_checkstring(L, 1)));
	return 1;
}

/*
 * core.make_directory(path) -> whether the directory was made, the text of an
 * error. There is no text if the name exists.
 */
static int
make_directory(lua_State *L)
{
	if (mkdir(luaL_checkstring(L, 1), 0777) == 0) {
		lua_pushboolean(L, 1);
		return 1;
	}
	lua_pushboolean(L, 0);
	lua_pushstring(L, errno != EEXIST ? strerror(errno) : NULL);
	return 2;
}

static const luaL_Reg database_methods[] = {
	{ "run", database_run },
	{ "close", database_close },
	{ NULL, NULL },
};

static const luaL_Reg database_metamethods[] = {
	{ "__gc", database_close },
	{ "__close", database_close },
	{ NULL, NULL },
};

static const struct fz_luserdata_class database_class = { .name =
							      FZ_LDATABASE_TYPE,
	.methods = database_methods,
	.metamethods = database_metamethods };

static const luaL_Reg zstd_methods[] = {
	{ "compress", zstd_compress },
	{ NULL, NULL },
};

static const luaL_Reg zstd_metamethods[] = {
	{ "__gc", zstd_gc },
	{ NULL, NULL },
};

static const struct fz_luserdata_class zstd_class = { .name = ZSTD_TYPE,
	.methods = zstd_methods,
	.metamethods = zstd_metamethods };

static const luaL_Reg functions[] = {
	{ "database", database_new },
	{ "zstd", zstd_new },
	{ "hash", hash },
	{ "is_plain", is_plain },
	{ "is_read_only", is_read_only },
	{ "file_id", file_id },
	{ "is_emptied", is_emptied },
	{ "make_directory", make_directory },
	{ NULL, NULL },
};

int
fz_ldatabase_open(lua_State *L)
{
	luaL_setfuncs(L, functions, 0);
	return 0;
}
