#include "api/fzlua.h"

#include <stdbool.h>
#include <string.h>

#include <lauxlib.h>

#include "api/call.h"
#include "api/modules.h"
#include "bind/jobs/lnodes.h"
#include "bind/jobs/lpool.h"
#include "bind/jobs/lslots.h"
#include "bind/jobs/ltrace.h"
#include "bind/lforks.h"
#include "bind/lloop.h"
#include "bind/lsink.h"
#include "bind/ltask.h"
#include "bind/open.h"
#include "bind/run/lgraph.h"
#include "bind/shared/llock.h"
#include "child/exit.h"
#include "child/forked.h"
#include "codec/codec.h"
#include "digest/digest.h"
#include "value/allowed.h"
#include "value/lerror.h"
#include "value/ltext.h"
#include "value/ltraceback.h"
#include "value/registered.h"

const char *
fzlua_version(void)
{
	return FZLUA_VERSION;
}

void
fzlua_set_output(lua_State *L, fzlua_output output, void *ctx)
{
	fz_lsink_set_output(fz_lloop_sink(L), output, ctx);
}

void
fzlua_set_log(lua_State *L, fzlua_log log, void *ctx)
{
	fz_lsink_set_log(fz_lloop_sink(L), log, ctx);
}

void
fzlua_set_forks(lua_State *L, fzlua_forks forks, void *ctx)
{
	struct fz_lforks *own = fz_lloop_forks(L);

	own->call = forks;
	own->ctx = ctx;
}

/* Number of fields for which the core table has room from the start. */
enum { CORE_FIELDS = 128 };

/*
 * The "fzlua.core" module: all bindings add their functions to one table. The
 * upvalue becomes core.is_module.
 */
static int
open_core(lua_State *L)
{
	static int (*const openers[])(lua_State *) = { fz_lerror_open,
		fz_ltraceback_open, fz_exit_open, fz_forked_open, fz_lloop_open,
		fz_ltask_open, fz_lsink_open, fz_lmachine_open, fz_lterm_open,
		fz_lcodec_open, fz_digest_open, fz_allowed_open, fz_ltext_open,
		fz_lgraph_open, fz_lslots_open, fz_lnodes_open, fz_ltrace_open,
		fz_lpool_open, fz_lprocess_open, fz_lrun_open, fz_lstream_open,
		fz_lbatch_open, fz_lwindow_open, fz_limap_open, fz_lcall_open,
		fz_lpage_open, fz_lprogram_open, fz_lshared_open,
		fz_lvalue_open, fz_larray_open, fz_llock_open, fz_lqueue_open,
		fz_lpipe_open, fz_lsemaphore_open, fz_levent_open,
		fz_lmember_open, fz_lcondition_open, fz_lbarrier_open,
		fz_ldatabase_open, fz_lresults_open, fz_ldescriptor_open,
		fz_lblocks_open, fz_lrecords_open };

	lua_createtable(L, 0, CORE_FIELDS);
	for (size_t i = 0; i < sizeof(openers) / sizeof(openers[0]); i++)
		openers[i](L);
	lua_pushvalue(L, lua_upvalueindex(1));
	lua_setfield(L, -2, "is_module");
	return 1;
}

/* The registry key of the globals of the embedded modules. */
#define GLOBALS FZ_REGISTERED_OURS "globals"

/*
 * Push the globals of the embedded modules. They are a copy, because a script
 * may remove or replace the globals of its state. A message to a worker has the
 * name of this table in place of its contents.
 */
static void
push_globals(lua_State *L)
{
	if (lua_getfield(L, LUA_REGISTRYINDEX, GLOBALS) == LUA_TTABLE)
		return;
	lua_pop(L, 1);
	lua_newtable(L);
	lua_pushglobaltable(L);
	for (lua_pushnil(L); lua_next(L, -2) != 0;) {
		lua_pushvalue(L, -2);
		lua_insert(L, -2);
		lua_rawset(L, -5);
	}
	fz_registered_open(L);
	lua_pushvalue(L, -2);
	fz_registered_add_value(L, GLOBALS);
	lua_pop(L, 1);
	/*
	 * Set the registry field last, so that a lack of memory leaves no
	 * incomplete table there.
	 */
	lua_pushvalue(L, -1);
	lua_setfield(L, LUA_REGISTRYINDEX, GLOBALS);
}

static const struct fz_module *
find_module(const char *name)
{
	const struct fz_module *m = fz_modules;

	while (m->name != NULL && strcmp(m->name, name) != 0)
		m++;
	return m->name != NULL ? m : NULL;
}

/* Load an embedded module; its name is the first argument. */
static int
load_module(lua_State *L)
{
	const char *name = luaL_checkstring(L, 1);
	const struct fz_module *m = find_module(name);

	if (m == NULL)
		return luaL_error(L, "no module '%s' in fzlua", name);
	if (luaL_loadbufferx(L, (const char *)m->bytes, m->len, name, "b") !=
	    LUA_OK)
		return lua_error(L);
	push_globals(L);
	lua_setupvalue(L, -2, 1); /* set _ENV */
	lua_pushvalue(L, 1);
	lua_call(L, 1, 1);
	return 1;
}

/*
 * Whether require() calls. It passes the name and the path of the file; a host
 * passes the name or nothing.
 */
static bool
is_module(lua_State *L)
{
	return lua_gettop(L) == 2 && lua_type(L, 2) == LUA_TSTRING &&
	       lua_type(L, 1) == LUA_TSTRING &&
	       strcmp(lua_tostring(L, 1), "fzlua") == 0;
}

/* __index of package.preload */
static int
preload_index(lua_State *L)
{
	if (lua_type(L, 2) == LUA_TSTRING &&
	    find_module(lua_tostring(L, 2)) != NULL)
		lua_pushcfunction(L, load_module);
	else
		lua_pushnil(L);
	return 1;
}

/*
 * Let require() find the embedded modules: give the table on top a metatable. A
 * field for each module would take as long as two modules take to load. If the
 * table already has a metatable, it gets the fields.
 */
static void
preload_modules(lua_State *L)
{
	if (!lua_getmetatable(L, -1)) {
		lua_createtable(L, 0, 1);
		lua_pushcfunction(L, preload_index);
		lua_setfield(L, -2, "__index");
		lua_setmetatable(L, -2);
		return;
	}
	lua_getfield(L, -1, "__index");
	if (lua_tocfunction(L, -1) != preload_index) {
		for (const struct fz_module *m = fz_modules; m->name != NULL;
		     m++) {
			lua_pushcfunction(L, load_module);
			lua_setfield(L, -4, m->name);
		}
	}
	lua_pop(L, 2);
}

int
luaopen_fzlua(lua_State *L)
{
	bool module = is_module(L);

	fz_exit_wrap(L);
	fzlua_keep_memory_error(L);
	luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_PRELOAD_TABLE);
	lua_pushboolean(L, module);
	lua_pushcclosure(L, open_core, 1);
	lua_setfield(L, -2, "fzlua.core");
	preload_modules(L);
	lua_pop(L, 1);
	lua_getglobal(L, "require");
	lua_pushliteral(L, "fzlua");
	lua_call(L, 1, 1);
	return 1;
}
