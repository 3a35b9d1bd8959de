#include "bind/open.h"

#include <stdlib.h>

#include <lauxlib.h>

#include "base/clock.h"
#include "base/container.h"
#include "base/err.h"
#include "bind/shared/lchannel.h"
#include "bind/shared/lhandle.h"
#include "bind/shared/lwait.h"
#include "os/proc.h"
#include "shared/endpoint.h"
#include "shared/heap.h"
#include "shared/queue.h"
#include "value/lerror.h"

#define PIPE_TYPE "fzlua.Pipe"
/* A child that was not born after this time was killed, or never forked. */
#define BIRTH_NS (5 * FZ_CLOCK_SECOND)
/* What is in a message while nobody else lives is thought to be lost then. */
#define FLIGHT_NS FZ_CLOCK_SECOND

struct lpipe_end {
	struct fz_endpoint end;
	struct fz_queue out;      /* what it sends */
	_Atomic uint32_t nsent;   /* how often it was put into a message */
	_Atomic uint32_t nloaded; /* how often it came out of one */
	_Atomic uint32_t nleft;   /* how many processes have closed it */
};

struct lpipe {
	struct fz_object object;
	struct lpipe_end ends[2];
	/* By place: how many children of the member there have the pipe. */
	_Atomic uint32_t nborn[FZ_HEAP_MEMBERS];
};

/* A pipe that this process has handles of. */
struct known {
	struct lpipe *pipe;
	struct known *next;
	unsigned nhandles; /* until they are collected */
	unsigned nopen[2]; /* of these, by end */
	uint32_t nforked;  /* as many are to be born */
	uint64_t unborn;   /* number of the first child that may not be yet */
	int64_t forked_ns; /* when the last one was forked */
	uint32_t nsent[2]; /* as last seen while nobody else lived */
	int64_t sent_ns[2];
	bool given[2]; /* to the child that is forked next */
};

static struct known *all_known;
static uint32_t member; /* this process, once it knows of any */

static struct known *
find(const struct lpipe *pipe)
{
	struct known *k = all_known;

	while (k != NULL && k->pipe != pipe)
		k = k->next;
	return k;
}

/* ---- forks ------------------------------------------------------------- */

static uint32_t
count_born(const struct known *k)
{
	return atomic_load(&k->pipe->nborn[fz_heap_place(member)]);
}

static bool
has_unborn(const struct known *k)
{
	return (int32_t)(k->nforked - count_born(k)) > 0;
}

static void
forked(void)
{
	int64_t now = all_known != NULL ? fz_clock_ns() : 0;

	for (struct known *k = all_known; k != NULL; k = k->next) {
		if (!has_unborn(k))
			k->unborn = fz_proc_forks();
		k->nforked++;
		k->forked_ns = now;
	}
}

/*
 * This process was forked and is no member yet. In a child that the host has
 * forked itself this comes with the first use of a pipe: what all share is not
 * touched in a fork that has nothing to do with it.
 */
static void
born(void)
{
	uint32_t parent = member;

	if (all_known == NULL)
		return;
	member = fz_heap_self(NULL);
	for (struct known *k = all_known; member != 0 && k != NULL;
	     k = k->next) {
		struct lpipe *pipe = k->pipe;

		for (unsigned i = 0; i < 2; i++) {
			if (k->nopen[i] != 0)
				fz_endpoint_hold(&pipe->ends[i].end, member);
			if (k->given[i])
				fz_endpoint_use(&pipe->ends[i].end, member);
			k->given[i] = false;
		}
		k->nforked = atomic_load(&pipe->nborn[fz_heap_place(member)]);
		atomic_fetch_add(&pipe->nborn[fz_heap_place(parent)], 1);
	}
}

static struct fz_proc_hook hook = { .forked = forked, .born = born };

static void
be_member(lua_State *L)
{
	if (fz_heap_me() == 0)
		born();
	member = fz_lhandle_self(L);
}

