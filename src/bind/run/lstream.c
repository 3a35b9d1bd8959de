#include "bind/open.h"

#include <stdbool.h>

#include <lauxlib.h>

#include "base/clock.h"
#include "base/container.h"
#include "bind/jobs/lblob.h"
#include "bind/jobs/lfailure.h"
#include "bind/jobs/llimits.h"
#include "bind/jobs/llocal.h"
#include "bind/jobs/lwindow.h"
#include "bind/lloop.h"
#include "bind/run/lflow.h"
#include "bind/run/lgraph.h"
#include "bind/run/llookup.h"
#include "bind/run/lmap.h"
#include "codec/codec.h"
#include "sched/graph.h"
#include "sched/stream.h"
#include "shared/arena.h"
#include "trace/job_event.h"
#include "value/lerror.h"
#include "value/luserdata.h"
#include "wire/blob.h"
#include "worker/engine.h"
#include "worker/worker.h"

#define STREAM_TYPE "fzlua.StreamRuns"

static const struct fz_luserdata_class stream_class;

/* User values of a stream: objects that the stream keeps alive. */
enum {
	STREAM_GRAPH = FZ_LWINDOW_ERRORS + 1,
	STREAM_POOLS,
	STREAM_NAMES, /* list of the names of the inputs, then of the outputs */
	STREAM_THREAD,
	STREAM_NUSER = STREAM_THREAD
};

struct lstream {
	struct fz_lwindow window;
	struct fz_stream *stream; /* NULL after close() */
	struct fz_engine *engine;
	struct fz_graph *graph;
	/* for calls in this process; used if jobs = 0 */
	struct fz_llocal ll;
	struct fz_lmap map;
	struct fz_arena_buf buf; /* buffer for an input */
	/* limits for the nodes that have no limits of their own */
	struct fz_limits limits;
	uint32_t ninputs, noutputs;
	uint32_t values[]; /* values of the inputs, then of the outputs */
};

static const struct fz_lwindow_ops stream_ops;

static struct lstream *
to_lstream(lua_State *L, int idx)
{
	return (struct lstream *)fz_lwindow_check(L, idx, &stream_ops);
}

static struct lstream *
check_stream(lua_State *L)
{
	struct lstream *ls = to_lstream(L, 1);

	if (ls->window.closed)
		fz_lerror_fail(L, FZ_ERR_CLOSED, "the stream is closed");
	return ls;
}

static int stream_close(lua_State *L);

/*
 * End a use of the stream at index 1. Frees the stream if it was closed during
 * the use.
 */
static void
leave(lua_State *L, struct lstream *ls)
{
	if (--ls->ll.calls == 0 && ls->ll.closing)
		stream_close(L);
}

/* stream_next(stream) -> whether a function was ready and was called */
static int
stream_next(lua_State *L)
{
	struct lstream *ls = to_lstream(L, 1);
	uint32_t node = FZ_GRAPH_NONE;
	struct fz_run *run = fz_stream_local_next(ls->stream, &node);

	if (run != NULL) {
		lua_getiuservalue(L, 1, STREAM_POOLS);
		fz_llocal_call(L, &ls->ll, 2, run, ls->graph, node);
	}
	lua_pushboolean(L, run != NULL);
	return 1;
}

static bool
is_ready(const struct fz_llocal *ll)
{
	return fz_stream_local_ready(
	    FZ_CONTAINER_OF(ll, const struct lstream, ll)->stream);
}

static const struct fz_llocal_ops local_ops = { stream_next, is_ready,
	stream_close };

/*
 * Read the list at `list`, whose elements are { name=, value= }. Appends the
 * names to the table on top, and stores the values. Returns their number.
 */
static uint32_t
add_values(lua_State *L, int list, uint32_t *values, uint32_t nvalues)
{
	lua_Integer n = (lua_Integer)lua_rawlen(L, list);

	for (lua_Integer i = 1; i <= n; i++) {
		lua_rawgeti(L, list, i);
		lua_getfield(L, -1, "name");
		lua_rawseti(L, -3, (lua_Integer)lua_rawlen(L, -3) + 1);
		lua_getfield(L, -1, "value");
		*values++ = fz_lflow_number(L, -1, nvalues);
		lua_pop(L, 2);
	}
	return (uint32_t)n;
}

