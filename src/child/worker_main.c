#include "child/worker_main.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <lauxlib.h>

#include "base/buf.h"
#include "base/container.h"
#include "child/call.h"
#include "child/call_state.h"
#include "child/exit.h"
#include "child/random.h"
#include "os/cwd.h"
#include "os/proc.h"
#include "value/codec.h"
#include "value/garbage.h"
#include "value/lerror.h"
#include "value/rawarray.h"
#include "worker/child_port.h"

/* Bytes above the limit of the Lua allocator, for C libraries. */
#define SERVE_MEMORY_SLACK ((uint64_t)64 << 20)

/* Memory of this worker's Lua state beyond what it inherited. */
struct memory {
	int64_t inherited; /* bytes of the state at the fork */
	bool counting;     /* `used` is valid */
	lua_Alloc alloc;   /* the original allocator of the state */
	void *ud;
	int64_t used;
	int64_t limit; /* bytes; INT64_MAX: none */
};

struct worker {
	lua_State *L;
	struct fz_port *port;
	struct fz_call call;
	struct fz_child_batch batch;
	struct fz_random random;
	bool refused; /* there was no memory for the last reply */
	struct memory memory;
	struct fz_cwd cwd;
	bool started; /* a call has run */
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
 * Bytes in use by the Lua state. Constant in a worker that a finalizer forked,
 * because lua_gc() returns -1 there.
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
 * Whether earlier calls have left no more than the call may use. Garbage
 * counts, because its collection costs as much as a new worker. The first call
 * always runs.
 */
static bool
has_memory(const struct fz_call *call)
{
	const struct worker *w = FZ_CONTAINER_OF(call, struct worker, call);
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
	uint64_t bytes = w->call.memory;
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
	/* Only a backstop, so that a refusal by the kernel is ignored. */
	fz_proc_limit_memory(bytes != 0 ? bytes + SERVE_MEMORY_SLACK : 0, NULL);
}

static int
next_argument(void *ctx, const void **bytes, size_t *len, struct fz_err *err)
{
	struct worker *w = ctx;

	return fz_port_argument(w->port, &w->call, bytes, len, err);
}

static void
release_argument(void *ctx)
{
	struct worker *w = ctx;

	fz_port_release(w->port);
}

static void
begin_reply(void *ctx, bool error, uint32_t word)
{
	struct worker *w = ctx;

	fz_port_begin(
	    w->port, &w->call, error ? FZ_WIRE_ERROR : FZ_WIRE_RESULT, word);
}

static void
put_value(void *ctx)
{
	struct worker *w = ctx;

	fz_port_put(w->port);
}

static void
reply_memory(struct worker *w)
{
	begin_reply(w, true, FZ_ERR_MEMORY);
	put_value(w);
}

static int
send_reply(void *ctx)
{
	struct worker *w = ctx;
	struct fz_err err = { 0 };
	int rc = fz_port_send(w->port, &err);

	w->refused = rc != 0 && err.kind == FZ_ERR_MEMORY;
	if (w->refused) {
		reply_memory(w);
		rc = fz_port_send(w->port, &err);
	}
	return rc;
}

/* Prepare the worker's copy of the script's state; protected. */
static int
prepare_state(lua_State *L)
{
	fz_random_find(L, lua_touserdata(L, 1));
	fz_exit_wrap(L);
	return 0;
}

/* Keep the bytes of a function until its first call; protected. */
static int
keep_function(lua_State *L)
{
	struct worker *w = lua_touserdata(L, 2);
	struct fz_err err = { 0 };
	const void *bytes;
	size_t len;

	if (next_argument(w, &bytes, &len, &err) != 0)
		return fz_lerror_raise(L, &err);
	lua_pushlstring(L, bytes, len);
	lua_rawseti(L, 1, (lua_Integer)w->call.func + 1);
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
	release_argument(w);
	lua_settop(L, FZ_CHILD_LIST);
	return status == LUA_OK ? 0 : -1;
}

static int
serve_batch(lua_State *L, struct worker *w, const struct fz_child_io *io)
{
	size_t size =
	    fz_rawarray_known() != NULL ? sizeof(*w->batch.raw_results) : 0;
	int rc;

	w->batch.raw_results = fz_port_map_results(w->port, &w->call, size);
	w->batch.func = w->call.func;
	w->batch.kind = w->call.kind;
	w->batch.nparts = w->call.nargs;
	w->batch.item = w->batch.first = w->call.item;
	w->batch.seed = w->call.seed;
	limit_memory(L, w);
	rc = fz_child_batch(L, &w->batch, io);
	fflush(stdout);
	return rc == 0 ? fz_port_end_batch(w->port, NULL) : rc;
}

static int
serve_job(lua_State *L, struct worker *w, const struct fz_child_io *io)
{
	struct fz_child_call call = { .func = w->call.func,
		.nargs = w->call.nargs,
		.nvalues = w->call.nvalues,
		.seed = w->call.seed,
		.init = w->batch.init,
		.random = &w->random };

	limit_memory(L, w);
	fz_child_call(L, &call, io);
	w->batch.init = call.init;
	fflush(stdout);
	return send_reply(w);
}

static int
serve(lua_State *L, struct worker *w, const struct fz_child_io *io)
{
	switch ((int)w->call.type) {
	case FZ_WIRE_FUNC:
		return serve_func(L, w);
	case FZ_WIRE_BATCH:
		return serve_batch(L, w, io);
	default:
		return serve_job(L, w, io);
	}
}

int
fz_serve_main(void *ctx, struct fz_port *port)
{
	struct fz_serve_home *home = ctx;
	lua_State *L = home->L;
	struct worker w = { .L = L, .port = port, .batch = { .init = true } };
	struct fz_child_io io = { next_argument, release_argument, begin_reply,
		put_value, send_reply, NULL, NULL, port, &w.call,
		&port->value.buf, &w };
	int rc;

	home->serving = true;
	w.batch.random = &w.random;
	lua_pushcfunction(L, prepare_state);
	lua_pushlightuserdata(L, &w.random);
	lua_pcall(L, 1, 0, 0);
	w.memory.inherited = state_bytes(L);
	fz_cwd_enter(&w.cwd);
	port->accepts = has_memory;
	fz_garbage_inherit(&w.garbage, L, home->aged);
	while ((rc = fz_port_next(port, &w.call, NULL)) == 1) {
		rc = serve(L, &w, &io);
		if (rc != 0)
			break;
		fz_garbage_collect_young(&w.garbage, L);
	}
	return rc == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

/*
 * Call enter, then the function with its arguments, which follow it; protected.
 */
static int
process_body(lua_State *L)
{
	struct fz_child_calls *c = lua_touserdata(L, 1);

	fz_random_seed(c->what->random, c->what->seed);
	lua_pushvalue(L, 2);
	lua_call(L, 0, 0);
	c->phase = FZ_CHILD_PHASE_CALL;
	lua_call(L, lua_gettop(L) - 3, LUA_MULTRET);
	c->phase = FZ_CHILD_PHASE_RESULTS;
	c->io->begin(c->io->ctx, false, 1);
	fz_codec_encode(L, 3, lua_gettop(L) - 2, c->io->out);
	c->io->put(c->io->ctx);
	return 0;
}

/*
 * Write the error at index 1 to standard error after the name at 3, with the
 * kept traceback if 4 is true; protected.
 */
static int
print_error_body(lua_State *L)
{
	struct fz_child_calls *c = lua_touserdata(L, 2);
	bool traced = lua_toboolean(L, 4);
	const char *text;
	size_t len;

	lua_settop(L, 3);
	lua_pushliteral(L, ": ");
	if (c->phase == FZ_CHILD_PHASE_RESULTS &&
	    *fz_child_kind_word(L) != '\0') {
		fz_child_push_result_message(
		    L, c); /* this message is complete */
		traced = false;
	} else {
		fz_lerror_text(L, 1);
	}
	lua_pushliteral(L, "\n");
	if (traced) {
		fz_child_push_traceback(L);
		if (lua_isnil(L, -1))
			lua_pop(L, 1);
		else
			lua_pushliteral(L, "\n");
	}
	lua_concat(L, lua_gettop(L) - 2);
	text = lua_tolstring(L, -1, &len);
	fwrite(text, 1, len, stderr);
	return 0;
}

/* Print the error on top; `status` is that of its pcall. [-1] */
static void
print_error(lua_State *L, struct fz_child_calls *c, int status)
{
	lua_pushcfunction(L, print_error_body);
	lua_insert(L, -2);
	lua_pushlightuserdata(L, c);
	lua_pushvalue(L, FZ_SERVE_NAME);
	lua_pushboolean(L, status == LUA_ERRRUN);
	if (lua_pcall(L, 4, 0, 0) != LUA_OK)
		lua_pop(L, 1);
}

/*
 * Make the one call of a process and send its reply. Returns the exit status.
 */
static int
process_call(lua_State *L, struct worker *w, struct fz_child_calls *c)
{
	int status, rc;

	/*
	 * ... | handler | body, c, enter, function, arguments
	 */
	lua_pushcfunction(L, fz_child_note_traceback);
	lua_insert(L, FZ_SERVE_ENTER);
	lua_pushcfunction(L, process_body);
	lua_insert(L, FZ_SERVE_ENTER + 1);
	lua_pushlightuserdata(L, c);
	lua_insert(L, FZ_SERVE_ENTER + 2);
	status =
	    lua_pcall(L, lua_gettop(L) - FZ_SERVE_ENTER - 1, 0, FZ_SERVE_ENTER);
	if (status != LUA_OK) {
		fz_child_put_error(L, c, status);
		print_error(L, c, status);
	}
	fflush(stdout);
	rc = send_reply(w);
	if (w->refused)
		fprintf(stderr, "%s: not enough memory for the results\n",
		    lua_tostring(L, FZ_SERVE_NAME));
	if (rc != 0 || fz_port_flush(w->port, NULL) != 0)
		return EXIT_FAILURE; /* the parent is gone */
	return status == LUA_OK && !w->refused ? EXIT_SUCCESS : EXIT_FAILURE;
}

int
fz_serve_process(void *ctx, struct fz_port *port)
{
	const struct fz_serve_process *process = ctx;
	lua_State *L = process->L;
	struct worker w = { .port = port };
	struct fz_child_io io = { .begin = begin_reply,
		.put = put_value,
		.out = &port->value.buf,
		.ctx = &w };
	struct fz_child_call what = { .seed = process->seed,
		.random = &w.random };
	struct fz_child_calls c = { .what = &what,
		.io = &io,
		.phase = FZ_CHILD_PHASE_INIT,
		.all = true };
	int status, rc;

	lua_pushcfunction(L, prepare_state);
	lua_pushlightuserdata(L, &w.random);
	lua_pcall(L, 1, 0, 0);
	fz_garbage_inherit(&w.garbage, L, process->aged);
	rc = process_call(L, &w, &c);
	if (rc != EXIT_SUCCESS)
		return rc;
	c.phase = FZ_CHILD_PHASE_CALL;
	lua_pushvalue(L, FZ_SERVE_LEAVE);
	status = lua_pcall(L, 0, 0, FZ_SERVE_ENTER);
	if (status == LUA_OK)
		return EXIT_SUCCESS;
	print_error(L, &c, status);
	return EXIT_FAILURE;
}
