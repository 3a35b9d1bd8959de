#include "child/spawned_main.h"

#include <stdlib.h>

#include <lauxlib.h>
#include <lualib.h>

#include "base/err.h"
#include "child/call.h"
#include "child/process_main.h"
#include "child/worker_main.h"
#include "codec/codec.h"
#include "node/node_main.h"
#include "os/fd.h"
#include "value/allowed.h"
#include "value/cells.h"
#include "value/lerror.h"
#include "value/registered.h"
#include "wire/child_port.h"
#include "wire/child_stream.h"
#include "wire/mailbox.h"

/* The setup: what the first frame from the parent contains. */
struct setup {
	struct fz_port *port;
	struct fz_call call;
	bool on_node;
	struct fz_process_home process; /* process.L is NULL in a pool */
};

/* Push the table of the setup. [-0, +1, e] */
static void
push_setup(lua_State *L, struct setup *s)
{
	struct fz_err err = { 0 };
	const void *bytes;
	size_t len;

	if (fz_port_argument(s->port, &s->call, &bytes, &len, &err) != 0)
		fz_lerror_raise(L, &err);
	else if (fz_codec_decode(L, bytes, len, FZ_CODEC_RUN) != 1)
		luaL_error(
		    L, "the setup does not decode to exactly one Lua value");
}

/* Set the paths of `package` to those in the table at `setup`. [-0, +0, e] */
static void
set_paths(lua_State *L, int setup)
{
	static const char *const names[] = { "path", "cpath" };

	lua_getglobal(L, LUA_LOADLIBNAME);
	for (int i = 0; i < 2; i++) {
		lua_getfield(L, setup, names[i]);
		lua_setfield(L, -2, names[i]);
	}
	lua_pop(L, 1);
}

/*
 * Register each class of the table on top, with an empty metatable. If this
 * process has already registered a class, remove it from the table instead.
 * [-0, +0, m]
 */
static void
register_classes(lua_State *L)
{
	int classes = lua_gettop(L);

	for (lua_pushnil(L); lua_next(L, classes); lua_settop(L, classes + 1)) {
		lua_pushvalue(L, -2);
		if (fz_registered_metatable(L, -1)) {
			lua_pushvalue(L, classes + 1);
			lua_pushnil(L);
			lua_rawset(L, classes);
			continue;
		}
		lua_newtable(L);
		fz_registered_add_class(L, lua_tostring(L, classes + 1));
	}
}

/* Fill the metatable of the class whose name and fields are on top. */
static void
fill_class(lua_State *L)
{
	int fields = lua_gettop(L), name = fields - 1;
	size_t len;
	const char *bytes = lua_tolstring(L, fields, &len);

	lua_pushvalue(L, name);
	fz_registered_metatable(L, -1);
	lua_replace(L, name + 2);
	if (fz_codec_decode(L, bytes, len, FZ_CODEC_RUN) != 1)
		luaL_error(L, "the setup has a class without fields");
	for (lua_pushnil(L); lua_next(L, fields + 2);) {
		lua_pushvalue(L, -2);
		lua_insert(L, -2);
		lua_rawset(L, fields + 1);
	}
	lua_settop(L, fields);
}

/* Register the classes of the table at index `setup`. [-0, +0, e] */
static void
add_classes(lua_State *L, int setup)
{
	int classes = lua_gettop(L) + 1;

	lua_getfield(L, setup, FZ_SPAWNED_CLASSES);
	/* register all classes first: their fields may refer to each other */
	register_classes(L);
	for (lua_pushnil(L); lua_next(L, classes); lua_pop(L, 1))
		fill_class(L);
	lua_settop(L, classes - 1);
}

/*
 * Push two values from the table at index `setup`: the function that returns
 * init and exit, and the list of functions or nil. [-0, +2, e]
 */
static void
push_functions(lua_State *L, int setup, int funcs)
{
	int top = lua_gettop(L);
	const char *bytes;
	size_t len;

	lua_getfield(L, setup, FZ_SPAWNED_FUNCTIONS);
	bytes = luaL_checklstring(L, top + 1, &len);
	lua_rawgeti(L, funcs, 0);
	if (fz_codec_decode_shared(L, bytes, len, top + 2) != 2)
		luaL_error(L, "the setup has no functions");
	lua_remove(L, top + 1);
	lua_remove(L, top + 1);
}

