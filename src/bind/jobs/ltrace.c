#include "bind/jobs/ltrace.h"

#include <lauxlib.h>

#include "base/clock.h"
#include "base/err.h"
#include "bind/lloop.h"
#include "sched/job_event.h"
#include "sched/trace.h"
#include "sched/trace_format.h"
#include "value/lerror.h"
#include "worker/engine.h"

#define TRACE_TYPE "fzlua.TraceRecords"
#define NAMES_TYPE "fzlua.TraceNames"

struct ltrace {
	struct fz_trace *trace; /* NULL if it could not be made */
	int64_t wall_ns;        /* added to a time of the clock */
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

	if (lua_getfield(L, idx, "trace") != LUA_TNIL) {
		trace = check_trace(L, -1)->trace;
		lua_getfield(L, idx, "trace_names");
		*names = check_names(L, -1);
		lua_pop(L, 1);
	}
	lua_pop(L, 1);
	return trace;
}

static void
set_names(lua_State *L, struct fz_trace_names *names, lua_Integer n)
{
	struct fz_err err = { 0 };

	for (lua_Integer i = 1; i <= n; i++) {
		lua_rawgeti(L, 1, 2 * i - 1);
		lua_rawgeti(L, 1, 2 * i);
		if (fz_trace_names_set(names, (size_t)i - 1,
			lua_toboolean(L, -2) ? lua_tostring(L, -2) : NULL,
			luaL_checkstring(L, -1), &err) != 0)
			fz_lerror_raise(L, &err);
		lua_pop(L, 2);
	}
}

/*
 * trace_names{stage | false, name, stage | false, name, ...} -> names, by node
 */
static int
names_new(lua_State *L)
{
	struct fz_trace_names **names;
	struct fz_err err = { 0 };
	lua_Integer n;

	luaL_checktype(L, 1, LUA_TTABLE);
	n = (lua_Integer)lua_rawlen(L, 1) / 2;
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

/*
 * trace(path | nil, format, keeps) -> trace; the format is "jsonl", "json" or
 * "tsv"
 */
static int
trace_new(lua_State *L)
{
	static const char *const formats[] = { "jsonl", "json", "tsv", NULL };
	struct fz_trace_opts opts = { .path = luaL_optstring(L, 1, NULL),
		.format = (enum fz_trace_format)luaL_checkoption(
		    L, 2, "jsonl", formats),
		.keeps = lua_toboolean(L, 3) };
	struct ltrace *lt = lua_newuserdatauv(L, sizeof(*lt), 0);
	struct fz_err err = { 0 };

	*lt = (struct ltrace){ 0 };
	luaL_setmetatable(L, TRACE_TYPE);
	lt->wall_ns = fz_clock_wall_ns() - fz_clock_ns();
	opts.loop = fz_lloop_engine(L)->loop;
	lt->trace = fz_trace_new(&opts, &err);
	return lt->trace != NULL ? 1 : fz_lerror_raise(L, &err);
}

/* trace:count() -> records that it keeps */
static int
trace_count(lua_State *L)
{
	lua_pushinteger(
	    L, (lua_Integer)fz_trace_count(check_trace(L, 1)->trace));
	return 1;
}

/* Set a field of the table on top, unless the number is 0: not known. */
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
set_time(lua_State *L, const char *name, int64_t ns)
{
	lua_pushnumber(L, (double)ns / (double)FZ_CLOCK_SECOND);
	lua_setfield(L, -2, name);
}

static void
push_record(lua_State *L, const struct ltrace *lt, const struct fz_job_event *e)
{
	const struct fz_trace_name *name = e->name;

	lua_createtable(L, 0, 12);
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
	if (e->err == FZ_ERR_NONE)
		return;
	set_string(L, "error", fz_err_kind_name((enum fz_err_kind)e->err));
	set_number(L, "signal", (uint64_t)e->signal);
	set_number(L, "peak", e->peak_rss);
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

/* trace:close() -> nil | Error: the file lacks records; idempotent */
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

	fz_trace_unref(lt->trace);
	lt->trace = NULL;
	return 0;
}

static const luaL_Reg methods[] = {
	{ "count", trace_count },
	{ "get", trace_get },
	{ "close", trace_close },
	{ NULL, NULL },
};

static const luaL_Reg metamethods[] = {
	{ "__gc", trace_gc },
	{ NULL, NULL },
};

static const luaL_Reg functions[] = {
	{ "trace", trace_new },
	{ "trace_names", names_new },
	{ NULL, NULL },
};

int
fz_ltrace_open(lua_State *L)
{
	if (luaL_newmetatable(L, TRACE_TYPE)) {
		luaL_setfuncs(L, metamethods, 0);
		luaL_newlib(L, methods);
		lua_setfield(L, -2, "__index");
	}
	lua_pop(L, 1);
	if (luaL_newmetatable(L, NAMES_TYPE)) {
		lua_pushcfunction(L, names_gc);
		lua_setfield(L, -2, "__gc");
	}
	lua_pop(L, 1);
	luaL_setfuncs(L, functions, 0);
	return 0;
}
