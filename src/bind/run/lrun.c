#include "bind/open.h"

#include <stdbool.h>
#include <string.h>

#include <lauxlib.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/container.h"
#include "bind/jobs/lblob.h"
#include "bind/jobs/lfailure.h"
#include "bind/jobs/llimits.h"
#include "bind/jobs/llocal.h"
#include "bind/lloop.h"
#include "bind/run/lflow.h"
#include "bind/run/lgraph.h"
#include "bind/run/llookup.h"
#include "bind/run/lmap.h"
#include "codec/codec.h"
#include "sched/graph.h"
#include "sched/run.h"
#include "shared/arena.h"
#include "trace/job_event.h"
#include "value/lerror.h"
#include "value/luserdata.h"
#include "wire/blob.h"
#include "worker/engine.h"
#include "worker/worker.h"

#define RUN_TYPE "fzlua.Run"

static const struct fz_luserdata_class run_class;

/* User values of a run: objects that the run keeps alive. */
enum { RUN_GRAPH = 1, RUN_POOLS, RUN_THREAD, RUN_NUSER = RUN_THREAD };

struct lrun {
	struct fz_run *run; /* NULL after close() */
	struct fz_engine *engine;
	struct fz_graph *graph;
	/* for calls in this process; used if jobs = 0 */
	struct fz_llocal ll;
	struct fz_lmap map;
	struct fz_arena_buf buf; /* buffer for an input */
};

static struct lrun *
to_lrun(lua_State *L, int idx)
{
	return luaL_checkudata(L, idx, RUN_TYPE);
}

static struct lrun *
check_run(lua_State *L)
{
	struct lrun *lr = to_lrun(L, 1);

	if (lr->run == NULL || lr->ll.closing)
		fz_lerror_fail(L, FZ_ERR_CLOSED, "the run is closed");
	return lr;
}

static int run_close(lua_State *L);

/*
 * End a use of the run at index 1. Frees the run if it was closed during the
 * use.
 */
static void
leave(lua_State *L, struct lrun *lr)
{
	if (--lr->ll.calls == 0 && lr->ll.closing)
		run_close(L);
}

/* run_next(run) -> whether a function was ready and was called */
static int
run_next(lua_State *L)
{
	struct lrun *lr = to_lrun(L, 1);
	uint32_t node = fz_run_local_next(lr->run);

	if (node != FZ_GRAPH_NONE) {
		lua_getiuservalue(L, 1, RUN_POOLS);
		fz_llocal_call(L, &lr->ll, 2, lr->run, lr->graph, node);
	}
	lua_pushboolean(L, node != FZ_GRAPH_NONE);
	return 1;
}

static bool
is_ready(const struct fz_llocal *ll)
{
	return fz_run_local_ready(
	    FZ_CONTAINER_OF(ll, const struct lrun, ll)->run);
}

static const struct fz_llocal_ops local_ops = { run_next, is_ready, run_close };

/* core.run(graph, { pools }, options) -> run */
static int
run_new(lua_State *L)
{
	struct fz_run_opts opts;
	struct fz_graph *graph;
	struct fz_err err = { 0 };
	struct lrun *lr;

	graph = fz_lflow_check(L, &opts);
	lr = lua_newuserdatauv(L, sizeof(*lr), RUN_NUSER);
	memset(lr, 0, sizeof(*lr));
	lr->engine = opts.engine;
	lr->graph = graph;
	fz_arena_buf_init(&lr->buf,
	    opts.jobs != 0 ? fz_engine_arena(lr->engine) : NULL,
	    FZ_ENGINE_BULK);
	fz_luserdata_set(L, &run_class);
	lua_pushvalue(L, 1);
	lua_setiuservalue(L, -2, RUN_GRAPH);
	lua_pushvalue(L, 2);
	lua_setiuservalue(L, -2, RUN_POOLS);
	fz_lmap_init(L, &lr->map, &opts);
	lua_setiuservalue(L, -2, RUN_THREAD);
	lr->run = fz_run_new(&opts, &err);
	return lr->run != NULL ? 1 : fz_lerror_raise(L, &err);
}