/* ---- what this process has --------------------------------------------- */

static struct known *
add_known(lua_State *L, struct lpipe *pipe)
{
	struct known *k;
	struct fz_err err;

	be_member(L);
	fz_proc_hook(&hook);
	k = calloc(1, sizeof(*k));
	if (k == NULL) {
		fz_err_nomem(&err, "a pipe");
		fz_lerror_raise(L, &err);
		return NULL;
	}
	k->pipe = pipe;
	k->nforked = count_born(k);
	k->next = all_known;
	all_known = k;
	return k;
}

/* The handle is one of those of this process. */
static void
enter(lua_State *L, const struct fz_lhandle *handle)
{
	struct lpipe *pipe = handle->object;
	struct known *k = find(pipe);

	if (k == NULL)
		k = add_known(L, pipe);
	k->nhandles++;
	k->nopen[handle->part]++;
	fz_endpoint_hold(&pipe->ends[handle->part].end, member);
}

static void
compact(void *object)
{
	struct lpipe *pipe = object;

	fz_queue_compact(&pipe->ends[0].out, fz_heap_me());
	fz_queue_compact(&pipe->ends[1].out, fz_heap_me());
}

static void
close_end(struct known *k, struct fz_lhandle *handle)
{
	struct lpipe_end *end = &k->pipe->ends[handle->part];

	if (handle->closed)
		return;
	handle->closed = true;
	if (--k->nopen[handle->part] != 0 || fz_heap_me() == 0)
		return;
	fz_endpoint_leave(&end->end, member);
	if (k->nopen[1 - handle->part] == 0)
		compact(k->pipe);
	atomic_fetch_add(&end->nleft, 1);
	fz_eventcount_wake(&end->out.items, FZ_EVENTCOUNT_ALL);
}

static void
forget(struct known *k)
{
	struct known **at = &all_known;

	while (*at != k)
		at = &(*at)->next;
	*at = k->next;
	free(k);
}

static int
pipe_gc(lua_State *L)
{
	struct fz_lhandle *handle = lua_touserdata(L, 1);
	struct known *k = handle->object != NULL ? find(handle->object) : NULL;

	if (k != NULL) {
		close_end(k, handle);
		if (--k->nhandles == 0)
			forget(k);
	}
	fz_lhandle_drop(handle);
	return 0;
}

/* ---- whether an end is over -------------------------------------------- */

static bool
is_waiting_for_birth(struct known *k)
{
	if (!has_unborn(k))
		return false;
	/* A child may have been killed before: it is no more, or takes long. */
	if (fz_proc_newest() >= k->unborn &&
	    fz_clock_ns() - k->forked_ns < BIRTH_NS)
		return true;
	k->nforked = count_born(k);
	return false;
}

/* Whoever was forked has a parent that lives. */
static bool
is_alone(void)
{
	return !fz_proc_is_child() && fz_proc_newest() == 0;
}

/* It is in a message that nobody has read, and that may be read yet. */
static bool
is_in_flight(struct known *k, unsigned part)
{
	const struct lpipe_end *end = &k->pipe->ends[part];
	uint32_t nsent = atomic_load(&end->nsent);

	if ((int32_t)(nsent - atomic_load(&end->nloaded)) <= 0)
		return false;
	if (!is_alone())
		return true;
	if (k->nsent[part] != nsent) {
		k->nsent[part] = nsent;
		k->sent_ns[part] = fz_clock_ns();
	}
	return fz_clock_ns() - k->sent_ns[part] < FLIGHT_NS;
}

static bool
is_over(struct lpipe *pipe, unsigned part)
{
	struct known *k;

	if (!fz_endpoint_is_over(&pipe->ends[part].end, member))
		return false;
	k = find(pipe);
	if (is_waiting_for_birth(k) || is_in_flight(k, part))
		return false;
	/* Somebody may have come to have it between the two looks. */
	return fz_endpoint_is_over(&pipe->ends[part].end, member);
}