/* Set the inputs and outputs from the lists at indexes 5 and 6. */
static void
set_values(lua_State *L, struct lstream *ls)
{
	uint32_t nvalues = fz_graph_nvalues(ls->graph);

	lua_newtable(L);
	ls->ninputs = add_values(L, 5, ls->values, nvalues);
	ls->noutputs = add_values(L, 6, ls->values + ls->ninputs, nvalues);
	lua_setiuservalue(L, -2, STREAM_NAMES);
	for (uint32_t i = 0; i < ls->noutputs; i++)
		fz_stream_keep(ls->stream, ls->values[ls->ninputs + i]);
}

/* Push a stream without a struct fz_stream. The graph is at 1. */
static struct lstream *
push_stream(lua_State *L, struct fz_run_opts *opts, size_t nvalues)
{
	struct lstream *ls = lua_newuserdatauv(
	    L, sizeof(*ls) + nvalues * sizeof(ls->values[0]), STREAM_NUSER);

	*ls = (struct lstream){ .engine = opts->engine,
		.graph = fz_lgraph_check(L, 1),
		.limits = opts->limits };
	ls->ll.ops = opts->jobs == 0 ? &local_ops : NULL;
	fz_arena_buf_init(&ls->buf,
	    opts->jobs != 0 ? fz_engine_arena(ls->engine) : NULL,
	    FZ_ENGINE_BULK);
	fz_luserdata_set(L, &stream_class);
	lua_pushvalue(L, 1);
	lua_setiuservalue(L, -2, STREAM_GRAPH);
	lua_pushvalue(L, 2);
	lua_setiuservalue(L, -2, STREAM_POOLS);
	fz_lmap_init(L, &ls->map, opts);
	lua_setiuservalue(L, -2, STREAM_THREAD);
	fz_lwindow_init(L, &ls->window, &stream_ops, 3);
	return ls;
}

/*
 * core.stream(graph, { pools }, options) -> stream. The options are those of
 * core.run(); the options `ordered`, `limit` and `fixed` of the window; and
 * `inputs` and `outputs`, which are lists of { name=, value= }.
 */
static int
stream_new(lua_State *L)
{
	struct fz_stream_opts opts;
	struct fz_err err = { 0 };
	struct lstream *ls;

	fz_lflow_check(L, &opts.run);
	opts.unordered = !fz_llimits_flag(L, 3, "ordered");
	lua_getfield(L, 3, "inputs");
	luaL_checktype(L, 5, LUA_TTABLE);
	lua_getfield(L, 3, "outputs");
	luaL_checktype(L, 6, LUA_TTABLE);
	ls = push_stream(L, &opts.run, lua_rawlen(L, 5) + lua_rawlen(L, 6));
	ls->stream = fz_stream_new(&opts, &err);
	if (ls->stream == NULL)
		return fz_lerror_raise(L, &err);
	set_values(L, ls);
	return 1;
}

/*
 * stream:limits(node, timeout, retries, backoff, memory, retry_if): set the
 * limits of a node. Called before the first item.
 */
static int
stream_limits(lua_State *L)
{
	struct lstream *ls = check_stream(L);
	uint32_t node = fz_lflow_number(L, 2, fz_graph_nnodes(ls->graph));
	struct fz_limits limits = ls->limits;
	struct fz_err err = { 0 };

	fz_llimits_read(L, 3, &limits);
	if (fz_stream_limit(ls->stream, node, &limits, &err) != 0)
		return fz_lerror_raise(L, &err);
	return 0;
}

static bool
ready(lua_State *L, const struct fz_lwindow *w)
{
	(void)L;
	return fz_stream_has_result(((const struct lstream *)w)->stream);
}

static bool
has_room(const struct fz_lwindow *w, size_t bytes)
{
	const struct lstream *ls = (const struct lstream *)w;

	return !fz_stream_is_stopped(ls->stream) &&
	       fz_stream_nbytes(ls->stream) < bytes;
}

/* State while an item is added. */
struct adding {
	struct lstream *ls;
	struct fz_run *run;
	/* number of the current input; UINT32_MAX: the item is no table */
	uint32_t input;
};

/* Push an input of the item at 3. The names of the inputs are at 4. [+1] */
static void
push_input(lua_State *L, uint32_t input)
{
	if (lua_istable(L, 3)) {
		lua_rawgeti(L, 4, (lua_Integer)input + 1);
		lua_gettable(L, 3);
	} else {
		lua_pushvalue(L, 3);
	}
}

