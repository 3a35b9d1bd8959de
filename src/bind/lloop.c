/* for the flags of pipes, which are not in C or POSIX */
#define _GNU_SOURCE
#include "bind/lloop.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include <lauxlib.h>

#include "base/clock.h"
#include "base/container.h"
#include "bind/lforks.h"
#include "bind/lhook.h"
#include "bind/linterrupt.h"
#include "bind/llimit.h"
#include "bind/lsink.h"
#include "bind/lwork.h"
#include "child/forked.h"
#include "os/fd.h"
#include "os/process.h"
#include "proc/proc.h"
#include "shared/heap.h"
#include "shared/idle.h"
#include "value/garbage.h"
#include "value/lerror.h"
#include "value/luserdata.h"
#include "worker/change.h"
#include "worker/engine.h"
#include "worker/worker.h"

/*
 * The addresses of these variables are the registry keys of the loop and of the
 * function on_wake.
 */
static const char loop_key, on_wake_key;

struct lloop {
	struct fz_engine engine;
	struct fz_lwork work;
	struct fz_linterrupt interrupt;
	struct fz_llimit limit;
	struct fz_ltasks tasks;
	pid_t pid;   /* pid of this process; kept because it is read often */
	pid_t main;  /* pid of the process that opened the library */
	int wake[2]; /* pipe by which an interrupt wakes the loop */
	struct fz_watch wake_watch;
	/*
	 * Watches the wake_fd of the shared heap. Its fd is -1 until
	 * fz_lloop_listen().
	 */
	struct fz_watch heap_watch;
	struct fz_change heap_change;
	struct fz_fork_hook hook;
	struct fz_idle idle;  /* finds memory that is not in use */
	struct fz_timer trim; /* frees unused memory later */
	bool held;            /* see fz_lloop_hold() */
	struct fz_garbage *garbage;
	struct fz_lsink sink;
	struct fz_lforks forks;
	lua_State *turning;     /* the Lua thread that turns the loop */
	struct fz_lhook before; /* hooks when the turn began */
	/* the member that waits for the work of this process; 0: none */
	uint32_t works_for;
	/* generation (fz_process) of the process that used the loop last */
	uint32_t generation;
};

static struct lloop *
get(lua_State *L)
{
	return fz_luserdata_kept(L, &loop_key);
}

bool
fz_lloop_is_open(lua_State *L)
{
	return get(L) != NULL;
}

bool
fz_lloop_is_inherited(lua_State *L)
{
	const struct lloop *ll = get(L);

	return ll != NULL && ll->generation != fz_process.generation;
}

/*
 * In a child that the host has forked, drop the tasks and waits of the parent.
 */
static void
enter(lua_State *L, struct lloop *ll)
{
	if (ll->generation == fz_process.generation)
		return;
	ll->generation = fz_process.generation;
	if (ll->engine.loop != NULL)
		fz_loop_adopt(ll->engine.loop);
	fz_forked_check(L);
}

void
fz_lloop_enter(lua_State *L)
{
	enter(L, get(L));
}

/*
 * The loop of L. Raises an error if the loop is freed, because a finalizer of
 * the script may run after the finalizer of the loop.
 */
static struct lloop *
check_open(lua_State *L)
{
	struct lloop *ll = get(L);

	if (ll->engine.loop == NULL)
		fz_lerror_fail(L, FZ_ERR_CLOSED,
		    "fzlua is closed: this Lua state is being closed");
	enter(L, ll);
	return ll;
}

struct fz_engine *
fz_lloop_engine(lua_State *L)
{
	return &check_open(L)->engine;
}

struct fz_lwork *
fz_lloop_work(lua_State *L)
{
	return &get(L)->work;
}

struct fz_linterrupt *
fz_lloop_interrupt(lua_State *L)
{
	return &get(L)->interrupt;
}

bool
fz_lloop_hold(lua_State *L, bool held)
{
	struct lloop *ll = get(L);
	bool before = ll->held;

	ll->held = held;
	return before;
}

struct fz_lsink *
fz_lloop_sink(lua_State *L)
{
	return &get(L)->sink;
}

struct fz_llimit *
fz_lloop_limit(lua_State *L)
{
	return &get(L)->limit;
}

struct fz_lforks *
fz_lloop_forks(lua_State *L)
{
	return &get(L)->forks;
}

