#include "bind/open.h"

#include <lauxlib.h>

#include "base/clock.h"
#include "base/container.h"
#include "base/err.h"
#include "bind/shared/lchannel.h"
#include "bind/shared/lshared.h"
#include "bind/shared/lwait.h"
#include "shared/pipe.h"
#include "value/lerror.h"

#define PIPE_TYPE "fzlua.Pipe"

static struct fz_pipes *
pipes_of(const struct fz_lhandle *handle)
{
	return &handle->shared->pipes;
}

/* Open the end of a new handle. If that fails, its object is dropped. */
static void
open_end(lua_State *L, struct fz_lhandle *handle)
{
	struct fz_err err = { 0 };

	if (fz_pipe_open(
		pipes_of(handle), handle->object, handle->side, &err) == 0)
		return;
	fz_lhandle_drop(handle);
	fz_lerror_raise(L, &err);
}

static void
close_end(struct fz_lhandle *handle)
{
	if (!handle->closed)
		fz_pipe_close(pipes_of(handle), handle->object, handle->side);
	handle->closed = true;
}

static int
pipe_gc(lua_State *L)
{
	struct fz_lhandle *handle = lua_touserdata(L, 1);

	if (handle->object != NULL) {
		close_end(handle);
		fz_pipe_forget(pipes_of(handle), handle->object);
	}
	fz_lhandle_drop(handle);
	return 0;
}

/* connection:close(): close this end in this process */
static int
pipe_close(lua_State *L)
{
	close_end(fz_lhandle_check(L, 1, FZ_LHANDLE_PIPE));
	return 0;
}

/*
 * The handle at index 1. Sets `*self` to the member number of this process.
 * From now on this process uses this end of the pipe, unless the end is closed.
 */
static struct fz_lhandle *
use_end(lua_State *L, uint32_t *self)
{
	struct fz_lhandle *handle = fz_lhandle_check(L, 1, FZ_LHANDLE_PIPE);
	struct fz_err err; /* set if the handle cannot be opened */

	*self = fz_pipes_self(pipes_of(handle), &err);
	if (*self == 0)
		fz_lerror_raise(L, &err);
	if (!handle->closed)
		fz_pipe_use(pipes_of(handle), handle->object, handle->side);
	return handle;
}

static int
raise_closed(lua_State *L, const char *what)
{
	return fz_lerror_fail(L, FZ_ERR_CLOSED, "%s", what);
}

/*
 * A send always succeeds: the queue of a pipe is never closed and never full.
 */
static int
send_then(lua_State *L, enum fz_queue_state state)
{
	(void)L;
	(void)state;
	return 0;
}

static int
pipe_send(lua_State *L)
{
	uint32_t self;
	struct fz_lhandle *handle = use_end(L, &self);
	struct fz_pipe *pipe = handle->object;
	struct fz_lchannel channel = { .queue = NULL };

	luaL_checkany(L, 2);
	if (handle->closed)
		return raise_closed(L, "this end of the pipe is closed");
	if (!fz_pipe_is_connected(pipes_of(handle), pipe, handle->side))
		return raise_closed(L, "the other end of the pipe is closed");
	channel.queue = &pipe->end[handle->side].out;
	channel.shared = handle->shared;
	channel.self = self;
	return fz_lchannel_put(L, &channel, FZ_CLOCK_NEVER, send_then);
}

/* The channel from which this end receives. */
static struct fz_lchannel
channel_in(const struct fz_lhandle *handle, uint32_t self)
{
	return (struct fz_lchannel){
		.queue = fz_pipe_in(handle->object, handle->side),
		.shared = handle->shared,
		.self = self,
		.receiver = { pipes_of(handle), handle->object, handle->side,
		    0 },
	};
}

static int
push_nothing(lua_State *L, const char *why)
{
	lua_pushnil(L);
	lua_pushstring(L, why);
	return 2;
}

static int
recv_then(lua_State *L, enum fz_queue_state state)
{
	if (state == FZ_QUEUE_DONE)
		return 1;
	return push_nothing(L, state == FZ_QUEUE_CLOSED ? "closed" : "timeout");
}

/* connection:recv([timeout]) -> value | nil, "timeout" | nil, "closed" */
static int
pipe_recv(lua_State *L)
{
	uint32_t self;
	struct fz_lhandle *handle = use_end(L, &self);
	struct fz_lchannel channel = channel_in(handle, self);
	int64_t until_ns = fz_lwait_until(L, 2);

	if (handle->closed)
		return push_nothing(L, "closed");
	return fz_lchannel_take(L, &channel, until_ns, recv_then);
}

