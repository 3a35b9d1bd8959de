#include "bind/jobs/lnodes.h"

#include <stdlib.h>
#include <string.h>

#include <lauxlib.h>

#include "base/err.h"
#include "bind/lloop.h"
#include "child/spawned_main.h"
#include "node/nodes.h"
#include "value/lerror.h"
#include "worker/engine.h"

/*
 * Push the name of the file with the credentials for engines: that after
 * --engine-creds, or that in the environment, or nil.
 */
static const char *
push_creds(lua_State *L)
{
	const char *creds = getenv("FZLUA_ENGINE_CREDS");

	luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
	if (lua_getfield(L, -1, "fzlua.defaults") == LUA_TTABLE)
		lua_getfield(L, -1, "engine_creds");
	if (!lua_isstring(L, -1))
		lua_pushstring(L, creds);
	return lua_tostring(L, -1);
}

struct fz_nodes *
fz_lnodes_find(lua_State *L, int idx)
{
	struct fz_engine *engine = fz_lloop_engine(L);
	const char *url = luaL_optstring(L, idx, "local");
	struct fz_err err = { 0 };
	struct fz_nodes *nodes;
	int top;

	if (strcmp(url, "local") == 0)
		return NULL;
	top = lua_gettop(L);
	nodes = fz_nodes_find(
	    &engine->nodes, url, push_creds(L), FZ_SPAWNED_IDENTITY, &err);
	lua_settop(L, top);
	if (nodes == NULL) {
		fz_lerror_push(L, err.kind, err.text);
		lua_pushboolean(L, 1);
		lua_setfield(L, -2, "unreached");
		lua_error(L);
	}
	return nodes;
}

static void
push_node(lua_State *L, const struct fz_node *node)
{
	lua_createtable(L, 0, 5);
	lua_pushstring(L, node->name);
	lua_setfield(L, -2, "name");
	lua_pushinteger(L, node->slots);
	lua_setfield(L, -2, "slots");
	if (node->id[0] == '\0')
		return;
	lua_pushinteger(L, node->processors);
	lua_setfield(L, -2, "processors");
	lua_pushstring(L, node->load);
	lua_setfield(L, -2, "load");
	lua_pushstring(L, node->gone ? node->why.text : "ready");
	lua_setfield(L, -2, "state");
}

/*
 * core.nodes(engine) -> { { name = s, slots = n }, ... }, or nil if the engine
 * is local. A node that announces itself has processors, load and state, too.
 */
static int
nodes(lua_State *L)
{
	const struct fz_nodes *found = fz_lnodes_find(L, 1);

	if (found == NULL)
		return 0;
	lua_createtable(L, (int)found->n, 0);
	for (unsigned i = 0; i < found->n; i++) {
		push_node(L, found->list[i]);
		lua_rawseti(L, -2, (lua_Integer)i + 1);
	}
	return 1;
}

/* core.check_engine(engine): raise an error if `engine` is not an engine URL */
static int
check_engine(lua_State *L)
{
	const char *url = luaL_checkstring(L, 1);
	struct fz_err err = { 0 };

	if (strcmp(url, "local") != 0 && fz_nodes_check(url, &err) != 0)
		fz_lerror_raise(L, &err);
	return 0;
}

int
fz_lnodes_open(lua_State *L)
{
	lua_pushcfunction(L, nodes);
	lua_setfield(L, -2, "nodes");
	lua_pushcfunction(L, check_engine);
	lua_setfield(L, -2, "check_engine");
	return 0;
}
