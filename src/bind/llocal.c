#include "bind/llocal.h"

#include <stdbool.h>
#include <string.h>

#include <lauxlib.h>

#include "base/buf.h"
#include "base/clock.h"
#include "bind/child.h"
#include "bind/lerror.h"
#include "bind/lloop.h"
#include "bind/lpool.h"
#include "bind/random.h"
#include "engine/blob.h"
#include "engine/engine.h"
#include "engine/graph.h"
#include "engine/run.h"
#include "engine/worker.h"

/* How often a function with a timeout looks at the clock. */
enum { LOCAL_HOOK_INSTRUCTIONS = 10000, LOCAL_FEW = 8 };

/* A call in this process; a userdata, so that a raise leaks nothing. */
struct local_call {
	struct fz_run *run;
	const struct fz_graph *graph;
	struct fz_shm *shm;
	uint32_t node;
	uint32_t next; /* input */
	struct fz_blob *mapped;
	const void *at;
	struct fz_buf out;
	struct fz_blob **values; /* results so far */
	uint32_t nvalues;
	bool error;
	int64_t deadline_ns;
	bool timed_out;
	struct fz_failure failure;
};

static int
local_next(void *ctx, const void **bytes, size_t *len, struct fz_err *err)
{
	struct local_call *c = ctx;
	const uint32_t *inputs = fz_graph_inputs(c->graph, c->node);

	c->mapped = fz_run_local_input(c->run, inputs[c->next++]);
	c->at = fz_blob_map(c->mapped, c->shm, err);
	*bytes = c->at;
	*len = c->mapped->len;
	return c->at != NULL ? 0 : -1;
}

static void
local_release(void *ctx)
{
	struct local_call *c = ctx;

	fz_blob_unmap(c->mapped, c->shm, c->at);
}

static void
drop_values(struct local_call *c)
{
	while (c->nvalues > 0)
		fz_blob_unref(c->values[--c->nvalues]);
}

static void
local_begin(void *ctx, bool error, uint32_t word)
{
	struct local_call *c = ctx;

	drop_values(c);
	fz_buf_clear(&c->out);
	c->error = error;
	if (error)
		c->failure.err.kind = (enum fz_err_kind)word;
}

static void
local_put(void *ctx)
{
	struct local_call *c = ctx;
	struct fz_blob *blob = NULL;

	if (!c->out.failed)
		blob = fz_blob_new(c->out.data, c->out.len, NULL);
	fz_buf_clear(&c->out);
	if (c->error)
		c->failure.value = blob;
	else
		c->values[c->nvalues++] = blob;
}

/* Its address is the key of the call under way, for the hook. */
static const char local_key;

static void
local_hook(lua_State *L, lua_Debug *ar)
{
	struct local_call *c;
	struct fz_err err = { 0 };

	(void)ar;
	fz_lloop_check(L);
	lua_rawgetp(L, LUA_REGISTRYINDEX, &local_key);
	c = lua_touserdata(L, -1);
	lua_pop(L, 1);
	if (c == NULL || fz_clock_ns() < c->deadline_ns)
		return;
	c->timed_out = true;
	fz_err_set(&err, FZ_ERR_TIMEOUT, "ran longer than its timeout");
	fz_lerror_raise(L, &err);
}

static int
local_call_gc(lua_State *L)
{
	struct local_call *c = lua_touserdata(L, 1);

	drop_values(c);
	fz_buf_fini(&c->out);
	return 0;
}

/* A call for `node` on top of the stack, with room for its results. */
static struct local_call *
push_local_call(lua_State *L, struct fz_run *run, const struct fz_graph *graph,
    uint32_t node)
{
	static const luaL_Reg metamethods[] = { { "__gc", local_call_gc },
		{ NULL, NULL } };
	uint32_t nvalues = fz_graph_get(graph, node)->nvalues;
	struct local_call *c;

	c = lua_newuserdatauv(
	    L, sizeof(*c) + nvalues * sizeof(struct fz_blob *), 0);
	*c = (struct local_call){ .run = run,
		.graph = graph,
		.shm = fz_lloop_engine(L)->shm,
		.node = node,
		.values = (struct fz_blob **)(c + 1),
		.failure = { .exitcode = -1 } };
	if (luaL_newmetatable(L, "fzlua.LocalCall"))
		luaL_setfuncs(L, metamethods, 0);
	lua_setmetatable(L, -2);
	return c;
}

/* Hand the results, or what went wrong, to the run. */
static void
end_local(struct local_call *c)
{
	struct fz_run *run = c->run;
	struct fz_failure *failure = &c->failure;

	if (!c->error) {
		uint32_t n = c->nvalues;

		c->nvalues = 0; /* the run takes them */
		fz_run_local_done(run, c->node, c->values, n);
		return;
	}
	if (c->timed_out) {
		const struct fz_run_limits *limits =
		    fz_run_limits_of(run, c->node);

		fz_blob_unref(failure->value);
		failure->value = NULL;
		fz_err_set(&failure->err, FZ_ERR_TIMEOUT,
		    "ran longer than its timeout of %g s",
		    (double)limits->timeout_ns / (double)FZ_CLOCK_SECOND);
	}
	fz_run_local_failed(run, c->node, failure);
}

static void
set_current(lua_State *L, void *call)
{
	if (call != NULL)
		lua_pushlightuserdata(L, call);
	else
		lua_pushnil(L);
	lua_rawsetp(L, LUA_REGISTRYINDEX, &local_key);
}

static void *
get_current(lua_State *L)
{
	void *call;

	lua_rawgetp(L, LUA_REGISTRYINDEX, &local_key);
	call = lua_touserdata(L, -1);
	lua_pop(L, 1);
	return call;
}

static void
arm_hook(lua_State *thread, struct local_call *c, int64_t timeout_ns)
{
	if (timeout_ns == FZ_CLOCK_NEVER)
		return;
	c->deadline_ns = fz_clock_after(fz_clock_ns(), timeout_ns);
	lua_sethook(thread, local_hook, LUA_MASKCOUNT, LOCAL_HOOK_INSTRUCTIONS);
}

void
fz_llocal_call(lua_State *L, int pools, struct fz_run *run,
    const struct fz_graph *graph, uint32_t node)
{
	const struct fz_node *plan = fz_graph_get(graph, node);
	lua_State *volatile *running = fz_lloop_running(L);
	lua_State *outer = *running, *thread;
	void *outer_call = get_current(L);
	struct local_call *c = push_local_call(L, run, graph, node);
	struct fz_random random;
	struct fz_child_io io = { local_next, local_release, local_begin,
		local_put, NULL, NULL, NULL, NULL, &c->out, c };
	struct fz_child_call call = { .func = plan->func,
		.nargs = plan->ninputs,
		.nvalues = plan->nvalues,
		.seed = fz_run_local_seed(run, node),
		.random = &random };
	bool *init;

	lua_pushvalue(L, pools);
	lua_rawgeti(L, -1, (lua_Integer)plan->pool + 1);
	init = fz_lpool_needs_init(L, -1);
	thread = fz_lpool_prepare(L, -1);
	call.init = *init;
	fz_random_find(L, &random);
	fz_random_save(&random);
	set_current(L, c);
	arm_hook(thread, c, fz_run_limits_of(run, node)->timeout_ns);
	*running = thread;
	fz_child_call(thread, &call, &io);
	*running = outer;
	set_current(L, outer_call);
	fz_random_restore(&random);
	*init = call.init;
	end_local(c);
}
