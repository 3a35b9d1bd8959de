#include "bind/run/llookup.h"

#include <stdbool.h>

#include <lauxlib.h>

#include "base/err.h"
#include "bind/jobs/lblob.h"
#include "bind/jobs/lresults.h"
#include "bind/lloop.h"
#include "bind/run/lflow.h"
#include "sched/graph.h"
#include "sched/run.h"
#include "sched/run_lookup.h"
#include "shared/arena.h"
#include "value/lerror.h"
#include "wire/blob.h"

/* The methods identify a node by its item (0 in an invoke) and its number. */

static struct fz_llookup
open(lua_State *L)
{
	const struct fz_llookup_ops *ops =
	    lua_touserdata(L, lua_upvalueindex(1));

	return ops->open(L);
}

/* Read the item at index `idx` and the number of the node at the next index. */
static struct fz_lookup_at
check_at(lua_State *L, const struct fz_llookup *l, int idx)
{
	struct fz_lookup_at at;

	at.item = (uint64_t)luaL_checkinteger(L, idx);
	at.node = fz_lflow_number(L, idx + 1, fz_graph_nnodes(l->graph));
	return at;
}

/*
 * look_up(nodes): before these nodes run, ask the script for their recorded
 * values. The nodes are the keys of the table.
 */
static int
look_up(lua_State *L)
{
	struct fz_llookup l = open(L);
	uint32_t n = fz_graph_nnodes(l.graph);
	struct fz_err err = { 0 };

	luaL_checktype(L, 2, LUA_TTABLE);
	for (uint32_t node = 0; node < n; node++) {
		bool wanted =
		    lua_rawgeti(L, 2, (lua_Integer)node + 1) != LUA_TNIL;

		lua_pop(L, 1);
		if (wanted && fz_lookup_want(l.flow, node, &err) != 0)
			return fz_lerror_raise(L, &err);
	}
	return 0;
}

static int
push_at(lua_State *L, struct fz_lookup_at at)
{
	lua_pushinteger(L, (lua_Integer)at.item);
	lua_pushinteger(L, (lua_Integer)at.node + 1);
	return 2;
}

/*
 * asked(max) -> { item, node, item, node ... }: at most `max` nodes for whose
 * recorded values a run asks, in the order in which the nodes became ready
 */
static int
asked(lua_State *L)
{
	enum { MAX = 1024 };
	struct fz_llookup l = open(L);
	struct fz_lookup_at list[MAX];
	lua_Integer max = luaL_checkinteger(L, 2);
	uint32_t n;

	luaL_argcheck(L, 0 < max && max <= MAX, 2, "out of range");
	n = fz_lookup_asked(l.flow, list, (uint32_t)max);
	lua_createtable(L, (int)n * 2, 0);
	for (uint32_t i = 0; i < n; i++) {
		push_at(L, list[i]);
		lua_rawseti(L, -3, (lua_Integer)i * 2 + 2);
		lua_rawseti(L, -2, (lua_Integer)i * 2 + 1);
	}
	return 1;
}

/* value_of(item, value) -> true, v | false: a value of a run in progress */
static int
value_of(lua_State *L)
{
	struct fz_llookup l = open(L);
	uint32_t value = fz_lflow_number(L, 3, fz_graph_nvalues(l.graph));
	const struct fz_run *run =
	    fz_lookup_run(l.flow, (uint64_t)luaL_checkinteger(L, 2));
	struct fz_blob *blob = run != NULL ? fz_run_value(run, value) : NULL;

	lua_settop(L, 3);
	lua_pushboolean(L, blob != NULL);
	if (blob == NULL)
		return 1;
	if (fz_lblob_decode(L, l.engine, blob) != LUA_OK)
		return lua_error(L);
	if (lua_gettop(L) != 5)
		return luaL_error(
		    L, "the value does not decode to exactly one Lua value");
	return 2;
}

/*
 * found({ item, node, item, node ... }, places, results): set the values of the
 * k-th node to the results from number places[k] on, unless that is false
 */
