#include "bind/jobs/lfailure.h"

#include "base/err.h"
#include "bind/jobs/lblob.h"
#include "codec/codec.h"
#include "value/lerror.h"
#include "wire/blob.h"
#include "worker/worker.h"

void
fz_lfailure_set(lua_State *L, const char *field, lua_Integer n)
{
	lua_pushinteger(L, n);
	lua_setfield(L, -2, field);
}

/* Copy the details from the report at -2 to the error at -1. */
static void
copy_details(lua_State *L)
{
	static const char *const fields[] = { "traceback", "result", "item" };

	for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
		lua_getfield(L, -2, fields[i]);
		lua_setfield(L, -2, fields[i]);
	}
	lua_pushcfunction(L, fz_lcodec_decode);
	lua_getfield(L, -3, "cause");
	if (lua_pcall(L, 1, 1, 0) == LUA_OK)
		lua_setfield(L, -2, "cause");
	else
		lua_pop(L, 1);
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
fz_lfailure_push(
    lua_State *L, struct fz_engine *engine, const struct fz_failure *failure)
{
	const char *message = default_message(failure);
	int top = lua_gettop(L);

	if (failure->value != NULL && failure->value->len != 0 &&
	    fz_lblob_decode(L, engine, failure->value) == LUA_OK &&
	    lua_istable(L, -1)) {
		fz_lerror_push(L, failure->err.kind, message);
		/* unlike `message`, this text may contain NUL bytes */
		if (lua_getfield(L, -2, "message") == LUA_TSTRING)
			lua_setfield(L, -2, "message");
		else
			lua_pop(L, 1);
		copy_details(L);
		lua_remove(L, -2);
	} else {
		fz_lerror_push(L, failure->err.kind, message);
	}
	if (lua_gettop(L) > top + 1)
		lua_replace(L, top + 1);
	lua_settop(L, top + 1);
	if (failure->pid != 0)
		fz_lfailure_set(L, "pid", failure->pid);
	if (failure->node != NULL) {
		lua_pushstring(L, failure->node);
		lua_setfield(L, -2, "node");
	}
	if (failure->signal != 0)
		fz_lfailure_set(L, "signal", failure->signal);
	if (failure->exitcode != -1)
		fz_lfailure_set(L, "exitcode", failure->exitcode);
	if (failure->attempt != 0)
		fz_lfailure_set(L, "attempt", failure->attempt);
}