void
fz_lloop_check(lua_State *L)
{
	struct lloop *ll = get(L);

	fz_linterrupt_check(L, &ll->interrupt);
	fz_llimit_check(L, &ll->limit);
	fz_lhook_run(L, ll->interrupt.main);
	if (ll->works_for != 0 && !fz_heap_alive(ll->works_for))
		fz_lerror_fail(L, FZ_ERR_CANCELLED,
		    "the process that waited for this call has ended");
}

uint32_t *
fz_lloop_works_for(lua_State *L)
{
	return &get(L)->works_for;
}

/* An interrupt has written a byte to the pipe. Make waiters check again. */
static void
woken(struct fz_watch *watch, unsigned events)
{
	struct lloop *ll = FZ_CONTAINER_OF(watch, struct lloop, wake_watch);
	char bytes[64];

	(void)events;
	while (fz_fd_read(watch->fd, bytes, sizeof(bytes)) > 0)
		continue;
	ll->engine.wake_count++;
}

static int
open_wake_pipe(struct lloop *ll, struct fz_err *err)
{
	if (fz_fd_pipe(ll->wake, err) != 0 ||
	    fz_fd_nonblock(ll->wake[0], err) != 0 ||
	    fz_fd_nonblock(ll->wake[1], err) != 0 ||
	    fz_loop_watch(ll->engine.loop, &ll->wake_watch, ll->wake[0],
		FZ_LOOP_READ, err) != 0)
		return -1;
	ll->interrupt.wake_fd = ll->wake[1];
	return 0;
}

/* Call one function of a run or a batch with jobs = 0. */
static int
work(lua_State *L, struct lloop *ll)
{
	int worked = fz_lwork_run(L, &ll->work);

	ll->tasks.advances += (unsigned)worked;
	return worked;
}

static void
trim_idle(struct fz_timer *timer)
{
	struct lloop *ll = FZ_CONTAINER_OF(timer, struct lloop, trim);

	fz_idle_trim(&ll->idle, ll->engine.arena);
}

/* Whether the loop may sleep: no signal handler has set a hook in this turn. */
static bool
may_sleep(void *ctx)
{
	const struct lloop *ll = ctx;

	return fz_lhook_is_same(
	    ll->before, fz_lhook_get(ll->turning, ll->interrupt.main));
}

/*
 * Turn the loop once. During the wait of the turn, a timer may free unused
 * memory.
 */
static void
turn(lua_State *L, struct lloop *ll, int64_t until_ns)
{
	struct fz_loop *loop = ll->engine.loop;
	int64_t trim_ns = fz_idle_until(&ll->idle, ll->engine.arena);
	struct fz_err err = { 0 };

	if (trim_ns != FZ_CLOCK_NEVER && ll->trim.index == 0)
		/* If the timer cannot be armed now, a later turn arms it. */
		fz_loop_arm(loop, &ll->trim, trim_ns);
	ll->turning = L;
	ll->before = fz_lhook_get(L, ll->interrupt.main);
	/* a signal may have come since Lua code last ran */
	fz_lhook_run(L, ll->interrupt.main);
	if (fz_loop_turn(loop, until_ns, &err) < 0)
		fz_lerror_raise(L, &err);
	fz_garbage_catch_up(ll->garbage, L);
	fz_lloop_check(L);
	fz_lsink_check(L, &ll->sink);
}

int64_t
fz_lloop_trim(lua_State *L)
{
	struct lloop *ll = get(L);

	fz_idle_trim(&ll->idle, ll->engine.arena);
	return fz_idle_until(&ll->idle, ll->engine.arena);
}

/* Number of the watches and timers of this file, which do not count as work. */
static unsigned
nown(const struct lloop *ll)
{
	return (ll->wake_watch.fd != -1 ? 1U : 0) +
	       (ll->heap_watch.fd != -1 ? 1U : 0) +
	       (ll->trim.index != 0 ? 1U : 0);
}

/*
 * Whether the engine does work that may end a wait. `nidle` watches and timers
 * are not counted, because they cannot end a wait.
 */
static bool
is_working(const struct lloop *ll, unsigned nidle)
{
	return fz_lwork_is_ready(&ll->work) ||
	       fz_list_first(&ll->engine.changed) != NULL ||
	       fz_loop_nbusy(ll->engine.loop) != 0 ||
	       fz_loop_nwatched(ll->engine.loop) >
		   nown(ll) + fz_worker_nresting(&ll->engine) + nidle;
}

