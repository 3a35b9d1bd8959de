/* for access(), a POSIX function that -std=c11 hides */
#define _GNU_SOURCE
#include "bind/open.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <lauxlib.h>

#include "base/err.h"
#include "os/blocks.h"
#include "value/lerror.h"
#include "value/luserdata.h"

#define BLOCKS_TYPE "fzlua.Blocks"

static const struct fz_luserdata_class blocks_class;

static struct fz_blocks *
check_blocks(lua_State *L)
{
	struct fz_blocks *b = luaL_checkudata(L, 1, BLOCKS_TYPE);

	if (b->fd == -1)
		fz_lerror_fail(L, FZ_ERR_CLOSED, "the file is closed");
	return b;
}

/*
 * blocks:read(bytes, records) -> a block, the number of its records | false if
 * the read would wait | nil at the end. A block ends with the record that makes
 * it at least `bytes` bytes long, or after `records` records.
 */
static int
blocks_read(lua_State *L)
{
	struct fz_blocks *b = check_blocks(L);
	lua_Integer bytes = luaL_checkinteger(L, 2);
	lua_Integer records = luaL_checkinteger(L, 3);
	struct fz_err err = { 0 };

	luaL_argcheck(L, bytes > 0, 2, "out of range");
	luaL_argcheck(L, records > 0, 3, "out of range");
	switch (fz_blocks_read(b, (size_t)bytes, (uint64_t)records, &err)) {
	case FZ_BLOCKS_FAILED:
		return fz_lerror_raise(L, &err);
	case FZ_BLOCKS_END:
		return 0;
	case FZ_BLOCKS_WAIT:
		lua_pushboolean(L, 0);
		return 1;
	case FZ_BLOCKS_BLOCK:
		break;
	}
	lua_pushlstring(
	    L, (const char *)b->buf.data + b->start, b->cut - b->start);
	lua_pushinteger(L, (lua_Integer)b->n);
	return 2;
}

/* blocks:fd() -> the descriptor for which to wait */
static int
blocks_fd(lua_State *L)
{
	lua_pushinteger(L, check_blocks(L)->fd);
	return 1;
}

static int
blocks_close(lua_State *L)
{
	fz_blocks_close(luaL_checkudata(L, 1, BLOCKS_TYPE));
	return 0;
}

/*
 * core.blocks_check(path) -> why the file cannot be read | nil if it can be
 * read. Does not open the file.
 */
static int
blocks_check(lua_State *L)
{
	const char *path = luaL_checkstring(L, 1);
	struct stat st;
	int code = 0;

	if (access(path, R_OK) != 0 || stat(path, &st) != 0)
		code = errno;
	else if (S_ISDIR(st.st_mode))
		code = EISDIR;
	if (code == 0)
		return 0;
	lua_pushstring(L, strerror(code));
	return 1;
}

/* core.blocks(path | nil, separator) -> blocks of a file or standard input */
static int
blocks_new(lua_State *L)
{
	const char *path = luaL_optstring(L, 1, NULL);
	const char *separator = luaL_checkstring(L, 2);
	struct fz_blocks *b = lua_newuserdatauv(L, sizeof(*b), 0);
	struct fz_err err = { 0 };

	*b = (struct fz_blocks){ .fd = -1 };
	fz_luserdata_set(L, &blocks_class);
	if (fz_blocks_open(b, path, separator[0], &err) != 0)
		return fz_lerror_raise(L, &err);
	return 1;
}

static const luaL_Reg methods[] = {
	{ "read", blocks_read },
	{ "fd", blocks_fd },
	{ "close", blocks_close },
	{ NULL, NULL },
};

static const luaL_Reg metamethods[] = {
	{ "__gc", blocks_close },
	{ "__close", blocks_close },
	{ NULL, NULL },
};

static const struct fz_luserdata_class blocks_class = {
	.name = BLOCKS_TYPE, .methods = methods, .metamethods = metamethods
};

int
fz_lblocks_open(lua_State *L)
{
	lua_pushcfunction(L, blocks_new);
	lua_setfield(L, -2, "blocks");
	lua_pushcfunction(L, blocks_check);
	lua_setfield(L, -2, "blocks_check");
	return 0;
}
