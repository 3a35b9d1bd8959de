#include "child/worker_main.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <lauxlib.h>

#include "base/container.h"
#include "child/call.h"
#include "child/port_io.h"
#include "child/random.h"
#include "os/cwd.h"
#include "proc/proc.h"
#include "value/garbage.h"
#include "value/lerror.h"
#include "value/rawarray.h"
#include "wire/child_port.h"

/* Bytes above the limit of the Lua allocator, for C libraries. */
#define SERVE_MEMORY_SLACK ((uint64_t)64 << 20)

/* Memory that this worker's Lua state uses in addition to what it inherited. */
struct memory {
	int64_t inherited; /* bytes that the state used at the fork */
	bool counting;   /* counting_alloc() is installed, so `used` is valid */
	lua_Alloc alloc; /* allocator before counting_alloc() */
	void *ud;
	int64_t used;
	int64_t limit; /* limit in bytes; INT64_MAX: none */
};

struct worker {
	lua_State *L;
	struct fz_port_io pio;
	struct fz_child_chunk chunk;
	struct fz_random random;
	struct memory memory;
	struct fz_cwd cwd;
	bool started; /* a call has begun */
	struct fz_garbage_child garbage;
};

static void *
counting_alloc(void *ud, void *block, size_t osize, size_t nsize)
{
	struct memory *m = ud;
	int64_t old = block != NULL ? (int64_t)osize : 0;
	int64_t more = (int64_t)nsize - old;
	void *p;

	if (more > 0 && more > m->limit - m->used)
		return NULL;
	p = m->alloc(m->ud, block, osize, nsize);
	if (p != NULL || nsize == 0)
		m->used += more;
	return p;
}

/*
 * Bytes in use by the Lua state; constant in a worker that was forked inside a
 * finalizer, because lua_gc() returns -1 there.
 */
static int64_t
state_bytes(lua_State *L)
{
	return (int64_t)lua_gc(L, LUA_GCCOUNT) * 1024 + lua_gc(L, LUA_GCCOUNTB);
}

static void
count_memory(lua_State *L, struct memory *m)
{
	m->used = state_bytes(L) - m->inherited;
	m->limit = INT64_MAX;
	m->alloc = lua_getallocf(L, &m->ud);
	lua_setallocf(L, counting_alloc, m);
	m->counting = true;
}

/*
 * Whether the memory that earlier calls left in use is at most the limit of
 * this call. Garbage counts as in use, because collecting it would cost as much
 * as a new worker. The first call always runs.
 */
static bool
has_memory(const struct fz_call *call)
{
	const struct worker *w = FZ_CONTAINER_OF(call, struct worker, pio.call);
	int64_t held;

	if (call->memory == 0 || call->memory > INT64_MAX || !w->started)
		return true;
	held = w->memory.counting ? w->memory.used
				  : state_bytes(w->L) - w->memory.inherited;
	return held <= (int64_t)call->memory;
}

static void
limit_memory(lua_State *L, struct worker *w)
{
	struct memory *m = &w->memory;
	uint64_t bytes = w->pio.call.memory;
	int64_t limit =
	    bytes == 0 || bytes > INT64_MAX ? INT64_MAX : (int64_t)bytes;

	w->started = true;
	if (!m->counting && bytes == 0)
		return;
	if (!m->counting)
		count_memory(L, m);
	if (m->limit == limit)
		return;
	m->limit = limit;
	/* Ignore a failure: the limit of the kernel is only a second guard. */
	fz_proc_limit_memory(bytes != 0 ? bytes + SERVE_MEMORY_SLACK : 0, NULL);
}

/* Keep the bytes of a function until its first call. In protected mode. */
static int
keep_function(lua_State *L)
{
	struct worker *w = lua_touserdata(L, 2);
	struct fz_err err = { 0 };
	const void *bytes;
	size_t len;

	if (w->pio.io.next(&w->pio, &bytes, &len, &err) != 0)
		return fz_lerror_raise(L, &err);
	lua_pushlstring(L, bytes, len);
	lua_rawseti(L, 1, (lua_Integer)w->pio.call.func + 1);
	return 0;
}

static int
serve_func(lua_State *L, struct worker *w)
{
	int status;

	lua_settop(L, FZ_CHILD_LIST);
	lua_pushcfunction(L, keep_function);
	lua_pushvalue(L, FZ_CHILD_FUNCS);
	lua_pushlightuserdata(L, w);
	status = lua_pcall(L, 2, 0, 0);
	w->pio.io.release(&w->pio);
	lua_settop(L, FZ_CHILD_LIST);
	return status == LUA_OK ? 0 : -1;
}