/* Copy the functions of the list on top to the table at index `funcs`. */
static void
copy_functions(lua_State *L, int funcs)
{
	lua_Integer n = lua_istable(L, -1) ? (lua_Integer)lua_rawlen(L, -1) : 0;

	for (lua_Integer i = 1; i <= n; i++) {
		lua_rawgeti(L, -1, i);
		lua_rawseti(L, funcs, i);
	}
}

/*
 * Push a thread for a process. The values on the thread are encoded in the
 * string on top. [-0, +1, e]
 */
static void
push_process(lua_State *L, int setup, struct fz_process_home *process)
{
	size_t len;
	const char *bytes = lua_tolstring(L, -1, &len);
	lua_State *thread = lua_newthread(L);
	int n = fz_codec_decode(L, bytes, len, FZ_CODEC_RUN);

	if (n <= FZ_PROCESS_ENTER || !lua_checkstack(thread, n + LUA_MINSTACK))
		luaL_error(L, "the setup has no function, or too many values");
	lua_xmove(L, thread, n);
	lua_getfield(L, setup, FZ_SPAWNED_SEED);
	process->seed = (uint64_t)lua_tointeger(L, -1);
	process->L = thread;
	lua_pop(L, 1);
}

/* (setup) -> a thread of fz_child_prepare(), or of a process; protected. */
static int
set_up(lua_State *L)
{
	enum { SETUP = 2, FUNCS, HOLDER };
	struct setup *s = lua_touserdata(L, 1);

	luaL_checkstack(L, 20, NULL);
	fz_child_is_spawned(L, s->on_node);
	push_setup(L, s);
	/* with --allow, the node's owner has chosen the paths */
	if (!fz_allowed_is_set(L))
		set_paths(L, SETUP);
	add_classes(L, SETUP);
	if (lua_getfield(L, SETUP, FZ_SPAWNED_PROCESS) == LUA_TSTRING) {
		push_process(L, SETUP, &s->process);
		return 1;
	}
	lua_settop(L, SETUP);
	lua_newtable(L);
	fz_cells_new(L);
	lua_rawseti(L, FUNCS, 0);
	push_functions(L, SETUP, FUNCS);
	copy_functions(L, FUNCS);
	lua_settop(L, HOLDER);
	lua_call(L, 0, 2);
	lua_setfield(L, FUNCS, FZ_CHILD_EXIT);
	lua_pushnil(L); /* a spawned worker inherits no list of items */
	fz_child_prepare(L, FUNCS, -2, -1);
	return 1;
}

/* Wait for the setup, and leave the thread for calls on top. */
static int
prepare(lua_State *L, struct setup *s, struct fz_err *err)
{
	struct fz_call *call = &s->call;
	int rc = fz_port_next(s->port, call, err);

	if (rc != 1)
		return -1;
	if (call->type != FZ_WIRE_SETUP)
		return fz_err_set(
		    err, FZ_ERR_CRASH, "the parent sent no setup");
	s->port->number = call->func;
	if (call->kind & FZ_WIRE_SPREAD)
		fz_port_sleep_at_once(s->port);
	lua_pushcfunction(L, set_up);
	lua_pushlightuserdata(L, s);
	if (lua_pcall(L, 1, 1, 0) == LUA_OK)
		return 0;
	fz_lerror_pop(L, err);
	return -1;
}

/* The mailbox of this worker; NULL: it shares none. */
static struct fz_mailbox *
open_mailbox(int memory, const struct fz_node_worker *node)
{
	struct fz_mailbox *mailbox = NULL;

	if (node != NULL)
		return node->mailbox;
	if (memory != -1)
		mailbox = fz_mailbox_map(memory);
	fz_fd_close(&memory);
	return mailbox;
}

int
fz_spawned_main(
    lua_State *L, int link, int memory, const struct fz_node_worker *node)
{
	struct fz_port port;
	struct setup setup = { .port = &port, .on_node = node != NULL };
	struct fz_child_home home = { 0 };
	struct fz_err err = { 0 };
	int rc = fz_child_stream_init(
	    &port, link, link, open_mailbox(memory, node), node != NULL, &err);

	if (rc == 0) {
		port.slot.fd = node != NULL ? node->slot : -1;
		rc = prepare(L, &setup, &err);
	}
	if (rc != 0) {
		if (err.kind != FZ_ERR_NONE)
			fz_child_stream_refuse(link, err.kind, err.text);
		return EXIT_FAILURE;
	}
	if (setup.process.L != NULL)
		return fz_process_main(&setup.process, &port);
	home.L = lua_tothread(L, -1);
	return fz_child_main(&home, &port);
}
