#include "bind/open.h"

#include <string.h>

#include <lauxlib.h>

#include "base/container.h"
#include "bind/lloop.h"
#include "bind/shared/lguard.h"
#include "bind/shared/lhandle.h"
#include "bind/shared/lshared.h"
#include "bind/shared/lwait.h"
#include "shared/barrier.h"
#include "shared/heap.h"
#include "value/lerror.h"

#define BARRIER_TYPE "fzlua.Barrier"
#define BROKEN "the barrier is broken"
#define WHAT "a barrier"

/*
 * The object of a barrier. The user value of its handle is the action, or nil
 * if this process does not have the action.
 */
struct lbarrier {
	struct fz_object head;
	struct fz_barrier barrier;
};

struct waiting {
	/* waits to enter the barrier, then for the other processes */
	struct fz_lwait wait;
	struct fz_barrier *barrier;
	struct fz_membership *own;
	uint32_t self, index;
	uint32_t waiter; /* number in the wait, see waiter.h */
	enum fz_barrier_arrival arrival;
};

static struct fz_barrier *
check_barrier(lua_State *L)
{
	struct lbarrier *lb =
	    fz_lhandle_check(L, 1, FZ_LHANDLE_BARRIER)->object;

	return &lb->barrier;
}

static int
raise_error(lua_State *L, const char *text)
{
	return fz_lerror_fail(L, FZ_ERR_ERROR, "%s", text);
}

static struct waiting *
of_wait(struct fz_lwait *wait)
{
	return FZ_CONTAINER_OF(wait, struct waiting, wait);
}

static bool
try_arrive(struct fz_lwait *wait, bool late)
{
	struct waiting *w = of_wait(wait);

	(void)late;
	w->waiter = fz_waiter_take(w->own);
	if (w->waiter == 0) {
		w->arrival = FZ_BARRIER_TWICE;
		return true;
	}
	w->arrival =
	    fz_barrier_arrive(w->barrier, w->self, w->waiter, &w->index);
	if (w->arrival != FZ_BARRIER_WAITS)
		fz_waiter_give_back(w->own, w->waiter);
	if (w->arrival == FZ_BARRIER_INSIDE && w->barrier->task != w->own->task)
		/* Another task runs the action: try again later. */
		w->arrival = FZ_BARRIER_LATER;
	return w->arrival != FZ_BARRIER_LATER;
}

static bool
try_others(struct fz_lwait *wait, bool late)
{
	const struct waiting *w = of_wait(wait);

	if (late)
		fz_barrier_check(w->barrier, w->self);
	return fz_waiter_state(w->waiter) != FZ_WAITER_WAITS;
}

static enum fz_waiter_state
leave(struct waiting *w)
{
	enum fz_waiter_state state =
	    fz_barrier_leave(w->barrier, w->self, w->waiter);

	fz_waiter_give_back(w->own, w->waiter);
	return state;
}

static int
others_end(lua_State *L, struct fz_lwait *wait, bool in_time)
{
	struct waiting *w = of_wait(wait);

	fz_lwait_over(wait);
	if (leave(w) != FZ_WAITER_GO)
		return in_time ? raise_error(L, BROKEN)
			       : fz_lwait_push_timeout(L);
	lua_pushinteger(L, w->index);
	return 1;
}

/* Break the barrier, because an error has ended the wait. */
static void
abandon(lua_State *L, struct fz_lwait *wait)
{
	struct waiting *w = of_wait(wait);

	(void)L;
	leave(w);
}

static const struct fz_lwait_class arriving,
    waiting_class = { WHAT, try_others, others_end, abandon };

static void
break_round(struct fz_lguard *guard)
{
	fz_barrier_finish(guard->of, guard->self, false);
}

/* After the action: the guard is at 2; `ctx` is the arrival index. */
static int
action_end(lua_State *L, int status, lua_KContext ctx)
{
	struct fz_lguard *guard = lua_touserdata(L, 2);

	(void)status;
	guard->release = NULL;
	if (!fz_barrier_finish(guard->of, guard->self, true))
		return raise_error(L, BROKEN);
	lua_pushinteger(L, (lua_Integer)ctx);
	return 1;
}

static int
run_action(lua_State *L, struct waiting *w)
{
	struct fz_lguard *guard = lua_touserdata(L, 2);

	w->barrier->task = w->own->task;
	guard->of = w->barrier;
	guard->release = break_round;
	if (lua_getiuservalue(L, 1, 1) == LUA_TNIL)
		return raise_error(L,
		    BROKEN ": the last process to arrive received it in a "
			   "message, without its action");
	lua_callk(L, 0, 0, (lua_KContext)w->index, action_end);
	return action_end(L, LUA_OK, (lua_KContext)w->index);
}

static int
wait_for_others(lua_State *L, struct waiting *w)
{
	w->wait.class = &waiting_class;
	w->wait.at = fz_waiter_wakeup(w->waiter);
	return fz_lwait_pushed(L, &w->wait);
}