static int
serve_keep(lua_State *L, struct worker *w)
{
	lua_settop(L, FZ_CHILD_LIST);
	fz_child_keep(L, &w->pio.io, w->pio.call.func, w->pio.call.nargs, 1);
	return 0;
}

/* Learn the layout of tables. Called in protected mode. */
static int
learn_rawarray(lua_State *L)
{
	fz_rawarray_learn(L);
	return 0;
}

/*
 * Map the memory for the raw results of the current chunk. If the worker was
 * forked before a map needed the layout of tables, learn it now.
 */
static void
map_results(lua_State *L, struct worker *w)
{
	size_t size = 0;

	if (w->pio.call.result_buffer != 0 && fz_rawarray_known() == NULL) {
		lua_pushcfunction(L, learn_rawarray);
		if (lua_pcall(L, 0, 0, 0) != LUA_OK)
			lua_pop(L, 1);
	}
	if (fz_rawarray_known() != NULL)
		size = sizeof(*w->chunk.raw_results);
	w->chunk.raw_results =
	    fz_port_map_results(w->pio.port, &w->pio.call, size);
}

static int
serve_chunk(lua_State *L, struct worker *w)
{
	int rc;

	map_results(L, w);
	w->chunk.func = w->pio.call.func;
	w->chunk.kind = w->pio.call.kind;
	w->chunk.nparts = w->pio.call.nargs;
	w->chunk.item = w->chunk.first = w->pio.call.item;
	w->chunk.seed = w->pio.call.seed;
	limit_memory(L, w);
	rc = fz_child_chunk(L, &w->chunk, &w->pio.io);
	fflush(stdout);
	return rc == 0 ? fz_port_end_chunk(w->pio.port, NULL) : rc;
}

static int
serve_job(lua_State *L, struct worker *w)
{
	struct fz_child_call call = { .func = w->pio.call.func,
		.nargs = w->pio.call.nargs,
		.nvalues = w->pio.call.nvalues,
		.seed = w->pio.call.seed,
		.init = w->chunk.init,
		.random = &w->random };

	limit_memory(L, w);
	fz_child_call(L, &call, &w->pio.io);
	w->chunk.init = call.init;
	fflush(stdout);
	return w->pio.io.send(&w->pio);
}

static int
serve(lua_State *L, struct worker *w)
{
	switch ((int)w->pio.call.type) {
	case FZ_WIRE_FUNC:
		return serve_func(L, w);
	case FZ_WIRE_KEEP:
		return serve_keep(L, w);
	case FZ_WIRE_CHUNK:
		return serve_chunk(L, w);
	default:
		return serve_job(L, w);
	}
}

/* The address of this variable is the registry key of the worker's number. */
static const char number_key;

int
fz_child_number(lua_State *L)
{
	lua_rawgetp(L, LUA_REGISTRYINDEX, &number_key);
	return 1;
}

static int
set_number(lua_State *L)
{
	lua_rawsetp(L, LUA_REGISTRYINDEX, &number_key);
	return 0;
}

/* Store the number of this worker. Without memory, the worker has no number. */
static void
enter_number(lua_State *L, const struct fz_port *port)
{
	lua_pushcfunction(L, set_number);
	if (port->number != 0)
		lua_pushinteger(L, port->number);
	else
		lua_pushnil(L);
	lua_pcall(L, 1, 0, 0);
	lua_settop(L, FZ_CHILD_LIST);
}

static int
call_exit(lua_State *L)
{
	if (lua_getfield(L, 1, FZ_CHILD_EXIT) != LUA_TNIL)
		lua_call(L, 0, 0);
	return 0;
}

/* Call FZ_CHILD_EXIT, which logs its own errors. */
static void
leave(lua_State *L)
{
	lua_settop(L, FZ_CHILD_LIST);
	lua_pushcfunction(L, call_exit);
	lua_pushvalue(L, FZ_CHILD_FUNCS);
	lua_pcall(L, 1, 0, 0);
	fflush(stdout);
}

int
fz_child_main(void *ctx, struct fz_port *port)
{
	struct fz_child_home *home = ctx;
	lua_State *L = home->L;
	struct worker w = { .L = L, .chunk = { .init = true } };
	int rc;

	home->serving = true;
	w.chunk.random = &w.random;
	fz_port_io_init(&w.pio, port);
	fz_child_enter(L, &w.random);
	enter_number(L, port);
	w.memory.inherited = state_bytes(L);
	fz_cwd_enter(&w.cwd);
	port->accepts = has_memory;
	fz_garbage_inherit(&w.garbage, L, home->aged);
	while ((rc = fz_port_next(port, &w.pio.call, NULL)) == 1) {
		rc = serve(L, &w);
		if (rc != 0)
			break;
		fz_garbage_collect_young(&w.garbage, L);
	}
	if (rc == 0 && w.started)
		leave(L);
	return rc == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
