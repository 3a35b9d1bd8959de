#include "bind/shared/lwait.h"

#include <stddef.h>
#include <string.h>

#include <lauxlib.h>

#include "base/clock.h"
#include "base/container.h"
#include "bind/lloop.h"
#include "bind/shared/lshared.h"
#include "bind/shared/lsuspended.h"
#include "shared/eventcount.h"
#include "value/luserdata.h"

#define WAIT_TYPE "fzlua.Wait"

static const struct fz_luserdata_class wait_class;

enum { LWAIT_TRIES = 5 };

/* Maximum time between two checks whether anything can end a wait. */
#define LWAIT_PAUSE_NS (32 * FZ_EVENTCOUNT_CHECK_NS)

enum { PENDING, DONE, TIMEOUT, OVER };

int64_t
fz_lwait_until(lua_State *L, int idx)
{
	double seconds;

	if (lua_isnoneornil(L, idx))
		return FZ_CLOCK_NEVER;
	seconds = luaL_checknumber(L, idx);
	return fz_clock_after(fz_clock_ns(), fz_clock_from_seconds(seconds));
}

int
fz_lwait_push_timeout(lua_State *L)
{
	lua_pushnil(L);
	lua_pushliteral(L, "timeout");
	return 2;
}

/*
 * Try several times before the process sleeps, because another processor may be
 * about to make the wait succeed.
 */
static bool
spin_until_done(lua_State *L, struct fz_lwait *wait)
{
	struct fz_spin *spin = &fz_lshared(L)->spin;

	do {
		for (int i = 0; i < LWAIT_TRIES; i++) {
			if (wait->class->try(wait, false)) {
				fz_spin_paid(spin);
				return true;
			}
			fz_eventcount_pause();
		}
	} while (fz_spin_again(spin));
	return false;
}

/* Try once, after fz_eventcount_prepare(). Returns the new state. */
static int
try_once(struct fz_lwait *wait)
{
	int64_t now_ns = fz_clock_ns();
	bool late = now_ns >= wait->late_ns;

	wait->now_ns = now_ns;
	if (wait->class->try(wait, late))
		return DONE;
	if (late)
		wait->late_ns = fz_clock_after(now_ns, FZ_EVENTCOUNT_CHECK_NS);
	return now_ns >= wait->until_ns ? TIMEOUT : PENDING;
}

static int64_t
earlier(int64_t a_ns, int64_t b_ns)
{
	return a_ns < b_ns ? a_ns : b_ns;
}

static void
sleep_at(lua_State *L, struct fz_lwait *wait, uint32_t seq)
{
	fz_eventcount_commit(
	    wait->at, seq, earlier(wait->until_ns, fz_lloop_trim(L)));
	wait->slept = true;
	fz_lloop_check(L);
}

static void
begin_check(lua_State *L, struct fz_lwait *wait)
{
	fz_lsuspended_begin_check(L);
	wait->ntries = fz_lsuspended_ntries(L);
	wait->pause_ns = FZ_EVENTCOUNT_CHECK_NS;
	wait->check_ns = fz_clock_after(wait->now_ns, wait->pause_ns);
}

/*
 * Whether it is time to check that anything can end the wait. If there are
 * tasks, check each time, because the check compares the waits of the tasks
 * with those at the previous check (lua/async/deadlock.lua). Without tasks the
 * time between two checks grows, because a check may read files in /proc.
 */
static bool
is_check_due(lua_State *L, struct fz_lwait *wait)
{
	if (wait->until_ns != FZ_CLOCK_NEVER)
		return false;
	if (wait->pause_ns == 0)
		begin_check(L, wait);
	if (fz_lloop_tasks(L)->live != 0)
		return true;
	if (wait->now_ns < wait->check_ns)
		return false;
	wait->pause_ns = earlier(2 * wait->pause_ns, LWAIT_PAUSE_NS);
	wait->check_ns = fz_clock_after(wait->now_ns, wait->pause_ns);
	return true;
}