static int
arrive_end(lua_State *L, struct fz_lwait *wait, bool in_time)
{
	struct waiting *w = of_wait(wait);

	if (!in_time) {
		fz_barrier_abort(w->barrier, w->self);
		return fz_lwait_push_timeout(L);
	}
	switch (w->arrival) {
	case FZ_BARRIER_WAITS:
		return wait_for_others(L, w);
	case FZ_BARRIER_LAST:
		if (w->barrier->has_action)
			return run_action(L, w);
		lua_pushinteger(L, w->index);
		return 1;
	case FZ_BARRIER_TWICE:
		return raise_error(
		    L, "too many tasks wait for conditions and barriers");
	case FZ_BARRIER_INSIDE:
		return raise_error(
		    L, "the action of a barrier cannot wait for it");
	default:
		return raise_error(L, BROKEN);
	}
}

static const struct fz_lwait_class arriving = {
	.what = WHAT, .try = try_arrive, .end = arrive_end
};

/*
 * barrier:wait([timeout]) -> 0 to n-1 in the order of arrival | nil, "timeout".
 * A timeout breaks the barrier. Raises an error if the barrier is broken.
 */
static int
barrier_wait(lua_State *L)
{
	struct fz_barrier *b = check_barrier(L);
	int64_t until_ns = fz_lwait_until(L, 2);
	struct fz_lwait *wait;
	struct waiting *w;

	lua_settop(L, 1);
	if (b->has_action)
		/*
		 * Push the guard before the wait, because to push it may run
		 * out of memory.
		 */
		fz_lguard_enter(L);
	wait = fz_lwait_new(L, sizeof(*w));
	w = of_wait(wait);
	w->barrier = b;
	w->own = fz_lshared(L)->membership;
	w->self = fz_lhandle_self(L);
	wait->class = &arriving;
	wait->at = &b->opening;
	wait->until_ns = until_ns;
	return fz_lwait_pushed(L, wait);
}

/*
 * barrier:reset(): make the barrier like a new one. The waiters raise the error
 * "broken".
 */
static int
barrier_reset(lua_State *L)
{
	fz_barrier_reset(check_barrier(L), fz_lhandle_self(L));
	return 0;
}

/* barrier:abort(): break the barrier until it is reset */
static int
barrier_abort(lua_State *L)
{
	fz_barrier_abort(check_barrier(L), fz_lhandle_self(L));
	return 0;
}

/* barrier.method, or another field. The upvalue is the table of methods. */
static int
barrier_index(lua_State *L)
{
	struct fz_barrier *b = check_barrier(L);
	uint32_t self = fz_lhandle_self(L);
	const char *key =
	    lua_type(L, 2) == LUA_TSTRING ? lua_tostring(L, 2) : "";

	if (strcmp(key, "parties") == 0) {
		lua_pushinteger(L, b->parties);
	} else if (strcmp(key, "n_waiting") == 0) {
		lua_pushinteger(L, fz_barrier_nwaiting(b, self));
	} else if (strcmp(key, "broken") == 0) {
		lua_pushboolean(L, fz_barrier_is_broken(b, self));
	} else {
		lua_settop(L, 2);
		lua_rawget(L, lua_upvalueindex(1));
	}
	return 1;
}

/*
 * core.barrier(n [, action]) -> barrier. The last process to arrive calls
 * action() before the waiters continue. A process that may be the last must
 * have inherited the barrier, because a message does not contain the action.
 */
static int
barrier_new(lua_State *L)
{
	lua_Integer n = luaL_checkinteger(L, 1);
	struct lbarrier *lb;

	luaL_argcheck(L, 1 <= n && n <= FZ_HEAP_MEMBERS, 1,
	    "must be from 1 to the maximum number of processes");
	lua_settop(L, 2);
	if (!lua_isnil(L, 2))
		luaL_checktype(L, 2, LUA_TFUNCTION);
	lb = fz_lhandle_new(L, FZ_LHANDLE_BARRIER, sizeof(*lb));
	lb->barrier.parties = (uint32_t)n;
	lb->barrier.name = fz_heap_name(&lb->head);
	lb->barrier.has_action = !lua_isnil(L, 2);
	lua_pushvalue(L, 2);
	lua_setiuservalue(L, -2, 1);
	return 1;
}

static const luaL_Reg methods[] = {
	{ "wait", barrier_wait },
	{ "reset", barrier_reset },
	{ "abort", barrier_abort },
	{ NULL, NULL },
};

static const luaL_Reg metamethods[] = {
	{ "__index", barrier_index },
	{ NULL, NULL },
};

static const struct fz_lhandle_class class = {
	.name = BARRIER_TYPE, .methods = methods, .metamethods = metamethods
};

int
fz_lbarrier_open(lua_State *L)
{
	fz_lhandle_class(L, FZ_LHANDLE_BARRIER, &class);
	lua_pushcfunction(L, barrier_new);
	lua_setfield(L, -2, "barrier");
	return 0;
}
