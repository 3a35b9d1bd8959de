#include "bind/jobs/lsetup.h"

#include <string.h>

#include <lauxlib.h>
#include <lualib.h>

#include "base/buf.h"
#include "base/err.h"
#include "bind/lloop.h"
#include "child/call.h"
#include "child/spawned_main.h"
#include "sched/batch_pool.h"
#include "value/cells.h"
#include "value/codec.h"
#include "value/garbage.h"
#include "value/lerror.h"
#include "value/registered.h"
#include "worker/blob.h"

/* Memory that must be freed if an error is raised. */
struct encoding {
	struct fz_batch_pool *batches; /* NULL: all functions are in the pool */
	struct fz_buf functions, out;
};

/*
 * Push a function that returns init and exit: as upvalues of one function they
 * share what they refer to, and one record has all their cells. [-0, +1, e]
 */
static void
push_holder(lua_State *L, int funcs, int init)
{
	static const char code[] =
	    "local init, exit = ... return function() return init, exit end";

	if (luaL_loadbufferx(L, code, sizeof(code) - 1, "=setup", "t") !=
	    LUA_OK)
		lua_error(L);
	lua_pushvalue(L, init);
	lua_getfield(L, funcs, FZ_CHILD_EXIT);
	lua_call(L, 2, 1);
}

/*
 * Push a record of the function at `f`. The table of functions keeps it, so
 * that its cells keep their numbers. [-0, +1, e]
 */
static void
push_record(lua_State *L, int funcs, int f, struct fz_batch_pool *batches)
{
	lua_rawgeti(L, funcs, 0);
	fz_cells_note(L, lua_gettop(L), f, fz_batch_pool_version(batches));
	lua_pushvalue(L, -1);
	lua_setfield(L, funcs, "setup");
	lua_remove(L, -2);
}

/* Set field `name` of the table on top to that of `package`. [-0, +0, e] */
static void
copy_path(lua_State *L, const char *name)
{
	luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
	if (lua_getfield(L, -1, LUA_LOADLIBNAME) == LUA_TTABLE)
		lua_getfield(L, -1, name);
	else
		lua_pushnil(L);
	lua_setfield(L, -4, name);
	lua_pop(L, 2);
}

/* (metatable) -> its fields, encoded */
static int
encode_fields(lua_State *L)
{
	lua_newtable(L);
	for (lua_pushnil(L); lua_next(L, 1);) {
		lua_pushvalue(L, -2);
		lua_insert(L, -2);
		lua_rawset(L, 2);
	}
	lua_remove(L, 1);
	return fz_lcodec_encode(L);
}

/*
 * Push { [name] = fields } of the classes that the script has registered. A
 * class with a field that cannot be sent is left out: the worker's init may
 * register it. [-0, +1, e]
 */
static void
push_classes(lua_State *L)
{
	static const char ours[] = FZ_REGISTERED_OURS;
	int all = lua_gettop(L) + 1, sent = all + 1;

	fz_registered_classes(L);
	lua_newtable(L);
	for (lua_pushnil(L); lua_next(L, all); lua_settop(L, sent + 1)) {
		lua_pushcfunction(L, encode_fields);
		lua_insert(L, -2);
		if (strncmp(lua_tostring(L, sent + 1), ours,
			sizeof(ours) - 1) == 0 ||
		    lua_pcall(L, 1, 1, 0) != LUA_OK)
			continue;
		lua_pushvalue(L, sent + 1);
		lua_insert(L, -2);
		lua_rawset(L, sent);
	}
	lua_remove(L, all);
}

/* (funcs, init, encoding): protected, so that the buffers are freed. */
static int
encode_body(lua_State *L)
{
	struct encoding *e = lua_touserdata(L, 3);
	bool apart = e->batches != NULL;

	luaL_checkstack(L, 20, NULL);
	push_holder(L, 1, 2);
	if (apart)
		lua_pushnil(L);
	else
		lua_pushvalue(L, 1);
	if (apart)
		push_record(L, 1, 4, e->batches);
	fz_codec_encode_shared(L, 4, 2, &e->functions, apart ? 6 : 0, 0);
	lua_createtable(L, 0, 3);
	copy_path(L, "path");
	copy_path(L, "cpath");
	lua_pushlstring(L, (const char *)e->functions.data, e->functions.len);
	lua_setfield(L, -2, FZ_SPAWNED_FUNCTIONS);
	push_classes(L);
	lua_setfield(L, -2, FZ_SPAWNED_CLASSES);
	fz_codec_encode(L, lua_gettop(L), 1, &e->out);
	return 0;
}

struct fz_blob *
fz_lsetup_encode(
    lua_State *L, struct fz_batch_pool *batches, struct fz_err *err)
{
	struct encoding e = { batches, FZ_BUF_INIT, FZ_BUF_INIT };
	bool outer = fz_lloop_hold(L, true);
	struct fz_blob *blob = NULL;

	fz_garbage_delay(fz_garbage_open(L), L); /* no finalizer may run here */
	lua_pushcfunction(L, encode_body);
	lua_pushvalue(L, FZ_CHILD_FUNCS);
	lua_pushvalue(L, FZ_CHILD_INIT);
	lua_pushlightuserdata(L, &e);
	if (lua_pcall(L, 3, 0, 0) == LUA_OK)
		blob = fz_blob_new(e.out.data, e.out.len, err);
	else
		fz_lerror_pop(L, err);
	fz_lloop_hold(L, outer);
	fz_buf_fini(&e.functions);
	fz_buf_fini(&e.out);
	return blob;
}
