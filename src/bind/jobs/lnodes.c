#include "bind/jobs/lnodes.h"

#include <string.h>

#include <lauxlib.h>

#include "base/err.h"
#include "bind/lloop.h"
#include "child/spawned_main.h"
#include "value/lerror.h"
#include "worker/engine.h"
#include "worker/nodes.h"

struct fz_nodes *
fz_lnodes_find(lua_State *L, int idx)
{
	struct fz_engine *engine = fz_lloop_engine(L);
	const char *url = luaL_optstring(L, idx, "local");
	struct fz_err err = { 0 };
	struct fz_nodes *nodes;

	if (strcmp(url, "local") == 0)
		return NULL;
	nodes = fz_nodes_find(&engine->nodes, url, FZ_SPAWNED_IDENTITY, &err);
	if (nodes == NULL)
		fz_lerror_raise(L, &err);
	return nodes;
}

/* nodes(engine) -> { { name = s, slots = n }, ... }, or nil if it is local */
static int
nodes(lua_State *L)
{
	const struct fz_nodes *found = fz_lnodes_find(L, 1);

	if (found == NULL)
		return 0;
	lua_createtable(L, (int)found->n, 0);
	for (unsigned i = 0; i < found->n; i++) {
		lua_createtable(L, 0, 2);
		lua_pushstring(L, found->list[i].name);
		lua_setfield(L, -2, "name");
		lua_pushinteger(L, found->list[i].slots);
		lua_setfield(L, -2, "slots");
		lua_rawseti(L, -2, (lua_Integer)i + 1);
	}
	return 1;
}

int
fz_lnodes_open(lua_State *L)
{
	lua_pushcfunction(L, nodes);
	lua_setfield(L, -2, "nodes");
	return 0;
}