/*
 * Called after a check. If it found nothing that can end a wait, it has asked
 * all waits to try late (waits_try()). Then make the next try late, and the
 * next check right after it.
 */
static void
prepare_next_check(lua_State *L, struct fz_lwait *wait)
{
	unsigned ntries = fz_lsuspended_ntries(L);

	if (ntries == wait->ntries)
		return;
	wait->ntries = ntries;
	wait->late_ns = wait->check_ns = 0;
}

static void
turn_loop(lua_State *L, const struct fz_lwait *wait, const char *what)
{
	int64_t check_ns = fz_clock_after(wait->now_ns, FZ_EVENTCOUNT_CHECK_NS);

	fz_lloop_turn(L, earlier(wait->until_ns, check_ns), what);
}

bool
fz_lwait_here(lua_State *L, struct fz_lwait *wait)
{
	for (;;) {
		bool idle = fz_lloop_is_idle(L);
		const char *what;
		uint32_t seq;
		int state;

		if (!idle)
			fz_lloop_listen(L);
		seq = fz_eventcount_prepare(
		    wait->at, idle ? FZ_EVENTCOUNT_SLEEP : FZ_EVENTCOUNT_LOOP);
		state = try_once(wait);
		if (state != PENDING)
			return state == DONE;
		what = is_check_due(L, wait) ? wait->class->what : NULL;
		if (!idle)
			turn_loop(L, wait, what);
		else if (what == NULL)
			sleep_at(L, wait, seq);
		else
			fz_lloop_check_wait(L, what);
		if (what != NULL)
			prepare_next_check(L, wait);
	}
}

/* If the class has abandon(), its end() calls fz_lwait_over() itself. */
static int
end(lua_State *L, struct fz_lwait *wait, bool in_time)
{
	if (wait->index == 0 || wait->class->abandon == NULL)
		wait->state = OVER;
	return wait->class->end(L, wait, in_time);
}

void
fz_lwait_over(struct fz_lwait *wait)
{
	wait->state = OVER;
}

/* A wait as a userdata. */
struct pushed {
	struct fz_lsuspended suspended;
	max_align_t wait[]; /* a struct that begins with struct fz_lwait */
};

struct fz_lwait *
fz_lwait_at(lua_State *L, int idx)
{
	struct pushed *pushed = lua_touserdata(L, idx);

	return (struct fz_lwait *)pushed->wait;
}

static struct pushed *
pushed_of(struct fz_lwait *wait)
{
	return FZ_CONTAINER_OF(wait, struct pushed, wait);
}

static int try_in_task(lua_State *L, struct fz_lwait *wait, bool again);

/* The scheduler has resumed the task. The wait is at index `ctx`. */
static int
resumed(lua_State *L, int status, lua_KContext ctx)
{
	(void)status;
	lua_settop(L, (int)ctx);
	return try_in_task(L, fz_lwait_at(L, (int)ctx), true);
}

/* Try once. If this does not succeed, suspend the task. */
static int
try_in_task(lua_State *L, struct fz_lwait *wait, bool again)
{
	struct pushed *pushed = pushed_of(wait);
	uint32_t seq = fz_eventcount_prepare(wait->at, FZ_EVENTCOUNT_LOOP);
	int state = try_once(wait);

	if (state != PENDING) {
		fz_lsuspended_end(&pushed->suspended, state == DONE);
		return end(L, wait, state == DONE);
	}
	pushed->suspended.what = wait->class->what;
	fz_lsuspended_begin(
	    L, &pushed->suspended, wait->at, seq, wait->until_ns, again);
	fz_ltask_wait(L);
	lua_settop(L, wait->index);
	lua_pushlightuserdata(L, pushed);
	return lua_yieldk(L, 1, wait->index, resumed);
}

