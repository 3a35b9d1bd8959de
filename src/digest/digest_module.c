#define _GNU_SOURCE /* for O_CLOEXEC */
#include "digest/digest.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include <lauxlib.h>
#include <lualib.h>

#include "digest/digest_state.h"
#include "value/byname.h"
#include "value/lerror.h"
#include "value/refmap.h"
#include "value/registered.h"

/* The prefix of the names of classes in a list of modules. */
#define CLASS '\1'
/* The prefix of the names of changed modules in a session. */
#define CHANGED '\2'

/*
 * Whether the module whose name is at `idx` belongs to Lua or to this library.
 */
static bool
is_standard(lua_State *L, int idx)
{
	static const char *const names[] = { LUA_GNAME, "coroutine", "debug",
		"io", "math", "os", "package", "string", "table", "utf8",
		"fzlua", NULL };
	const char *name = lua_tostring(L, idx);

	for (int i = 0; names[i] != NULL; i++) {
		if (strcmp(names[i], name) == 0)
			return true;
	}
	return strncmp(name, "fzlua.", 6) == 0;
}

/* Note the module, or the class, whose name is on top. [-1] */
static void
note(struct fz_digest *d)
{
	lua_State *L = d->L;
	int name = lua_gettop(L);

	if (lua_isnil(L, d->modules)) {
		lua_newtable(L);
		lua_replace(L, d->modules);
	}
	lua_pushvalue(L, name);
	if (lua_rawget(L, d->modules) == LUA_TNIL) {
		lua_pushvalue(L, name);
		lua_rawseti(
		    L, d->modules, (lua_Integer)lua_rawlen(L, d->modules) + 1);
		lua_pushvalue(L, name);
		lua_pushboolean(L, 1);
		lua_rawset(L, d->modules);
	}
	lua_settop(L, name - 1);
}

/*
 * Whether a script has put something into the standard module whose name is on
 * top. The session keeps the answer.
 */
static bool
is_changed(struct fz_digest *d)
{
	lua_State *L = d->L;
	int name = lua_gettop(L);
	const char *module = lua_tostring(L, name);
	bool changed;

	if (strcmp(module, LUA_GNAME) == 0 ||
	    strcmp(module, LUA_LOADLIBNAME) == 0 ||
	    strncmp(module, "fzlua", 5) == 0)
		return false;
	lua_pushfstring(L, "%c%s", CHANGED, module);
	lua_pushvalue(L, -1);
	if (d->session != 0 && lua_rawget(L, d->session) == LUA_TBOOLEAN) {
		changed = lua_toboolean(L, -1);
	} else {
		changed = fz_digest_push_settings(L, module, true);
		lua_settop(L, name + 1);
		lua_pushboolean(L, changed);
		if (d->session != 0)
			lua_rawset(L, d->session);
	}
	lua_settop(L, name);
	return changed;
}

void
fz_digest_note_module(struct fz_digest *d)
{
	luaL_checkstack(d->L, 20, "no stack left for a digest");
	if (is_standard(d->L, -1) && !is_changed(d))
		lua_pop(d->L, 1);
	else
		note(d);
}

void
fz_digest_note_class(struct fz_digest *d)
{
	const char *name = lua_tostring(d->L, -1);

	if (strncmp(name, FZ_REGISTERED_OURS, strlen(FZ_REGISTERED_OURS)) ==
	    0) {
		lua_pop(d->L, 1);
		return;
	}
	lua_pushfstring(d->L, "%c%s", CLASS, name);
	lua_remove(d->L, -2);
	note(d);
}

static struct fz_refmap *
push_addresses(lua_State *L)
{
	struct fz_refmap *map = fz_refmap_push(L);

	if (fz_byname_add_modules(L, map) != 0)
		fz_lerror_nomem(L, "a digest");
	return map;
}

/*
 * The addresses of all loaded modules. A session with a list of tables apart
 * keeps them in that list.
 */
static const struct fz_refmap *
addresses(struct fz_digest *d)
{
	lua_State *L = d->L;
	int top = lua_gettop(L), list = top + 1;
	const struct fz_refmap *map = NULL;

	luaL_checkstack(L, 20, "no stack left for a digest");
	lua_pushboolean(L, 1);
	if (d->session != 0)
		lua_rawget(L, d->session);
	if (lua_istable(L, list)) {
		lua_rawgeti(L, list, 1);
		map = lua_touserdata(L, -1);
	}
	if (map == NULL) {
		map = push_addresses(L);
		fz_digest_keep(d, lua_gettop(L));
		if (lua_istable(L, list))
			lua_rawseti(L, list, 1);
	}
	lua_settop(L, top);
	return map;
}

bool
fz_digest_is_module(struct fz_digest *d, const void *p)
{
	if (d->loaded == NULL)
		d->loaded = addresses(d);
	return fz_refmap_find(d->loaded, p) != NULL;
}

