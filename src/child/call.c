#define _POSIX_C_SOURCE 200809L /* getcwd */
#include "child/call.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

#include <lauxlib.h>

#include "base/buf.h"
#include "child/call_state.h"
#include "child/exit.h"
#include "child/forked.h"
#include "child/random.h"
#include "codec/codec.h"
#include "os/cwd.h"
#include "value/lerror.h"
#include "value/ltraceback.h"

/* The body of fz_child_enter(), in protected mode. Argument: random. */
static int
enter_body(lua_State *L)
{
	fz_random_find(L, lua_touserdata(L, 1));
	fz_exit_wrap(L);
	fz_forked_call(L);
	return 0;
}

void
fz_child_enter(lua_State *L, struct fz_random *random)
{
	lua_pushcfunction(L, enter_body);
	lua_pushlightuserdata(L, random);
	lua_pcall(L, 1, 0, 0);
}

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

int
fz_child_push_part(lua_State *L, struct fz_child_calls *c, int cells)
{
	const struct fz_child_io *io = c->io;
	struct fz_err err;
	const void *bytes;
	size_t len;
	int n;

	fz_err_init(&err);
	luaL_checkstack(L, 8, "too many arguments");
	if (io->next(io->ctx, &bytes, &len, &err) != 0)
		fz_lerror_raise(L, &err);
	c->mapped = true;
	if (cells != 0)
		n = fz_codec_decode_shared(L, bytes, len, cells);
	else
		n = fz_codec_decode(L, bytes, len, FZ_CODEC_RUN);
	c->mapped = false;
	io->release(io->ctx);
	return n;
}

static void
push_arguments(lua_State *L, struct fz_child_calls *c)
{
	for (uint32_t i = 0; i < c->what->nargs; i++) {
		if (fz_child_push_part(L, c, 0) != 1)
			luaL_error(L, "an argument does not decode to exactly "
				      "one Lua value");
	}
}

void
fz_child_decode_function(lua_State *L, int code)
{
	int top = lua_gettop(L);
	size_t len;
	const char *bytes = luaL_checklstring(L, code, &len);

	lua_rawgeti(L, FZ_CHILD_FUNCS, 0);
	if (fz_codec_decode_shared(L, bytes, len, -1) != 1)
		luaL_error(L, "the code of the call is not a function");
	lua_replace(L, top + 1);
}

void
fz_child_push_function(lua_State *L, uint32_t number)
{
	lua_Integer i = (lua_Integer)number + 1;

	if (lua_rawgeti(L, FZ_CHILD_FUNCS, i) != LUA_TSTRING)
		return;
	fz_child_decode_function(L, lua_gettop(L));
	lua_pushvalue(L, -1);
	lua_rawseti(L, FZ_CHILD_FUNCS, i);
	lua_remove(L, -2);
}

/*
 * The key of `entry` in the table of functions, for values that are kept. It is
 * negative, because functions have the keys from 0 on.
 */
static lua_Integer
kept_key(uint32_t entry)
{
	return -(lua_Integer)entry - 1;
}

struct keeping {
	const struct fz_child_io *io;
	uint32_t entry, n;
	uint64_t version;
	bool mapped; /* io->release() must be called */
};

/* The body of fz_child_keep(), in protected mode. Arguments: funcs, keeping. */
static int
keep_body(lua_State *L)
{
	struct keeping *k = lua_touserdata(L, 2);
	struct fz_err err = { 0 };
	const void *bytes;
	size_t len;

	lua_createtable(L, (int)k->n, 2);
	for (uint32_t i = 1; i <= k->n; i++) {
		if (k->io->next(k->io->ctx, &bytes, &len, &err) != 0)
			return fz_lerror_raise(L, &err);
		k->mapped = true;
		lua_pushlstring(L, bytes, len);
		lua_rawseti(L, 3, i);
		k->mapped = false;
		k->io->release(k->io->ctx);
	}
	lua_pushinteger(L, (lua_Integer)k->version);
	lua_setfield(L, 3, "version");
	lua_rawseti(L, 1, kept_key(k->entry));
	return 0;
}