static void
begin(struct fz_lwait *wait)
{
	wait->slept = false;
	wait->state = PENDING;
	wait->late_ns = wait->pause_ns = 0;
}

/* Push a zeroed wait. */
static struct fz_lwait *
push_wait(lua_State *L, size_t size)
{
	struct pushed *pushed;
	struct fz_lwait *wait;

	luaL_checkstack(L, 5, NULL);
	pushed = lua_newuserdatauv(L, sizeof(*pushed) + size, 0);
	memset(pushed, 0, sizeof(*pushed) + size);
	fz_luserdata_set(L, &wait_class);
	wait = (struct fz_lwait *)pushed->wait;
	wait->state = PENDING;
	wait->self = fz_lshared_member(fz_lshared(L));
	return wait;
}

struct fz_lwait *
fz_lwait_copy(lua_State *L, const struct fz_lwait *wait, size_t size)
{
	struct fz_lwait *copy = push_wait(L, size);
	uint32_t self = copy->self;

	memcpy(copy, wait, size);
	copy->index = 0;
	copy->state = PENDING;
	copy->self = self;
	return copy;
}

/* Mark the wait on top as a to-be-closed variable of the calling C function. */
static void
adopt(lua_State *L, struct fz_lwait *wait)
{
	wait->index = lua_gettop(L);
	lua_toclose(L, -1);
}

struct fz_lwait *
fz_lwait_new(lua_State *L, size_t size)
{
	struct fz_lwait *wait = push_wait(L, size);

	adopt(L, wait);
	return wait;
}

static int
wait_in_task(lua_State *L, struct fz_lwait *wait)
{
	fz_lloop_listen(L);
	return try_in_task(L, wait, false);
}

int
fz_lwait_pushed(lua_State *L, struct fz_lwait *wait)
{
	if (wait->index == 0)
		adopt(L, wait);
	fz_lloop_check_free(L);
	begin(wait);
	if (fz_ltask_is_running(L))
		return wait_in_task(L, wait);
	if (spin_until_done(L, wait))
		return end(L, wait, true);
	return end(L, wait, fz_lwait_here(L, wait));
}

static int
wait_with_copy(lua_State *L, const struct fz_lwait *wait, size_t size)
{
	struct fz_lwait *copy = fz_lwait_copy(L, wait, size);

	adopt(L, copy);
	return wait_in_task(L, copy);
}

int
fz_lwait(lua_State *L, struct fz_lwait *wait, size_t size)
{
	wait->index = 0;
	fz_lloop_check_free(L);
	begin(wait);
	if (fz_ltask_is_running(L)) {
		if (wait->class->try(wait, false))
			return end(L, wait, true);
		return wait_with_copy(L, wait, size);
	}
	if (spin_until_done(L, wait))
		return end(L, wait, true);
	return end(L, wait, fz_lwait_here(L, wait));
}

/*
 * Finalizer and __close of a wait: undo the operation if the task was dropped
 * or an error ended the wait. A forked child has nothing to undo.
 */
static int
wait_close(lua_State *L)
{
	struct pushed *pushed = luaL_checkudata(L, 1, WAIT_TYPE);
	struct fz_lwait *wait = (struct fz_lwait *)pushed->wait;

	fz_lsuspended_end(&pushed->suspended, true);
	if (wait->state == OVER)
		return 0;
	wait->state = OVER;
	if (wait->class != NULL && wait->class->abandon != NULL &&
	    wait->self == fz_lshared_member(fz_lshared(L)))
		wait->class->abandon(L, wait);
	return 0;
}

static const luaL_Reg metamethods[] = {
	{ "__close", wait_close },
	{ "__gc", wait_close },
	{ NULL, NULL },
};

static const struct fz_luserdata_class wait_class = { .name = WAIT_TYPE,
	.metamethods = metamethods };

int
fz_lwait_open(lua_State *L)
{
	return fz_lsuspended_open(L);
}
