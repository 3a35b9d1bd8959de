#include "bind/open.h"

#include <lauxlib.h>

#include "base/clock.h"
#include "base/container.h"
#include "bind/lloop.h"
#include "bind/shared/lhandle.h"
#include "bind/shared/llock.h"
#include "bind/shared/lshared.h"
#include "bind/shared/lwait.h"
#include "shared/condition.h"
#include "shared/heap.h"
#include "shared/waiter.h"
#include "value/lerror.h"

struct lcondition {
	struct fz_object head;
	struct fz_llock own;
	struct fz_ref lock; /* `own`, or the given lock */
	uint32_t lock_name; /* name of a given lock, or 0 */
	uint32_t lock_generation;
	uint32_t tickets;
};

/* Called after a wait. `notified` is false after the deadline. */
typedef int (*wait_then)(lua_State *L, bool notified, bool abandoned);

struct waiting {
	/* first a wait for the notification, then a wait for the lock */
	struct fz_lwait wait;
	struct fz_lock *lock;
	uint32_t name, self, depth, task;
	uint32_t waiter; /* number of the waiter, see waiter.h */
	struct fz_membership *own;
	/* state of the attempt to acquire the lock again */
	enum fz_lock_state state;
	wait_then then;
};

static struct fz_llock *
lock_of(const struct lcondition *c)
{
	return fz_ref_get(&c->lock);
}

static struct lcondition *
check_condition(lua_State *L)
{
	return fz_lhandle_check(L, 1, FZ_LHANDLE_CONDITION)->object;
}

static struct waiting *
of_wait(struct fz_lwait *wait)
{
	return FZ_CONTAINER_OF(wait, struct waiting, wait);
}

static bool
try_notified(struct fz_lwait *wait, bool late)
{
	const struct waiting *w = of_wait(wait);

	if (late)
		fz_condition_recover(w->name);
	return fz_waiter_state(w->waiter) != FZ_WAITER_WAITS;
}

static bool
try_lock(struct fz_lwait *wait, bool late)
{
	struct waiting *w = of_wait(wait);

	return fz_llock_try(w->lock, w->self, late, &w->state);
}

/* End the use of the waiter. Returns whether it was notified. */
static bool
end_waiter(const struct waiting *w)
{
	bool notified = fz_waiter_end(w->waiter) == FZ_WAITER_GO;

	fz_waiter_give_back(w->own, w->waiter);
	return notified;
}

/*
 * The task holds the lock again: restore the depth of the lock. Returns whether
 * the task was notified.
 */
static bool
leave(struct waiting *w)
{
	w->lock->depth = w->depth;
	w->lock->task = w->task;
	return end_waiter(w);
}

static int
lock_end(lua_State *L, struct fz_lwait *wait, bool in_time)
{
	struct waiting *w = of_wait(wait);

	(void)in_time; /* always true, because there is no deadline */
	if (wait->slept)
		fz_eventcount_rearm(&w->lock->waiters);
	fz_lwait_over(wait);
	return w->then(L, leave(w), w->state == FZ_LOCK_ABANDONED);
}

/* Try once to acquire the lock, then sleep. Raises no error. */
static void
lock_silently(struct waiting *w)
{
	uint32_t seq =
	    fz_eventcount_prepare(&w->lock->waiters, FZ_EVENTCOUNT_SLEEP);

	w->state = fz_lock_recover(w->lock, w->self);
	if (w->state == FZ_LOCK_BUSY)
		fz_eventcount_commit(&w->lock->waiters, seq, FZ_CLOCK_NEVER);
	else
		fz_eventcount_rearm(&w->lock->waiters);
}

static int
lock_protected(lua_State *L)
{
	fz_lwait_here(L, lua_touserdata(L, 1));
	return 0;
}

static const struct fz_lwait_class locking;

static void
wait_for_lock(struct waiting *w)
{
	w->state = FZ_LOCK_BUSY;
	w->wait.class = &locking;
	w->wait.at = &w->lock->waiters;
	w->wait.until_ns = FZ_CLOCK_NEVER;
}

/*
 * After an error has ended the wait, acquire the lock again. Errors of this
 * wait are dropped, and the process sleeps after each.
 */