/* Push field `name` of the library `package`, or nil. [+1] */
static int
push_of_package(lua_State *L, const char *name)
{
	lua_getfield(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
	lua_getfield(L, -1, LUA_LOADLIBNAME);
	lua_remove(L, -2);
	if (lua_istable(L, -1)) {
		lua_pushstring(L, name);
		lua_rawget(L, -2);
	} else {
		lua_pushnil(L);
	}
	lua_remove(L, -2);
	return lua_type(L, -1);
}

/*
 * Find the file of the module in the path of `package`, and push its name.
 * False if there is none.
 */
static bool
push_file(lua_State *L, const char *module, const char *path)
{
	int top = lua_gettop(L);

	push_of_package(L, "searchpath");
	lua_pushstring(L, module);
	if (push_of_package(L, path) == LUA_TSTRING &&
	    lua_pcall(L, 2, 1, 0) == LUA_OK && lua_isstring(L, -1))
		return true;
	lua_settop(L, top);
	return false;
}

/* Push the loaded module, or the function that loads it. */
static bool
push_loaded(lua_State *L, const char *module)
{
	if (push_of_package(L, "preload") == LUA_TTABLE) {
		lua_pushstring(L, module);
		lua_rawget(L, -2);
		if (lua_isfunction(L, -1) && !lua_iscfunction(L, -1))
			return true;
		lua_pop(L, 1);
	}
	lua_pop(L, 1);
	lua_getfield(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
	lua_pushstring(L, module);
	lua_rawget(L, -2);
	return lua_istable(L, -1) ||
	       (lua_isfunction(L, -1) && !lua_iscfunction(L, -1));
}

/*
 * Hash the file whose name is on top; pushes 16 bytes. False, with errno, if it
 * cannot be read.
 */
static bool
push_file_hash(lua_State *L)
{
	unsigned char bytes[1 << 14], out[FZ_HASH_BYTES];
	int fd = open(lua_tostring(L, -1), O_RDONLY | O_CLOEXEC), code;
	struct fz_hash hash;
	ssize_t n = -1;

	if (fd < 0)
		return false;
	fz_hash_init(&hash);
	do {
		n = read(fd, bytes, sizeof(bytes));
		if (n > 0)
			fz_hash_add(&hash, bytes, (size_t)n);
	} while (n > 0 || (n < 0 && errno == EINTR));
	code = errno;
	close(fd);
	errno = code;
	if (n < 0)
		return false;
	fz_hash_end(&hash, out);
	lua_pushlstring(L, (const char *)out, sizeof(out));
	return true;
}

/* Write what scripts have put into the module. */
static void
put_settings(struct fz_digest *d, const char *module, const struct fz_path *at)
{
	lua_State *L = d->L;

	lua_pushstring(L, module);
	if (!fz_digest_push_settings(L, module, is_standard(L, -1)))
		return;
	fz_digest_keep(d, lua_gettop(L));
	fz_digest_table(d, lua_gettop(L), at);
	fz_digest_put_later(d, 0);
}

/* Write the contents of the module itself, without the modules that it uses. */
static void
put_module(struct fz_digest *d, void *ctx)
{
	const struct fz_path root = { NULL, FZ_PATH_ROOT, 0, 0, NULL };
	const struct fz_path at = { &root, FZ_PATH_MODULE, 0, 0, ctx };
	lua_State *L = d->L;

	put_settings(d, ctx, &at);
	lua_pushstring(L, ctx);
	if (is_standard(L, -1))
		return;
	if (push_file(L, ctx, "path")) {
		if (luaL_loadfilex(L, lua_tostring(L, -1), NULL) != LUA_OK)
			lua_error(L);
	} else if (push_file(L, ctx, "cpath")) {
		if (!push_file_hash(L))
			fz_digest_refuse(d, "a file that cannot be read", &at);
	} else if (!push_loaded(L, ctx)) {
		return; /* only the name of the module is hashed */
	}
	fz_digest_keep(d, lua_gettop(L));
	if (lua_istable(L, -1))
		fz_digest_table(d, lua_gettop(L), &at);
	else
		fz_digest_value(d, lua_gettop(L), &at);
	fz_digest_put_later(d, 0);
}

static void
put_class(struct fz_digest *d, void *ctx)
{
	const struct fz_path root = { NULL, FZ_PATH_ROOT, 0, 0, NULL };
	lua_State *L = d->L;

	lua_pushstring(L, ctx);
	if (!fz_registered_metatable(L, -1))
		return; /* no class is registered under this name any more */
	fz_digest_keep(d, lua_gettop(L));
	fz_digest_contents(d, lua_gettop(L), &root);
	fz_digest_put_later(d, 0);
}

/*
 * f(name): make the list of the modules and classes that this module or class
 * uses. Index 0 of the list has the hash of the module or class itself.
 */
static int
read_module(lua_State *L)
{
	unsigned char out[FZ_HASH_BYTES];
	struct fz_hash hash;
	size_t len = lua_rawlen(L, 1);
	char *copy;

	lua_newtable(L);
	copy = lua_newuserdatauv(L, len + 1, 0);
	memcpy(copy, lua_tostring(L, 1), len + 1);
	fz_hash_init(&hash);
	if (copy[0] == CLASS)
		fz_digest_with(L, &hash, 0, 2, put_class, copy + 1);
	else
		fz_digest_with(L, &hash, 0, 2, put_module, copy);
	fz_hash_end(&hash, out);
	lua_pushlstring(L, (const char *)out, sizeof(out));
	lua_rawseti(L, 2, 0);
	lua_settop(L, 2);
	return 1;
}

/*
 * Push the list for a class or a module of Lua with a value that has no digest:
 * only the name counts. A function that wraps one of Lua's own has no digest,
 * and must not keep all users of the module from being recorded.
 */
static void
push_name_only(lua_State *L)
{
	lua_newtable(L);
	lua_pushliteral(L, "");
	lua_rawseti(L, -2, 0);
}

/* Push what the session keeps of the module whose name is at `name`. [+1] */
static void
push_module(lua_State *L, int session, int name)
{
	lua_pushvalue(L, name);
	if (lua_rawget(L, session) != LUA_TNIL)
		return;
	lua_pop(L, 1);
	lua_pushcfunction(L, read_module);
	lua_pushvalue(L, name);
	if (lua_tostring(L, name)[0] != CLASS && !is_standard(L, name)) {
		lua_call(L, 1, 1);
	} else if (lua_pcall(L, 1, 1, 0) != LUA_OK) {
		if (!fz_lerror_has_kind(L, -1, FZ_ERR_UNSENDABLE))
			lua_error(L);
		lua_pop(L, 1);
		push_name_only(L);
	}
	lua_pushvalue(L, name);
	lua_pushvalue(L, -2);
	lua_rawset(L, session);
}

void
fz_digest_modules(struct fz_digest *d)
{
	const struct fz_path root = { NULL, FZ_PATH_ROOT, 0, 0, NULL };
	lua_State *L = d->L;
	int top = lua_gettop(L), all = top + 1, name = top + 2, own = top + 3;

	if (lua_isnil(L, d->modules))
		return;
	luaL_checkstack(L, 20, NULL);
	lua_newtable(L); /* maps a name to the hash of the module itself */
	for (lua_Integer i = 1; lua_rawgeti(L, d->modules, i) == LUA_TSTRING;
	     i++) {
		push_module(L, d->session, name);
		for (lua_Integer k = 1; lua_rawgeti(L, own, k) == LUA_TSTRING;
		     k++)
			fz_digest_note_module(d);
		lua_settop(L, own);
		lua_pushvalue(L, name);
		lua_rawgeti(L, own, 0);
		lua_rawset(L, all);
		lua_settop(L, all);
	}
	lua_settop(L, all);
	fz_digest_tag(d, FZ_DIGEST_MODULE);
	fz_digest_value(d, all, &root);
	lua_settop(L, top);
}

/* digest(...) -> 32 hexadecimal digits */
static int
digest_hex(lua_State *L)
{
	static const char digits[] = "0123456789abcdef";
	unsigned char out[FZ_HASH_BYTES];
	char text[2 * FZ_HASH_BYTES];
	int n = lua_gettop(L);

	luaL_checkstack(L, 10, NULL);
	lua_newtable(L);
	fz_digest(L, 1, n, n + 1, out);
	for (int i = 0; i < FZ_HASH_BYTES; i++) {
		text[2 * i] = digits[out[i] >> 4];
		text[2 * i + 1] = digits[out[i] & 15];
	}
	lua_pushlstring(L, text, sizeof(text));
	return 1;
}

/* digest_in(session, ...) -> 16 bytes */
static int
digest_in(lua_State *L)
{
	unsigned char out[FZ_HASH_BYTES];

	luaL_checktype(L, 1, LUA_TTABLE);
	fz_digest(L, 2, lua_gettop(L) - 1, 1, out);
	lua_pushlstring(L, (const char *)out, sizeof(out));
	return 1;
}

/* digest_file(path) -> 16 bytes */
static int
digest_file(lua_State *L)
{
	struct fz_err err = { 0 };

	luaL_checkstring(L, 1);
	lua_settop(L, 1);
	if (push_file_hash(L))
		return 1;
	fz_err_sys(&err, errno, "cannot read %.150s", lua_tostring(L, 1));
	return fz_lerror_raise(L, &err);
}

static const luaL_Reg functions[] = {
	{ "digest", digest_hex },
	{ "digest_in", digest_in },
	{ "digest_file", digest_file },
	{ NULL, NULL },
};

int
fz_digest_open(lua_State *L)
{
	luaL_setfuncs(L, functions, 0);
	return 0;
}
