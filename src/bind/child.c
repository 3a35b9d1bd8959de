#include "bind/child.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <lauxlib.h>

#include "base/buf.h"
#include "bind/codec.h"
#include "bind/lerror.h"
#include "engine/port.h"
#include "os/proc.h"
#include "os/shm.h"

/* A worker collects no garbage before it has made this much of its own. */
enum { CHILD_GC_KIB = 32 << 10 };
/* Beyond the limit of the Lua allocator, for what C libraries allocate. */
#define CHILD_MEMORY_SLACK ((uint64_t)64 << 20)

enum phase { INIT, ARGUMENTS, CALL, RESULTS };

/* One call under way; lives on the C stack across the protected call. */
struct call {
	struct fz_child_call *what;
	const struct fz_child_io *io;
	enum phase phase;
	uint32_t value;        /* the result being encoded, from 1 */
	bool mapped;           /* bytes of an argument are to be released */
	bool all;              /* its results are one message */
	enum fz_err_kind kind; /* of the error being sent */
	bool plain;            /* send it without its cause */
};

/* Upvalue-free access to the standard library's own randomseed. */
static const char randomseed_key;

lua_State *
fz_child_prepare(lua_State *L, int funcs, int init)
{
	lua_State *thread;

	funcs = lua_absindex(L, funcs);
	init = lua_absindex(L, init);
	thread = lua_newthread(L);
	lua_pushvalue(L, funcs);
	lua_pushvalue(L, init);
	lua_xmove(L, thread, 2);
	return thread;
}

/* ---- one call ---------------------------------------------------------------
 */

static void
seed_random(lua_State *L, uint64_t seed)
{
	int top = lua_gettop(L);

	if (lua_rawgetp(L, LUA_REGISTRYINDEX, &randomseed_key) == LUA_TNIL) {
		lua_pop(L, 1);
		luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
		if (lua_getfield(L, -1, "math") != LUA_TTABLE ||
		    lua_getfield(L, -1, "randomseed") != LUA_TFUNCTION) {
			lua_settop(L, top);
			return; /* a host without the math library */
		}
		lua_pushvalue(L, -1);
		lua_rawsetp(L, LUA_REGISTRYINDEX, &randomseed_key);
	}
	lua_pushinteger(L, (lua_Integer)seed);
	lua_pushinteger(L, 0);
	lua_call(L, 2, 0);
	lua_settop(L, top);
}

static void
push_arguments(lua_State *L, struct call *c)
{
	const struct fz_child_io *io = c->io;
	struct fz_err err = { 0 };
	const void *bytes;
	size_t len;

	for (uint32_t i = 0; i < c->what->nargs; i++) {
		luaL_checkstack(L, 8, "too many arguments");
		if (io->next(io->ctx, &bytes, &len, &err) != 0)
			fz_lerror_raise(L, &err);
		c->mapped = true;
		if (fz_codec_decode(L, bytes, len, true) != 1)
			luaL_error(L, "an argument is not one value");
		c->mapped = false;
		io->release(io->ctx);
	}
}

static void
put_results(lua_State *L, struct call *c)
{
	const struct fz_child_io *io = c->io;
	int first = lua_gettop(L) - (int)c->what->nvalues + 1;

	io->begin(io->ctx, false, c->what->nvalues);
	for (c->value = 1; c->value <= c->what->nvalues; c->value++) {
		fz_codec_encode(L, first + (int)c->value - 1, 1, io->out);
		io->put(io->ctx);
	}
}

/* The whole call, protected. The struct call is on top of the stack. */
static int
call_body(lua_State *L)
{
	struct call *c = lua_touserdata(L, -1);

	/* A frame of its own: the list and init came as arguments. */
	seed_random(L, c->what->seed);
	if (c->what->init && !lua_isnil(L, FZ_CHILD_INIT)) {
		lua_pushvalue(L, FZ_CHILD_INIT);
		lua_call(L, 0, 0);
	}
	c->what->init = false;
	c->phase = ARGUMENTS;
	lua_rawgeti(L, FZ_CHILD_FUNCS, (lua_Integer)c->what->func + 1);
	push_arguments(L, c);
	c->phase = CALL;
	lua_call(L, (int)c->what->nargs, (int)c->what->nvalues);
	c->phase = RESULTS;
	put_results(L, c);
	return 0;
}

/* The traceback without our own frames at its end. */
static void
push_traceback(lua_State *L)
{
	static const char ours[] = "\n\t[C]: in ?";
	const char *text;
	size_t len;

	luaL_traceback(L, L, NULL, 1);
	text = lua_tolstring(L, -1, &len);
	if (len >= sizeof(ours) - 1 &&
	    strcmp(text + len - (sizeof(ours) - 1), ours) == 0) {
		lua_pushlstring(L, text, len - (sizeof(ours) - 1));
		lua_remove(L, -2);
	}
}