void
fz_child_keep(lua_State *L, const struct fz_child_io *io, uint32_t entry,
    uint32_t n, uint64_t version)
{
	struct keeping k = { io, entry, n, version, false };
	int top = lua_gettop(L);

	lua_pushnil(L);
	lua_rawseti(L, FZ_CHILD_FUNCS, kept_key(entry));
	if (n == 0)
		return;
	lua_pushcfunction(L, keep_body);
	lua_pushvalue(L, FZ_CHILD_FUNCS);
	lua_pushlightuserdata(L, &k);
	/* after a failure the entry is empty, and calls that use it fail */
	lua_pcall(L, 2, 0, 0);
	if (k.mapped)
		io->release(io->ctx);
	lua_settop(L, top);
}

uint64_t
fz_child_kept(lua_State *L, uint32_t entry)
{
	lua_Integer version = 0;

	if (lua_rawgeti(L, FZ_CHILD_FUNCS, kept_key(entry)) == LUA_TTABLE) {
		lua_getfield(L, -1, "version");
		version = lua_tointeger(L, -1);
		lua_pop(L, 1);
	}
	lua_pop(L, 1);
	return (uint64_t)version;
}

/* Decode the strings of the table on top into a new one, which replaces it. */
static void
decode_kept(lua_State *L, uint32_t entry)
{
	int encoded = lua_gettop(L), n = (int)lua_rawlen(L, encoded);

	lua_createtable(L, n, 3);
	for (int i = 1; i <= n; i++) {
		const char *bytes;
		size_t len;

		lua_rawgeti(L, encoded, i);
		bytes = lua_tolstring(L, -1, &len);
		if (fz_codec_decode(L, bytes, len, FZ_CODEC_RUN) != 1)
			luaL_error(L, "an input does not decode to exactly one "
				      "Lua value");
		lua_rawseti(L, encoded + 1, i);
		lua_pop(L, 1);
	}
	lua_getfield(L, encoded, "version");
	lua_setfield(L, encoded + 1, "version");
	lua_pushinteger(L, n);
	lua_setfield(L, encoded + 1, "n");
	lua_replace(L, encoded);
	lua_pushvalue(L, encoded);
	lua_rawseti(L, FZ_CHILD_FUNCS, kept_key(entry));
}

void
fz_child_push_kept(lua_State *L, uint32_t entry)
{
	luaL_checkstack(L, 8, NULL);
	if (lua_rawgeti(L, FZ_CHILD_FUNCS, kept_key(entry)) != LUA_TTABLE) {
		fz_lerror_fail(L, FZ_ERR_MEMORY,
		    "not enough memory to keep the inputs of a map");
		return;
	}
	if (lua_getfield(L, -1, "n") == LUA_TNIL) {
		lua_pop(L, 1);
		decode_kept(L, entry);
	} else {
		lua_pop(L, 1);
	}
}

void
fz_child_run_init(lua_State *L, const struct fz_child_io *io)
{
	int64_t began_ns;

	if (lua_isnil(L, FZ_CHILD_INIT))
		return;
	began_ns = fz_clock_ns();
	lua_pushvalue(L, FZ_CHILD_INIT);
	lua_call(L, 0, 0);
	fz_cwd_stay();
	if (io->port != NULL)
		fz_meter_init_ran(&io->port->meter, fz_clock_ns() - began_ns);
}

static void
put_results(lua_State *L, struct fz_child_calls *c)
{
	const struct fz_child_io *io = c->io;
	int first = lua_gettop(L) - (int)c->what->nvalues + 1;

	io->begin(io->ctx, false, c->what->nvalues);
	for (c->value = 1; c->value <= c->what->nvalues; c->value++) {
		fz_codec_encode(L, first + (int)c->value - 1, 1, io->out);
		io->put(io->ctx);
	}
}

/* Make a call, in protected mode. The struct fz_child_calls is on top. */
static int
call_body(lua_State *L)
{
	struct fz_child_calls *c = lua_touserdata(L, -1);

	/*
	 * The stack indexes FZ_CHILD_FUNCS and FZ_CHILD_INIT are valid in this
	 * function, too: fz_child_call() passes both values as arguments.
	 */
	fz_random_seed(c->what->random, c->what->seed);
	if (c->what->init)
		fz_child_run_init(L, c->io);
	c->what->init = false;
	c->phase = FZ_CHILD_PHASE_ARGUMENTS;
	fz_child_push_function(L, c->what->func);
	push_arguments(L, c);
	c->phase = FZ_CHILD_PHASE_CALL;
	lua_call(L, (int)c->what->nargs, (int)c->what->nvalues);
	c->phase = FZ_CHILD_PHASE_RESULTS;
	put_results(L, c);
	return 0;
}

