#define _GNU_SOURCE /* fileno */
#include "bind/jobs/ltrace.h"

#include <errno.h>
#include <stdio.h>
#include <sys/file.h>

#include <lauxlib.h>
#include <lualib.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"
#include "bind/lloop.h"
#include "codec/codec.h"
#include "trace/job_event.h"
#include "trace/trace.h"
#include "trace/trace_format.h"
#include "value/lerror.h"
#include "value/luserdata.h"
#include "wire/blob.h"
#include "worker/engine.h"

#define TRACE_TYPE "fzlua.TraceRecords"
#define NAMES_TYPE "fzlua.TraceNames"

static const struct fz_luserdata_class trace_class, names_class;

struct ltrace {
	struct fz_trace *trace; /* NULL if the creation failed */
	/* difference between the time since 1970 and fz_clock_ns() */
	int64_t wall_ns;
	lua_State *L; /* Lua thread that decodes errors (user value) */
};

static struct ltrace *
check_trace(lua_State *L, int idx)
{
	struct ltrace *lt = luaL_checkudata(L, idx, TRACE_TYPE);

	luaL_argcheck(L, lt->trace != NULL, idx, "the trace was not opened");
	return lt;
}

struct fz_trace_names *
fz_ltrace_check_names(lua_State *L, int idx)
{
	struct fz_trace_names **names = luaL_checkudata(L, idx, NAMES_TYPE);

	luaL_argcheck(L, *names != NULL, idx, "the names were not made");
	return *names;
}

struct fz_trace *
fz_ltrace_check(lua_State *L, int idx)
{
	return check_trace(L, idx)->trace;
}

struct fz_trace *
fz_ltrace_read(lua_State *L, int idx, struct fz_trace_names **names)
{
	struct fz_trace *trace = NULL;

	lua_getfield(L, idx, "trace");
	/* The value false means no trace, like a missing option. */
	if (lua_toboolean(L, -1)) {
		trace = check_trace(L, -1)->trace;
		lua_getfield(L, idx, "trace_names");
		*names = fz_ltrace_check_names(L, -1);
		lua_pop(L, 1);
	}
	lua_pop(L, 1);
	return trace;
}

/* The string at `idx`, or an empty text with the address NULL. */
static struct fz_trace_text
to_text(lua_State *L, int idx)
{
	struct fz_trace_text text = { NULL, 0 };

	if (lua_type(L, idx) == LUA_TSTRING)
		text.bytes = lua_tolstring(L, idx, &text.len);
	return text;
}

/* Push the strings of the list at `idx`, joined by commas. */
static void
push_joined(lua_State *L, int idx)
{
	lua_Integer n = (lua_Integer)lua_rawlen(L, idx);
	luaL_Buffer b;

	if (n == 1) {
		lua_rawgeti(L, idx, 1);
		return;
	}
	luaL_buffinit(L, &b);
	for (lua_Integer i = 1; i <= n; i++) {
		if (i > 1)
			luaL_addchar(&b, ',');
		lua_rawgeti(L, idx, i);
		luaL_addvalue(&b);
	}
	luaL_pushresult(&b);
}

void
fz_ltrace_add_name(
    lua_State *L, struct fz_trace_names *names, int outputs, int stage)
{
	struct fz_err err;

	push_joined(L, outputs);
	luaL_checktype(L, -1, LUA_TSTRING);
	if (fz_trace_names_add(
		names, to_text(L, stage), to_text(L, -1), &err) != 0)
		fz_lerror_raise(L, &err);
	lua_pop(L, 1);
}

void
fz_ltrace_push_names(lua_State *L, struct fz_trace_names *names)
{
	struct fz_trace_names **lnames =
	    lua_newuserdatauv(L, sizeof(*lnames), 0);

	*lnames = NULL;
	/* set the class first: its error would leak the reference */
	fz_luserdata_set(L, &names_class);
	if (names != NULL)
		*lnames = fz_trace_names_ref(names);
}

/* names:get(i) -> name, stage | nil */
static int
names_get(lua_State *L)
{
	struct fz_trace_names *names = fz_ltrace_check_names(L, 1);
	lua_Integer i = luaL_checkinteger(L, 2);
	const struct fz_trace_name *name;

	luaL_argcheck(L, i >= 1 && (size_t)i <= fz_trace_names_count(names), 2,
	    "there is no name with this number");
	name = fz_trace_name(names, (uint64_t)i - 1);
	lua_pushlstring(L, name->name, name->nname);
	if (name->stage != NULL)
		lua_pushlstring(L, name->stage, name->nstage);
	else
		lua_pushnil(L);
	return 2;
}

static int
names_count(lua_State *L)
{
	lua_pushinteger(
	    L, (lua_Integer)fz_trace_names_count(fz_ltrace_check_names(L, 1)));
	return 1;
}

struct fz_trace_names *
fz_ltrace_push_new_names(lua_State *L)
{
	struct fz_trace_names **names;
	struct fz_err err = { 0 };

	fz_ltrace_push_names(L, NULL);
	names = lua_touserdata(L, -1);
	*names = fz_trace_names_new(&err);
	if (*names == NULL)
		fz_lerror_raise(L, &err);
	return *names;
}

