#include "bind/run/lflow.h"

#include <lauxlib.h>

#include "base/clock.h"
#include "bind/jobs/lfailure.h"
#include "bind/jobs/llimits.h"
#include "bind/jobs/lpool.h"
#include "bind/jobs/lprogress.h"
#include "bind/jobs/ltrace.h"
#include "bind/lloop.h"
#include "bind/run/lgraph.h"
#include "codec/format.h"
#include "sched/graph.h"
#include "sched/run.h"
#include "trace/job_event.h"
#include "value/lerror.h"
#include "worker/worker.h"

#define RUN_JOBS_MAX 65536

uint32_t
fz_lflow_number(lua_State *L, int idx, uint32_t n)
{
	lua_Integer number = luaL_checkinteger(L, idx);

	luaL_argcheck(L, 1 <= number && number <= n, idx, "out of range");
	return (uint32_t)number - 1;
}

/* Read the options in the table at index 3. [-0, +0, e] */
static void
read_options(lua_State *L, struct fz_run_opts *opts)
{
	int top = lua_gettop(L);
	lua_Integer jobs;

	lua_getfield(L, 3, "jobs");
	jobs = luaL_checkinteger(L, -1);
	luaL_argcheck(
	    L, 0 <= jobs && jobs <= RUN_JOBS_MAX, 3, "jobs out of range");
	opts->jobs = (unsigned)jobs;
	lua_getfield(L, 3, "on_error");
	opts->policy = fz_llimits_policy(L, -1);
	lua_getfield(L, 3, "seed");
	opts->seed = (uint64_t)luaL_optinteger(L, -1, 0);
	opts->events = fz_llimits_flag(L, 3, "events");
	opts->trace = fz_ltrace_read(L, 3, &opts->trace_names);
	lua_getfield(L, 3, "deadline");
	opts->deadline_ns =
	    fz_llimits_seconds(L, lua_gettop(L), FZ_CLOCK_NEVER);
	if (opts->deadline_ns != FZ_CLOCK_NEVER)
		opts->deadline_ns =
		    fz_clock_after(fz_clock_ns(), opts->deadline_ns);
	lua_settop(L, top);
	fz_llimits_read_fields(L, 3, &opts->limits);
}

/* Push a userdata with an array of the pools that are in the list at 2. */
static struct fz_pool **
push_pools(lua_State *L, uint32_t *n)
{
	lua_Unsigned npools = lua_rawlen(L, 2);
	struct fz_pool **pools;

	luaL_argcheck(L, npools <= RUN_JOBS_MAX, 2, "too many pools");
	pools =
	    lua_newuserdatauv(L, (npools + 1) * sizeof(struct fz_pool *), 0);
	for (lua_Unsigned i = 0; i < npools; i++) {
		lua_rawgeti(L, 2, (lua_Integer)i + 1);
		pools[i] = fz_lpool_check(L, -1);
		fz_lpool_new_thread(L, -1);
		lua_pop(L, 1);
	}
	*n = (uint32_t)npools;
	return pools;
}

struct fz_graph *
fz_lflow_check(lua_State *L, struct fz_run_opts *opts)
{
	static const unsigned char nil[] = { FZ_FORMAT_VERSION, 0, 1,
		FZ_FORMAT_NIL };
	struct fz_graph *graph = fz_lgraph_check(L, 1);
	struct fz_err err = { 0 };

	luaL_checktype(L, 2, LUA_TTABLE);
	luaL_checktype(L, 3, LUA_TTABLE);
	lua_settop(L, 3);
	*opts = (struct fz_run_opts){ .absent = nil,
		.absent_len = sizeof(nil),
		.limits = { .timeout_ns = FZ_CLOCK_NEVER } };
	read_options(L, opts);
	opts->pools = push_pools(L, &opts->npools);
	luaL_argcheck(L, fz_graph_npools(graph) <= opts->npools, 2,
	    "too few pools for the graph");
	if (fz_graph_freeze(graph, &err) != 0)
		fz_lerror_raise(L, &err);
	opts->engine = fz_lloop_engine(L);
	opts->graph = graph;
	return graph;
}

void
fz_lflow_set_element(lua_State *L, const struct fz_run *run, uint32_t node)
{
	uint64_t element = fz_run_failed_element(run, node);

	if (element != 0)
		fz_lfailure_set(L, "element", (lua_Integer)element);
	else if (fz_run_lacks_list(run, node))
		fz_lfailure_set(L, "list", 1);
}

void
fz_lflow_push_undecided(lua_State *L, struct fz_engine *engine,
    const struct fz_run_element *element)
{
	/*
	 * Copy the failure, because an __fzunpack may close the run. The value
	 * of the failure stays allocated, because the caller has counted its
	 * call, and a run is not freed during a call.
	 */
	struct fz_failure copy = *element->failure;

	lua_pushinteger(L, (lua_Integer)element->node + 1);
	lua_pushinteger(L, (lua_Integer)element->item);
	fz_lfailure_push(L, engine, &copy);
	fz_lfailure_set(L, "element", (lua_Integer)element->element);
}

int
fz_lflow_push_event(lua_State *L, const struct fz_job_event *event)
{
	bool of_map = event->map != 0;

	fz_lprogress_push_kind(L, event);
	lua_pushinteger(L,
	    of_map ? (lua_Integer)event->map : (lua_Integer)event->first + 1);
	fz_lprogress_push_call(L, event);
	if (!of_map)
		return 4;
	lua_pushinteger(L, (lua_Integer)event->first);
	lua_pushinteger(L, event->n);
	return 6;
}

void
fz_lflow_push_counts(lua_State *L, const struct fz_run_counts *counts)
{
	lua_pushinteger(L, (lua_Integer)counts->done);
	lua_pushinteger(L, (lua_Integer)counts->failed);
	lua_pushinteger(L, counts->running);
	lua_pushinteger(L, (lua_Integer)counts->waiting);
	lua_pushinteger(L, (lua_Integer)counts->more.total);
	lua_pushinteger(L, (lua_Integer)counts->more.done);
	lua_pushinteger(L, (lua_Integer)counts->more.failed);
}
