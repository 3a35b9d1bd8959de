/* lloop.h - the engine of a lua_State, and the one place where C waits. */
#ifndef FZ_LLOOP_H
#define FZ_LLOOP_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

#include <lua.h>

struct fz_engine;
struct fz_lsink;

/*
 * The engine of this state; made when the library is opened. Raises when the
 * state is at its end, and has freed it. [-0, +0, e]
 */
struct fz_engine *fz_lloop_engine(lua_State *L);

/* Somebody with functions to run in this process: a run with jobs = 0. */
struct fz_local {
	/* Run one function, if any is ready; returns whether it did. */
	int (*work)(lua_State *L, struct fz_local *local);
	struct fz_local *next, **prev;
};

void fz_lloop_add_local(lua_State *L, struct fz_local *local);
void fz_lloop_drop_local(struct fz_local *local);

/*
 * core.turn() raises "interrupted" and clears `*pending` when a signal
 * handler has set it. NULL: never.
 */
void fz_lloop_interrupt(lua_State *L, volatile sig_atomic_t *pending);

/*
 * A descriptor that never blocks; a signal handler writes one byte to it so
 * that a waiting core.turn() returns. Raises where there is none. [-0, +0, e]
 */
int fz_lloop_wake_fd(lua_State *L);

/* The sink of this state, whose functions a host may set. */
struct fz_lsink *fz_lloop_sink(lua_State *L);

/*
 * Where a signal handler finds the state that runs a function of a run with
 * jobs = 0 now, NULL when none does: a hook set there interrupts it.
 */
lua_State *volatile *fz_lloop_running(lua_State *L);

/*
 * While values are encoded for the engine, what __fzpack calls must leave it
 * alone. Returns what was set before. [-0, +0, -]
 */
bool fz_lloop_hold(lua_State *L, bool held);

/*
 * Raise while it is held, or when the engine has been freed: before that is
 * made to do anything. [-0, +0, e]
 */
void fz_lloop_check_free(lua_State *L);

/* Whether L is the task that runs now: its waits yield. */
bool fz_lloop_in_task(lua_State *L);

/* Turn until `done`, for who need not let others look. [-0, +0, e] */
void fz_lloop_wait(
    lua_State *L, bool (*done)(const void *ctx), const void *ctx);

/*
 * Whether only signals and the wake_fd of the shared heap can be ready: then
 * the caller may sleep elsewhere.
 */
bool fz_lloop_is_idle(lua_State *L);

/*
 * For who sleeps elsewhere: return the memory that is kept for reuse if it was
 * not used for a second. Returns until when it may stay, FZ_CLOCK_NEVER if
 * nothing is kept.
 */
int64_t fz_lloop_rest(lua_State *L);

/* Let the wake_fd of the shared heap end a step. [-0, +0, e] */
void fz_lloop_listen(lua_State *L);

/*
 * A step for who waits in C until `until_ns`, and lets others look where there
 * are news: functions of runs with jobs = 0, and callbacks. [-0, +0, e]
 */
void fz_lloop_step(lua_State *L, int64_t until_ns);

/*
 * Raise "interrupted" if it is pending, or "cancelled" if the member that this
 * process works for has died. Calls the hook of L, if it has one. [-0, +0, e]
 */
void fz_lloop_check(lua_State *L);

/* The member of the shared heap that this process works for; 0: for itself. */
uint32_t *fz_lloop_works_for(lua_State *L);

/*
 * Open: core.turn, .on_wake, .poll, .wake_count, .changed, .task, .in_task,
 * .now, .cpu_count, .random_seed, .pid, .check_free.
 * [-0, +0, e]
 */
int fz_lloop_open(lua_State *L);

#endif