/* core.trace_names(label) -> names for the calls of a map or a pool */
static int
names_new(lua_State *L)
{
	const struct fz_trace_text none = { NULL, 0 };
	struct fz_trace_names *names;
	struct fz_err err = { 0 };

	lua_settop(L, 1);
	luaL_checktype(L, 1, LUA_TSTRING);
	names = fz_ltrace_push_new_names(L);
	if (fz_trace_names_add(names, none, to_text(L, 1), &err) != 0)
		return fz_lerror_raise(L, &err);
	fz_trace_names_set_call(names);
	return 1;
}

static int
names_gc(lua_State *L)
{
	struct fz_trace_names **names = luaL_checkudata(L, 1, NAMES_TYPE);

	fz_trace_names_unref(*names);
	*names = NULL;
	return 0;
}

struct error_text {
	struct fz_blob *value;
	struct fz_buf *text;
};

static void
put_field(lua_State *L, const char *name, struct fz_buf *text)
{
	size_t len;
	const char *s;

	lua_getfield(L, -1, name);
	s = lua_type(L, -1) == LUA_TSTRING ? lua_tolstring(L, -1, &len) : NULL;
	if (s != NULL && text->len != 0)
		fz_buf_put(text, "\n", 1);
	if (s != NULL)
		fz_buf_put(text, s, len);
	lua_pop(L, 1);
}

/* decode_error(error_text): protected; a worker has encoded the error */
static int
decode_error(lua_State *L)
{
	const struct error_text *e = lua_touserdata(L, 1);
	struct fz_arena *arena = fz_lloop_engine(L)->arena;
	const void *bytes = fz_blob_map(e->value, arena, NULL);
	int n;

	if (bytes == NULL)
		return 0;
	lua_pushlstring(L, bytes, e->value->len);
	fz_blob_unmap(e->value, arena, bytes);
	n = fz_codec_decode(
	    L, lua_tostring(L, 2), lua_rawlen(L, 2), FZ_CODEC_VALUES);
	if (n != 1 || lua_type(L, -1) != LUA_TTABLE)
		return 0;
	put_field(L, "message", e->text);
	put_field(L, "traceback", e->text);
	return 0;
}

/*
 * Append the text of an error. The loop calls this function, so finalizers of
 * the script must be delayed.
 */
static void
error_text(void *ctx, struct fz_blob *value, struct fz_buf *text)
{
	const struct ltrace *lt = ctx;
	lua_State *L = lt->L;
	struct error_text e = { value, text };
	bool collects = lua_gc(L, LUA_GCISRUNNING);

	lua_gc(L, LUA_GCSTOP);
	lua_settop(L, 0);
	lua_pushcfunction(L, decode_error);
	lua_pushlightuserdata(L, &e);
	lua_pcall(L, 1, 0, 0);
	lua_settop(L, 0);
	if (collects)
		lua_gc(L, LUA_GCRESTART);
}

/*
 * core.trace(path | nil, format, keeps) -> trace. The format of the file is
 * "jsonl", "json" or "tsv". If `keeps` is true, records are also kept in
 * memory.
 */
static int
trace_new(lua_State *L)
{
	static const char *const formats[] = { "jsonl", "json", "tsv", NULL };
	struct fz_trace_opts opts = { .path = luaL_optstring(L, 1, NULL),
		.format = (enum fz_trace_format)luaL_checkoption(
		    L, 2, "jsonl", formats),
		.keeps = lua_toboolean(L, 3) };
	struct ltrace *lt = lua_newuserdatauv(L, sizeof(*lt), 1);
	struct fz_err err = { 0 };

	*lt = (struct ltrace){ 0 };
	fz_luserdata_set(L, &trace_class);
	lt->L = lua_newthread(L);
	lua_setiuservalue(L, -2, 1);
	opts.error_text = error_text;
	opts.ctx = lt;
	lt->wall_ns = fz_clock_wall_ns() - fz_clock_ns();
	opts.loop = fz_lloop_engine(L)->loop;
	lt->trace = fz_trace_new(&opts, &err);
	return lt->trace != NULL ? 1 : fz_lerror_raise(L, &err);
}

static int
trace_count(lua_State *L)
{
	lua_pushinteger(
	    L, (lua_Integer)fz_trace_count(check_trace(L, 1)->trace));
	return 1;
}

/*
 * Set a field of the table on top, unless the number is 0, which stands for
 * unknown.
 */
static void
set_number(lua_State *L, const char *name, uint64_t v)
{
	if (v == 0)
		return;
	lua_pushinteger(L, (lua_Integer)v);
	lua_setfield(L, -2, name);
}

static void
set_string(lua_State *L, const char *name, const char *text)
{
	if (text == NULL)
		return;
	lua_pushstring(L, text);
	lua_setfield(L, -2, name);
}

/* Set a field of the table on top to a string of `len` bytes. */
static void
set_bytes(lua_State *L, const char *name, const char *bytes, size_t len)
{
	if (bytes == NULL)
		return;
	lua_pushlstring(L, bytes, len);
	lua_setfield(L, -2, name);
}

