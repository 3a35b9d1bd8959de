#include "bind/jobs/lsetup.h"

#include <stdio.h>
#include <string.h>

#include <lauxlib.h>
#include <lualib.h>

#include "base/buf.h"
#include "base/err.h"
#include "bind/lloop.h"
#include "child/call.h"
#include "child/process_main.h"
#include "child/spawned_main.h"
#include "codec/codec.h"
#include "sched/batch_pool.h"
#include "value/cells.h"
#include "value/garbage.h"
#include "value/lerror.h"
#include "value/registered.h"
#include "wire/blob.h"

/* State while a setup is encoded. Its memory must be freed after an error. */
struct encoding {
	/*
	 * the batches whose functions are sent later; NULL: the setup contains
	 * all functions
	 */
	struct fz_batch_pool *batches;
	uint64_t seed; /* seed of the process */
	struct fz_buf functions, out;
};

/* Push a function that has init and exit as upvalues. [-0, +1, e] */
static void
push_holder(lua_State *L, int funcs, int init)
{
	static const char code[] = FZ_SPAWNED_HOLDER;

	if (luaL_loadbufferx(L, code, sizeof(code) - 1, "=setup", "t") !=
	    LUA_OK)
		lua_error(L);
	lua_pushvalue(L, init);
	lua_getfield(L, funcs, FZ_CHILD_EXIT);
	lua_call(L, 2, 1);
}

/*
 * Push a snapshot of the function at `f`. The table of functions keeps the
 * snapshot alive, so that its cells keep their numbers. [-0, +1, e]
 */
static void
push_snapshot(lua_State *L, int funcs, int f, struct fz_batch_pool *batches)
{
	lua_rawgeti(L, funcs, 0);
	fz_cells_note(L, lua_gettop(L), f, fz_batch_pool_version(batches));
	lua_pushvalue(L, -1);
	lua_setfield(L, funcs, "setup");
	lua_remove(L, -2);
}

/* Copy field `name` of `package` to the table on top. [-0, +0, e] */
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

/* encode_fields(metatable) -> its encoded fields */
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
 * Push a table { [name] = fields } of the classes that the script has
 * registered. A class with a field that cannot be sent is left out, because the
 * function init of the worker may register it. [-0, +1, e]
 */
static void
push_classes(lua_State *L)
{
	static const char ours[] = FZ_REGISTERED_OURS, error[] = "fz.Error";
	int all = lua_gettop(L) + 1, sent = all + 1;

	fz_registered_classes(L);
	lua_newtable(L);
	for (lua_pushnil(L); lua_next(L, all); lua_settop(L, sent + 1)) {
		lua_pushcfunction(L, encode_fields);
		lua_insert(L, -2);
		if (strncmp(lua_tostring(L, sent + 1), ours,
			sizeof(ours) - 1) == 0 ||
		    strcmp(lua_tostring(L, sent + 1), error) == 0 ||
		    lua_pcall(L, 1, 1, 0) != LUA_OK)
			continue;
		lua_pushvalue(L, sent + 1);
		lua_insert(L, -2);
		lua_rawset(L, sent);
	}
	lua_remove(L, all);
}

/* Push the table of a setup, with its functions in `field`. [-0, +1, e] */
static void
push_setup(lua_State *L, const struct encoding *e, const char *field)
{
	lua_createtable(L, 0, 5);
	copy_path(L, "path");
	copy_path(L, "cpath");
	lua_pushlstring(L, (const char *)e->functions.data, e->functions.len);
	lua_setfield(L, -2, field);
	push_classes(L);
	lua_setfield(L, -2, FZ_SPAWNED_CLASSES);
}

/* encode_pool(funcs, init, encoding): protected, so the buffers are freed */
static int
encode_pool(lua_State *L)
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
		push_snapshot(L, 1, 4, e->batches);
	fz_codec_encode_shared(L, 4, 2, &e->functions, apart ? 6 : 0, 0);
	push_setup(L, e, FZ_SPAWNED_FUNCTIONS);
	fz_codec_encode(L, lua_gettop(L), 1, &e->out);
	return 0;
}

