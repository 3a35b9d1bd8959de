#include "bind/open.h"

#include <lauxlib.h>

#include "base/buf.h"
#include "base/err.h"
#include "bind/jobs/ltrace.h"
#include "bind/run/lgraph.h"
#include "report/page.h"
#include "report/page_picture.h"
#include "report/page_sums.h"
#include "sched/graph.h"
#include "value/lerror.h"
#include "value/luserdata.h"

#define PAGE_TYPE "fzlua.RunPage"

static const struct fz_luserdata_class page_class;

/* The memory of a page. It is a userdata, so that an error of Lua frees it. */
struct lpage {
	struct fz_sums sums;
	struct fz_buf out;
};

static int
page_gc(lua_State *L)
{
	struct lpage *page = luaL_checkudata(L, 1, PAGE_TYPE);

	fz_sums_fini(&page->sums);
	fz_buf_fini(&page->out);
	page->sums = (struct fz_sums){ 0 };
	return 0;
}

/*
 * Read the field `layers` of the table on top into `layers` and `npools` of the
 * picture. Pushes the list of layers, or nil for a dag.
 */
static void
push_layers(lua_State *L, struct fz_picture *picture)
{
	uint32_t *layers;

	if (lua_getfield(L, -1, "layers") != LUA_TTABLE)
		return;
	picture->npools = lua_rawlen(L, -1);
	layers =
	    lua_newuserdatauv(L, (picture->npools + 1) * sizeof(*layers), 0);
	for (size_t i = 0; i < picture->npools; i++) {
		lua_Integer layer;

		lua_rawgeti(L, -2, (lua_Integer)i + 1);
		layer = lua_tointeger(L, -1);
		layers[i] = layer > 0 ? (uint32_t)layer : 1;
		lua_pop(L, 1);
	}
	lua_remove(L, -2);
	picture->layers = layers;
}

/* Append the picture of the graph that the table on top describes. */
static void
put_picture(lua_State *L, struct lpage *page)
{
	struct fz_picture picture = { 0 };
	struct fz_err err = { 0 };
	struct fz_graph *graph;

	luaL_checktype(L, -1, LUA_TTABLE);
	lua_getfield(L, -1, "graph");
	picture.graph = graph = fz_lgraph_check(L, lua_gettop(L));
	lua_getfield(L, -2, "names");
	picture.names = fz_ltrace_check_names(L, lua_gettop(L));
	lua_pop(L, 2); /* the table keeps the graph and the names alive */
	push_layers(L, &picture);
	/* a run that could not start has not frozen its graph */
	if (fz_graph_freeze(graph, &err) != 0 ||
	    fz_picture_put(&picture, &page->sums, &page->out, &err) != 0)
		fz_lerror_raise(L, &err);
	lua_pop(L, 1);
}

static void
put_pictures(lua_State *L, struct lpage *page)
{
	lua_Integer n = (lua_Integer)lua_rawlen(L, 2);

	fz_buf_put(&page->out, "{\"graphs\":[", 11);
	for (lua_Integer i = 1; i <= n; i++) {
		if (i > 1)
			fz_buf_put(&page->out, ",", 1);
		lua_rawgeti(L, 2, i);
		put_picture(L, page);
		lua_pop(L, 1);
	}
	fz_buf_put(&page->out, "],", 2);
}

/*
 * core.run_page(trace, {{graph, names, layers = {layer, ...} | nil}, ...}) ->
 * text: the data of the page of a run. The text is a JSON object without its
 * end: the last member, an object of notes, is open, too.
 */
static int
run_page(lua_State *L)
{
	const struct fz_trace *trace = fz_ltrace_check(L, 1);
	struct fz_err err = { 0 };
	struct lpage *page;

	luaL_checktype(L, 2, LUA_TTABLE);
	lua_settop(L, 2);
	page = lua_newuserdatauv(L, sizeof(*page), 0);
	*page = (struct lpage){ 0 };
	fz_buf_init(&page->out);
	fz_luserdata_set(L, &page_class);
	if (fz_sums_init(&page->sums, trace, &err) != 0)
		return fz_lerror_raise(L, &err);
	put_pictures(L, page);
	if (fz_page_put_sums(&page->sums, &page->out, &err) != 0)
		return fz_lerror_raise(L, &err);
	if (page->out.failed) {
		fz_err_nomem(&err, "the page of a run");
		return fz_lerror_raise(L, &err);
	}
	lua_pushlstring(L, (const char *)page->out.data, page->out.len);
	fz_sums_fini(&page->sums);
	page->sums = (struct fz_sums){ 0 };
	fz_buf_fini(&page->out);
	return 1;
}

static const luaL_Reg functions[] = {
	{ "run_page", run_page },
	{ NULL, NULL },
};

static const luaL_Reg metamethods[] = {
	{ "__gc", page_gc },
	{ NULL, NULL },
};

static const struct fz_luserdata_class page_class = { .name = PAGE_TYPE,
	.metamethods = metamethods };

int
fz_lpage_open(lua_State *L)
{
	luaL_setfuncs(L, functions, 0);
	return 0;
}
