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

struct ltrace {
	struct fz_trace *trace; /* NULL if it could not be made */
	/* added to a time of the clock to get the time since 1970 */
	int64_t wall_ns;
	lua_State *L; /* a coroutine to decode errors, kept in the user value */
};

static struct ltrace *
check_trace(lua_State *L, int idx)
{
	struct ltrace *lt = luaL_checkudata(L, idx, TRACE_TYPE);

	luaL_argcheck(L, lt->trace != NULL, idx, "the trace was not opened");
	return lt;
}

static struct fz_trace_names *
check_names(lua_State *L, int idx)
{
	struct fz_trace_names **names = luaL_checkudata(L, idx, NAMES_TYPE);

	luaL_argcheck(L, *names != NULL, idx, "the names were not made");
	return *names;
}

struct fz_trace *
fz_ltrace_read(lua_State *L, int idx, struct fz_trace_names **names)
{
	struct fz_trace *trace = NULL;

	lua_getfield(L, idx, "trace");
	/* false: no trace, as if the option was missing */
	if (lua_toboolean(L, -1)) {
		trace = check_trace(L, -1)->trace;
		lua_getfield(L, idx, "trace_names");
		*names = check_names(L, -1);
		lua_pop(L, 1);
	}
	lua_pop(L, 1);
	return trace;
}

/*
 * Set the names of the `n` nodes from the list at 1, and their stages from the
 * table at 2.
 */
static void
set_names(lua_State *L, struct fz_trace_names *names, lua_Integer n)
{
	struct fz_err err = { 0 };
	bool staged = !lua_isnoneornil(L, 2);

	for (lua_Integer i = 1; i <= n; i++) {
		const char *stage = NULL;

		if (staged && lua_rawgeti(L, 2, i) == LUA_TSTRING)
			stage = lua_tostring(L, -1);
		lua_rawgeti(L, 1, i);
		if (fz_trace_names_set(names, (size_t)i - 1, stage,
			luaL_checkstring(L, -1), &err) != 0)
			fz_lerror_raise(L, &err);
		lua_pop(L, staged ? 2 : 1);
	}
}

/*
 * trace_names({name, ...}, {[i] = stage} | nil) -> names, by node; a node may
 * have no stage
 */
static int
names_new(lua_State *L)
{
	struct fz_trace_names **names;
	struct fz_err err = { 0 };
	lua_Integer n;

	lua_settop(L, 2);
	luaL_checktype(L, 1, LUA_TTABLE);
	if (!lua_isnil(L, 2))
		luaL_checktype(L, 2, LUA_TTABLE);
	n = (lua_Integer)lua_rawlen(L, 1);
	names = lua_newuserdatauv(L, sizeof(*names), 0);
	*names = NULL;
	luaL_setmetatable(L, NAMES_TYPE);
	*names = fz_trace_names_new((size_t)n, &err);
	if (*names == NULL)
		return fz_lerror_raise(L, &err);
	set_names(L, *names, n);
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

/* (error_text); protected. The error is a table that the worker encoded. */
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
 * Append the text of an error. The loop calls this, so no finalizer of the
 * script may run.
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
 * trace(path | nil, format, keeps) -> trace; the format is "jsonl", "json" or
 * "tsv"; keeps: keep records in memory, too
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
	luaL_setmetatable(L, TRACE_TYPE);
	lt->L = lua_newthread(L);
	lua_setiuservalue(L, -2, 1);
	opts.error_text = error_text;
	opts.ctx = lt;
	lt->wall_ns = fz_clock_wall_ns() - fz_clock_ns();
	opts.loop = fz_lloop_engine(L)->loop;
	lt->trace = fz_trace_new(&opts, &err);
	return lt->trace != NULL ? 1 : fz_lerror_raise(L, &err);
}

/* trace:count() -> number of records in memory */
static int
trace_count(lua_State *L)
{
	lua_pushinteger(
	    L, (lua_Integer)fz_trace_count(check_trace(L, 1)->trace));
	return 1;
}