static void
lock_again(lua_State *L, struct waiting *w)
{
	while (w->state == FZ_LOCK_BUSY) {
		wait_for_lock(w);
		lua_pushcfunction(L, lock_protected);
		lua_pushlightuserdata(L, &w->wait);
		if (lua_pcall(L, 1, 0, 0) == LUA_OK)
			return;
		lua_pop(L, 1);
		lock_silently(w);
	}
}

/*
 * Pass on a notification that this waiter cannot use. If another task of this
 * process holds the lock, that task may be closing this task. A wait for the
 * lock would then never end, so this task ends without the lock.
 */
static void
abandon(lua_State *L, struct fz_lwait *wait)
{
	struct waiting *w = of_wait(wait);
	bool notified;

	fz_waiter_cancel(w->waiter);
	if (w->state == FZ_LOCK_BUSY && fz_lock_is_mine(w->lock, w->self)) {
		notified = end_waiter(w);
	} else {
		lock_again(L, w);
		notified = leave(w);
	}
	if (notified)
		fz_condition_notify(w->name, 1);
}

static const struct fz_lwait_class locking = { "the lock of a condition",
	try_lock, lock_end, abandon };

/* The waiter was notified, or its time is over. Wait for the lock. */
static int
notified_end(lua_State *L, struct fz_lwait *wait, bool in_time)
{
	struct waiting *w = of_wait(wait);

	(void)in_time;
	fz_waiter_cancel(w->waiter);
	wait_for_lock(w);
	return fz_lwait_pushed(L, wait);
}

static const struct fz_lwait_class notifying = { "a condition", try_notified,
	notified_end, abandon };

/* Release the lock, wait, acquire the lock again, and end with then(). */
static int
wait_until(lua_State *L, struct lcondition *c, int64_t until_ns, wait_then then)
{
	struct fz_lwait *wait = fz_lwait_new(L, sizeof(struct waiting));
	struct waiting *w = of_wait(wait);

	w->name = fz_heap_name(&c->head);
	w->self = fz_lhandle_self(L);
	w->lock = &lock_of(c)->lock;
	w->depth = w->lock->depth;
	w->own = fz_lshared(L)->membership;
	w->task = w->own->task;
	w->then = then;
	fz_llock_check_held(L, lock_of(c), w->self);
	fz_lloop_check_free(L);
	w->waiter = fz_waiter_take(w->own);
	if (w->waiter == 0)
		return fz_lerror_fail(L, FZ_ERR_ERROR,
		    "too many tasks wait for conditions and barriers");
	fz_condition_begin(&c->tickets, w->name, w->waiter);
	wait->class = &notifying;
	wait->at = fz_waiter_wakeup(w->waiter);
	wait->until_ns = until_ns;
	fz_lock_release(w->lock);
	return fz_lwait_pushed(L, wait);
}

static int
push_end(lua_State *L, bool notified, bool abandoned)
{
	int n = 1;

	if (notified)
		lua_pushboolean(L, 1);
	else
		n = fz_lwait_push_timeout(L);
	if (abandoned)
		lua_pushliteral(L, "abandoned");
	return abandoned ? n + 1 : n;
}

/*
 * condition:wait([timeout]) -> true | nil, "timeout"; the last result is
 * "abandoned" if a process or task that held the lock ended during the wait
 */
static int
condition_wait(lua_State *L)
{
	struct lcondition *c = check_condition(L);

	return wait_until(L, c, fz_lwait_until(L, 2), push_end);
}

/*
 * Stack indexes of the state of wait_for(): the function f, the deadline,
 * whether the lock was abandoned, and whether there is time left.
 */
enum { PREDICATE = 2, DEADLINE, ABANDONED, IN_TIME };

static int predicate_end(lua_State *L, int status, lua_KContext ctx);

static int
call_predicate(lua_State *L)
{
	lua_settop(L, IN_TIME);
	lua_pushvalue(L, PREDICATE);
	lua_callk(L, 0, 1, 0, predicate_end);
	return predicate_end(L, LUA_OK, 0);
}

