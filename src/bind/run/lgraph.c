#include "bind/run/lgraph.h"

#include <lauxlib.h>

#include "base/err.h"
#include "bind/jobs/ltrace.h"
#include "sched/graph.h"
#include "trace/trace.h"
#include "value/lerror.h"
#include "value/luserdata.h"

#define GRAPH_TYPE "fzlua.Graph"

static const struct fz_luserdata_class graph_class;
/* Maximum number of nodes, values and pools, which all must fit in an int. */
#define GRAPH_MAX 0x3fffffff

struct lgraph {
	struct fz_graph *graph;
	/* names of the nodes; NULL: no trace has needed them */
	struct fz_trace_names *names;
};

struct fz_graph *
fz_lgraph_check(lua_State *L, int idx)
{
	struct lgraph *lg = luaL_checkudata(L, idx, GRAPH_TYPE);

	return lg->graph;
}

static struct fz_graph *
check_open(lua_State *L)
{
	struct fz_graph *graph = fz_lgraph_check(L, 1);

	if (fz_graph_frozen(graph))
		fz_lerror_fail(L, FZ_ERR_ERROR,
		    "the graph is complete and cannot be changed");
	return graph;
}

static uint32_t
check_number(lua_State *L, int idx, lua_Integer lowest)
{
	lua_Integer n = luaL_checkinteger(L, idx);

	luaL_argcheck(L, lowest <= n && n <= GRAPH_MAX, idx, "out of range");
	return (uint32_t)n;
}

/* The number of the node at index 2. Lua counts nodes from 1, C from 0. */
static uint32_t
check_node(lua_State *L, const struct fz_graph *graph)
{
	uint32_t node = check_number(L, 2, 1) - 1;

	luaL_argcheck(L, node < fz_graph_nnodes(graph), 2, "no such node");
	return node;
}

/* core.graph(named) -> graph, which keeps the names of its nodes if `named` */
static int
graph_new(lua_State *L)
{
	bool named = lua_toboolean(L, 1);
	struct lgraph *lg = lua_newuserdatauv(L, sizeof(*lg), 0);
	struct fz_err err = { 0 };

	*lg = (struct lgraph){ 0 }; /* __gc reads it if the creation fails */
	fz_luserdata_set(L, &graph_class);
	lg->graph = fz_graph_new(&err);
	if (named)
		lg->names = fz_trace_names_new(&err);
	if (lg->graph == NULL || (named && lg->names == NULL))
		return fz_lerror_raise(L, &err);
	return 1;
}

static int
graph_input(lua_State *L)
{
	struct fz_graph *graph = check_open(L);
	struct fz_err err = { 0 };
	uint32_t value = fz_graph_input(graph, &err);

	if (value == FZ_GRAPH_NONE)
		return fz_lerror_raise(L, &err);
	lua_pushinteger(L, (lua_Integer)value + 1);
	return 1;
}

/*
 * graph:node(pool, func, nvalues, {output, ...}, stage | nil) -> node, first
 * value
 */
static int
graph_node(lua_State *L)
{
	struct fz_graph *graph = check_open(L);
	const struct lgraph *lg = lua_touserdata(L, 1);
	uint32_t pool = check_number(L, 2, 1) - 1;
	uint32_t func = check_number(L, 3, 1) - 1;
	uint32_t nvalues = check_number(L, 4, 0);
	struct fz_err err = { 0 };
	uint32_t node = fz_graph_node(graph, pool, func, nvalues, &err);

	if (node == FZ_GRAPH_NONE)
		return fz_lerror_raise(L, &err);
	if (lg->names != NULL)
		fz_ltrace_add_name(L, lg->names, 5, 6);
	lua_pushinteger(L, (lua_Integer)node + 1);
	lua_pushinteger(
	    L, (lua_Integer)fz_graph_get(graph, node)->first_value + 1);
	return 2;
}

/*
 * graph:names({{outputs = {output, ...}, stage = stage}, ...}) -> names of the
 * nodes, which are made of the list if the graph has none
 */
static int
graph_names(lua_State *L)
{
	struct lgraph *lg = luaL_checkudata(L, 1, GRAPH_TYPE);
	struct fz_trace_names *names = lg->names;
	lua_Integer n;

	luaL_checktype(L, 2, LUA_TTABLE);
	lua_settop(L, 2);
	if (names != NULL) {
		fz_ltrace_push_names(L, names);
		return 1;
	}
	names = fz_ltrace_push_new_names(L);
	n = (lua_Integer)lua_rawlen(L, 2);
	for (lua_Integer i = 1; i <= n; i++) {
		lua_rawgeti(L, 2, i);
		lua_getfield(L, -1, "outputs");
		lua_getfield(L, -2, "stage");
		fz_ltrace_add_name(L, names, 5, 6);
		lua_settop(L, 3);
	}
	lg->names = fz_trace_names_ref(names);
	return 1;
}

