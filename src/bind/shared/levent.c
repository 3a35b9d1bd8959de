#include "bind/open.h"

#include <lauxlib.h>

#include "base/container.h"
#include "bind/shared/lhandle.h"
#include "bind/shared/lwait.h"
#include "shared/event.h"
#include "shared/heap.h"

struct levent {
	struct fz_object head;
	struct fz_event event;
};

struct waiting {
	struct fz_lwait wait;
	struct fz_event *event;
	uint32_t since;
};

static struct fz_event *
check_event(lua_State *L)
{
	struct levent *le = fz_lhandle_check(L, 1, FZ_LHANDLE_EVENT)->object;

	return &le->event;
}

/*
 * event:set(): set the event. All waiters continue, even if the event is
 * cleared immediately afterwards.
 */
static int
event_set(lua_State *L)
{
	fz_event_set(check_event(L));
	return 0;
}

static int
event_clear(lua_State *L)
{
	fz_event_clear(check_event(L));
	return 0;
}

static int
event_is_set(lua_State *L)
{
	lua_pushboolean(L, fz_event_is_set(check_event(L)));
	return 1;
}

static bool
try_wait(struct fz_lwait *wait, bool late)
{
	struct waiting *w = FZ_CONTAINER_OF(wait, struct waiting, wait);

	(void)late;
	return fz_event_was_set(w->event, w->since);
}

static int
wait_end(lua_State *L, struct fz_lwait *wait, bool in_time)
{
	(void)wait;
	if (in_time) {
		lua_pushboolean(L, 1);
		return 1;
	}
	return fz_lwait_push_timeout(L);
}

static const struct fz_lwait_class waiting_class = {
	.what = "an event", .try = try_wait, .end = wait_end
};

/* event:wait([timeout]) -> true | nil, "timeout" */
static int
event_wait(lua_State *L)
{
	struct fz_event *event = check_event(L);
	struct waiting w = {
		.wait = { .class = &waiting_class,
		    .at = &event->waiters,
		    .until_ns = fz_lwait_until(L, 2) },
		.event = event,
		.since = fz_event_version(event),
	};

	return fz_lwait(L, &w.wait, sizeof(w));
}

/* core.event() -> an event that is not set */
static int
event_new(lua_State *L)
{
	fz_lhandle_new(L, FZ_LHANDLE_EVENT, sizeof(struct levent));
	return 1;
}

static const luaL_Reg methods[] = {
	{ "set", event_set },
	{ "clear", event_clear },
	{ "is_set", event_is_set },
	{ "wait", event_wait },
	{ NULL, NULL },
};

static const struct fz_lhandle_class class = { .name = "fzlua.Event",
	.methods = methods };

int
fz_levent_open(lua_State *L)
{
	fz_lhandle_class(L, FZ_LHANDLE_EVENT, &class);
	lua_pushcfunction(L, event_new);
	lua_setfield(L, -2, "event");
	return 0;
}
