/*
 * linterrupt.h - interrupts the code of a Lua state from outside, as Ctrl-C
 * does.
 *
 * A signal handler or another thread sets hooks in the running Lua threads by
 * fz_linterrupt(). A Lua thread that is left may be freed, so the code that
 * leaves it waits until no such call is setting hooks.
 */
#ifndef FZ_LINTERRUPT_H
#define FZ_LINTERRUPT_H

#include <sched.h>
#include <signal.h>
#include <stdatomic.h>

#include <lua.h>

struct fz_linterrupt {
	/* whether there was an interrupt whose error is not raised yet */
	_Atomic sig_atomic_t pending;
	/* number of hook calls that have put off the error */
	unsigned nput_off;
	/* number of calls of fz_linterrupt() that are setting hooks */
	atomic_uint nvisits;
	lua_State *main;
	int wake_fd; /* write end of a pipe that wakes the loop; -1: none */
	/* the innermost running coroutine; NULL: none */
	_Atomic(lua_State *) coroutine;
	/* the Lua thread of the running call with jobs = 0; NULL: none */
	_Atomic(lua_State *) local;
};

/*
 * Make the next instruction or wait raise "interrupted". Can be called in a
 * signal handler and in other threads.
 */
void fz_linterrupt(struct fz_linterrupt *interrupt);

/* Raise the error of an interrupt that is pending. [-0, +0, e] */
void fz_linterrupt_check(lua_State *L, struct fz_linterrupt *interrupt);

/* Note that `thread` runs now. Returns the Lua thread that ran before. */
static inline lua_State *
fz_linterrupt_enter(_Atomic(lua_State *) *running, lua_State *thread)
{
	lua_State *outer = atomic_load_explicit(running, memory_order_relaxed);

	atomic_store_explicit(running, thread, memory_order_release);
	return outer;
}

/* Note that the running Lua thread is left, and that `outer` runs again. */
static inline void
fz_linterrupt_leave(struct fz_linterrupt *interrupt,
    _Atomic(lua_State *) *running, lua_State *outer)
{
	atomic_store(running, outer);
	while (atomic_load(&interrupt->nvisits) != 0)
		sched_yield();
}

#endif