/* encode_process(values of the Lua thread ..., encoding) */
static int
encode_process(lua_State *L)
{
	int n = lua_gettop(L) - 1;
	struct encoding *e = lua_touserdata(L, -1);

	luaL_checkstack(L, 20, NULL);
	fz_codec_encode(L, 1, n, &e->functions);
	push_setup(L, e, FZ_SPAWNED_PROCESS);
	lua_pushinteger(L, (lua_Integer)e->seed);
	lua_setfield(L, -2, FZ_SPAWNED_SEED);
	fz_codec_encode(L, lua_gettop(L), 1, &e->out);
	return 0;
}

/*
 * name_value(error) -> error: the message handler while the values of a process
 * are encoded. Adds to the message which value caused the error.
 */
static int
name_value(lua_State *L)
{
	static const char why[] = "a spawned process gets by value what a "
				  "forked one inherits: ";
	char prefix[sizeof(why) + 32];
	int n = 0;

	lua_settop(L, 1);
	if (fz_lerror_is(L, 1)) {
		lua_getfield(L, 1, "value");
		n = (int)lua_tointeger(L, 2) - FZ_PROCESS_ENTER - 1;
		lua_settop(L, 1);
	}
	if (n > 0)
		snprintf(prefix, sizeof(prefix), "%sargument %d: ", why, n);
	else
		snprintf(prefix, sizeof(prefix), "%sits function: ", why);
	fz_lerror_name_value(L, prefix);
	return 1;
}

/*
 * Call the function that is below its `nargs` arguments on the stack. Returns
 * the bytes that the function has written to `e->out`. `handler` is the message
 * handler for lua_pcall(). [-(nargs+1), +0, -]
 */
static struct fz_blob *
encode(lua_State *L, struct encoding *e, int nargs, int handler,
    struct fz_err *err)
{
	bool outer = fz_lloop_hold(L, true);
	struct fz_blob *blob = NULL;

	fz_garbage_delay(fz_garbage_open(L), L); /* no finalizer may run here */
	if (lua_pcall(L, nargs, 0, handler) == LUA_OK)
		blob = fz_blob_new(e->out.data, e->out.len, err);
	else
		fz_lerror_pop(L, err);
	fz_lloop_hold(L, outer);
	fz_buf_fini(&e->functions);
	fz_buf_fini(&e->out);
	return blob;
}

struct fz_blob *
fz_lsetup_encode(
    lua_State *L, struct fz_batch_pool *batches, struct fz_err *err)
{
	struct encoding e = {
		.batches = batches, .functions = FZ_BUF_INIT, .out = FZ_BUF_INIT
	};

	lua_pushcfunction(L, encode_pool);
	lua_pushvalue(L, FZ_CHILD_FUNCS);
	lua_pushvalue(L, FZ_CHILD_INIT);
	lua_pushlightuserdata(L, &e);
	return encode(L, &e, 3, 0, err);
}

struct fz_blob *
fz_lsetup_encode_process(lua_State *L, uint64_t seed, struct fz_err *err)
{
	struct encoding e = {
		.seed = seed, .functions = FZ_BUF_INIT, .out = FZ_BUF_INIT
	};
	int n = lua_gettop(L);
	struct fz_blob *blob;

	if (!lua_checkstack(L, n + LUA_MINSTACK)) {
		fz_err_nomem(err, "the arguments");
		return NULL;
	}
	lua_pushcfunction(L, name_value);
	lua_pushcfunction(L, encode_process);
	for (int i = 1; i <= n; i++)
		lua_pushvalue(L, i);
	lua_pushlightuserdata(L, &e);
	blob = encode(L, &e, n + 1, n + 1, err);
	lua_settop(L, n);
	return blob;
}
