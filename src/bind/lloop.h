/* lloop.h - the engine of a Lua state, and the waits of its loop. */
#ifndef FZ_LLOOP_H
#define FZ_LLOOP_H

#include <stdbool.h>
#include <stdint.h>

#include <lua.h>

#include "bind/ltask.h"

struct fz_engine;
struct fz_lforks;
struct fz_linterrupt;
struct fz_llimit;
struct fz_lsink;
struct fz_lwork;

/*
 * The engine of this state, created when the library is opened. Raises if it is
 * freed, because the state is being closed. [-0, +0, e]
 */
struct fz_engine *fz_lloop_engine(lua_State *L);

/* Whether the library was opened in the state. [-0, +0, -] */
bool fz_lloop_is_open(lua_State *L);

/*
 * Whether the host has forked this process, and the process has not used the
 * Lua state yet. [-0, +0, -]
 */
bool fz_lloop_is_inherited(lua_State *L);

/*
 * Called at the first use of the Lua state in a process that the host has
 * forked. Drops the tasks of the parent. [-0, +0, e]
 */
void fz_lloop_enter(lua_State *L);

/* The runs and batches whose functions are called in this process. */
struct fz_lwork *fz_lloop_work(lua_State *L);

/* The object that interrupts the code and the waits of this state. */
struct fz_linterrupt *fz_lloop_interrupt(lua_State *L);

/* The sink of this state, whose functions a host may set. */
struct fz_lsink *fz_lloop_sink(lua_State *L);

/* The limits for code of this state. */
struct fz_llimit *fz_lloop_limit(lua_State *L);

/* The functions of the host that are called around forks. */
struct fz_lforks *fz_lloop_forks(lua_State *L);

/*
 * Set whether the engine is held. The engine is held while a value is encoded
 * for it, because functions that __fzpack calls must not use the engine.
 * Returns whether it was held before. [-0, +0, -]
 */
bool fz_lloop_hold(lua_State *L, bool held);

/* Called before each use: raise if the engine is held or freed. [-0, +0, e] */
void fz_lloop_check_free(lua_State *L);

/*
 * fz_lloop_fd(): a descriptor for the poll of a host; -1 and errno on failure.
 * fz_lloop_arm_fd(): make it ready from `at_ns` on, see fz_loop_arm_fd(); does
 * nothing if the engine is freed. [-0, +0, -]
 */
int fz_lloop_fd(lua_State *L);
void fz_lloop_arm_fd(lua_State *L, int64_t at_ns);

/* The running coroutines and the tasks of this state. */
struct fz_ltasks *fz_lloop_tasks(lua_State *L);

/* Turn the loop until done(ctx). Does not call on_wake(). [-0, +0, e] */
void fz_lloop_wait(
    lua_State *L, bool (*done)(const void *ctx), const void *ctx);

/*
 * Whether the caller may sleep without the loop: there are no tasks, and only
 * signals and the wake_fd of the shared heap can become ready.
 */
bool fz_lloop_is_idle(lua_State *L);

/*
 * Whether the engine does work that may end a wait. `nidle` watches and timers
 * are not counted, because they cannot end a wait.
 */
bool fz_lloop_is_working(lua_State *L, unsigned nidle);

/*
 * For a caller that sleeps without the loop: free the memory that was kept for
 * reuse and was not used for a second. Returns the time of the next call;
 * FZ_CLOCK_NEVER if no memory is kept.
 */
int64_t fz_lloop_trim(lua_State *L);

/* Make the wake_fd of the shared heap end a turn of the loop. [-0, +0, e] */
void fz_lloop_listen(lua_State *L);

/*
 * Turn the loop once, for a wait in C until `until_ns`. This runs tasks,
 * functions of runs with jobs = 0, and callbacks if objects have changed. With
 * `what`, the caller waits for this object without a timeout, and an error is
 * raised if nothing can end the wait. [-0, +0, e]
 */
void fz_lloop_turn(lua_State *L, int64_t until_ns, const char *what);

/*
 * For a caller that sleeps without the loop, waits for `what` without a
 * timeout, and tries again after this call. If nothing can end the wait, the
 * first call lets the caller try once more, and the next raises. [-0, +0, e]
 */
void fz_lloop_check_wait(lua_State *L, const char *what);

/*
 * Raise "interrupted" if an interrupt is pending, or "cancelled" if the member
 * of fz_lloop_works_for() has died. Calls the hooks of L, see lhook.h. [-0, +0,
 * e]
 */
void fz_lloop_check(lua_State *L);

/* The member that waits for the work of this process; 0: none. */
uint32_t *fz_lloop_works_for(lua_State *L);

/*
 * Add core.turn, on_wake, poll, wake_count, changed, pid and check_free. [-0,
 * +0, e]
 */
int fz_lloop_open(lua_State *L);

#endif