/* run:limits(node, timeout, retries, backoff, memory, retry_if) */
static int
run_limits(lua_State *L)
{
	struct lrun *lr = check_run(L);
	uint32_t node = fz_lflow_number(L, 2, fz_graph_nnodes(lr->graph));
	struct fz_limits limits = *fz_run_limits_of(lr->run, node);
	struct fz_err err = { 0 };

	fz_llimits_read(L, 3, &limits);
	if (fz_run_limit(lr->run, node, &limits, &err) != 0)
		return fz_lerror_raise(L, &err);
	return 0;
}

/* run:set(value, v): set the input `value` to `v` */
static int
run_set(lua_State *L)
{
	struct lrun *lr = check_run(L);
	uint32_t value = fz_lflow_number(L, 2, fz_graph_nvalues(lr->graph));
	struct fz_err err = { 0 };
	struct fz_blob *blob;

	luaL_checkany(L, 3);
	lua_settop(L, 3);
	fz_buf_clear(&lr->buf.buf);
	fz_codec_encode(L, 3, 1, &lr->buf.buf);
	blob = fz_lblob_take(lr->engine, &lr->buf, &err);
	if (blob == NULL)
		return fz_lerror_raise(L, &err);
	fz_run_set(lr->run, value, blob);
	return 0;
}

/* run:keep{ value, ... }: keep these values until the run is closed */
static int
run_keep(lua_State *L)
{
	struct lrun *lr = check_run(L);
	lua_Integer n;

	luaL_checktype(L, 2, LUA_TTABLE);
	n = (lua_Integer)lua_rawlen(L, 2);
	for (lua_Integer i = 1; i <= n; i++) {
		lua_rawgeti(L, 2, i);
		fz_run_keep(lr->run,
		    fz_lflow_number(L, -1, fz_graph_nvalues(lr->graph)));
		lua_pop(L, 1);
	}
	return 0;
}

static int
run_start(lua_State *L)
{
	struct lrun *lr = check_run(L);
	struct fz_err err = { 0 };

	fz_lloop_check_free(L);
	fz_buf_fini(&lr->buf.buf);
	if (fz_run_start(lr->run, &err) != 0)
		return fz_lerror_raise(L, &err);
	if (fz_run_is_local(lr->run))
		fz_llocal_start(L, &lr->ll, 1, &local_ops);
	/*
	 * Send the jobs now, so that workers begin while Lua code prepares the
	 * wait.
	 */
	else
		fz_loop_flush(lr->engine->loop);
	return 0;
}

/* run:id() -> the integer that core.changed() returns after a change */
static int
run_id(lua_State *L)
{
	lua_pushinteger(L, (lua_Integer)fz_run_id(check_run(L)->run));
	return 1;
}

static int
run_done(lua_State *L)
{
	struct lrun *lr = check_run(L);
	bool done = fz_run_done(lr->run);

	if (done)
		fz_llocal_stop(L, &lr->ll);
	lua_pushboolean(L, done);
	return 1;
}

static bool
is_over(const void *ctx)
{
	const struct lrun *lr = ctx;

	return fz_run_done(lr->run);
}

/*
 * run:wait() -> boolean: wait until the run is done. Returns false without a
 * wait if Lua code must run meanwhile.
 */
static int
run_wait(lua_State *L)
{
	const struct lrun *lr = check_run(L);
	bool can = !fz_run_is_local(lr->run);

	if (can)
		fz_lloop_wait(L, is_over, lr);
	lua_pushboolean(L, can);
	return 1;
}

/* run:cancel(): a second call does nothing */
static int
run_cancel(lua_State *L)
{
	struct lrun *lr = check_run(L);

	fz_lloop_check_free(L);
	fz_llocal_stop(L, &lr->ll);
	fz_run_cancel(lr->run, FZ_ERR_CANCELLED, "cancelled");
	return 0;
}

/* run:value(value) -> true, v | false if there is no value */
static int
run_value(lua_State *L)
{
	struct lrun *lr = check_run(L);
	uint32_t value = fz_lflow_number(L, 2, fz_graph_nvalues(lr->graph));
	struct fz_blob *blob = fz_run_value(lr->run, value);

	lua_settop(L, 2);
	lua_pushboolean(L, blob != NULL);
	if (blob == NULL)
		return 1;
	if (fz_lblob_decode(L, lr->engine, blob) != LUA_OK)
		return lua_error(L);
	if (lua_gettop(L) != 4)
		return luaL_error(
		    L, "the value does not decode to exactly one Lua value");
	return 2;
}

