#include "bind/reply.h"

#include <stdbool.h>

#include <lauxlib.h>

#include "bind/codec.h"
#include "bind/lerror.h"
#include "engine/blob.h"
#include "engine/engine.h"
#include "engine/worker.h"

struct decoding {
	const void *at;
	size_t len;
	int n;
};

/* Protected: so that the mapping is given back whatever happens. */
static int
decode_body(lua_State *L)
{
	const struct decoding *d = lua_touserdata(L, 1);
	int n = fz_codec_decode(L, d->at, d->len, true);

	if (d->n != LUA_MULTRET && n != d->n)
		return luaL_error(L, "not the values that were wanted");
	return n;
}

int
fz_reply_push(
    lua_State *L, struct fz_engine *engine, struct fz_blob *blob, int n)
{
	struct decoding d = { NULL, blob->len, n };
	struct fz_err err = { 0 };
	int status;

	d.at = fz_blob_map(blob, engine->shm, &err);
	if (d.at == NULL) {
		fz_lerror_push(L, err.kind, err.text);
		return LUA_ERRRUN;
	}
	lua_pushcfunction(L, decode_body);
	lua_pushlightuserdata(L, &d);
	status = lua_pcall(L, 1, n, 0);
	fz_blob_unmap(blob, engine->shm, d.at);
	return status;
}

static void
set_integer(lua_State *L, const char *field, lua_Integer n)
{
	lua_pushinteger(L, n);
	lua_setfield(L, -2, field);
}

/* Fields that the worker told, from the table at -2 into the error at -1. */
static void
copy_details(lua_State *L)
{
	static const char *const fields[] = { "traceback", "cause", "result" };

	for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
		lua_getfield(L, -2, fields[i]);
		lua_setfield(L, -2, fields[i]);
	}
}

static const char *
default_message(const struct fz_failure *failure)
{
	if (failure->err.text[0] != '\0')
		return failure->err.text;
	if (failure->err.kind == FZ_ERR_MEMORY)
		return "not enough memory";
	return "an error that could not be described";
}

void
fz_reply_push_error(
    lua_State *L, struct fz_engine *engine, const struct fz_failure *failure)
{
	int top = lua_gettop(L);
	bool told = failure->value != NULL && failure->value->len != 0 &&
		    fz_reply_push(L, engine, failure->value, 1) == LUA_OK &&
		    lua_istable(L, -1);
	const char *message = default_message(failure);

	if (told) {
		lua_getfield(L, -1, "message");
		if (lua_type(L, -1) == LUA_TSTRING)
			message = lua_tostring(L, -1);
		fz_lerror_push(L, failure->err.kind, message);
		lua_remove(L, -2);
		copy_details(L);
		lua_remove(L, -2);
	} else {
		lua_settop(L, top);
		fz_lerror_push(L, failure->err.kind, message);
	}
	if (failure->pid != 0)
		set_integer(L, "pid", failure->pid);
	if (failure->signal != 0)
		set_integer(L, "signal", failure->signal);
	if (failure->exitcode != -1)
		set_integer(L, "exitcode", failure->exitcode);
	if (failure->attempt != 0)
		set_integer(L, "attempt", failure->attempt);
}
