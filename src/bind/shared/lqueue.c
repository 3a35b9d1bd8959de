#include "bind/open.h"

#include <lauxlib.h>

#include "base/container.h"
#include "bind/shared/lchannel.h"
#include "bind/shared/lshared.h"
#include "bind/shared/lwait.h"
#include "shared/heap.h"
#include "shared/queue.h"
#include "value/lerror.h"

#define QUEUE_TYPE "fzlua.Queue"

struct lqueue {
	struct fz_object object;
	struct fz_queue queue;
};

_Static_assert(sizeof(struct lqueue) <= FZ_HEAP_SMALL, "there may be many");

static struct lqueue *
check_queue(lua_State *L)
{
	return fz_lhandle_check(L, 1, FZ_LHANDLE_QUEUE)->object;
}

/* core.queue([maxsize]) -> queue. If maxsize is nil or 0, put() never waits. */
static int
queue_new(lua_State *L)
{
	lua_Integer max = luaL_optinteger(L, 1, 0);
	struct lqueue *lq;

	luaL_argcheck(L, max >= 0, 1, "must not be negative");
	lq = fz_lhandle_new(L, FZ_LHANDLE_QUEUE, sizeof(*lq));
	fz_queue_init(
	    &lq->queue, &lq->object, max < FZ_QUEUE_MAX ? (uint32_t)max : 0);
	return 1;
}

static int
put_then(lua_State *L, enum fz_queue_state state)
{
	if (state == FZ_QUEUE_CLOSED)
		return fz_lerror_fail(L, FZ_ERR_CLOSED, "the queue is closed");
	if (state == FZ_QUEUE_WAIT)
		return fz_lwait_push_timeout(L);
	lua_pushboolean(L, 1);
	return 1;
}

static int
try_put_then(lua_State *L, enum fz_queue_state state)
{
	if (state == FZ_QUEUE_CLOSED)
		return put_then(L, state);
	lua_pushboolean(L, state == FZ_QUEUE_DONE);
	return 1;
}

/* The channel of the queue at index 1. */
static struct fz_lchannel
check_channel(lua_State *L)
{
	const struct fz_lhandle *handle =
	    fz_lhandle_check(L, 1, FZ_LHANDLE_QUEUE);
	struct lqueue *lq = handle->object;

	return (struct fz_lchannel){ .shared = handle->shared,
		.queue = &lq->queue,
		.self = fz_lshared_join(L, handle->shared) };
}

static int
put(lua_State *L, int64_t until_ns, fz_lchannel_then then)
{
	struct fz_lchannel channel = check_channel(L);

	luaL_checkany(L, 2);
	return fz_lchannel_put(L, &channel, until_ns, then);
}

/* queue:put(value [, timeout]) -> true | nil, "timeout" */
static int
queue_put(lua_State *L)
{
	return put(L, fz_lwait_until(L, 3), put_then);
}

/* queue:try_put(value) -> whether the value was put. Never waits. */
static int
queue_try_put(lua_State *L)
{
	return put(L, FZ_LCHANNEL_NOW, try_put_then);
}

static int
get_then(lua_State *L, enum fz_queue_state state)
{
	if (state == FZ_QUEUE_DONE)
		return 1;
	if (state == FZ_QUEUE_WAIT)
		return fz_lwait_push_timeout(L);
	lua_pushnil(L);
	lua_pushliteral(L, "closed");
	return 2;
}

static int
try_get_then(lua_State *L, enum fz_queue_state state)
{
	lua_pushboolean(L, state == FZ_QUEUE_DONE);
	if (state == FZ_QUEUE_DONE) {
		lua_insert(L, -2);
		return 2;
	}
	if (state != FZ_QUEUE_CLOSED)
		return 1;
	lua_pushliteral(L, "closed");
	return 2;
}

static int
take(lua_State *L, int64_t until_ns, fz_lchannel_then then)
{
	struct fz_lchannel channel = check_channel(L);

	channel.is_tracked = true;
	return fz_lchannel_take(L, &channel, until_ns, then);
}

/* queue:get([timeout]) -> value | nil, "timeout" | nil, "closed" */
static int
queue_get(lua_State *L)
{
	return take(L, fz_lwait_until(L, 2), get_then);
}

/* queue:try_get() -> true, value | false | false, "closed" */
static int
queue_try_get(lua_State *L)
{
	return take(L, FZ_LCHANNEL_NOW, try_get_then);
}

static int
queue_size(lua_State *L)
{
	lua_pushinteger(L, fz_queue_size(&check_queue(L)->queue));
	return 1;
}

static int
queue_empty(lua_State *L)
{
	lua_pushboolean(L, fz_queue_size(&check_queue(L)->queue) == 0);
	return 1;
}

static int
queue_full(lua_State *L)
{
	struct fz_queue *q = &check_queue(L)->queue;

	lua_pushboolean(L, fz_queue_size(q) >= q->max);
	return 1;
}

/* queue:task_done(): acknowledge one of the taken items */
static int
queue_task_done(lua_State *L)
{
	struct lqueue *lq = check_queue(L);

	if (fz_queue_task_done(&lq->queue, fz_lhandle_self(L)))
		return 0;
	return fz_lerror_fail(L, FZ_ERR_ERROR,
	    "task_done() was called more often than items were taken");
}

struct joining {
	struct fz_lwait wait;
	struct fz_queue *queue;
};

static bool
try_join(struct fz_lwait *wait, bool late)
{
	return fz_queue_all_done(
	    FZ_CONTAINER_OF(wait, struct joining, wait)->queue, late);
}

static int
join_end(lua_State *L, struct fz_lwait *wait, bool in_time)
{
	(void)wait;
	return put_then(L, in_time ? FZ_QUEUE_DONE : FZ_QUEUE_WAIT);
}

static const struct fz_lwait_class joining_class = {
	.what = "the end of all items of a queue",
	.try = try_join,
	.end = join_end
};

/* queue:join([timeout]) -> true when all items are done | nil, "timeout" */
static int
queue_join(lua_State *L)
{
	struct fz_queue *queue = &check_queue(L)->queue;
	struct joining j = {
		.wait = { .class = &joining_class,
		    .at = &queue->unfinished.waiters,
		    .until_ns = fz_lwait_until(L, 2) },
		.queue = queue,
	};

	fz_lhandle_self(L);
	return fz_lwait(L, &j.wait, sizeof(j));
}

/* queue:close() for all processes. Queued items can still be taken. */
static int
queue_close(lua_State *L)
{
	struct lqueue *lq = check_queue(L);

	fz_queue_close(&lq->queue, fz_lhandle_self(L));
	return 0;
}

static void
idle(void *object, uint32_t self)
{
	struct lqueue *lq = object;

	fz_queue_compact(&lq->queue, self);
}

static const luaL_Reg functions[] = {
	{ "queue", queue_new },
	{ NULL, NULL },
};

static const luaL_Reg methods[] = {
	{ "put", queue_put },
	{ "get", queue_get },
	{ "try_put", queue_try_put },
	{ "try_get", queue_try_get },
	{ "size", queue_size },
	{ "empty", queue_empty },
	{ "full", queue_full },
	{ "task_done", queue_task_done },
	{ "join", queue_join },
	{ "close", queue_close },
	{ NULL, NULL },
};

static const struct fz_lhandle_class class = {
	.name = QUEUE_TYPE, .methods = methods, .idle = idle
};

int
fz_lqueue_open(lua_State *L)
{
	fz_lhandle_class(L, FZ_LHANDLE_QUEUE, &class);
	luaL_setfuncs(L, functions, 0);
	return 0;
}
