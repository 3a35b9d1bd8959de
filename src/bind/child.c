#include "bind/child.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <lauxlib.h>

#include "base/buf.h"
#include "bind/codec.h"
#include "bind/items.h"
#include "bind/lerror.h"
#include "bind/random.h"
#include "engine/port.h"
#include "os/proc.h"
#include "os/shm.h"

/* A worker collects no garbage before it has made this much of its own. */
enum { CHILD_GC_KIB = 32 << 10 };
/* Beyond the limit of the Lua allocator, for what C libraries allocate. */
#define CHILD_MEMORY_SLACK ((uint64_t)64 << 20)

enum phase { INIT, ARGUMENTS, CALL, RESULTS };

/* Calls under way; lives on the C stack across the protected call. */
struct call {
	struct fz_child_call *what;   /* one of these two */
	struct fz_child_batch *batch;
	const struct fz_child_io *io;
	enum phase phase;
	uint32_t value;        /* the result being encoded, from 1 */
	bool mapped;           /* bytes of an argument are to be released */
	bool all;              /* its results are one message */
	enum fz_err_kind kind; /* of the error being sent */
	bool plain;            /* send it without its cause */
	bool gone;             /* nobody takes results any more */
};

lua_State *
fz_child_prepare(lua_State *L, int funcs, int init, int list)
{
	lua_State *thread;

	funcs = lua_absindex(L, funcs);
	init = lua_absindex(L, init);
	list = lua_absindex(L, list);
	thread = lua_newthread(L);
	lua_pushvalue(L, funcs);
	lua_pushvalue(L, init);
	lua_pushvalue(L, list);
	lua_xmove(L, thread, 3);
	return thread;
}

/* ---- one call ---------------------------------------------------------------
 */

/* Push the values of the next part. Returns how many. */
static int
push_part(lua_State *L, struct call *c)
{
	const struct fz_child_io *io = c->io;
	struct fz_err err = { 0 };
	const void *bytes;
	size_t len;
	int n;

	luaL_checkstack(L, 8, "too many arguments");
	if (io->next(io->ctx, &bytes, &len, &err) != 0)
		fz_lerror_raise(L, &err);
	c->mapped = true;
	n = fz_codec_decode(L, bytes, len, true);
	c->mapped = false;
	io->release(io->ctx);
	return n;
}

static void
push_arguments(lua_State *L, struct call *c)
{
	for (uint32_t i = 0; i < c->what->nargs; i++) {
		if (push_part(L, c) != 1)
			luaL_error(L, "an argument is not one value");
	}
}

/* Push a function of the list; one that came as bytes is decoded first. */
static void
push_function(lua_State *L, uint32_t number)
{
	lua_Integer i = (lua_Integer)number + 1;
	size_t len;
	const char *bytes;

	if (lua_rawgeti(L, FZ_CHILD_FUNCS, i) != LUA_TSTRING)
		return;
	bytes = lua_tolstring(L, -1, &len);
	if (fz_codec_decode(L, bytes, len, true) != 1)
		luaL_error(L, "a function is not one value");
	lua_pushvalue(L, -1);
	lua_rawseti(L, FZ_CHILD_FUNCS, i);
	lua_remove(L, -2);
}