/* inputs_body(stream, adding, item): raises nil if an input is missing */
static int
inputs_body(lua_State *L)
{
	struct adding *a = lua_touserdata(L, 2);
	struct lstream *ls = a->ls;
	struct fz_err err = { 0 };
	struct fz_blob *blob;

	lua_getiuservalue(L, 1, STREAM_NAMES);
	if (!lua_istable(L, 3) && ls->ninputs != 1) {
		a->input = UINT32_MAX;
		lua_pushnil(L);
		return lua_error(L);
	}
	for (a->input = 0; a->input < ls->ninputs; a->input++) {
		push_input(L, a->input);
		if (lua_isnil(L, -1))
			return lua_error(L);
		fz_buf_clear(&ls->buf.buf);
		fz_codec_encode(L, 5, 1, &ls->buf.buf);
		blob = fz_lblob_take(ls->engine, &ls->buf, &err);
		if (blob == NULL)
			return fz_lerror_raise(L, &err);
		fz_run_set(a->run, ls->values[a->input], blob);
		lua_settop(L, 4);
	}
	return 0;
}

/*
 * Set the inputs of the item on top, and pop it. Returns a status of
 * lua_pcall(); if it is not LUA_OK, the error is on top. [-1, +0|1, -]
 */
static int
set_inputs(lua_State *L, struct adding *a)
{
	bool outer = fz_lloop_hold(L, true);
	int status;

	lua_pushcfunction(L, inputs_body);
	lua_insert(L, -2);
	lua_pushvalue(L, 1);
	lua_insert(L, -2);
	lua_pushlightuserdata(L, a);
	lua_insert(L, -2);
	status = lua_pcall(L, 3, 0, 0);
	fz_lloop_hold(L, outer);
	return status;
}

/* Add an item: a table of inputs by name, or the value of the only input. */
static void
put(lua_State *L, struct fz_lwindow *w)
{
	struct lstream *ls = (struct lstream *)w;
	struct adding a = { ls, NULL, 0 };
	struct fz_err err = { 0 };

	a.run = fz_stream_add(ls->stream, &err);
	if (a.run == NULL)
		fz_lerror_raise(L, &err);
	if (set_inputs(L, &a) == LUA_OK) {
		fz_stream_start(a.run);
		return;
	}
	if (fz_lerror_has_kind(L, -1, FZ_ERR_INTERRUPTED)) {
		fz_stream_skip(a.run, a.input);
		lua_error(L);
	}
	fz_lwindow_keep_error(L, fz_stream_index(a.run));
	fz_stream_skip(a.run, a.input);
}

/* Send the started jobs now, before Lua prepares the wait. */
static void
send(lua_State *L, struct fz_lwindow *w)
{
	struct lstream *ls = (struct lstream *)w;

	if (ls->ll.ops == NULL)
		fz_loop_flush(ls->engine->loop);
	else if (!fz_list_is_linked(&ls->ll.local.link))
		fz_llocal_start(L, &ls->ll, 1, ls->ll.ops);
}

static bool
is_over(const void *ctx)
{
	const struct lstream *ls = ctx;

	return fz_stream_has_result(ls->stream) ||
	       !fz_stream_is_busy(ls->stream);
}

/* stream:done() -> whether no item is in work and no result is left */
static int
stream_done(lua_State *L)
{
	struct lstream *ls = check_stream(L);

	if (!fz_stream_is_busy(ls->stream))
		fz_llocal_stop(L, &ls->ll);
	lua_pushboolean(L, is_over(ls));
	return 1;
}

/* stream:id() -> the integer that core.changed() returns after a change */
static int
stream_id(lua_State *L)
{
	lua_pushinteger(L, (lua_Integer)fz_stream_id(check_stream(L)->stream));
	return 1;
}

/*
 * stream:wait() -> boolean: wait until a result is ready. Returns false without
 * a wait if Lua code must run meanwhile.
 */
static int
stream_wait(lua_State *L)
{
	const struct lstream *ls = check_stream(L);
	bool can = ls->ll.ops == NULL;

	if (can)
		fz_lloop_wait(L, is_over, ls);
	lua_pushboolean(L, can);
	return 1;
}