/*
 * Turn the loop until waiters must check again, or until `until_ns`. Returns
 * whether they must. Most turns only move jobs, and need no Lua code.
 */
static int
turn_until_change(lua_State *L, struct lloop *ll, int64_t until_ns)
{
	unsigned long count = ll->engine.wake_count;

	do {
		turn(L, ll, until_ns);
		if (ll->engine.wake_count != count ||
		    !fz_lwork_is_empty(&ll->work) || !is_working(ll, 0))
			return 1;
	} while (until_ns == FZ_CLOCK_NEVER || fz_clock_ns() < until_ns);
	return 0;
}

void
fz_lloop_check_free(lua_State *L)
{
	if (check_open(L)->held)
		fz_lerror_fail(L, FZ_ERR_ERROR,
		    "fzlua cannot be used here: a value is being packed");
}

void
fz_lloop_wait(lua_State *L, bool (*done)(const void *ctx), const void *ctx)
{
	struct lloop *ll = get(L);

	fz_lloop_check_free(L);
	fz_lloop_check(L);
	while (!done(ctx))
		turn(L, ll, FZ_CLOCK_NEVER);
}

int
fz_lloop_fd(lua_State *L)
{
	struct fz_loop *loop = get(L) != NULL ? get(L)->engine.loop : NULL;
	struct fz_err err = { 0 };
	int fd, keep = errno;

	if (loop == NULL) {
		errno = EBADF;
		return -1;
	}
	fd = fz_loop_fd(loop, &err);
	if (fd != -1)
		fz_loop_arm_fd(loop, 0);
	errno = fd != -1 ? keep : err.code;
	return fd;
}

void
fz_lloop_arm_fd(lua_State *L, int64_t at_ns)
{
	const struct lloop *ll = get(L);

	if (ll != NULL && ll->engine.loop != NULL)
		fz_loop_arm_fd(ll->engine.loop, at_ns);
}

struct fz_ltasks *
fz_lloop_tasks(lua_State *L)
{
	return &get(L)->tasks;
}

bool
fz_lloop_is_idle(lua_State *L)
{
	const struct lloop *ll = get(L);

	return fz_lwork_is_empty(&ll->work) && ll->tasks.live == 0 &&
	       fz_loop_nwatched(ll->engine.loop) == nown(ll);
}

bool
fz_lloop_is_working(lua_State *L, unsigned nidle)
{
	const struct lloop *ll = get(L);

	return is_working(ll, nidle);
}

/*
 * Called when shared objects have changed. If there are no tasks, the code that
 * turns the loop is the only waiter, and checks its own condition.
 */
static void
heap_woke(struct fz_watch *watch, unsigned events)
{
	struct lloop *ll = FZ_CONTAINER_OF(watch, struct lloop, heap_watch);

	(void)events;
	if (ll->tasks.live != 0)
		fz_changed(&ll->heap_change);
	else
		ll->engine.wake_count++;
}

void
fz_lloop_listen(lua_State *L)
{
	struct lloop *ll = get(L);
	struct fz_err err = { 0 };

	if (ll->heap_watch.fd == -1 &&
	    fz_loop_watch(ll->engine.loop, &ll->heap_watch, fz_heap_wake_fd(),
		FZ_LOOP_READ | FZ_LOOP_EDGE, &err) != 0)
		fz_lerror_raise(L, &err);
}

/* Before the first wait, load the module that calls core.on_wake(). */
static void
load_wait(lua_State *L)
{
	lua_getglobal(L, "require");
	lua_pushliteral(L, "fzlua.wait");
	if (lua_pcall(L, 1, 0, 0) != LUA_OK)
		/*
		 * Drop the error. The wait goes on, and a later turn loads the
		 * module.
		 */
		lua_pop(L, 1);
}

/*
 * Call on_wake(what). Returns the time at which it must be called again at the
 * latest. FZ_CLOCK_NEVER means that only a change of an object requires another
 * call.
 */
static int64_t
call_on_wake(lua_State *L, const char *what)
{
	int64_t at_ns = FZ_CLOCK_NEVER;

	luaL_checkstack(L, 3, NULL);
	if (lua_rawgetp(L, LUA_REGISTRYINDEX, &on_wake_key) == LUA_TNIL) {
		lua_pop(L, 1);
		if (what != NULL)
			load_wait(L);
		return at_ns;
	}
	lua_pushstring(L, what);
	lua_call(L, 1, 1);
	if (lua_isnumber(L, -1))
		at_ns = fz_clock_from_seconds(lua_tonumber(L, -1));
	lua_pop(L, 1);
	return at_ns;
}

