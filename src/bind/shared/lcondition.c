#include "bind/open.h"

#include <lauxlib.h>

#include "base/clock.h"
#include "bind/lloop.h"
#include "bind/shared/lhandle.h"
#include "bind/shared/llock.h"
#include "bind/shared/lwait.h"
#include "shared/condition.h"
#include "shared/heap.h"
#include "shared/waiter.h"
#include "value/lerror.h"

struct lcondition {
	struct fz_object head;
	struct fz_llock own;
	struct fz_llock *lock; /* at the same address in all processes */
	uint32_t lock_name;    /* of the lock it was given; 0: its own */
	uint32_t lock_generation;
	uint32_t tickets;
};

struct waiting {
	struct fz_lock *lock;
	uint32_t name, self;
	int64_t until_ns;
	enum fz_lock_state state; /* of taking the lock again */
};

static struct lcondition *
check_condition(lua_State *L)
{
	return fz_lhandle_check(L, 1, FZ_LHANDLE_CONDITION)->object;
}

/* ---- waiting ----------------------------------------------------------- */

static bool
try_wait(void *ctx, bool late)
{
	const struct waiting *w = ctx;

	if (late)
		fz_condition_inherit(w->name);
	return fz_waiter_state(w->self) != FZ_WAITER_WAITS;
}

static int
wait_protected(lua_State *L)
{
	struct waiting *w = lua_touserdata(L, 1);

	fz_lwait(L, fz_waiter_gate(w->self), try_wait, w, w->until_ns, NULL);
	return 0;
}

static int
relock_protected(lua_State *L)
{
	struct waiting *w = lua_touserdata(L, 1);

	w->state = fz_llock_wait(L, w->lock, w->self, FZ_CLOCK_NEVER);
	return 0;
}

static int
protect(lua_State *L, lua_CFunction f, struct waiting *w)
{
	lua_pushcfunction(L, f);
	lua_pushlightuserdata(L, w);
	return lua_pcall(L, 1, 0, 0);
}

/* One look at the lock, and a sleep, for who cannot raise any more. */
static enum fz_lock_state
relock_silently(struct waiting *w)
{
	uint32_t seq = fz_eventcount_enter(&w->lock->gate, FZ_EVENTCOUNT_SLEEP);
	enum fz_lock_state state = fz_lock_inherit(w->lock, w->self);

	if (state == FZ_LOCK_BUSY)
		fz_eventcount_sleep(&w->lock->gate, seq, FZ_CLOCK_NEVER);
	else
		fz_eventcount_again(&w->lock->gate);
	return state;
}

/*
 * Take the lock again, whatever happens. The first error is left on the stack;
 * returns the status that goes with it.
 */
static int
relock(lua_State *L, struct waiting *w, int status)
{
	while (w->state == FZ_LOCK_BUSY) {
		int again = protect(L, relock_protected, w);

		if (again == LUA_OK)
			break;
		if (status != LUA_OK)
			lua_pop(L, 1);
		else
			status = again;
		w->state = relock_silently(w);
	}
	return status;
}

static void
begin(lua_State *L, struct lcondition *c, uint32_t self)
{
	fz_llock_check_held(L, c->lock, self);
	fz_lloop_check_free(L);
	luaL_checkstack(L, 4, NULL);
	if (fz_condition_begin(&c->tickets, fz_heap_name(&c->head), self))
		return;
	fz_lerror_fail(L, FZ_ERR_ERROR,
	    "this process waits for a condition or barrier already");
}

/* Let go, wait, have the lock as before. Returns whether it was notified. */
static bool
wait_until(lua_State *L, struct lcondition *c, int64_t until_ns, bool *lost)
{
	uint32_t depth = c->lock->lock.depth;
	struct waiting w = { &c->lock->lock, fz_heap_name(&c->head),
		fz_lhandle_self(L), until_ns, FZ_LOCK_BUSY };
	bool notified;
	int status;

	begin(L, c, w.self);
	fz_lock_release(w.lock);
	status = protect(L, wait_protected, &w);
	fz_waiter_cancel(w.self);
	status = relock(L, &w, status);
	w.lock->depth = depth;
	notified = fz_waiter_end(w.self) == FZ_WAITER_GO;
	if (status != LUA_OK && notified)
		fz_condition_notify(w.name, 1);
	if (status != LUA_OK)
		lua_error(L);
	*lost = *lost || w.state == FZ_LOCK_ABANDONED;
	return notified;
}

static void
push_timeout(lua_State *L)
{
	lua_pushnil(L);
	lua_pushliteral(L, "timeout");
}

/*
 * condition:wait([timeout]) -> true; nil, "timeout"; and "abandoned" after it
 * where a process has died with the lock meanwhile
 */