static void
run_init(lua_State *L)
{
	if (lua_isnil(L, FZ_CHILD_INIT))
		return;
	lua_pushvalue(L, FZ_CHILD_INIT);
	lua_call(L, 0, 0);
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
	fz_random_seed(c->what->random, c->what->seed);
	if (c->what->init)
		run_init(L);
	c->what->init = false;
	c->phase = ARGUMENTS;
	push_function(L, c->what->func);
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
push_result_message(lua_State *L, const struct call *c)
{
	const char *text;

	lua_getfield(L, 1, "message");
	text = lua_tostring(L, -1);
	if (!c->all || text == NULL)
		return;
	if (lua_getfield(L, 1, "value") == LUA_TNUMBER) {
		lua_pushfstring(L, "result %d%s%s", (int)lua_tointeger(L, -1),
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
	if (c->batch == NULL && !c->all)
		lua_pushinteger(L, (lua_Integer)c->value);
	else
		lua_getfield(L, 1, "value");
	lua_setfield(L, -2, "result");
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

	lua_settop(L, FZ_CHILD_LIST);
	lua_pushcfunction(L, note_traceback);
	lua_pushcfunction(L, call_body);
	lua_pushvalue(L, FZ_CHILD_FUNCS);
	lua_pushvalue(L, FZ_CHILD_INIT);
	lua_pushlightuserdata(L, &c);
	status = lua_pcall(L, 3, 0, FZ_CHILD_LIST + 1);
	if (c.mapped)
		io->release(io->ctx);
	if (status != LUA_OK)
		kind = put_error(L, &c, status);
	lua_settop(L, FZ_CHILD_LIST);
	return kind;
}

/* ---- a batch ----------------------------------------------------------------
 */

/* On the thread's stack while a batch is under way. */
enum { BATCH_HANDLER = FZ_CHILD_LIST + 1, BATCH_FUNC, BATCH_ITEMS };

/* (funcs, init, call) -> function, items: what all items share */
static int
open_body(lua_State *L)
{
	struct call *c = lua_touserdata(L, -1);
	struct fz_child_batch *b = c->batch;
	int n = 0;

	fz_random_seed(b->random, fz_random_mix(b->seed, b->item));
	if (b->init)
		run_init(L);
	b->init = false;
	c->phase = ARGUMENTS;
	if (!(b->kind & FZ_WIRE_INLINE))
		push_function(L, b->func);
	/* The arguments of a call are read right before it. */
	if (b->nparts != 0 && (b->kind & FZ_WIRE_KINDS) != FZ_WIRE_CALL)
		n = push_part(L, c);
	lua_settop(L, 3 + (b->kind & FZ_WIRE_INLINE ? 0 : 1) + n);
	while (lua_gettop(L) < 5)
		lua_pushnil(L);
	return 2;
}

/* Push the elements of the item on top in its place. Returns how many. */
static int
spread_item(lua_State *L)
{
	int item = lua_gettop(L);
	lua_Integer n;

	if (!lua_istable(L, item))
		return luaL_error(L, "a list of arguments expected, got %s",
		    luaL_typename(L, item));
	if (lua_getfield(L, item, "n") == LUA_TNUMBER && lua_isinteger(L, -1))
		n = lua_tointeger(L, -1);
	else
		n = luaL_len(L, item);
	lua_settop(L, item);
	if (n < 0 || n > INT32_MAX / 2 || !lua_checkstack(L, (int)n + 8))
		return luaL_error(L, "too many arguments");
	for (lua_Integer i = 1; i <= n; i++)
		lua_geti(L, item, i);
	lua_remove(L, item);
	return (int)n;
}

/* Push what the item at hand has for arguments; its function is below. */
static int
push_item(lua_State *L, struct call *c)
{
	const struct fz_child_batch *b = c->batch;
	uint32_t kind = b->kind & FZ_WIRE_KINDS;

	if (kind == FZ_WIRE_CALL)
		return push_part(L, c);
	if (b->kind & FZ_WIRE_INHERITED)
		lua_geti(L, 3, (lua_Integer)b->item);
	else
		lua_rawgeti(L, 3, (lua_Integer)(b->item - b->first) + 1);
	return kind == FZ_WIRE_STARMAP ? spread_item(L) : 1;
}

/* A result that is no small item; `n` values from index `first` on. */
static void
put_message(lua_State *L, struct call *c, int first, int n)
{
	const struct fz_child_io *io = c->io;
	unsigned char *p;
	size_t len;

	io->begin(io->ctx, false, 1);
	fz_codec_encode(L, first, n, io->out);
	len = io->out->len;
	if (len > FZ_PORT_ITEM - FZ_ITEMS_HEAD) {
		io->put(io->ctx);
		c->gone = io->send(io->ctx) != 0;
		return;
	}
	p = io->room(io->ctx);
	c->gone = p == NULL;
	if (p == NULL)
		return;
	fz_items_store_head(p, (uint32_t)len);
	memcpy(p + FZ_ITEMS_HEAD, io->out->data, len);
	fz_buf_clear(io->out);
	io->end(io->ctx, FZ_ITEMS_HEAD + len);
}

static void
put_item(lua_State *L, struct call *c)
{
	unsigned char *p = c->io->room(c->io->ctx);
	size_t len;

	c->gone = p == NULL;
	if (p == NULL)
		return;
	len = fz_items_store(L, -1, p);
	if (len != 0)
		c->io->end(c->io->ctx, len);
	else
		put_message(L, c, lua_gettop(L), 1);
}

static void
call_item(lua_State *L, struct call *c)
{
	const struct fz_child_batch *b = c->batch;
	int top = lua_gettop(L), n;

	c->phase = ARGUMENTS;
	fz_random_seed(b->random, fz_random_mix(b->seed, b->item));
	if (!(b->kind & FZ_WIRE_INLINE) ||
	    (b->kind & FZ_WIRE_KINDS) != FZ_WIRE_CALL)
		lua_pushvalue(L, 2);
	n = push_item(L, c);
	c->phase = CALL;
	if ((b->kind & FZ_WIRE_KINDS) != FZ_WIRE_CALL) {
		lua_call(L, n, 1);
		c->phase = RESULTS;
		put_item(L, c);
	} else {
		lua_call(L, lua_gettop(L) - top - 1, LUA_MULTRET);
		c->phase = RESULTS;
		put_message(L, c, top + 1, lua_gettop(L) - top);
	}
	lua_settop(L, top);
}

/* (call, function, items): all items from the one at hand on; protected */
static int
items_body(lua_State *L)
{
	struct call *c = lua_touserdata(L, 1);

	do
		call_item(L, c);
	while (!c->gone && c->io->advance(c->io->ctx));
	return 0;
}

/* What all items need; false: the one at hand has failed of it. */
static bool
open_items(lua_State *L, struct call *c)
{
	int status;

	c->phase = INIT;
	lua_settop(L, BATCH_HANDLER);
	lua_pushcfunction(L, open_body);
	lua_pushvalue(L, FZ_CHILD_FUNCS);
	lua_pushvalue(L, FZ_CHILD_INIT);
	lua_pushlightuserdata(L, c);
	status = lua_pcall(L, 3, 2, BATCH_HANDLER);
	if (status != LUA_OK)
		put_error(L, c, status);
	return status == LUA_OK;
}

static bool
call_items(lua_State *L, struct call *c)
{
	int status, list = BATCH_ITEMS;

	if (c->batch->kind & FZ_WIRE_INHERITED)
		list = FZ_CHILD_LIST;
	lua_settop(L, BATCH_ITEMS);
	lua_pushcfunction(L, items_body);
	lua_pushlightuserdata(L, c);
	lua_pushvalue(L, BATCH_FUNC);
	lua_pushvalue(L, list);
	status = lua_pcall(L, 3, 0, BATCH_HANDLER);
	if (status != LUA_OK)
		put_error(L, c, status);
	return status == LUA_OK;
}

int
fz_child_batch(
    lua_State *L, struct fz_child_batch *batch, const struct fz_child_io *io)
{
	struct call c = { .batch = batch, .io = io };
	bool opened = false, failed;

	lua_settop(L, FZ_CHILD_LIST);
	lua_pushcfunction(L, note_traceback);
	do {
		opened = opened || open_items(L, &c);
		failed = !opened || !call_items(L, &c);
		if (c.mapped)
			io->release(io->ctx);
		c.mapped = c.plain = false;
		if (failed)
			c.gone = io->send(io->ctx) != 0;
	} while (failed && !c.gone && io->advance(io->ctx));
	lua_settop(L, FZ_CHILD_LIST);
	return c.gone ? -1 : 0;
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
	struct fz_child_batch batch;
	struct fz_random random;
	bool refused;       /* there was no memory for the last reply */
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

static unsigned char *
item_room(void *ctx)
{
	struct worker *w = ctx;

	return fz_port_item(w->port, &w->call, NULL);
}

static void
item_end(void *ctx, size_t len)
{
	struct worker *w = ctx;

	fz_port_item_end(w->port, len);
}

static bool
item_advance(void *ctx)
{
	struct worker *w = ctx;

	if (!fz_port_advance(w->port, &w->call))
		return false;
	w->batch.item = w->call.item;
	return true;
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

	fz_random_find(L, lua_touserdata(L, 1));
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

/* Keep the bytes of a function for its first call; protected. */
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
	int rc;

	w->batch.func = w->call.func;
	w->batch.kind = w->call.kind;
	w->batch.nparts = w->call.nargs;
	w->batch.item = w->batch.first = w->call.item;
	w->batch.seed = w->call.seed;
	limit_memory(L, w);
	rc = fz_child_batch(L, &w->batch, io);
	fflush(stdout);
	return rc == 0 ? fz_port_pause(w->port, NULL) : rc;
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
fz_child_main(void *ctx, struct fz_port *port)
{
	struct fz_child_home *home = ctx;
	lua_State *L = home->L;
	struct worker w = { .port = port, .batch = { .init = true } };
	struct fz_child_io io = { next_argument, release_argument, begin_reply,
		put_value, send_reply, item_room, item_end, item_advance,
		&port->value.buf, &w };
	int rc;

	home->serving = true;
	w.batch.random = &w.random;
	lua_pushcfunction(L, settle);
	lua_pushlightuserdata(L, &w.random);
	lua_pcall(L, 1, 0, 0);
	while ((rc = fz_port_next(port, &w.call, NULL)) == 1) {
		rc = serve(L, &w, &io);
		if (rc != 0)
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

	fz_random_seed(c->what->random, c->what->seed);
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
	int status, rc;

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
	rc = send_reply(w);
	if (w->refused)
		fprintf(stderr, "%s: not enough memory for the results\n",
		    lua_tostring(L, FZ_CHILD_NAME));
	if (rc != 0 || fz_port_flush(w->port, NULL) != 0)
		return EXIT_FAILURE; /* its parent is gone */
	return status == LUA_OK && !w->refused ? EXIT_SUCCESS : EXIT_FAILURE;
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
	struct fz_child_call what = { .seed = process->seed,
		.random = &w.random };
	struct call c = {
		.what = &what, .io = &io, .phase = INIT, .all = true
	};
	int status, rc;

	lua_pushcfunction(L, settle);
	lua_pushlightuserdata(L, &w.random);
	lua_pcall(L, 1, 0, 0);
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
