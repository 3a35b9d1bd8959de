#include "codec/path.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include <lauxlib.h>

#include "value/lerror.h"

enum {
	PATH_KEY_MAX = 64, /* maximum number of bytes of a key that are shown */
	PATH_ENDS = 8,     /* number of shown steps at each end */
};

static bool
is_identifier(const char *s, size_t len)
{
	if (len == 0 || (*s >= '0' && *s <= '9'))
		return false;
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)s[i];

		if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
			(c >= '0' && c <= '9') || c == '_'))
			return false;
	}
	return true;
}

static void
add_string_key(lua_State *L, luaL_Buffer *b, int key)
{
	size_t len;
	const char *s = lua_tolstring(L, key, &len);
	bool cut = len > PATH_KEY_MAX;
	char escape[8];

	if (!cut && is_identifier(s, len)) {
		luaL_addchar(b, '.');
		luaL_addlstring(b, s, len);
		return;
	}
	luaL_addstring(b, "[\"");
	for (size_t i = 0; i < (cut ? PATH_KEY_MAX : len); i++) {
		unsigned char c = (unsigned char)s[i];

		if (c == '"' || c == '\\') {
			luaL_addchar(b, '\\');
			luaL_addchar(b, (char)c);
		} else if (c < ' ' || c == 0x7f) {
			snprintf(escape, sizeof(escape), "\\%03u", c);
			luaL_addstring(b, escape);
		} else {
			luaL_addchar(b, (char)c);
		}
	}
	luaL_addstring(b, cut ? "...\"]" : "\"]");
}

static void
add_key(lua_State *L, luaL_Buffer *b, int key)
{
	char text[64];

	if (lua_type(L, key) == LUA_TSTRING) {
		add_string_key(L, b, key);
		return;
	}
	if (lua_isinteger(L, key))
		snprintf(text, sizeof(text), "[%" PRId64 "]",
		    (int64_t)lua_tointeger(L, key));
	else if (lua_type(L, key) == LUA_TNUMBER)
		snprintf(text, sizeof(text), "[%.14g]", lua_tonumber(L, key));
	else if (lua_isboolean(L, key))
		snprintf(text, sizeof(text), "[%s]",
		    lua_toboolean(L, key) ? "true" : "false");
	else
		snprintf(text, sizeof(text), "[a %s]",
		    lua_typename(L, lua_type(L, key)));
	luaL_addstring(b, text);
}

static void
add_named(luaL_Buffer *b, const char *what, const char *name)
{
	char text[PATH_KEY_MAX + 16];

	snprintf(text, sizeof(text), "<%s %.*s>", what, PATH_KEY_MAX, name);
	luaL_addstring(b, text);
}

static void
add_step(lua_State *L, luaL_Buffer *b, const struct fz_path *at)
{
	char text[32];

	switch (at->kind) {
	case FZ_PATH_ROOT:
		break;
	case FZ_PATH_DEEP:
		luaL_addstring(b, "...");
		break;
	case FZ_PATH_INDEX:
		snprintf(
		    text, sizeof(text), "[%" PRId64 "]", (int64_t)at->index);
		luaL_addstring(b, text);
		break;
	case FZ_PATH_FIELD:
		add_key(L, b, at->key);
		break;
	case FZ_PATH_KEY:
		luaL_addstring(b, "<key>");
		break;
	case FZ_PATH_UPVALUE:
		add_named(b, "upvalue", at->name);
		break;
	case FZ_PATH_PACKED:
		add_named(b, "packed", at->name);
		break;
	case FZ_PATH_GLOBAL:
		add_named(b, "global", at->name);
		break;
	case FZ_PATH_MODULE:
		add_named(b, "module", at->name);
		break;
	}
}

/*
 * Add the path from its root to `at`, which is `n` of `total` steps long. In a
 * long path "..." replaces the steps in the middle.
 */
static void
add_path(lua_State *L, luaL_Buffer *b, const struct fz_path *at, size_t n,
    size_t total)
{
	if (n == 0)
		return;
	add_path(L, b, at->up, n - 1, total);
	if (n <= PATH_ENDS || n > total - PATH_ENDS)
		add_step(L, b, at);
	else if (n == PATH_ENDS + 1)
		luaL_addstring(b, "...");
}

static void
push_path(lua_State *L, const struct fz_path *at)
{
	size_t total = 0;
	luaL_Buffer b;

	for (const struct fz_path *p = at; p != NULL; p = p->up)
		total++;
	luaL_checkstack(L, 10, NULL);
	luaL_buffinit(L, &b);
	add_path(L, &b, at, total, total);
	luaL_pushresult(&b);
}

void
fz_path_push_error(
    lua_State *L, enum fz_err_kind kind, const struct fz_path *at)
{
	int text = lua_gettop(L);

	luaL_checkstack(L, 10, NULL);
	push_path(L, at);
	if (lua_rawlen(L, -1) != 0) {
		lua_pushliteral(L, ": ");
		lua_pushvalue(L, text);
		lua_concat(L, 3);
		lua_replace(L, text);
	}
	lua_settop(L, text);
	fz_lerror_push(L, kind, lua_tostring(L, text));
	lua_replace(L, text);
}