void
fz_lloop_check_wait(lua_State *L, const char *what)
{
	call_on_wake(L, what);
}

void
fz_lloop_turn(lua_State *L, int64_t until_ns, const char *what)
{
	struct lloop *ll = get(L);
	unsigned long count = ll->engine.wake_count;
	int64_t at_ns = FZ_CLOCK_NEVER;

	fz_lloop_check_free(L);
	if (work(L, ll))
		until_ns = 0;
	if (ll->tasks.live != 0 || what != NULL)
		at_ns = call_on_wake(L, what);
	if (ll->engine.wake_count != count)
		until_ns = 0;
	turn(L, ll, at_ns < until_ns ? at_ns : until_ns);
	if (ll->tasks.live == 0 && ll->engine.wake_count != count &&
	    fz_list_first(&ll->engine.changed) != NULL)
		call_on_wake(L, NULL);
}

/*
 * core.on_wake(f): set the function on_wake. f(what) is called during waits in
 * C, to handle changes of objects and to run tasks. It returns the time (of
 * core.now()) at which it must be called again, or nil. If `what` is not nil,
 * it describes the object for which the caller waits without a timeout, and f
 * raises an error if nothing can end this wait.
 */
static int
loop_on_wake(lua_State *L)
{
	luaL_checktype(L, 1, LUA_TFUNCTION);
	lua_settop(L, 1);
	lua_rawsetp(L, LUA_REGISTRYINDEX, &on_wake_key);
	return 0;
}

/* core.wake_count() -> an integer that changes when waiters must check again */
static int
loop_wake_count(lua_State *L)
{
	lua_pushinteger(L, (lua_Integer)get(L)->engine.wake_count);
	return 1;
}

/*
 * core.changed() -> id of the first changed object, which is then removed from
 * the queue; nil if no object has changed. The id 0 means that shared objects
 * have changed, so all waits of tasks must be tried.
 */
static int
loop_changed(lua_State *L)
{
	struct lloop *ll = get(L);
	uint64_t id = fz_change_take(&ll->engine);

	if (id == 0)
		return 0;
	lua_pushinteger(L, id == ll->heap_change.id ? 0 : (lua_Integer)id);
	return 1;
}

/*
 * core.turn([timeout [, seen]]) -> whether waiters must check again, whether a
 * function has run. Does not wait if wake_count() differs from `seen`.
 */
static int
loop_turn(lua_State *L)
{
	struct lloop *ll = get(L);
	double timeout = luaL_optnumber(L, 1, -1);
	int64_t until = FZ_CLOCK_NEVER;
	int worked, happened;

	fz_lloop_check_free(L);
	fz_lloop_check(L);
	worked = work(L, ll);
	happened = worked || (!lua_isnoneornil(L, 2) &&
				 luaL_checkinteger(L, 2) !=
				     (lua_Integer)ll->engine.wake_count);
	if (happened || timeout == 0)
		until = 0;
	else if (timeout > 0)
		until = fz_clock_after(
		    fz_clock_ns(), fz_clock_from_seconds(timeout));
	happened |= turn_until_change(L, ll, until);
	lua_pushboolean(L, happened);
	lua_pushboolean(L, worked);
	return 2;
}

static int
loop_pid(lua_State *L)
{
	const struct lloop *ll = get(L);

	lua_pushinteger(L, ll->pid);
	lua_pushinteger(L, ll->main);
	return 2;
}

/*
 * core.poll(): turn the loop once, without waiting and without running
 * functions. Does nothing while a value is encoded.
 */
static int
loop_poll(lua_State *L)
{
	struct lloop *ll = get(L);

	if (!ll->held && ll->engine.loop != NULL)
		turn_until_change(L, ll, 0);
	return 0;
}

