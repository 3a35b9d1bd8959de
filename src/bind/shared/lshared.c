#include "bind/shared/lshared.h"

#include <string.h>

#include <lauxlib.h>

#include "base/err.h"
#include "bind/lloop.h"
#include "bind/open.h"
#include "value/lerror.h"
#include "value/luserdata.h"
#include "worker/engine.h"

/* The addresses of these variables are registry keys. */
static const char shared_key, scratch_key;

struct fz_lshared *
fz_lshared(lua_State *L)
{
	const struct fz_lhandle *handle = fz_lhandle_at(L, 1);

	if (handle != NULL)
		return handle->shared;
	luaL_checkstack(L, 1, NULL);
	return fz_luserdata_kept(L, &shared_key);
}

void
fz_lshared_push(lua_State *L)
{
	lua_rawgetp(L, LUA_REGISTRYINDEX, &shared_key);
}

uint32_t
fz_lshared_join_now(lua_State *L, const struct fz_lshared *shared)
{
	struct fz_err err = { 0 };
	uint32_t self = fz_heap_join(shared->membership, &err);

	if (self == 0)
		fz_lerror_raise(L, &err);
	return self;
}

struct fz_lshared_scratch *
fz_lshared_new_scratch(lua_State *L, struct fz_lshared *shared)
{
	struct fz_lshared_scratch *scratch;

	luaL_checkstack(L, 1, NULL);
	scratch = lua_newuserdatauv(L, sizeof(*scratch), 0);
	scratch->put.busy = scratch->take.busy = false;
	lua_rawsetp(L, LUA_REGISTRYINDEX, &scratch_key);
	shared->scratch = scratch;
	return scratch;
}

int
fz_lshared_open(lua_State *L)
{
	struct fz_engine *engine = fz_lloop_engine(L);
	struct fz_lshared *shared;

	if (fz_luserdata_kept(L, &shared_key) != NULL)
		return 0;
	shared = lua_newuserdatauv(L, sizeof(*shared), 0);
	memset(shared, 0, sizeof(*shared));
	shared->membership = &engine->membership;
	fz_pipes_init(&shared->pipes, &engine->membership, &engine->children);
	lua_rawsetp(L, LUA_REGISTRYINDEX, &shared_key);
	return 0;
}