/* Its address is the registry key of the traceback of the last error. */
static const char traceback_key;

/*
 * Message handler: notes the traceback. The error stays what it is, since what
 * the function calls, load() for one, may see it, too.
 */
static int
note_traceback(lua_State *L)
{
	push_traceback(L);
	lua_rawsetp(L, LUA_REGISTRYINDEX, &traceback_key);
	lua_settop(L, 1);
	return 1;
}

/* The kind of the fz.Error at index 1, "" where it is none. */
static const char *
kind_word(lua_State *L)
{
	const char *word;

	if (!fz_lerror_is(L, 1))
		return "";
	lua_getfield(L, 1, "kind");
	word = lua_tostring(L, -1);
	lua_pop(L, 1); /* the error keeps it */
	return word != NULL ? word : "";
}

/*
 * The text of an error of the codec at index 1, with the number of the result
 * it is about where nobody else names it.
 */
static void
push_result_message(lua_State *L, struct call *c)
{
	const char *text;

	lua_getfield(L, 1, "message");
	text = lua_tostring(L, -1);
	if (!c->all || text == NULL)
		return;
	if (lua_getfield(L, 1, "value") == LUA_TNUMBER) {
		c->value = (uint32_t)lua_tointeger(L, -1);
		lua_pushfstring(L, "result %d%s%s", (int)c->value,
		    *text == ':' ? "" : ": ", text);
		lua_replace(L, -3);
	}
	lua_pop(L, 1);
}

/* An error of the codec about a result: its message says all. */
static void
describe_result(lua_State *L, struct call *c, const char *word)
{
	if (strcmp(word, fz_err_kind_name(FZ_ERR_UNSENDABLE)) == 0)
		c->kind = FZ_ERR_UNSENDABLE;
	else if (strcmp(word, fz_err_kind_name(FZ_ERR_MEMORY)) == 0)
		c->kind = FZ_ERR_MEMORY;
	push_result_message(L, c);
	lua_setfield(L, -2, "message");
	if (c->value != 0) {
		lua_pushinteger(L, (lua_Integer)c->value);
		lua_setfield(L, -2, "result");
	}
}

/* What the function raised, or what it did wrong. */
static void
describe_error(lua_State *L, const struct call *c)
{
	fz_lerror_text(L, 1);
	lua_setfield(L, -2, "message");
	lua_rawgetp(L, LUA_REGISTRYINDEX, &traceback_key);
	lua_setfield(L, -2, "traceback");
	if (!c->plain) {
		lua_pushvalue(L, 1);
		lua_setfield(L, -2, "cause");
	}
}

/* Encode the error at index 1 as a table; protected. */
static int
error_body(lua_State *L)
{
	struct call *c = lua_touserdata(L, 2);
	const char *word = kind_word(L);

	lua_createtable(L, 0, 4);
	if (c->phase == RESULTS && *word != '\0')
		describe_result(L, c, word);
	else
		describe_error(L, c);
	if (strcmp(word, fz_err_kind_name(FZ_ERR_INTERRUPTED)) == 0)
		c->kind = FZ_ERR_INTERRUPTED;
	c->io->begin(c->io->ctx, true, c->kind);
	fz_codec_encode(L, lua_gettop(L), 1, c->io->out);
	return 0;
}

static int
encode_error(lua_State *L, struct call *c)
{
	int status;

	lua_pushcfunction(L, error_body);
	lua_pushvalue(L, -2);
	lua_pushlightuserdata(L, c);
	status = lua_pcall(L, 2, 0, 0);
	if (status != LUA_OK)
		lua_pop(L, 1);
	return status;
}

/*
 * Send the error on top of the stack, less itself as the cause where it cannot
 * be sent, or the kind alone where there is no memory for more.
 */
static enum fz_err_kind
put_error(lua_State *L, struct call *c, int status)
{
	bool put = false;

	c->kind = status == LUA_ERRMEM ? FZ_ERR_MEMORY : FZ_ERR_ERROR;
	if (status == LUA_ERRRUN) {
		put = encode_error(L, c) == LUA_OK;
		c->plain = true;
		put = put || encode_error(L, c) == LUA_OK;
	}
	if (!put)
		c->io->begin(c->io->ctx, true, c->kind);
	c->io->put(c->io->ctx);
	return c->kind;
}