/*
 * Set a field of the table on top, unless the number is 0, which means unknown.
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
	set_string(L, "stage", name != NULL ? name->stage : NULL);
	set_string(L, "name", name != NULL ? name->name : NULL);
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
	set_string(L, "node", e->node);
	if (e->err == FZ_ERR_NONE)
		return;
	set_string(L, "error", fz_err_kind_name((enum fz_err_kind)e->err));
	set_number(L, "signal", (uint64_t)e->signal);
	set_string(L, "message", e->text);
	if (e->exitcode >= 0) {
		lua_pushinteger(L, e->exitcode);
		lua_setfield(L, -2, "exitcode");
	}
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

/*
 * trace:span() -> the time at which the first call was queued or started, the
 * time at which the last one ended; nil if there are no records
 */
static int
trace_span(lua_State *L)
{
	const struct ltrace *lt = check_trace(L, 1);
	size_t n = fz_trace_count(lt->trace);
	int64_t began_ns = INT64_MAX, ended_ns = 0;

	for (size_t i = 0; i < n; i++) {
		const struct fz_job_event *e = fz_trace_get(lt->trace, i);
		int64_t from_ns =
		    e->queued_ns != 0 ? e->queued_ns : fz_trace_started(e);

		if (from_ns < began_ns)
			began_ns = from_ns;
		if (e->ended_ns > ended_ns)
			ended_ns = e->ended_ns;
	}
	if (n == 0)
		return 0;
	push_time(L, began_ns + lt->wall_ns);
	push_time(L, ended_ns + lt->wall_ns);
	return 2;
}

/* Nanoseconds as whole microseconds. */
static int64_t
micros(int64_t ns)
{
	return ns >= 0 ? (ns + 500) / 1000 : -((500 - ns) / 1000);
}

static void
put_integer(lua_State *L, const char *name, int64_t v)
{
	lua_pushinteger(L, v);
	lua_setfield(L, 3, name);
}

/* Set a field of the table at 3; NULL removes it. */
static void
put_string(lua_State *L, const char *name, const char *text)
{
	lua_pushstring(L, text);
	lua_setfield(L, 3, name);
}

/*
 * trace:read(i, began, e) -> e, with the fields of the i-th record that
 * lua/pool/trace.lua lists; times are relative to `began`
 */
static int
trace_read(lua_State *L)
{
	const struct ltrace *lt = check_trace(L, 1);
	lua_Integer i = luaL_checkinteger(L, 2);
	const struct fz_job_event *e;
	const struct fz_trace_name *name;
	lua_Number began = luaL_checknumber(L, 3);
	int64_t from_ns, at, length;

	luaL_checktype(L, 4, LUA_TTABLE);
	lua_settop(L, 4);
	lua_remove(L, 3);
	luaL_argcheck(L, i >= 1 && (size_t)i <= fz_trace_count(lt->trace), 2,
	    "there is no such record");
	e = fz_trace_get(lt->trace, (size_t)i - 1);
	name = e->name;
	from_ns = (int64_t)(began * (double)FZ_CLOCK_SECOND) - lt->wall_ns;
	at = micros(fz_trace_started(e) - from_ns);
	put_string(L, "event", fz_trace_word(e));
	put_string(L, "stage", name != NULL ? name->stage : NULL);
	put_string(L, "name", name != NULL ? name->name : NULL);
	put_string(L, "node", e->node);
	put_integer(L, "n", e->n);
	put_integer(L, "at", at);
	length = micros(e->ended_ns - from_ns) - at;
	put_integer(L, "length", length > 0 ? length : 0);
	put_integer(L, "cpu", micros((int64_t)e->cpu_ns));
	put_integer(L, "sent", (int64_t)e->nsent);
	put_integer(L, "received", (int64_t)e->nreceived);
	put_integer(L, "peak", (int64_t)e->peak_rss);
	if (e->pid != 0)
		lua_pushinteger(L, e->pid);
	else
		lua_pushnil(L);
	lua_setfield(L, 3, "pid");
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
	{ "get", trace_get },
	{ "read", trace_read },
	{ "span", trace_span },
	{ "close", trace_close },
	{ NULL, NULL },
};

static const luaL_Reg metamethods[] = {
	{ "__gc", trace_gc },
	{ NULL, NULL },
};

static const luaL_Reg names_metamethods[] = {
	{ "__gc", names_gc },
	{ NULL, NULL },
};

/*
 * lock_file(file) -> whether this process has the lock of the file. Waits while
 * another process has it. The lock ends when the file is closed.
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
	fz_luserdata_class(L, TRACE_TYPE, methods, metamethods);
	fz_luserdata_class(L, NAMES_TYPE, NULL, names_metamethods);
	luaL_setfuncs(L, functions, 0);
	return 0;
}
