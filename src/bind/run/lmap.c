#include "bind/run/lmap.h"

#include <string.h>

#include <lauxlib.h>

#include "base/err.h"
#include "bind/batch/lbatch_state.h"
#include "bind/jobs/lblob.h"
#include "bind/lloop.h"
#include "codec/items.h"
#include "codec/lists.h"
#include "sched/graph.h"
#include "sched/run.h"
#include "sched/run_map.h"
#include "value/garbage.h"
#include "value/lerror.h"
#include "value/rawarray.h"
#include "wire/blob.h"
#include "wire/wire.h"
#include "worker/engine.h"
#include "worker/worker.h"

enum {
	/* maximum size in bytes of a list that each worker gets whole */
	WHOLE_MAX = 4 << 20,
	/*
	 * minimum number of elements for which the layout of tables is learned
	 */
	LEARN_MIN = 1000,
	LENGTH_MAX = INT32_MAX,
};

/* Learn the layout of tables. Called protected. */
static int
learn_body(lua_State *L)
{
	fz_rawarray_learn(L);
	return 0;
}

/* Let workers send the results of a list as raw results if the list is long. */
static void
use_raw_results(const struct fz_lmap *map, struct fz_map_list *list)
{
	if (fz_rawarray_known() == NULL && list->n >= LEARN_MIN) {
		lua_pushcfunction(map->L, learn_body);
		if (lua_pcall(map->L, 0, 0, 0) != LUA_OK)
			lua_pop(map->L, 1);
	}
	if (fz_rawarray_known() != NULL)
		list->raw_size = sizeof(struct fz_raw_value);
}

/* Whether workers get the whole list. If so, the length is set, too. */
static bool
is_whole(const struct fz_lmap *map, struct fz_map_list *list)
{
	const struct fz_blob *blob = list->blob;
	const void *at;
	bool known;

	if (blob->len > WHOLE_MAX)
		return false;
	at = fz_blob_map(list->blob, map->engine->arena, NULL);
	if (at == NULL)
		return false;
	known = fz_lists_length(at, blob->len, &list->n);
	fz_blob_unmap(list->blob, map->engine->arena, at);
	return known;
}

/* The length of the list at index 1: its field n, or its border. */
static lua_Integer
length_of(lua_State *L)
{
	lua_Integer n;

	if (lua_getfield(L, 1, "n") == LUA_TNUMBER && lua_isinteger(L, -1) &&
	    lua_tointeger(L, -1) >= 0)
		return lua_tointeger(L, -1);
	n = luaL_len(L, 1);
	lua_pushnil(L);
	if (n == 0 && !luaL_getmetafield(L, 1, "__len") && lua_next(L, 1) != 0)
		luaL_error(L,
		    "a list expected, got a table with the key %s "
		    "and no elements",
		    luaL_tolstring(L, -2, NULL));
	return n;
}

/* reader_body(list, struct fz_map_list): make a batch that only encodes */
static int
reader_body(lua_State *L)
{
	struct fz_map_list *list = lua_touserdata(L, 2);
	struct fz_lbatch *lb;
	lua_Integer n;

	if (!lua_istable(L, 1))
		return luaL_error(L,
		    "a list expected, got a %s (a map calls its function for "
		    "each element; register calls it once with the value)",
		    luaL_typename(L, 1));
	if (luaL_getmetafield(L, 1, "__name") == LUA_TSTRING &&
	    strcmp(lua_tostring(L, -1), "fzlua.Proxy") == 0)
		return luaL_error(L, "the elements of a manager's list are in "
				     "its server: return list:copy()");
	n = length_of(L);
	if (n < 0 || n > LENGTH_MAX)
		return luaL_error(
		    L, "a list expected, but its length is %I", (LUAI_UACINT)n);
	list->n = (uint64_t)n;
	lua_pushnil(L);
	lb = fz_lbatch_push(L, lua_gettop(L));
	lb->kind = FZ_WIRE_MAP;
	/* do not check the length: no other code can change the list */
	lb->growing = true;
	fz_lbatch_keep(L, lb, 1);
	lua_rawsetp(L, LUA_REGISTRYINDEX, lb);
	list->reader = lb;
	return 0;
}

/* Pop the error on top, and store it as a failure. */
static void
take_error(lua_State *L, struct fz_failure *failure)
{
	const char *text = NULL;

	if (fz_lerror_is(L, -1))
		lua_getfield(L, -1, "message");
	text = lua_tostring(L, -1);
	fz_err_set(&failure->err, FZ_ERR_ERROR, "%s",
	    text != NULL ? text : "the list cannot be read");
}

/* Decode the list, so that its elements can be encoded one by one. */
static int
open_reader(const struct fz_lmap *map, struct fz_map_list *list,
    struct fz_failure *failure)
{
	lua_State *L = map->L;
	bool outer = fz_lloop_hold(L, true);
	int status;