static bool
is_other_over(const struct fz_lhandle *handle)
{
	return is_over(handle->object, 1 - handle->part);
}

/*
 * Whether the other end of the handle `channel->of` sends nothing any more. It
 * takes a while to see: only if it has been closed somewhere, or `late`.
 */
static bool
is_nothing_to_come(struct fz_lchannel *channel, bool late)
{
	const struct fz_lhandle *handle = channel->of;
	struct lpipe *pipe = handle->object;
	uint32_t nleft = atomic_load(&pipe->ends[1 - handle->part].nleft);

	if (!late && nleft == channel->seen)
		return false;
	channel->seen = nleft;
	return is_other_over(handle);
}

/* ---- methods ----------------------------------------------------------- */

/* Its end; NULL where it is closed here. */
static struct lpipe_end *
check_end(lua_State *L, struct fz_lhandle **handle)
{
	struct lpipe *pipe;

	*handle = fz_lhandle_check(L, 1, FZ_LHANDLE_PIPE);
	pipe = (*handle)->object;
	be_member(L);
	return (*handle)->closed ? NULL : &pipe->ends[(*handle)->part];
}

static const struct fz_endpoint *
other_end(const struct fz_lhandle *handle)
{
	const struct lpipe *pipe = handle->object;

	return &pipe->ends[1 - handle->part].end;
}

/* What the other end sends. */
static struct fz_queue *
queue_in(const struct fz_lhandle *handle)
{
	struct lpipe *pipe = handle->object;

	return &pipe->ends[1 - handle->part].out;
}

static int
raise_closed(lua_State *L, const char *what)
{
	return fz_lerror_fail(L, FZ_ERR_CLOSED, "%s", what);
}

static int
push_nothing(lua_State *L, const char *why)
{
	lua_pushnil(L);
	lua_pushstring(L, why);
	return 2;
}

/* The queue is never closed, and has room for all. */
static int
send_end(lua_State *L, enum fz_queue_state state)
{
	(void)L;
	(void)state;
	return 0;
}

/* connection:send(value) */
static int
pipe_send(lua_State *L)
{
	struct fz_lhandle *handle;
	struct lpipe_end *end = check_end(L, &handle);
	struct fz_lchannel channel = { .self = member };

	luaL_checkany(L, 2);
	if (end == NULL)
		return raise_closed(L, "this end of the pipe is closed");
	fz_endpoint_use(&end->end, member);
	if (!fz_endpoint_is_used(other_end(handle), member) &&
	    is_other_over(handle))
		return raise_closed(L, "the other end of the pipe is closed");
	channel.queue = &end->out;
	return fz_lchannel_put(L, &channel, FZ_CLOCK_NEVER, send_end);
}

static struct fz_lchannel
channel_in(const struct fz_lhandle *handle)
{
	return (struct fz_lchannel){ .queue = queue_in(handle),
		.self = member,
		.is_over = is_nothing_to_come,
		.of = handle };
}

static int
recv_end(lua_State *L, enum fz_queue_state state)
{
	if (state == FZ_QUEUE_DONE)
		return 1;
	return push_nothing(L, state == FZ_QUEUE_CLOSED ? "closed" : "timeout");
}

/* connection:recv([timeout]) -> value | nil, "timeout" | nil, "closed" */
static int
pipe_recv(lua_State *L)
{
	struct fz_lhandle *handle;
	struct lpipe_end *end = check_end(L, &handle);
	struct fz_lchannel channel = channel_in(handle);
	int64_t until_ns = fz_lwait_until(L, 2);

	if (end == NULL)
		return push_nothing(L, "closed");
	fz_endpoint_use(&end->end, member);
	return fz_lchannel_take(L, &channel, until_ns, recv_end);
}

struct polling {
	struct fz_lwait wait;
	struct fz_lchannel channel;
};

