#include "bind/jobs/lprogress.h"

#include <stdbool.h>

#include "base/clock.h"
#include "trace/job_event.h"

void
fz_lprogress_push_kind(lua_State *L, const struct fz_job_event *event)
{
	static const char *const kinds[] = { "start", "done", "failed", "retry",
		"list", "cached" };

	lua_pushstring(L, kinds[event->kind]);
}

void
fz_lprogress_push_call(lua_State *L, const struct fz_job_event *event)
{
	bool has_worker = event->pid != 0;

	if (has_worker)
		lua_pushinteger(L, event->pid);
	else
		lua_pushnil(L);
	/* A call in this process has no worker, but has taken time. */
	if (event->kind != FZ_JOB_EVENT_START &&
	    (has_worker || event->took_ns != 0))
		lua_pushnumber(
		    L, (double)event->took_ns / (double)FZ_CLOCK_SECOND);
	else
		lua_pushnil(L);
}