static int
loop_gc(lua_State *L)
{
	struct lloop *ll = lua_touserdata(L, 1);

	if (ll->engine.loop == NULL)
		return 0;
	fz_loop_unwatch(ll->engine.loop, &ll->wake_watch);
	fz_loop_unwatch(ll->engine.loop, &ll->heap_watch);
	fz_loop_disarm(ll->engine.loop, &ll->trim);
	fz_fd_close(&ll->wake[0]);
	fz_fd_close(&ll->wake[1]);
	fz_llimit_fini(L, &ll->limit);
	fz_loop_unhook(&ll->hook);
	fz_lsink_fini(&ll->sink);
	fz_engine_fini(&ll->engine);
	return 0;
}

/* In a forked child: a worker ignores Ctrl-C, and must not wake its parent. */
static void
in_child(struct fz_fork_hook *hook)
{
	struct lloop *ll = FZ_CONTAINER_OF(hook, struct lloop, hook);

	fz_loop_unwatch(ll->engine.loop, &ll->wake_watch);
	fz_loop_unwatch(ll->engine.loop, &ll->heap_watch);
	fz_fd_close(&ll->wake[0]);
	fz_fd_close(&ll->wake[1]);
	ll->pid = getpid();
	ll->interrupt.wake_fd = -1;
	ll->interrupt.pending = 0;
	/* the threads that called fz_linterrupt() are not in the child */
	ll->interrupt.nvisits = 0;
	ll->interrupt.local = ll->interrupt.coroutine = NULL;
	fz_llimit_in_child(&ll->limit);
	fz_footer_in_child(&ll->sink.footer);
	ll->tasks = (struct fz_ltasks){ .own = ll->tasks.own,
		.interrupt = &ll->interrupt,
		.limit = &ll->limit };
	ll->tasks.own->task = 0;
	fz_lwork_clear(&ll->work);
}

/* core.check_free(): raise if a value is being encoded for the engine */
static int
loop_check_free(lua_State *L)
{
	fz_lloop_check_free(L);
	return 0;
}

static const luaL_Reg functions[] = {
	{ "turn", loop_turn },
	{ "wake_count", loop_wake_count },
	{ "changed", loop_changed },
	{ "on_wake", loop_on_wake },
	{ "pid", loop_pid },
	{ "poll", loop_poll },
	{ "check_free", loop_check_free },
	{ NULL, NULL },
};

static void
set_interrupt(lua_State *L, struct lloop *ll)
{
	lua_rawgeti(L, LUA_REGISTRYINDEX, LUA_RIDX_MAINTHREAD);
	ll->interrupt = (struct fz_linterrupt){ .main = lua_tothread(L, -1),
		.wake_fd = -1 };
	lua_pop(L, 1);
}

int
fz_lloop_open(lua_State *L)
{
	struct fz_err err = { 0 };
	struct lloop *ll;

	luaL_setfuncs(L, functions, 0);
	if (get(L) != NULL)
		return 0;
	ll = lua_newuserdatauv(L, sizeof(*ll), 0);
	memset(ll, 0, sizeof(*ll));
	ll->pid = ll->main = getpid();
	ll->generation = fz_process.generation;
	if (fz_proc_is_child()) /* a worker that is a program */
		ll->main = fz_process.parent;
	ll->wake[0] = ll->wake[1] = -1;
	ll->wake_watch = (struct fz_watch){ .fd = -1, .ready = woken };
	ll->heap_watch = (struct fz_watch){ .fd = -1, .ready = heap_woke };
	ll->trim.fired = trim_idle;
	fz_lwork_init(&ll->work);
	ll->hook.in_child = in_child;
	ll->garbage = fz_garbage_open(L);
	fz_luserdata_finalize(L, loop_gc);
	fz_lsink_init(&ll->sink);
	set_interrupt(L, ll);
	if (fz_engine_init(&ll->engine, fz_lsink_output, &ll->sink, &err) !=
		0 ||
	    open_wake_pipe(ll, &err) != 0)
		return fz_lerror_raise(L, &err);
	ll->tasks.own = &ll->engine.membership;
	ll->tasks.interrupt = &ll->interrupt;
	ll->tasks.limit = &ll->limit;
	fz_llimit_init(&ll->limit, ll->engine.loop);
	fz_lforks_init(&ll->forks, &ll->engine.children);
	fz_loop_hook(ll->engine.loop, &ll->hook);
	fz_loop_may_sleep(ll->engine.loop, may_sleep, ll);
	fz_change_init(&ll->heap_change, &ll->engine);
	lua_rawsetp(L, LUA_REGISTRYINDEX, &loop_key);
	return 0;
}