static int
waited(lua_State *L, bool notified, bool abandoned)
{
	lua_pushboolean(L, abandoned || lua_toboolean(L, ABANDONED));
	lua_replace(L, ABANDONED);
	lua_pushboolean(L, notified);
	lua_replace(L, IN_TIME);
	return call_predicate(L);
}

static int
predicate_end(lua_State *L, int status, lua_KContext ctx)
{
	bool abandoned = lua_toboolean(L, ABANDONED);
	int n = 1;

	(void)status;
	(void)ctx;
	if (!lua_toboolean(L, -1) && lua_toboolean(L, IN_TIME))
		return wait_until(L, check_condition(L),
		    (int64_t)lua_tointeger(L, DEADLINE), waited);
	if (!lua_toboolean(L, -1))
		return push_end(L, false, abandoned);
	if (abandoned) {
		lua_pushliteral(L, "abandoned");
		n++;
	}
	return n;
}

/*
 * condition:wait_for(f [, timeout]) -> the first true value of f [,
 * "abandoned"] | nil, "timeout" [, "abandoned"]
 */
static int
condition_wait_for(lua_State *L)
{
	struct lcondition *c = check_condition(L);
	int64_t until_ns = fz_lwait_until(L, 3);

	luaL_checktype(L, 2, LUA_TFUNCTION);
	lua_settop(L, 2);
	fz_llock_check_held(L, lock_of(c), fz_lhandle_self(L));
	lua_pushinteger(L, until_ns);
	lua_pushboolean(L, 0);
	lua_pushboolean(L, 1);
	return call_predicate(L);
}

static int
notify(lua_State *L, uint32_t n)
{
	struct lcondition *c = check_condition(L);

	fz_llock_check_held(L, lock_of(c), fz_lhandle_self(L));
	fz_condition_notify(fz_heap_name(&c->head), n);
	return 0;
}

/*
 * condition:notify([n = 1]): notify the n processes or tasks that have waited
 * longest
 */
static int
condition_notify(lua_State *L)
{
	lua_Integer n = luaL_optinteger(L, 2, 1);

	check_condition(L);
	luaL_argcheck(L, n >= 0, 2, "must not be negative");
	return notify(L, n < FZ_CONDITION_ALL ? (uint32_t)n : FZ_CONDITION_ALL);
}

static int
condition_notify_all(lua_State *L)
{
	return notify(L, FZ_CONDITION_ALL);
}

/* condition:acquire([timeout]): the acquire() of its lock */
static int
condition_acquire(lua_State *L)
{
	return fz_llock_acquire(L, lock_of(check_condition(L)));
}

static int
condition_release(lua_State *L)
{
	return fz_llock_release(L, lock_of(check_condition(L)));
}

static int
condition_with(lua_State *L)
{
	return fz_llock_with(L, lock_of(check_condition(L)));
}

static int
condition_guard(lua_State *L)
{
	return fz_llock_guard(L, lock_of(check_condition(L)));
}

/*
 * core.condition([lock]) -> condition. If no lock is given, the condition has
 * its own rlock.
 */
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
		fz_ref_set(&c->lock, lock);
		lua_pushvalue(L, 1);
		lua_setiuservalue(L, -2, 1);
		return 1;
	}
	c = fz_lhandle_new(L, FZ_LHANDLE_CONDITION, sizeof(*c));
	c->own.recursive = c->own.inner = true;
	fz_ref_set(&c->lock, &c->own);
	return 1;
}

/* The handle of a received condition keeps the condition's lock alive. */
static void
load(lua_State *L, struct fz_lhandle *handle)
{
	const struct lcondition *c = handle->object;
	void *lock;

	if (c->lock_name == 0)
		return;
	lock = fz_heap_find(c->lock_name, c->lock_generation, FZ_LHANDLE_LOCK);
	if (lock == NULL)
		fz_lerror_fail(L, FZ_ERR_CLOSED,
		    "the lock of the condition does not exist any more");
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

static const struct fz_lhandle_class class = {
	.name = "fzlua.Condition", .methods = methods, .load = load
};

int
fz_lcondition_open(lua_State *L)
{
	fz_lhandle_class(L, FZ_LHANDLE_CONDITION, &class);
	lua_pushcfunction(L, condition_new);
	lua_setfield(L, -2, "condition");
	return 0;
}
