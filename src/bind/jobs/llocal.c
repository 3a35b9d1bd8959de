#include "bind/jobs/llocal.h"

#include <stdbool.h>
#include <string.h>

#include <lauxlib.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/container.h"
#include "bind/jobs/lpool.h"
#include "bind/linterrupt.h"
#include "bind/lloop.h"
#include "child/call.h"
#include "child/random.h"
#include "codec/format.h"
#include "codec/items.h"
#include "os/cwd.h"
#include "sched/batch.h"
#include "sched/graph.h"
#include "sched/run.h"
#include "sched/run_map.h"
#include "value/lerror.h"
#include "value/luserdata.h"
#include "wire/blob.h"
#include "wire/child_items.h"
#include "worker/engine.h"
#include "worker/worker.h"

/*
 * The call of the taken node or item could not begin. Make it fail with the
 * error on top.
 */
static void
fail_taken(lua_State *L, struct fz_llocal *ll, int status)
{
	struct fz_llocal_taken taken = ll->taken;
	struct fz_failure failure = { .exitcode = -1 };

	ll->taken = (struct fz_llocal_taken){ 0 };
	if (status == LUA_ERRMEM)
		fz_err_nomem(&failure.err, "a call");
	else
		fz_lerror_pop(L, &failure.err);
	if (taken.run != NULL)
		fz_run_local_failed(taken.run, taken.node, &failure);
	else if (taken.batch != NULL)
		fz_batch_local_failed(taken.batch, taken.number, &failure);
	fz_blob_unref(taken.part);
}

/*
 * Call the next function. Errors are not raised, because the caller must
 * decrement its counts.
 */
static int
work(lua_State *L, struct fz_local *local)
{
	struct fz_llocal *ll = FZ_CONTAINER_OF(local, struct fz_llocal, local);
	int top = lua_gettop(L), status, did = 1;

	if (ll->calls != 0) /* a running call waits, and turns the loop */
		return 0;
	ll->calls++;
	lua_rawgetp(L, LUA_REGISTRYINDEX, ll);
	lua_pushcfunction(L, ll->ops->next);
	lua_pushvalue(L, top + 1);
	status = lua_pcall(L, 1, 1, 0);
	if (status == LUA_OK)
		did = lua_toboolean(L, -1);
	else
		fail_taken(L, ll, status);
	if (--ll->calls == 0 && ll->closing) {
		lua_pushcfunction(L, ll->ops->close);
		lua_pushvalue(L, top + 1);
		lua_call(L, 1, 0);
	}
	lua_settop(L, top);
	return did;
}

static bool
ready(const struct fz_local *local)
{
	const struct fz_llocal *ll =
	    FZ_CONTAINER_OF(local, const struct fz_llocal, local);

	return ll->calls == 0 && ll->ops->ready(ll);
}

void
fz_llocal_start(lua_State *L, struct fz_llocal *ll, int idx,
    const struct fz_llocal_ops *ops)
{
	lua_pushvalue(L, idx);
	lua_rawsetp(L, LUA_REGISTRYINDEX, ll);
	ll->local.work = work;
	ll->local.ready = ready;
	ll->ops = ops;
	fz_lwork_add(fz_lloop_work(L), &ll->local);
}

void
fz_llocal_stop(lua_State *L, struct fz_llocal *ll)
{
	if (!fz_list_is_linked(&ll->local.link))
		return;
	fz_lwork_drop(&ll->local);
	lua_pushnil(L);
	lua_rawsetp(L, LUA_REGISTRYINDEX, ll);
}

/*
 * Number of instructions between two checks of the clock, for a function with a
 * timeout.
 */
enum { LOCAL_HOOK_INSTRUCTIONS = 10000 };

/* A call in this process: a userdata, so that an error leaks nothing. */
struct local_call {
	/* run of the node; NULL: the call is for an item of a batch */
	struct fz_run *run;
	const struct fz_graph *graph;
	const struct fz_llocal_item *item;
	struct fz_arena *arena;
	uint32_t node;
	uint32_t next;  /* index of the next input, or of the next kept value */
	uint32_t nkeep; /* number of kept values before the item */
	int64_t timeout_ns;
	unsigned char *room; /* FZ_PORT_ITEM bytes for a result */
	struct fz_blob *mapped;
	const void *at;
	struct fz_buf out;
	struct fz_blob **values; /* the results so far */
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

	if (c->run != NULL)
		c->mapped = fz_run_value(
		    c->run, fz_graph_inputs(c->graph, c->node)[c->next++]);
	else if (c->next < c->nkeep)
		c->mapped = c->item->kept[c->next++];
	else
		c->mapped = c->item->part;
	c->at = fz_blob_map(c->mapped, c->arena, err);
	*bytes = c->at;
	*len = c->mapped->len;
	return c->at != NULL ? 0 : -1;
}