static int
condition_wait(lua_State *L)
{
	struct lcondition *c = check_condition(L);
	int64_t until_ns = fz_lwait_until(L, 2);
	bool lost = false;

	lua_settop(L, 1);
	if (wait_until(L, c, until_ns, &lost))
		lua_pushboolean(L, 1);
	else
		push_timeout(L);
	if (lost)
		lua_pushliteral(L, "abandoned");
	return lua_gettop(L) - 1;
}

/*
 * condition:wait_for(f [, timeout]) -> the value of f, once that is true | nil,
 * "timeout"; and "abandoned" as after wait()
 */
static int
condition_wait_for(lua_State *L)
{
	struct lcondition *c = check_condition(L);
	int64_t until_ns = fz_lwait_until(L, 3);
	bool lost = false, in_time = true;

	luaL_checkany(L, 2);
	lua_settop(L, 3);
	fz_llock_check_held(L, c->lock, fz_lhandle_self(L));
	for (;;) {
		lua_pushvalue(L, 2);
		lua_call(L, 0, 1);
		if (lua_toboolean(L, -1))
			break;
		lua_pop(L, 1);
		if (!in_time) {
			push_timeout(L);
			break;
		}
		in_time = wait_until(L, c, until_ns, &lost);
	}
	if (lost)
		lua_pushliteral(L, "abandoned");
	return lua_gettop(L) - 3;
}

/* ---- notifying, and the lock ------------------------------------------- */

static int
notify(lua_State *L, uint32_t n)
{
	struct lcondition *c = check_condition(L);

	fz_llock_check_held(L, c->lock, fz_lhandle_self(L));
	fz_condition_notify(fz_heap_name(&c->head), n);
	return 0;
}

/* condition:notify([n = 1]): those that have waited longest */
static int
condition_notify(lua_State *L)
{
	lua_Integer n = luaL_optinteger(L, 2, 1);

	check_condition(L);
	luaL_argcheck(L, n >= 0, 2, "out of range");
	return notify(L, n < FZ_CONDITION_ALL ? (uint32_t)n : FZ_CONDITION_ALL);
}

/* condition:notify_all() */
static int
condition_notify_all(lua_State *L)
{
	return notify(L, FZ_CONDITION_ALL);
}

/* condition:acquire([timeout]), as the lock's */
static int
condition_acquire(lua_State *L)
{
	return fz_llock_acquire(L, check_condition(L)->lock);
}

static int
condition_release(lua_State *L)
{
	return fz_llock_release(L, check_condition(L)->lock);
}

static int
condition_with(lua_State *L)
{
	return fz_llock_with(L, check_condition(L)->lock);
}

static int
condition_guard(lua_State *L)
{
	return fz_llock_guard(L, check_condition(L)->lock);
}

/* ---- making it --------------------------------------------------------- */

/* condition([lock]) -> condition, with an rlock of its own if none is given */
static int
condition_new(lua_State *L)
{
	struct fz_llock *lock = NULL;
	struct lcondition *c;

	lua_settop(L, 1);
	if (!lua_isnil(L, 1)) {
		struct fz_lhandle *handle =
		    fz_lhandle_check(L, 1, FZ_LHANDLE_LOCK);

		lock = fz_llock_test(L, 1);
		c = fz_lhandle_new(L, FZ_LHANDLE_CONDITION, sizeof(*c));
		c->lock_name = fz_heap_name(handle->object);
		c->lock_generation =
		    ((struct fz_object *)handle->object)->generation;
		c->lock = lock;
		lua_pushvalue(L, 1);
		lua_setiuservalue(L, -2, 1);
		return 1;
	}
	c = fz_lhandle_new(L, FZ_LHANDLE_CONDITION, sizeof(*c));
	c->own.recursive = true;
	c->lock = &c->own;
	return 1;
}

/* One that came in a message keeps the lock, too, which is sent with it. */
static void
load(lua_State *L, struct fz_lhandle *handle)
{
	const struct lcondition *c = handle->object;
	void *lock;

	if (c->lock_name == 0)
		return;
	lock = fz_heap_find(c->lock_name, c->lock_generation, FZ_LHANDLE_LOCK);
	if (lock == NULL)
		fz_lerror_fail(
		    L, FZ_ERR_CLOSED, "the lock of a condition is gone");
	fz_lhandle_push(L, FZ_LHANDLE_LOCK, lock, 0);
	lua_setiuservalue(L, -2, 1);
}

static const luaL_Reg methods[] = {
	{ "acquire", condition_acquire },
	{ "release", condition_release },
	{ "with", condition_with },
	{ "guard", condition_guard },
	{ "wait", condition_wait },
	{ "wait_for", condition_wait_for },
	{ "notify", condition_notify },
	{ "notify_all", condition_notify_all },
	{ NULL, NULL },
};

int
fz_lcondition_open(lua_State *L)
{
	fz_lhandle_class(
	    L, FZ_LHANDLE_CONDITION, "fzlua.Condition", methods, NULL, load);
	lua_pushcfunction(L, condition_new);
	lua_setfield(L, -2, "condition");
	return 0;
}