/* Push output number `i` of the run, or an error. Returns as lua_pcall(). */
static int
push_output(lua_State *L, const struct lstream *ls, const struct fz_run *run,
    uint32_t i)
{
	uint32_t value = ls->values[ls->ninputs + i];
	int top = lua_gettop(L);
	int status = fz_lblob_decode(L, ls->engine, fz_run_value(run, value));

	if (status == LUA_OK && lua_gettop(L) != top + 1) {
		lua_settop(L, top);
		lua_pushliteral(
		    L, "the value does not decode to exactly one Lua value");
		status = LUA_ERRRUN;
	}
	return status;
}

/* Stack indexes in take(): names of values, index of the item, outputs. */
enum { TAKE_NAMES = 2, TAKE_INDEX, TAKE_OUTPUTS };

/*
 * Set the outputs in the table of outputs. If an output cannot be read, push
 * the error, the node that made the output, and the name of the output.
 */
static int
push_outputs(lua_State *L, const struct lstream *ls, const struct fz_run *run)
{
	for (uint32_t i = 0; i < ls->noutputs; i++) {
		uint32_t value = ls->values[ls->ninputs + i];
		lua_Integer name = (lua_Integer)(ls->ninputs + i) + 1;

		lua_rawgeti(L, TAKE_NAMES, name);
		if (push_output(L, ls, run, i) == LUA_OK) {
			lua_rawset(L, TAKE_OUTPUTS);
			continue;
		}
		lua_pushnil(L);
		lua_replace(L, TAKE_OUTPUTS);
		lua_pushinteger(
		    L, (lua_Integer)fz_graph_maker(ls->graph, value) + 1);
		lua_rotate(L, -3, -1);
		return 5;
	}
	return 2;
}

/* Push nil, the failure, and the failed node; 0: the whole stream failed. */
static int
push_failure(lua_State *L, const struct lstream *ls, const struct fz_run *run,
    const struct fz_failure *failure, uint32_t node)
{
	lua_pushnil(L);
	lua_replace(L, TAKE_OUTPUTS);
	fz_lfailure_push(L, ls->engine, failure);
	if (node != FZ_GRAPH_NONE)
		fz_lflow_set_element(L, run, node);
	lua_pushinteger(L, node != FZ_GRAPH_NONE ? (lua_Integer)node + 1 : 0);
	return 4;
}

/*
 * Push nil, the error because of which the item was not started (nil if its
 * input is missing), and -1 - number of the input.
 */
static int
push_refusal(lua_State *L, uint64_t index, uint32_t input)
{
	lua_settop(L, TAKE_INDEX);
	fz_lwindow_push_error(L, index);
	lua_pushinteger(L, -1 - (lua_Integer)(uint32_t)(input + 1));
	return 4;
}

/*
 * Push the next item that is done: index, outputs | index, nil, error, node [,
 * name]. Node 0: the whole stream failed. With a `name`: this output cannot be
 * read. Node -1 - n: input number n is missing (the error is nil) or cannot be
 * sent. Node -1: the item must be a table.
 */
static int
take(lua_State *L, struct fz_lwindow *w)
{
	struct lstream *ls = (struct lstream *)w;
	const struct fz_failure *failure;
	struct fz_run *run;
	uint32_t node, input;
	int n;

	if (!fz_stream_has_result(ls->stream))
		return 0;
	lua_settop(L, 1);
	lua_getiuservalue(L, 1, STREAM_NAMES);
	lua_pushnil(L); /* placeholder for the index */
	lua_createtable(L, 0, (int)ls->noutputs);
	run = fz_stream_take(ls->stream);
	lua_pushinteger(L, (lua_Integer)fz_stream_index(run));
	lua_replace(L, TAKE_INDEX);
	ls->ll.calls++; /* an __fzunpack may close the stream */
	failure = fz_run_failure(run, &node);
	if (failure != NULL)
		n = push_failure(L, ls, run, failure, node);
	else if (fz_stream_was_skipped(run, &input))
		n = push_refusal(L, fz_stream_index(run), input);
	else
		n = push_outputs(L, ls, run);
	fz_stream_release(run);
	leave(L, ls);
	return n;
}