static void
push_time(lua_State *L, int64_t ns)
{
	lua_pushnumber(L, (double)ns / (double)FZ_CLOCK_SECOND);
}

static void
set_time(lua_State *L, const char *name, int64_t ns)
{
	push_time(L, ns);
	lua_setfield(L, -2, name);
}

static void
push_record(lua_State *L, const struct ltrace *lt, const struct fz_job_event *e)
{
	const struct fz_trace_name *name = e->name;

	lua_createtable(L, 0, 14);
	set_string(L, "event", fz_trace_word(e));
	if (name != NULL) {
		set_bytes(L, "stage", name->stage, name->nstage);
		set_bytes(L, "name", name->name, name->nname);
	}
	set_number(L, "item", e->item);
	set_number(L, "index", e->first);
	set_number(L, "n", e->n);
	set_number(L, "attempt", e->attempt);
	set_number(L, "sent", e->nsent);
	set_number(L, "received", e->nreceived);
	set_number(L, "pid", (uint64_t)e->pid);
	if (e->queued_ns != 0)
		set_time(L, "queued", e->queued_ns + lt->wall_ns);
	set_time(L, "started", fz_trace_started(e) + lt->wall_ns);
	set_time(L, "ended", e->ended_ns + lt->wall_ns);
	if (e->cpu_ns != 0)
		set_time(L, "cpu", (int64_t)e->cpu_ns);
	set_number(L, "peak", e->peak_rss);
	if (e->init_ns > 0)
		set_time(L, "init", e->init_ns);
	if (e->launch_ns > 0)
		set_time(L, "launch", e->launch_ns);
	set_string(L, "node", e->node);
	if (e->err == FZ_ERR_NONE)
		return;
	set_string(L, "error", fz_err_kind_name((enum fz_err_kind)e->err));
	set_number(L, "signal", (uint64_t)e->signal);
	set_bytes(L, "message", e->text, e->ntext);
	if (e->exitcode >= 0) {
		lua_pushinteger(L, e->exitcode);
		lua_setfield(L, -2, "exitcode");
	}
}

/* trace:cpu() -> processor seconds of this process between the records */
static int
trace_cpu(lua_State *L)
{
	push_time(L, (int64_t)fz_trace_cpu_ns(check_trace(L, 1)->trace));
	return 1;
}

/* trace:get(i) -> a table for the i-th record, or nil */
static int
trace_get(lua_State *L)
{
	const struct ltrace *lt = check_trace(L, 1);
	lua_Integer i = luaL_checkinteger(L, 2);

	if (i < 1 || (lua_Unsigned)i > fz_trace_count(lt->trace))
		return 0;
	push_record(L, lt, fz_trace_get(lt->trace, (size_t)i - 1));
	return 1;
}

/* trace:close() -> nil | Error if the file lacks records; idempotent */
static int
trace_close(lua_State *L)
{
	struct fz_err err = { 0 };

	if (fz_trace_close(check_trace(L, 1)->trace, &err) == 0)
		return 0;
	fz_lerror_push(L, err.kind, err.text);
	return 1;
}

static int
trace_gc(lua_State *L)
{
	struct ltrace *lt = luaL_checkudata(L, 1, TRACE_TYPE);

	if (lt->trace != NULL)
		fz_trace_forget_texts(lt->trace);
	fz_trace_unref(lt->trace);
	lt->trace = NULL;
	return 0;
}

static const luaL_Reg methods[] = {
	{ "count", trace_count },
	{ "cpu", trace_cpu },
	{ "get", trace_get },
	{ "close", trace_close },
	{ NULL, NULL },
};

static const luaL_Reg metamethods[] = {
	{ "__gc", trace_gc },
	{ NULL, NULL },
};

static const struct fz_luserdata_class trace_class = {
	.name = TRACE_TYPE, .methods = methods, .metamethods = metamethods
};

static const luaL_Reg names_methods[] = {
	{ "get", names_get },
	{ "count", names_count },
	{ NULL, NULL },
};

static const luaL_Reg names_metamethods[] = {
	{ "__gc", names_gc },
	{ NULL, NULL },
};

static const struct fz_luserdata_class names_class = { .name = NAMES_TYPE,
	.methods = names_methods,
	.metamethods = names_metamethods };

/*
 * core.lock_file(file) -> whether this process got the lock of the file. Waits
 * while another process has the lock. The lock ends when the file is closed.
 */
static int
lock_file(lua_State *L)
{
	luaL_Stream *file = luaL_checkudata(L, 1, LUA_FILEHANDLE);
	int got;

	luaL_argcheck(L, file->closef != NULL, 1, "closed file");
	do
		got = flock(fileno(file->f), LOCK_EX);
	while (got == -1 && errno == EINTR);
	lua_pushboolean(L, got == 0);
	return 1;
}

static const luaL_Reg functions[] = {
	{ "lock_file", lock_file },
	{ "trace", trace_new },
	{ "trace_names", names_new },
	{ NULL, NULL },
};

int
fz_ltrace_open(lua_State *L)
{
	luaL_setfuncs(L, functions, 0);
	return 0;
}