/*
 * run:error(node) -> nil | Error. The field `because` of the error is the
 * failed node on which `node` depends. The fields `element` and `list` are set
 * by fz_lflow_set_element().
 */
static int
run_error(lua_State *L)
{
	struct lrun *lr = check_run(L);
	uint32_t node = fz_lflow_number(L, 2, fz_graph_nnodes(lr->graph));
	uint32_t because;
	const struct fz_failure *failure;

	failure = fz_run_failure_of(lr->run, node, &because);
	if (failure == NULL)
		return 0;
	lr->ll.calls++; /* keep the run, because an __fzunpack may close it */
	fz_lfailure_push(L, lr->engine, failure);
	if (because != FZ_GRAPH_NONE)
		fz_lfailure_set(L, "because", (lua_Integer)because + 1);
	fz_lflow_set_element(L, lr->run, node);
	leave(L, lr);
	return 1;
}

/*
 * run:element(node, k) -> nil | Error: the error of the k-th failed element of
 * a map
 */
static int
run_element(lua_State *L)
{
	struct lrun *lr = check_run(L);
	uint32_t node = fz_lflow_number(L, 2, fz_graph_nnodes(lr->graph));
	size_t k = (size_t)luaL_checkinteger(L, 3) - 1;
	const struct fz_failure *failure;
	uint64_t index = fz_run_element_failure(lr->run, node, k, &failure);

	if (index == 0)
		return 0;
	lr->ll.calls++; /* keep the run, because an __fzunpack may close it */
	fz_lfailure_push(L, lr->engine, failure);
	fz_lfailure_set(L, "element", (lua_Integer)index);
	leave(L, lr);
	return 1;
}

/*
 * run:partial(node) -> nil | list: the results of a map some of whose elements
 * have failed
 */
static int
run_partial(lua_State *L)
{
	struct lrun *lr = check_run(L);
	uint32_t node = fz_lflow_number(L, 2, fz_graph_nnodes(lr->graph));
	struct fz_blob *blob = fz_run_partial(lr->run, node);
	int status;

	if (blob == NULL)
		return 0;
	lr->ll.calls++;
	status = fz_lblob_decode(L, lr->engine, blob);
	leave(L, lr);
	if (status != LUA_OK)
		return lua_error(L);
	return 1;
}

/*
 * run:failure() -> nil | node, Error: why the run failed. The node is 0 if no
 * node is the reason.
 */
static int
run_failure(lua_State *L)
{
	struct lrun *lr = check_run(L);
	uint32_t node;
	const struct fz_failure *failure = fz_run_failure(lr->run, &node);

	if (failure == NULL)
		return 0;
	lua_pushinteger(L, node != FZ_GRAPH_NONE ? (lua_Integer)node + 1 : 0);
	fz_lfailure_push(L, lr->engine, failure);
	if (node != FZ_GRAPH_NONE)
		fz_lflow_set_element(L, lr->run, node);
	return 2;
}

/*
 * run:failed([node]) -> nil | the next node that failed after `node`, in the
 * order of time
 */
static int
run_failed(lua_State *L)
{
	struct lrun *lr = check_run(L);
	uint32_t node = FZ_GRAPH_NONE;

	if (!lua_isnoneornil(L, 2))
		node = fz_lflow_number(L, 2, fz_graph_nnodes(lr->graph));
	node = fz_run_next_failed(lr->run, node);
	if (node == FZ_GRAPH_NONE)
		return 0;
	lua_pushinteger(L, (lua_Integer)node + 1);
	return 1;
}

/*
 * run:undecided() -> nil | node | node, 0, Error: a failed node, or the node
 * and the error of a failed element of a map. run:decide() must decide whether
 * it is retried.
 */