enum fz_err_kind
fz_child_call(
    lua_State *L, struct fz_child_call *call, const struct fz_child_io *io)
{
	struct call c = { .what = call, .io = io, .phase = INIT };
	enum fz_err_kind kind = FZ_ERR_NONE;
	int status;

	lua_settop(L, FZ_CHILD_INIT);
	lua_pushcfunction(L, note_traceback);
	lua_pushcfunction(L, call_body);
	lua_pushvalue(L, FZ_CHILD_FUNCS);
	lua_pushvalue(L, FZ_CHILD_INIT);
	lua_pushlightuserdata(L, &c);
	status = lua_pcall(L, 3, 0, FZ_CHILD_INIT + 1);
	if (c.mapped)
		io->release(io->ctx);
	if (status != LUA_OK)
		kind = put_error(L, &c, status);
	lua_settop(L, FZ_CHILD_INIT);
	return kind;
}

/* ---- inside a worker
 * ---------------------------------------------------------- */

/* Counts what the Lua state of this worker allocates beyond the fork. */
struct memory {
	lua_Alloc alloc; /* the allocator the state had */
	void *ud;
	int64_t used;
	int64_t limit; /* INT64_MAX: none */
};

struct worker {
	struct fz_port *port;
	struct fz_call call;
	const void *mapped; /* an argument in the arena, NULL: none */
	size_t mapped_len;
	struct memory memory;
	bool counting;
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

static void
limit_memory(lua_State *L, struct worker *w)
{
	struct memory *m = &w->memory;
	uint64_t bytes = w->call.memory;
	int64_t limit =
	    bytes == 0 || bytes > INT64_MAX ? INT64_MAX : (int64_t)bytes;

	if (!w->counting && bytes == 0)
		return;
	if (!w->counting) {
		m->alloc = lua_getallocf(L, &m->ud);
		m->limit = INT64_MAX;
		lua_setallocf(L, counting_alloc, m);
		w->counting = true;
	}
	if (m->limit == limit)
		return;
	m->limit = limit;
	/* Only a backstop, so a kernel that refuses changes nothing. */
	fz_proc_limit_memory(bytes != 0 ? bytes + CHILD_MEMORY_SLACK : 0, NULL);
}

static int
next_argument(void *ctx, const void **bytes, size_t *len, struct fz_err *err)
{
	struct worker *w = ctx;
	struct fz_part part;

	if (fz_wire_part(&w->call.args, &part) != 0)
		return fz_err_set(err, FZ_ERR_CRASH,
		    "a job came without all of its arguments");
	*bytes = part.bytes;
	*len = part.len;
	if (part.bytes != NULL)
		return 0;
	w->mapped = fz_shm_map(w->port->shm, part.offset, part.len, err);
	w->mapped_len = part.len;
	*bytes = w->mapped;
	return w->mapped != NULL ? 0 : -1;
}

static void
release_argument(void *ctx)
{
	struct worker *w = ctx;

	if (w->mapped != NULL)
		fz_shm_unmap(w->port->shm, w->mapped, w->mapped_len);
	w->mapped = NULL;
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

/* os.exit(): leave at once, with no finalizer of the parent's objects run. */
static int
child_exit(lua_State *L)
{
	int status = EXIT_SUCCESS;

	if (lua_isboolean(L, 1))
		status = lua_toboolean(L, 1) ? EXIT_SUCCESS : EXIT_FAILURE;
	else
		status = (int)luaL_optinteger(L, 1, EXIT_SUCCESS);
	fz_proc_exit(status);
}

/* What a worker changes in its copy of the script's state; protected. */
static int
settle(lua_State *L)
{
	int kib = lua_gc(L, LUA_GCCOUNT);

	luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
	if (lua_getfield(L, -1, "os") == LUA_TTABLE) {
		lua_pushcfunction(L, child_exit);
		lua_setfield(L, -2, "exit");
	}
	/*
	 * A collection would touch, and so copy, the whole inherited heap. A
	 * step of negative size is a credit: none begins before the worker
	 * has made that much garbage of its own.
	 */
	lua_gc(L, LUA_GCSTEP, -(kib > CHILD_GC_KIB ? kib : CHILD_GC_KIB));
	return 0;
}

/*
 * Send the reply: 0, 1 where it says instead that there is no memory for it,
 * or -1 and `err`.
 */
static int
send_reply(struct worker *w, struct fz_err *err)
{
	if (fz_port_send(w->port, err) == 0)
		return 0;
	if (err->kind != FZ_ERR_MEMORY)
		return -1;
	begin_reply(w, true, FZ_ERR_MEMORY);
	put_value(w);
	return fz_port_send(w->port, err) == 0 ? 1 : -1;
}

int
fz_child_main(void *ctx, struct fz_port *port)
{
	struct fz_child_home *home = ctx;
	lua_State *L = home->L;
	struct worker w = { .port = port };
	struct fz_child_io io = { next_argument, release_argument, begin_reply,
		put_value, &port->value.buf, &w };
	struct fz_child_call call = { .init = true };
	struct fz_err err = { 0 };
	int rc;

	home->serving = true;
	lua_pushcfunction(L, settle);
	lua_pcall(L, 0, 0, 0);
	while ((rc = fz_port_next(port, &w.call, &err)) == 1) {
		call.func = w.call.func;
		call.nargs = w.call.nargs;
		call.nvalues = w.call.nvalues;
		call.seed = w.call.seed;
		limit_memory(L, &w);
		fz_child_call(L, &call, &io);
		fflush(stdout);
		rc = send_reply(&w, &err);
		if (rc < 0)
			break;
	}
	return rc == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

/* ---- inside a process ------------------------------------------------- */

/* Protected: call enter, then the function with all that is behind it. */
static int
process_body(lua_State *L)
{
	struct call *c = lua_touserdata(L, 1);

	seed_random(L, c->what->seed);
	lua_pushvalue(L, 2);
	lua_call(L, 0, 0);
	c->phase = CALL;
	lua_call(L, lua_gettop(L) - 3, LUA_MULTRET);
	c->phase = RESULTS;
	c->io->begin(c->io->ctx, false, 1);
	fz_codec_encode(L, 3, lua_gettop(L) - 2, c->io->out);
	c->io->put(c->io->ctx);
	return 0;
}

/*
 * Protected: the error at 1 as lines on standard error, behind the name at 3,
 * with the traceback that was noted where 4 is true.
 */
static int
tell_body(lua_State *L)
{
	struct call *c = lua_touserdata(L, 2);
	bool traced = lua_toboolean(L, 4);
	const char *text;
	size_t len;

	lua_settop(L, 3);
	lua_pushliteral(L, ": ");
	if (c->phase == RESULTS && *kind_word(L) != '\0') {
		push_result_message(L, c); /* which says all */
		traced = false;
	} else {
		fz_lerror_text(L, 1);
	}
	lua_pushliteral(L, "\n");
	if (traced) {
		lua_rawgetp(L, LUA_REGISTRYINDEX, &traceback_key);
		lua_pushliteral(L, "\n");
	}
	lua_concat(L, lua_gettop(L) - 2);
	text = lua_tolstring(L, -1, &len);
	fwrite(text, 1, len, stderr);
	return 0;
}

/* Of the error on top of the stack, which goes; `status` is its pcall's. */
static void
tell_error(lua_State *L, struct call *c, int status)
{
	lua_pushcfunction(L, tell_body);
	lua_insert(L, -2);
	lua_pushlightuserdata(L, c);
	lua_pushvalue(L, FZ_CHILD_NAME);
	lua_pushboolean(L, status == LUA_ERRRUN);
	if (lua_pcall(L, 4, 0, 0) != LUA_OK)
		lua_pop(L, 1);
}

/* The one call of a process, its reply included. Its exit status. */
static int
process_call(lua_State *L, struct worker *w, struct call *c)
{
	struct fz_err err = { 0 };
	int status, sent;

	/* ... | handler | body, c, enter, function, arguments */
	lua_pushcfunction(L, note_traceback);
	lua_insert(L, FZ_CHILD_ENTER);
	lua_pushcfunction(L, process_body);
	lua_insert(L, FZ_CHILD_ENTER + 1);
	lua_pushlightuserdata(L, c);
	lua_insert(L, FZ_CHILD_ENTER + 2);
	status =
	    lua_pcall(L, lua_gettop(L) - FZ_CHILD_ENTER - 1, 0, FZ_CHILD_ENTER);
	if (status != LUA_OK) {
		put_error(L, c, status);
		tell_error(L, c, status);
	}
	fflush(stdout);
	sent = send_reply(w, &err);
	if (sent == 1)
		fprintf(stderr, "%s: not enough memory for the results\n",
		    lua_tostring(L, FZ_CHILD_NAME));
	if (sent < 0 || fz_port_flush(w->port, &err) != 0)
		return EXIT_FAILURE; /* its parent is gone */
	return status == LUA_OK && sent == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

int
fz_child_process(void *ctx, struct fz_port *port)
{
	const struct fz_child_process *process = ctx;
	lua_State *L = process->L;
	struct worker w = { .port = port };
	struct fz_child_io io = { .begin = begin_reply,
		.put = put_value,
		.out = &port->value.buf,
		.ctx = &w };
	struct fz_child_call what = { .seed = process->seed };
	struct call c = {
		.what = &what, .io = &io, .phase = INIT, .all = true
	};
	int status, rc;

	lua_pushcfunction(L, settle);
	lua_pcall(L, 0, 0, 0);
	rc = process_call(L, &w, &c);
	if (rc != EXIT_SUCCESS)
		return rc;
	c.phase = CALL;
	lua_pushvalue(L, FZ_CHILD_LEAVE);
	status = lua_pcall(L, 0, 0, FZ_CHILD_ENTER);
	if (status == LUA_OK)
		return EXIT_SUCCESS;
	tell_error(L, &c, status);
	return EXIT_FAILURE;
}