/*
 * graph:map(node): make the node a map, which calls its function for each
 * element of its first input
 */
static int
graph_map(lua_State *L)
{
	struct fz_graph *graph = check_open(L);

	fz_graph_set_map(graph, check_node(L, graph));
	return 0;
}

static int
graph_feed(lua_State *L)
{
	struct fz_graph *graph = check_open(L);
	uint32_t node = check_node(L, graph);
	lua_Unsigned n = lua_rawlen(L, 3);
	uint32_t few[32], *values = few;
	struct fz_err err = { 0 };

	luaL_checktype(L, 3, LUA_TTABLE);
	luaL_argcheck(L, n <= GRAPH_MAX, 3, "too many inputs");
	if (n > sizeof(few) / sizeof(few[0]))
		values = lua_newuserdatauv(L, n * sizeof(*values), 0);
	for (lua_Unsigned i = 0; i < n; i++) {
		lua_rawgeti(L, 3, (lua_Integer)i + 1);
		values[i] = check_number(L, -1, 1) - 1;
		lua_pop(L, 1);
	}
	if (fz_graph_feed(graph, node, values, (uint32_t)n, &err) != 0)
		return fz_lerror_raise(L, &err);
	return 0;
}

/* graph:optional(node, k): input number `k` of the node may be missing */
static int
graph_optional(lua_State *L)
{
	struct fz_graph *graph = check_open(L);
	uint32_t node = check_node(L, graph);
	uint32_t k = check_number(L, 3, 1) - 1;
	struct fz_err err = { 0 };

	luaL_argcheck(
	    L, k < fz_graph_get(graph, node)->ninputs, 3, "no such input");
	if (fz_graph_set_optional(graph, node, k, &err) != 0)
		return fz_lerror_raise(L, &err);
	return 0;
}

/* graph:cycle() -> nil | { node, ... }: the nodes along a cycle */
static int
graph_cycle(lua_State *L)
{
	struct fz_graph *graph = fz_lgraph_check(L, 1);
	struct fz_err err = { 0 };
	uint32_t *nodes;
	ptrdiff_t n;

	nodes = lua_newuserdatauv(
	    L, ((size_t)fz_graph_nnodes(graph) + 1) * sizeof(*nodes), 0);
	if (fz_graph_freeze(graph, &err) != 0)
		return fz_lerror_raise(L, &err);
	n = fz_graph_cycle(graph, nodes, &err);
	if (n < 0)
		return fz_lerror_raise(L, &err);
	if (n == 0)
		return 0;
	lua_createtable(L, (int)n, 0);
	for (ptrdiff_t i = 0; i < n; i++) {
		lua_pushinteger(L, (lua_Integer)nodes[i] + 1);
		lua_rawseti(L, -2, i + 1);
	}
	return 1;
}

/*
 * graph:makers(node) -> { node, ... }: the node that makes each input. A node
 * that makes several inputs is listed several times.
 */
static int
graph_makers(lua_State *L)
{
	const struct fz_graph *graph = fz_lgraph_check(L, 1);
	uint32_t node = check_node(L, graph);
	const uint32_t *inputs = fz_graph_inputs(graph, node);
	uint32_t ninputs = fz_graph_get(graph, node)->ninputs;
	lua_Integer n = 0;

	lua_newtable(L);
	for (uint32_t i = 0; i < ninputs; i++) {
		uint32_t maker = fz_graph_maker(graph, inputs[i]);

		if (maker == FZ_GRAPH_NONE)
			continue;
		lua_pushinteger(L, (lua_Integer)maker + 1);
		lua_rawseti(L, -2, ++n);
	}
	return 1;
}

static int
graph_gc(lua_State *L)
{
	struct lgraph *lg = luaL_checkudata(L, 1, GRAPH_TYPE);

	fz_graph_free(lg->graph);
	fz_trace_names_unref(lg->names);
	*lg = (struct lgraph){ 0 };
	return 0;
}

static const luaL_Reg methods[] = {
	{ "input", graph_input },
	{ "node", graph_node },
	{ "map", graph_map },
	{ "feed", graph_feed },
	{ "optional", graph_optional },
	{ "cycle", graph_cycle },
	{ "makers", graph_makers },
	{ "names", graph_names },
	{ NULL, NULL },
};

static const luaL_Reg metamethods[] = {
	{ "__gc", graph_gc },
	{ NULL, NULL },
};

static const struct fz_luserdata_class graph_class = {
	.name = GRAPH_TYPE, .methods = methods, .metamethods = metamethods
};

int
fz_lgraph_open(lua_State *L)
{
	lua_pushcfunction(L, graph_new);
	lua_setfield(L, -2, "graph");
	return 0;
}