/* stream:undecided() -> nil | node, index, Error; decide() must follow */
static int
stream_undecided(lua_State *L)
{
	struct lstream *ls = check_stream(L);
	uint32_t node = 0, because;
	const struct fz_run *run = fz_stream_undecided(ls->stream, &node);
	struct fz_run_element element;

	lua_settop(L, 1);
	if (run == NULL && !fz_stream_undecided_element(ls->stream, &element))
		return 0;
	if (run == NULL) {
		ls->ll.calls++;
		fz_lflow_push_undecided(L, ls->engine, &element);
		leave(L, ls);
		return 3;
	}
	lua_pushinteger(L, (lua_Integer)node + 1);
	lua_pushinteger(L, (lua_Integer)fz_stream_index(run));
	ls->ll.calls++; /* an __fzunpack may close the stream */
	fz_lfailure_push(L, ls->engine, fz_run_failure_of(run, node, &because));
	leave(L, ls);
	return 3;
}

/* stream:decide(index, node, again [, element]): see run:decide() */
static int
stream_decide(lua_State *L)
{
	struct lstream *ls = check_stream(L);
	uint64_t index = (uint64_t)luaL_checkinteger(L, 2);
	uint32_t node = fz_lflow_number(L, 3, fz_graph_nnodes(ls->graph));

	fz_lloop_check_free(L);
	fz_stream_decide(ls->stream, index, node,
	    (uint64_t)luaL_optinteger(L, 5, 0), lua_toboolean(L, 4));
	return 0;
}

/* stream:event() -> nil | index of an item, then the values of run:event() */
static int
stream_event(lua_State *L)
{
	struct lstream *ls = check_stream(L);
	struct fz_job_event event;

	if (!fz_stream_next_event(ls->stream, &event))
		return 0;
	lua_pushinteger(L, (lua_Integer)event.item);
	return 1 + fz_lflow_push_event(L, &event);
}

/* stream:counts(pool) -> the numbers of run:counts() */
static int
stream_counts(lua_State *L)
{
	struct lstream *ls = check_stream(L);
	uint32_t pool = fz_lflow_number(L, 2, fz_graph_npools(ls->graph));
	struct fz_run_counts counts = fz_stream_counts(ls->stream, pool);

	fz_lflow_push_counts(L, &counts);
	return 7;
}

/* stream:close(): cancel what is not done; idempotent */
static int
stream_close(lua_State *L)
{
	struct lstream *ls = to_lstream(L, 1);

	ls->window.ended = ls->window.closed = true;
	fz_llocal_stop(L, &ls->ll);
	fz_buf_fini(&ls->buf.buf);
	if (ls->ll.calls != 0) {
		fz_stream_cancel(
		    ls->stream, FZ_ERR_CANCELLED, "the stream was closed");
		ls->ll.closing = true;
		return 0;
	}
	fz_stream_free(ls->stream);
	ls->stream = NULL;
	return 0;
}

/*
 * A finalizer runs only when no call uses the stream. But a call that an error
 * has ended is still counted.
 */
static int
stream_gc(lua_State *L)
{
	to_lstream(L, 1)->ll.calls = 0;
	return stream_close(L);
}

static const struct fz_lwindow_ops stream_ops = { ready, has_room, put, send,
	take };

static const luaL_Reg methods[] = {
	{ "limits", stream_limits },
	{ "done", stream_done },
	{ "id", stream_id },
	{ "wait", stream_wait },
	{ "undecided", stream_undecided },
	{ "decide", stream_decide },
	{ "event", stream_event },
	{ "counts", stream_counts },
	{ "close", stream_close },
	{ NULL, NULL },
};

static const luaL_Reg metamethods[] = {
	{ "__gc", stream_gc },
	{ "__close", stream_close },
	{ NULL, NULL },
};

static struct fz_llookup
open_lookup(lua_State *L)
{
	struct lstream *ls = check_stream(L);

	return (struct fz_llookup){ fz_stream_flow(ls->stream), ls->engine,
		ls->graph };
}

static const struct fz_llookup_ops lookup_ops = { open_lookup };

static void
add_methods(lua_State *L)
{
	luaL_setfuncs(L, fz_lwindow_methods, 0);
	/* again, because close() of a stream replaces the inherited close() */
	luaL_setfuncs(L, methods, 0);
	fz_llookup_add(L, &lookup_ops);
}

static const struct fz_luserdata_class stream_class = { .name = STREAM_TYPE,
	.methods = methods,
	.metamethods = metamethods,
	.add_methods = add_methods };

int
fz_lstream_open(lua_State *L)
{
	lua_pushcfunction(L, stream_new);
	lua_setfield(L, -2, "stream");
	return 0;
}