/*
 * The addresses of these variables are registry keys: of the traceback of the
 * last error, and of the item number of the last error.
 */
static const char traceback_key, item_key;
/*
 * The address of this variable is the registry key of a flag: true in a worker
 * on a node, false in another spawned worker, nil in a forked one.
 */
static const char spawned_key;

void
fz_child_is_spawned(lua_State *L, bool on_node)
{
	lua_pushboolean(L, on_node);
	lua_rawsetp(L, LUA_REGISTRYINDEX, &spawned_key);
}

/*
 * If the message at index 1 is about a global variable, add a hint: a spawned
 * worker lacks the globals of the script.
 */
static void
explain_global(lua_State *L)
{
	if (lua_type(L, 1) != LUA_TSTRING ||
	    strstr(lua_tostring(L, 1), "(global '") == NULL)
		return;
	if (lua_rawgetp(L, LUA_REGISTRYINDEX, &spawned_key) != LUA_TNIL) {
		lua_pushvalue(L, 1);
		lua_pushliteral(L,
		    ": a spawned worker has no globals of the script (use a "
		    "local variable or a module)");
		lua_concat(L, 2);
		lua_replace(L, 1);
	}
	lua_settop(L, 1);
}

/* Whether a word between `text` and `end` begins with a slash. */
static bool
has_absolute_name(const char *text, const char *end)
{
	for (const char *at = text; at < end; at++) {
		if (*at == '/' &&
		    (at == text || strchr(" '\"", at[-1]) != NULL))
			return true;
	}
	return false;
}

/*
 * Whether the text is about a missing file with a relative name. io.open()
 * gives "NAME: No such file or directory". dofile() puts "cannot open " before
 * the same text. io.lines() gives "cannot open file 'NAME' (No such file or
 * directory)".
 */
static bool
lacks_relative_file(const char *text)
{
	const char *end = strstr(text, strerror(ENOENT)), *name = text;

	if (end == NULL || end - text < 3)
		return false;
	if (memcmp(end - 2, " (", 2) == 0) {
		name = strchr(text, '\'');
		return name != NULL && name < end && name[1] != '/';
	}
	if (memcmp(end - 2, ": ", 2) != 0)
		return false;
	/* skip everything up to the last ": " before the name */
	for (const char *at = text; at < end - 3; at++) {
		if (at[0] == ':' && at[1] == ' ')
			name = at + 2;
	}
	return !has_absolute_name(name, end);
}

/*
 * If the message at index 1 is about a missing file, add a hint: on a node, a
 * relative name may refer to another file.
 */
static void
explain_file(lua_State *L)
{
	char directory[PATH_MAX];

	if (lua_type(L, 1) != LUA_TSTRING ||
	    !lacks_relative_file(lua_tostring(L, 1)))
		return;
	lua_rawgetp(L, LUA_REGISTRYINDEX, &spawned_key);
	if (lua_toboolean(L, -1) &&
	    getcwd(directory, sizeof(directory)) != NULL) {
		lua_pushvalue(L, 1);
		lua_pushfstring(L,
		    " (relative names begin in %s on this node: use absolute "
		    "names, or start the node in the directory of the files)",
		    directory);
		lua_concat(L, 2);
		lua_replace(L, 1);
	}
	lua_settop(L, 1);
}

int
fz_child_note_traceback(lua_State *L)
{
	fz_ltraceback_push(L, L, 1);
	lua_rawsetp(L, LUA_REGISTRYINDEX, &traceback_key);
	lua_pushnil(L);
	lua_rawsetp(L, LUA_REGISTRYINDEX, &item_key);
	lua_settop(L, 1);
	explain_global(L);
	explain_file(L);
	return 1;
}

int
fz_child_note_item(lua_State *L)
{
	lua_settop(L, 1);
	lua_rawsetp(L, LUA_REGISTRYINDEX, &item_key);
	return 0;
}

void
fz_child_push_traceback(lua_State *L)
{
	lua_rawgetp(L, LUA_REGISTRYINDEX, &traceback_key);
}

const char *
fz_child_kind_word(lua_State *L)
{
	const char *word;

	if (!fz_lerror_is(L, 1))
		return "";
	lua_getfield(L, 1, "kind");
	word = lua_tostring(L, -1);
	lua_pop(L, 1); /* `word` stays valid: the error object refers to it */
	return word != NULL ? word : "";
}