struct polling {
	struct fz_lwait wait;
	struct fz_lchannel channel;
};

static bool
try_poll(struct fz_lwait *wait, bool late)
{
	struct polling *p = FZ_CONTAINER_OF(wait, struct polling, wait);

	return fz_queue_is_ready(p->channel.queue) ||
	       fz_pipe_has_ended(&p->channel.receiver, late);
}

static int
poll_end(lua_State *L, struct fz_lwait *wait, bool in_time)
{
	if (in_time && wait->slept) { /* another process may take the item */
		fz_eventcount_rearm(wait->at);
		fz_eventcount_notify(wait->at, 1);
	}
	lua_pushboolean(L, in_time);
	return 1;
}

static const struct fz_lwait_class polling_class = {
	.what = "an item of a queue or pipe", .try = try_poll, .end = poll_end
};

/* connection:poll([timeout = 0]) -> whether recv would not wait */
static int
pipe_poll(lua_State *L)
{
	uint32_t self;
	struct fz_lhandle *handle = use_end(L, &self);
	struct fz_lchannel channel = channel_in(handle, self);
	struct polling p = {
		.wait = { .class = &polling_class,
		    .at = &channel.queue->items,
		    .until_ns = fz_lwait_until(L, 2) },
		.channel = channel,
	};
	bool ready = handle->closed || try_poll(&p.wait, true);

	if (!ready && !lua_isnoneornil(L, 2))
		return fz_lwait(L, &p.wait, sizeof(p));
	return poll_end(L, &p.wait, ready);
}

/* core.pipe() -> connection, connection */
static int
pipe_new(lua_State *L)
{
	struct fz_pipe *pipe =
	    fz_lhandle_new(L, FZ_LHANDLE_PIPE, sizeof(*pipe));

	fz_pipe_init(pipe);
	open_end(L, lua_touserdata(L, -1));
	open_end(L, fz_lhandle_push(L, FZ_LHANDLE_PIPE, pipe, 1));
	return 2;
}

static void
give_value(lua_State *L, int idx)
{
	struct fz_lhandle *handle = fz_lhandle_test(L, idx, FZ_LHANDLE_PIPE);

	if (handle != NULL && !handle->closed)
		fz_pipe_give(pipes_of(handle), handle->object, handle->side);
}

/*
 * core.give_pipes(...): called before a fork. The child will use the ends of
 * pipes among these values, and among the upvalues of functions among them.
 * Called without values after the fork.
 */
static int
pipe_give(lua_State *L)
{
	int n = lua_gettop(L);

	if (!fz_pipe_give_none(&fz_lshared(L)->pipes))
		return 0;
	luaL_checkstack(L, 4, NULL);
	for (int i = 1; i <= n; i++) {
		give_value(L, i);
		for (int k = 1;
		     lua_isfunction(L, i) && lua_getupvalue(L, i, k) != NULL;
		     k++) {
			give_value(L, -1);
			lua_pop(L, 1);
		}
	}
	return 0;
}

static void
count_sent(void *pipe, uint32_t side, int n)
{
	fz_pipe_count_sent(pipe, side, n);
}

static void
load(lua_State *L, struct fz_lhandle *handle)
{
	open_end(L, handle);
	fz_pipe_count_loaded(pipes_of(handle), handle->object, handle->side);
}

static void
compact(void *pipe, uint32_t self)
{
	fz_pipe_compact(pipe, self);
}

static const luaL_Reg functions[] = {
	{ "pipe", pipe_new },
	{ "give_pipes", pipe_give },
	{ NULL, NULL },
};

static const luaL_Reg methods[] = {
	{ "send", pipe_send },
	{ "recv", pipe_recv },
	{ "poll", pipe_poll },
	{ "close", pipe_close },
	{ NULL, NULL },
};

static const luaL_Reg metamethods[] = {
	{ "__gc", pipe_gc },
	{ "__close", pipe_close },
	{ NULL, NULL },
};

static const struct fz_lhandle_class class = { .name = PIPE_TYPE,
	.methods = methods,
	.metamethods = metamethods,
	.load = load,
	.stored = count_sent,
	.idle = compact };

int
fz_lpipe_open(lua_State *L)
{
	fz_lhandle_class(L, FZ_LHANDLE_PIPE, &class);
	luaL_setfuncs(L, functions, 0);
	return 0;
}
