#include "api/fzlua.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <lauxlib.h>
#include <lualib.h>

#include "api/call.h"
#include "bind/llimit.h"
#include "bind/lloop.h"
#include "value/lstate.h"
#include "worker/engine.h"

static void *
default_alloc(void *ctx, void *block, size_t old_size, size_t size)
{
	(void)ctx;
	(void)old_size;
	if (size != 0)
		return realloc(block, size);
	free(block);
	return NULL;
}

static void
set_start(lua_State *L, const struct fzlua_options *o)
{
	struct fz_engine *engine = fz_lloop_engine(L);
	int start =
	    o->start != NULL ? fz_start_find(o->start) : (int)engine->start;

	if (start == -1)
		luaL_error(
		    L, "the start method '%s' is not fork or spawn", o->start);
	engine->start = (enum fz_start)start;
	engine->program = o->worker_command;
}

/* (light userdata: options) */
static int
open_library(lua_State *L)
{
	const struct fzlua_options *o = lua_touserdata(L, 1);

	luaL_checkversion(L);
	luaL_openlibs(L);
	lua_pushcfunction(L, luaopen_fzlua);
	lua_call(L, 0, 1);
	lua_setglobal(L, "fz");
	set_start(L, o);
	fzlua_set_output(L, o->output, o->output_ctx);
	fzlua_set_log(L, o->log, o->log_ctx);
	fzlua_set_forks(L, o->forks, o->forks_ctx);
	return 0;
}

int
fzlua_new(lua_State **L, const struct fzlua_options *options)
{
	struct fzlua_options o = { 0 };
	int keep = errno, status;

	/* A host that was built with an older header passes fewer options. */
	if (options != NULL)
		memcpy(&o, options,
		    options->size < sizeof(o) ? options->size : sizeof(o));
	*L = fz_lstate_new(o.alloc != NULL ? o.alloc : default_alloc,
	    o.alloc != NULL ? o.alloc_ctx : NULL);
	if (*L == NULL)
		return FZLUA_MEMORY;
	lua_pushcfunction(*L, open_library);
	lua_pushlightuserdata(*L, &o);
	status = lua_pcall(*L, 1, 0, 0);
	errno = keep;
	if (status == LUA_OK)
		return FZLUA_OK;
	return status == LUA_ERRMEM ? FZLUA_MEMORY : FZLUA_ERROR;
}

/* Begin the end of a state. Its limits hold for the finalizers, too. */
static void
begin_limited_end(lua_State *L)
{
	struct fz_llimit_hook unused;

	if (fz_lloop_is_open(L))
		fz_llimit_begin(fz_lloop_limit(L), L, &unused);
}

void
fzlua_close(lua_State *L)
{
	int keep = errno;

	if (L != NULL) {
		fzlua_enter(L);
		begin_limited_end(L);
		lua_close(L);
	}
	errno = keep;
}
