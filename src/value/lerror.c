#include "value/lerror.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>

#include <string.h>

#include <lauxlib.h>

#include "value/luserdata.h"

/* Without this function, an fz.Error would print as "table: 0x...". */
static int
error_tostring(lua_State *L)
{
	if (lua_type(L, 1) == LUA_TTABLE) {
		lua_pushliteral(L, "message");
		if (lua_rawget(L, 1) == LUA_TSTRING)
			return 1;
	}
	lua_pushliteral(L, "error");
	return 1;
}

static void
push_metatable(lua_State *L)
{
	if (!fz_luserdata_begin(L, FZ_LERROR_TYPE))
		return;
	lua_pushcfunction(L, error_tostring);
	lua_setfield(L, -2, "__tostring");
	fz_luserdata_end(L, FZ_LERROR_TYPE);
}

void
fz_lerror_push(lua_State *L, enum fz_err_kind kind, const char *message)
{
	luaL_checkstack(L, 4, "no stack left for an error");
	lua_createtable(L, 0, 4);
	lua_pushstring(L, fz_err_kind_name(kind));
	lua_setfield(L, -2, "kind");
	lua_pushstring(L, message);
	lua_setfield(L, -2, "message");
	push_metatable(L);
	lua_setmetatable(L, -2);
}

int
fz_lerror_raise(lua_State *L, const struct fz_err *err)
{
	fz_lerror_push(L, err->kind, err->text);
	return lua_error(L);
}

int
fz_lerror_fail(lua_State *L, enum fz_err_kind kind, const char *fmt, ...)
{
	char text[FZ_ERR_TEXT_MAX];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	fz_lerror_push(L, kind, text);
	return lua_error(L);
}

int
fz_lerror_is(lua_State *L, int idx)
{
	int same;

	if (lua_type(L, idx) != LUA_TTABLE || !lua_checkstack(L, 2) ||
	    !lua_getmetatable(L, idx))
		return 0;
	luaL_getmetatable(L, FZ_LERROR_TYPE);
	same = lua_rawequal(L, -1, -2);
	lua_pop(L, 2);
	return same;
}

int
fz_lerror_nomem(lua_State *L, const char *what)
{
	struct fz_err err;

	fz_err_nomem(&err, what);
	return fz_lerror_raise(L, &err);
}

void
fz_lerror_set_cause(lua_State *L, int idx)
{
	luaL_checkstack(L, 3, NULL);
	lua_pushvalue(L, idx);
	lua_setfield(L, -2, "cause");
	if (!fz_lerror_is(L, idx))
		return;
	lua_getfield(L, idx, "kind");
	lua_setfield(L, -2, "kind");
}

void
fz_lerror_name_value(lua_State *L, const char *prefix)
{
	if (!fz_lerror_is(L, -1))
		return;
	luaL_checkstack(L, 4, NULL);
	if (lua_getfield(L, -1, "value") == LUA_TNUMBER) {
		lua_pushfstring(L, prefix, (int)lua_tointeger(L, -1));
		lua_getfield(L, -3, "message");
		lua_concat(L, 2);
		lua_setfield(L, -3, "message");
	}
	lua_pop(L, 1);
}

bool
fz_lerror_has_kind(lua_State *L, int idx, enum fz_err_kind kind)
{
	bool same;

	if (!fz_lerror_is(L, idx))
		return false;
	lua_getfield(L, idx, "kind");
	same = lua_type(L, -1) == LUA_TSTRING &&
	       strcmp(lua_tostring(L, -1), fz_err_kind_name(kind)) == 0;
	lua_pop(L, 1);
	return same;
}

static enum fz_err_kind
kind_of(lua_State *L, int idx)
{
	int kind = FZ_ERR_NKINDS - 1;

	while (kind > FZ_ERR_ERROR &&
	       !fz_lerror_has_kind(L, idx, (enum fz_err_kind)kind))
		kind--;
	return (enum fz_err_kind)kind;
}

void
fz_lerror_pop(lua_State *L, struct fz_err *err)
{
	enum fz_err_kind kind = kind_of(L, -1);
	const char *text = NULL;

	if (fz_lerror_is(L, -1))
		lua_getfield(L, -1, "message");
	else
		lua_pushvalue(L, -1);
	if (lua_type(L, -1) == LUA_TSTRING)
		text = lua_tostring(L, -1);
	fz_err_set(err, kind, "%s", text != NULL ? text : "unknown error");
	lua_pop(L, 2);
}

/* (value) -> text */
static int
call_tolstring(lua_State *L)
{
	luaL_tolstring(L, 1, NULL);
	return 1;
}

/* (table) -> text: a literal, shortened if it is long */
static int
call_literal(lua_State *L)
{
	lua_getglobal(L, "require");
	lua_pushliteral(L, "fzlua.literal");
	lua_call(L, 1, 1);
	lua_getfield(L, -1, "brief");
	lua_pushvalue(L, 1);
	lua_call(L, 1, 1);
	return lua_type(L, -1) == LUA_TSTRING
		   ? 1
		   : luaL_error(L, "__tostring returned no string");
}

/*
 * Call `f` for the value at `idx`. True if it returned a text, which is pushed.
 */
static bool
push_text(lua_State *L, lua_CFunction f, int idx)
{
	lua_pushcfunction(L, f);
	if (lua_type(L, idx) == LUA_TNONE)
		lua_pushnil(L);
	else
		lua_pushvalue(L, idx);
	if (lua_pcall(L, 1, 1, 0) == LUA_OK)
		return true;
	lua_pop(L, 1);
	return false;
}

/*
 * Whether the value is a table without a text of its own, which would print as
 * an address.
 */
static bool
is_anonymous(lua_State *L, int idx)
{
	if (lua_type(L, idx) != LUA_TTABLE)
		return false;
	if (luaL_getmetafield(L, idx, "__tostring") == LUA_TNIL)
		return true;
	lua_pop(L, 1);
	return false;
}

const char *
fz_lerror_text(lua_State *L, int idx)
{
	int type = lua_type(L, idx);

	idx = lua_absindex(L, idx);
	luaL_checkstack(L, 4, "no stack left for an error");
	if (is_anonymous(L, idx) && push_text(L, call_literal, idx))
		return lua_tostring(L, -1);
	if (!push_text(L, call_tolstring, idx))
		lua_pushfstring(
		    L, "(a %s that has no text)", lua_typename(L, type));
	return lua_tostring(L, -1);
}

/* error_text(value) -> string, see fz_lerror_text() */
static int
error_text(lua_State *L)
{
	luaL_checkany(L, 1);
	fz_lerror_text(L, 1);
	return 1;
}

int
fz_lerror_open(lua_State *L)
{
	push_metatable(L);
	lua_setfield(L, -2, "Error");
	lua_pushcfunction(L, error_text);
	lua_setfield(L, -2, "error_text");
	return 0;
}