void
fz_child_push_result_message(lua_State *L, const struct fz_child_calls *c)
{
	const char *text;

	lua_getfield(L, 1, "message");
	text = lua_tostring(L, -1);
	if (!c->all || text == NULL)
		return;
	if (lua_getfield(L, 1, "value") == LUA_TNUMBER) {
		lua_pushfstring(
		    L, "result %d: %s", (int)lua_tointeger(L, -1), text);
		lua_replace(L, -3);
	}
	lua_pop(L, 1);
}

/*
 * Describe a result that cannot be encoded. The error has a complete message,
 * to which no traceback belongs.
 */
static void
describe_result(lua_State *L, struct fz_child_calls *c, const char *word)
{
	if (strcmp(word, fz_err_kind_name(FZ_ERR_UNSENDABLE)) == 0)
		c->kind = FZ_ERR_UNSENDABLE;
	else if (strcmp(word, fz_err_kind_name(FZ_ERR_MEMORY)) == 0)
		c->kind = FZ_ERR_MEMORY;
	fz_child_push_result_message(L, c);
	lua_setfield(L, -2, "message");
	if (c->chunk == NULL && !c->all)
		lua_pushinteger(L, (lua_Integer)c->value);
	else
		lua_getfield(L, 1, "value");
	lua_setfield(L, -2, "result");
}

/*
 * Describe an error that the function raised, or one from before the call. The
 * cause is encoded as a separate message, because the receiver may be unable to
 * decode it; the other fields then arrive nevertheless.
 */
static void
describe_error(lua_State *L, const struct fz_child_calls *c)
{
	fz_lerror_text(L, 1);
	lua_setfield(L, -2, "message");
	fz_child_push_traceback(L);
	lua_setfield(L, -2, "traceback");
	lua_rawgetp(L, LUA_REGISTRYINDEX, &item_key);
	lua_setfield(L, -2, "item");
	if (!c->plain) {
		lua_pushcfunction(L, fz_lcodec_encode);
		lua_pushvalue(L, 1);
		lua_call(L, 1, 1);
		lua_setfield(L, -2, "cause");
	}
}

/* Encode the error at index 1 as a table; called in protected mode. */
static int
error_body(lua_State *L)
{
	struct fz_child_calls *c = lua_touserdata(L, 2);
	const char *word = fz_child_kind_word(L);

	lua_createtable(L, 0, 4);
	if (c->phase == FZ_CHILD_PHASE_RESULTS && *word != '\0')
		describe_result(L, c, word);
	else
		describe_error(L, c);
	if (strcmp(word, fz_err_kind_name(FZ_ERR_INTERRUPTED)) == 0)
		c->kind = FZ_ERR_INTERRUPTED;
	/* The function was not called, so the error is about its arguments. */
	if (c->phase == FZ_CHILD_PHASE_ARGUMENTS &&
	    strcmp(word, fz_err_kind_name(FZ_ERR_UNSENDABLE)) == 0)
		c->kind = FZ_ERR_UNSENDABLE;
	c->io->begin(c->io->ctx, true, c->kind);
	fz_codec_encode(L, lua_gettop(L), 1, c->io->out);
	return 0;
}

static int
encode_error(lua_State *L, struct fz_child_calls *c)
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

enum fz_err_kind
fz_child_put_error(lua_State *L, struct fz_child_calls *c, int status)
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
	struct fz_child_calls c = {
		.what = call, .io = io, .phase = FZ_CHILD_PHASE_INIT
	};
	enum fz_err_kind kind = FZ_ERR_NONE;
	int status;

	lua_settop(L, FZ_CHILD_LIST);
	lua_pushcfunction(L, fz_child_note_traceback);
	lua_pushcfunction(L, call_body);
	lua_pushvalue(L, FZ_CHILD_FUNCS);
	lua_pushvalue(L, FZ_CHILD_INIT);
	lua_pushlightuserdata(L, &c);
	status = lua_pcall(L, 3, 0, FZ_CHILD_LIST + 1);
	if (c.mapped)
		io->release(io->ctx);
	if (status != LUA_OK)
		kind = fz_child_put_error(L, &c, status);
	lua_settop(L, FZ_CHILD_LIST);
	fz_cwd_return();
	return kind;
}