static bool
try_poll(struct fz_lwait *wait, bool late)
{
	struct fz_lchannel *c =
	    &FZ_CONTAINER_OF(wait, struct polling, wait)->channel;

	return fz_queue_is_ready(c->queue) || is_nothing_to_come(c, late);
}

static int
poll_end(lua_State *L, struct fz_lwait *wait, bool in_time)
{
	if (in_time && wait->slept) { /* another may take it */
		fz_eventcount_again(wait->at);
		fz_eventcount_wake(wait->at, 1);
	}
	lua_pushboolean(L, in_time);
	return 1;
}

static const struct fz_lwait_class polling_class = { .try = try_poll,
	.end = poll_end };

/* connection:poll([timeout = 0]) -> whether recv would not wait */
static int
pipe_poll(lua_State *L)
{
	struct fz_lhandle *handle;
	struct lpipe_end *end = check_end(L, &handle);
	struct polling p = {
		.wait = { .class = &polling_class,
		    .at = &queue_in(handle)->items,
		    .until_ns = fz_lwait_until(L, 2) },
		.channel = channel_in(handle),
	};
	bool ready = true;

	if (end != NULL) {
		fz_endpoint_use(&end->end, member);
		ready = try_poll(&p.wait, true);
	}
	if (!ready && !lua_isnoneornil(L, 2))
		return fz_lwait(L, &p.wait, sizeof(p));
	return poll_end(L, &p.wait, ready);
}

/* connection:close(): this process's end */
static int
pipe_close(lua_State *L)
{
	struct fz_lhandle *handle = fz_lhandle_check(L, 1, FZ_LHANDLE_PIPE);

	close_end(find(handle->object), handle);
	return 0;
}

/* pipe() -> connection, connection */
static int
pipe_new(lua_State *L)
{
	struct lpipe *pipe;
	struct fz_lhandle *a;

	pipe = fz_lhandle_new(L, FZ_LHANDLE_PIPE, sizeof(*pipe));
	a = lua_touserdata(L, -1);
	fz_queue_init(&pipe->ends[0].out, &pipe->object, 0);
	fz_queue_init(&pipe->ends[1].out, &pipe->object, 0);
	enter(L, a);
	enter(L, fz_lhandle_push(L, FZ_LHANDLE_PIPE, pipe, 1));
	return 2;
}

static void
give_value(lua_State *L, int idx)
{
	struct fz_lhandle *handle = fz_lhandle_test(L, idx, FZ_LHANDLE_PIPE);

	if (handle != NULL && !handle->closed)
		find(handle->object)->given[handle->part] = true;
}

/*
 * give_pipes(...): the next fork is for these values. The child will use the
 * ends among them, and those that functions among them name. Without any: it
 * was made.
 */
static int
pipe_give(lua_State *L)
{
	int n = lua_gettop(L);

	for (struct known *k = all_known; k != NULL; k = k->next)
		k->given[0] = k->given[1] = false;
	if (all_known == NULL)
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

/* ---- in messages ------------------------------------------------------- */

static void
stored(void *object, uint32_t part, int n)
{
	struct lpipe *pipe = object;

	atomic_fetch_add(&pipe->ends[part].nsent, (uint32_t)n);
}

static void
load(lua_State *L, struct fz_lhandle *handle)
{
	struct lpipe *pipe = handle->object;

	enter(L, handle);
	fz_endpoint_use(&pipe->ends[handle->part].end, member);
	atomic_fetch_add(&pipe->ends[handle->part].nloaded, 1);
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

int
fz_lpipe_open(lua_State *L)
{
	fz_lhandle_class(
	    L, FZ_LHANDLE_PIPE, PIPE_TYPE, methods, metamethods, load);
	fz_lhandle_on_store(FZ_LHANDLE_PIPE, stored);
	fz_lhandle_on_idle(FZ_LHANDLE_PIPE, compact);
	luaL_setfuncs(L, functions, 0);
	return 0;
}