static int
found(lua_State *L)
{
	struct fz_llookup l = open(L);
	lua_Integer n;

	fz_lloop_check_free(L);
	luaL_checktype(L, 2, LUA_TTABLE);
	luaL_checktype(L, 3, LUA_TTABLE);
	lua_settop(L, 4);
	n = (lua_Integer)lua_rawlen(L, 3);
	for (lua_Integer k = 1; k <= n; k++) {
		struct fz_lookup_at at;
		uint32_t nvalues;

		if (lua_rawgeti(L, 3, k) == LUA_TNUMBER) {
			lua_rawgeti(L, 2, 2 * k - 1);
			lua_rawgeti(L, 2, 2 * k);
			at = check_at(L, &l, 6);
			nvalues = fz_graph_get(l.graph, at.node)->nvalues;
			fz_lookup_found(l.flow, at,
			    fz_lresults_refs(
				L, 4, lua_tointeger(L, 5), nvalues),
			    nvalues);
		}
		lua_settop(L, 4);
	}
	return 0;
}

/* not_found(item, node): the node has no recorded values, so run it */
static int
not_found(lua_State *L)
{
	struct fz_llookup l = open(L);

	fz_lloop_check_free(L);
	fz_lookup_not_found(l.flow, check_at(L, &l, 2));
	return 0;
}

/*
 * know(item, node, element, results, i): set the result of an element to value
 * number `i` of the results; called before not_found(), in their order
 */
static int
know(lua_State *L)
{
	struct fz_llookup l = open(L);
	struct fz_lookup_at at = check_at(L, &l, 2);
	uint64_t element = (uint64_t)luaL_checkinteger(L, 4);
	lua_Integer i = luaL_checkinteger(L, 6);
	struct fz_err err = { 0 };

	if (fz_lookup_know(
		l.flow, at, element, *fz_lresults_refs(L, 5, i, 1), &err) != 0)
		return fz_lerror_raise(L, &err);
	return 0;
}

/* made() -> nothing | item, node: the next node whose values can be recorded */
static int
made(lua_State *L)
{
	struct fz_llookup l = open(L);
	struct fz_lookup_at at;

	return fz_lookup_made(l.flow, &at) ? push_at(L, at) : 0;
}

/* made_bytes(k) -> the bytes of value number `k` of made() */
static int
made_bytes(lua_State *L)
{
	struct fz_llookup l = open(L);
	struct fz_lookup_at at = { 0, 0 };
	uint32_t k;

	luaL_argcheck(L, fz_lookup_made(l.flow, &at), 1, "no value was made");
	k = fz_lflow_number(L, 2, fz_graph_get(l.graph, at.node)->nvalues);
	if (fz_lblob_push_bytes(L, l.engine, fz_lookup_made_value(l.flow, k)) !=
	    LUA_OK)
		return lua_error(L);
	return 1;
}

/* recorded(): free the values of the node that made() returned last */
static int
recorded(lua_State *L)
{
	fz_lookup_recorded(open(L).flow);
	return 0;
}

/*
 * elements() -> nothing | item, node, index, n, list: `n` results of elements
 * of a map to be recorded, the first with number `index`
 */
static int
elements(lua_State *L)
{
	struct fz_llookup l = open(L);
	struct fz_lookup_elements e;
	int status;

	fz_lloop_check_free(L);
	lua_settop(L, 1);
	if (!fz_lookup_take_elements(l.flow, &e))
		return 0;
	push_at(L, e.at);
	lua_pushinteger(L, (lua_Integer)e.first);
	lua_pushinteger(L, e.n);
	status = fz_lblob_decode(L, l.engine, e.list);
	fz_blob_unref(e.list);
	if (status != LUA_OK)
		return lua_error(L);
	return lua_gettop(L) - 1;
}

static const luaL_Reg methods[] = {
	{ "look_up", look_up },
	{ "asked", asked },
	{ "value_of", value_of },
	{ "found", found },
	{ "not_found", not_found },
	{ "know", know },
	{ "made", made },
	{ "made_bytes", made_bytes },
	{ "recorded", recorded },
	{ "elements", elements },
	{ NULL, NULL },
};

void
fz_llookup_add(lua_State *L, const struct fz_llookup_ops *ops)
{
	lua_pushlightuserdata(L, (void *)(uintptr_t)ops);
	luaL_setfuncs(L, methods, 1);
}