static int
run_undecided(lua_State *L)
{
	struct lrun *lr = check_run(L);
	uint32_t node = fz_run_undecided(lr->run);
	struct fz_run_element element;

	if (node != FZ_GRAPH_NONE) {
		lua_pushinteger(L, (lua_Integer)node + 1);
		return 1;
	}
	if (!fz_run_undecided_element(lr->run, &element))
		return 0;
	lua_settop(L, 1);
	lr->ll.calls++;
	fz_lflow_push_undecided(L, lr->engine, &element);
	leave(L, lr);
	return 3;
}

/*
 * run:decide(node, again [, element]): retry a failed node or element, or not
 */
static int
run_decide(lua_State *L)
{
	struct lrun *lr = check_run(L);
	uint32_t node = fz_lflow_number(L, 2, fz_graph_nnodes(lr->graph));

	fz_lloop_check_free(L);
	fz_run_decide(lr->run, node, (uint64_t)luaL_optinteger(L, 4, 0),
	    lua_toboolean(L, 3));
	return 0;
}

/*
 * run:event() -> nil | kind, node, pid, seconds. An event of elements of a map
 * has two more values: the index of the first element, and the number of
 * elements.
 */
static int
run_event(lua_State *L)
{
	struct lrun *lr = check_run(L);
	struct fz_job_event event;

	if (!fz_run_next_event(lr->run, &event))
		return 0;
	return fz_lflow_push_event(L, &event);
}

/*
 * run:counts(pool) -> seven numbers for one pool. Nodes: done, failed, running,
 * waiting. Elements of maps: total, done, failed (see fz_run_elements).
 */
static int
run_counts(lua_State *L)
{
	struct lrun *lr = check_run(L);
	uint32_t pool = fz_lflow_number(L, 2, fz_graph_npools(lr->graph));
	struct fz_run_counts counts = fz_run_counts(lr->run, pool);

	fz_lflow_push_counts(L, &counts);
	return 7;
}

/* run:close(): cancel the run if it is not done. A second call does nothing. */
static int
run_close(lua_State *L)
{
	struct lrun *lr = to_lrun(L, 1);

	fz_llocal_stop(L, &lr->ll);
	fz_buf_fini(&lr->buf.buf);
	if (lr->ll.calls != 0) {
		fz_run_cancel(lr->run, FZ_ERR_CANCELLED, "the run was closed");
		lr->ll.closing = true;
		return 0;
	}
	fz_run_free(lr->run);
	lr->run = NULL;
	return 0;
}

/*
 * A finalizer runs only when no call uses the run. But a call that an error has
 * ended is still counted.
 */
static int
run_gc(lua_State *L)
{
	to_lrun(L, 1)->ll.calls = 0;
	return run_close(L);
}

static const luaL_Reg methods[] = {
	{ "limits", run_limits },
	{ "set", run_set },
	{ "keep", run_keep },
	{ "start", run_start },
	{ "id", run_id },
	{ "done", run_done },
	{ "wait", run_wait },
	{ "cancel", run_cancel },
	{ "value", run_value },
	{ "error", run_error },
	{ "failure", run_failure },
	{ "failed", run_failed },
	{ "undecided", run_undecided },
	{ "decide", run_decide },
	{ "element", run_element },
	{ "partial", run_partial },
	{ "event", run_event },
	{ "counts", run_counts },
	{ "close", run_close },
	{ NULL, NULL },
};

static const luaL_Reg metamethods[] = {
	{ "__gc", run_gc },
	{ "__close", run_close },
	{ NULL, NULL },
};

static struct fz_llookup
open_lookup(lua_State *L)
{
	struct lrun *lr = check_run(L);

	return (
	    struct fz_llookup){ fz_run_flow(lr->run), lr->engine, lr->graph };
}

static const struct fz_llookup_ops lookup_ops = { open_lookup };

static void
add_methods(lua_State *L)
{
	fz_llookup_add(L, &lookup_ops);
}

static const struct fz_luserdata_class run_class = { .name = RUN_TYPE,
	.methods = methods,
	.metamethods = metamethods,
	.add_methods = add_methods };

int
fz_lrun_open(lua_State *L)
{
	lua_pushcfunction(L, run_new);
	lua_setfield(L, -2, "run");
	return 0;
}