	fz_garbage_delay(fz_garbage_open(L), L); /* no finalizer may run here */
	lua_settop(L, 0);
	lua_pushcfunction(L, reader_body);
	status = fz_lblob_decode(L, map->engine, list->blob);
	lua_pushlightuserdata(L, list);
	if (status == LUA_OK) {
		status = lua_pcall(L, 2, 0, 0);
	} else {
		lua_pop(L, 1);
	}
	if (status != LUA_OK)
		take_error(L, failure);
	else
		fz_lbatch_init_buf(list->reader, map->local);
	lua_settop(L, 0);
	fz_lloop_hold(L, outer);
	return status == LUA_OK ? 0 : -1;
}

static int
map_open(void *ctx, struct fz_map_list *list, bool sliced,
    struct fz_failure *failure)
{
	struct fz_lmap *map = ctx;

	if ((sliced || !is_whole(map, list)) &&
	    open_reader(map, list, failure) != 0)
		return -1;
	use_raw_results(map, list);
	return 0;
}

static void
map_close(void *ctx, void *reader)
{
	struct fz_lmap *map = ctx;
	struct fz_lbatch *lb = reader;

	fz_buf_fini(&lb->buf.buf);
	lua_pushnil(map->L);
	lua_rawsetp(map->L, LUA_REGISTRYINDEX, lb);
}

/* State while a list is joined from the results of its elements. */
struct joining {
	struct fz_engine *engine;
	struct fz_arena_buf buf;
	uint64_t next; /* index of the element that is added next */
	/* mapped blob of the previous result, and its unread items */
	struct fz_blob *blob;
	const void *mapped;
	struct fz_reader items;
	uint32_t nread; /* number of items in this blob that were read */
};

static void
unmap(struct joining *j)
{
	if (j->mapped != NULL)
		fz_blob_unmap(j->blob, j->engine->arena, j->mapped);
	j->mapped = NULL;
}

/*
 * Move to the first item of a result. The previous result may be in the same
 * blob.
 */
static int
seek(
    struct joining *j, const struct fz_batch_result *result, struct fz_err *err)
{
	if (j->mapped == NULL || j->blob != result->blob ||
	    j->nread > result->skip) {
		unmap(j);
		j->blob = result->blob;
		j->mapped = fz_blob_map(j->blob, j->engine->arena, err);
		if (j->mapped == NULL)
			return -1;
		fz_reader_init(&j->items, j->mapped, j->blob->len);
		j->nread = 0;
	}
	if (result->raw || result->whole)
		return 0;
	for (; j->nread < result->skip; j->nread++)
		fz_items_skip(&j->items);
	j->nread += result->n;
	return 0;
}

static int
put_values(
    struct joining *j, const struct fz_batch_result *result, struct fz_err *err)
{
	const struct fz_raw_value *elements;
	struct fz_buf *out = &j->buf.buf;
	int rc;

	if (seek(j, result, err) != 0)
		return -1;
	elements = j->mapped;
	if (result->raw)
		rc = fz_lists_put_raw(out, fz_rawarray_known(),
		    elements + result->skip, result->n);
	else if (result->whole)
		rc = fz_lists_put_message(out, j->mapped, j->blob->len);
	else
		rc = fz_lists_put_items(out, &j->items, result->n);
	if (rc != 0)
		return fz_err_set(
		    err, FZ_ERR_CRASH, "a worker has overwritten its results");
	j->next += result->n;
	return 0;
}

static int
put_results(struct joining *j, const struct fz_batch_result *results,
    size_t nresults, uint64_t n, struct fz_err *err)
{
	fz_lists_begin(&j->buf.buf, n);
	for (size_t i = 0; i < nresults; i++) {
		if (results[i].failure != NULL)
			continue;
		fz_lists_put_nils(&j->buf.buf, results[i].first - j->next);
		j->next = results[i].first;
		if (put_values(j, &results[i], err) != 0)
			return -1;
	}
	fz_lists_put_nils(&j->buf.buf, n + 1 - j->next);
	fz_lists_end(&j->buf.buf, n);
	return j->buf.buf.failed ? fz_err_nomem(err, "a list") : 0;
}

static struct fz_blob *
map_join(void *ctx, const struct fz_batch_result *results, size_t nresults,
    uint64_t n, struct fz_err *err)
{
	const struct fz_lmap *map = ctx;
	struct joining j = { .engine = map->engine, .next = 1 };
	struct fz_blob *list = NULL;

	fz_arena_buf_init(&j.buf,
	    map->local ? NULL : fz_engine_arena(map->engine), FZ_ENGINE_BULK);
	if (put_results(&j, results, nresults, n, err) == 0)
		list = fz_lblob_take(map->engine, &j.buf, err);
	unmap(&j);
	fz_buf_fini(&j.buf.buf);
	return list;
}

static const struct fz_map_ops ops = { map_open, fz_lbatch_encode, map_close,
	map_join };

void
fz_lmap_init(lua_State *L, struct fz_lmap *map, struct fz_run_opts *opts)
{
	*map = (struct fz_lmap){ NULL, opts->engine, opts->jobs == 0 };
	if (!fz_graph_has_maps(opts->graph)) {
		lua_pushnil(L);
		return;
	}
	map->L = lua_newthread(L);
	opts->map_ops = &ops;
	opts->map_ctx = map;
}