static void
local_release(void *ctx)
{
	struct local_call *c = ctx;

	fz_blob_unmap(c->mapped, c->arena, c->at);
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

static int
local_send(void *ctx)
{
	(void)ctx;
	return 0;
}

static unsigned char *
local_room(void *ctx)
{
	struct local_call *c = ctx;

	local_begin(c, false, 1);
	return c->room;
}

/*
 * Make a message of the result, which fz_child_chunk() has stored as an item.
 */
static void
local_end(void *ctx, size_t len)
{
	static const unsigned char head[] = { FZ_FORMAT_VERSION, 0, 1 };
	struct local_call *c = ctx;

	fz_buf_clear(&c->out);
	if (*c->room != FZ_FORMAT_ITEM) {
		fz_buf_put(&c->out, head, sizeof(head));
		fz_buf_put(&c->out, c->room, len);
	} else {
		fz_buf_put(
		    &c->out, c->room + FZ_ITEMS_HEAD, len - FZ_ITEMS_HEAD);
	}
	local_put(c);
}

/*
 * The address of this variable is the registry key under which the hook finds
 * the running call.
 */
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

/* Push a call with room for `nvalues` results. */
static struct local_call *
push_local_call(lua_State *L, uint32_t nvalues, size_t room)
{
	static const luaL_Reg metamethods[] = { { "__gc", local_call_gc },
		{ NULL, NULL } };
	struct local_call *c;

	c = lua_newuserdatauv(
	    L, sizeof(*c) + nvalues * sizeof(struct fz_blob *) + room, 0);
	*c = (struct local_call){ .arena = fz_lloop_engine(L)->arena,
		.values = (struct fz_blob **)(c + 1),
		.room = (unsigned char *)(c + 1) +
			nvalues * sizeof(struct fz_blob *),
		.failure = { .exitcode = -1 } };
	if (fz_luserdata_begin(L, "fzlua.LocalCall")) {
		luaL_setfuncs(L, metamethods, 0);
		fz_luserdata_end(L, "fzlua.LocalCall");
	}
	lua_setmetatable(L, -2);
	return c;
}

/* The failure of a call: a timeout if the call ran too long, or its error. */
static struct fz_failure *
failure_of(struct local_call *c)
{
	struct fz_failure *failure = &c->failure;

	if (c->timed_out) {
		fz_blob_unref(failure->value);
		failure->value = NULL;
		fz_err_set(&failure->err, FZ_ERR_TIMEOUT,
		    "ran longer than its timeout of %g s",
		    (double)c->timeout_ns / (double)FZ_CLOCK_SECOND);
	}
	return failure;
}

/* Pass the results or the failure of a call to its run or batch. */
static void
end_local(struct local_call *c)
{
	uint32_t n = c->nvalues;

	c->nvalues = 0; /* the run or the batch owns the values now */
	if (c->run != NULL && !c->error)
		fz_run_local_done(c->run, c->node, c->values, n);
	else if (c->run != NULL)
		fz_run_local_failed(c->run, c->node, failure_of(c));
	else if (!c->error)
		fz_batch_local_done(
		    c->item->batch, c->item->number, c->values[0]);
	else
		fz_batch_local_failed(
		    c->item->batch, c->item->number, failure_of(c));
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
arm_hook(lua_State *thread, struct local_call *c)
{
	if (c->timeout_ns == FZ_CLOCK_NEVER)
		return;
	c->deadline_ns = fz_clock_after(fz_clock_ns(), c->timeout_ns);
	lua_sethook(thread, local_hook, LUA_MASKCOUNT, LOCAL_HOOK_INSTRUCTIONS);
}

/*
 * State of this process that is saved before a call in place of a worker, and
 * restored after the call.
 */
struct visit {
	struct fz_linterrupt *interrupt;
	lua_State *outer; /* the Lua thread that ran before the call */
	void *outer_call;
	struct fz_random random;
	struct fz_lpool_init *init; /* the state of the pool's init function */
	bool needed;                /* init had not run before the call */
	/* number of running calls of the pool in this process */
	unsigned *ncalls;
	struct fz_cwd script, calls;
};

/*
 * Enter the directory of the call: that of the script, or the directory to
 * which the pool's init function has changed.
 */
static void
enter_directory(struct visit *v)
{
	fz_cwd_enter(&v->script);
	if (v->init->directory != -1)
		fz_cwd_go(v->init->directory);
	fz_cwd_enter(&v->calls);
}

/* Return to the script's directory. Note a directory that init has chosen. */
static void
leave_directory(struct visit *v)
{
	fz_cwd_leave(&v->calls);
	if (v->needed && !v->init->needed && fz_cwd_moved)
		v->init->directory = fz_cwd_open();
	fz_cwd_leave(&v->script);
}

/*
 * Prepare the call `c` with the functions of the pool on top. Returns the Lua
 * thread for the call. All steps that may raise an error come before the first
 * change of state.
 */
static lua_State *
enter(lua_State *L, struct fz_llocal *ll, struct local_call *c, struct visit *v)
{
	lua_State *thread;

	v->interrupt = fz_lloop_interrupt(L);
	v->outer_call = get_current(L);
	v->init = fz_lpool_init(L, -1);
	v->needed = v->init->needed;
	v->ncalls = fz_lpool_calls(L, -1);
	thread = fz_lpool_prepare(L, -1);
	fz_random_find(L, &v->random);
	set_current(L, c);
	ll->taken = (struct fz_llocal_taken){ 0 };
	fz_random_save(&v->random);
	++*v->ncalls;
	arm_hook(thread, c);
	v->outer = fz_linterrupt_enter(&v->interrupt->local, thread);
	enter_directory(v);
	return thread;
}

static void
leave(lua_State *L, struct local_call *c, struct visit *v)
{
	leave_directory(v);
	fz_linterrupt_leave(v->interrupt, &v->interrupt->local, v->outer);
	set_current(L, v->outer_call);
	--*v->ncalls;
	fz_random_restore(&v->random);
	end_local(c);
}

static struct fz_child_io
local_io(struct local_call *c)
{
	return (struct fz_child_io){ local_next, local_release, local_begin,
		local_put, local_send, local_room, local_end, NULL, NULL,
		&c->out, c };
}

static void
call_element(lua_State *L, struct fz_llocal *ll, int pools,
    const struct fz_run_map *map, const struct fz_graph_node *made)
{
	struct fz_llocal_item item = { .batch = map->batch,
		.kind = map->opts.kind,
		.func = made->func,
		.seed = map->opts.seed,
		.timeout_ns = map->opts.limits.timeout_ns,
		.kept = map->shared,
		.nkept = map->nshared,
		.version = fz_batch_id(map->batch) };

	item.number = fz_batch_local_next(map->batch, &item.part);
	if (item.number == 0)
		return;
	lua_rawgeti(L, pools, (lua_Integer)made->pool + 1);
	fz_llocal_item(L, ll, lua_gettop(L), &item);
}

static void
call_node(lua_State *L, struct fz_llocal *ll, int pools, struct fz_run *run,
    const struct fz_graph *graph, uint32_t node)
{
	const struct fz_graph_node *made = fz_graph_get(graph, node);
	struct local_call *c;
	struct fz_child_io io;
	struct fz_child_call call = { .func = made->func,
		.nargs = made->ninputs,
		.nvalues = made->nvalues,
		.seed = fz_run_local_seed(run, node) };
	struct visit v;
	lua_State *thread;

	ll->taken = (struct fz_llocal_taken){ .run = run, .node = node };
	c = push_local_call(L, made->nvalues, 0);
	io = local_io(c);
	c->run = run;
	c->graph = graph;
	c->node = node;
	c->timeout_ns = fz_run_limits_of(run, node)->timeout_ns;
	lua_pushvalue(L, pools);
	lua_rawgeti(L, -1, (lua_Integer)made->pool + 1);
	thread = enter(L, ll, c, &v);
	call.init = v.needed;
	call.random = &v.random;
	fz_child_call(thread, &call, &io);
	v.init->needed = call.init;
	leave(L, c, &v);
}

void
fz_llocal_call(lua_State *L, struct fz_llocal *ll, int pools,
    struct fz_run *run, const struct fz_graph *graph, uint32_t node)
{
	const struct fz_run_map *map = fz_run_local_map(run, node);

	if (map != NULL)
		call_element(L, ll, pools, map, fz_graph_get(graph, node));
	else
		call_node(L, ll, pools, run, graph, node);
}

/* Pass the kept values of an item to functions that do not have them yet. */
static void
keep_values(
    lua_State *thread, struct local_call *c, const struct fz_child_io *io)
{
	const struct fz_llocal_item *item = c->item;
	uint32_t entry = item->kind >> FZ_WIRE_ENTRY;

	if (!(item->kind & FZ_WIRE_KEPT) ||
	    fz_child_kept(thread, entry) == item->version)
		return;
	c->nkeep = item->nkept;
	fz_child_keep(thread, io, entry, item->nkept, item->version);
	c->next = c->nkeep;
}

void
fz_llocal_item(lua_State *L, struct fz_llocal *ll, int pool,
    const struct fz_llocal_item *item)
{
	struct local_call *c;
	struct fz_child_io io;
	struct fz_child_chunk chunk = { .func = item->func,
		.kind = item->kind,
		.nparts = item->part != NULL,
		.item = item->number,
		.first = item->number,
		.seed = item->seed };
	struct visit v;
	lua_State *thread;

	ll->taken = (struct fz_llocal_taken){
		.batch = item->batch, .number = item->number, .part = item->part
	};
	c = push_local_call(L, 1, FZ_PORT_ITEM);
	io = local_io(c);
	c->item = item;
	c->timeout_ns = item->timeout_ns;
	lua_pushvalue(L, pool);
	thread = enter(L, ll, c, &v);
	keep_values(thread, c, &io);
	chunk.init = v.needed;
	chunk.random = &v.random;
	fz_child_chunk(thread, &chunk, &io);
	v.init->needed = chunk.init;
	leave(L, c, &v);
	fz_blob_unref(item->part);
}
