/*
 * linterrupt.h - interrupts the code of a Lua state from outside, as Ctrl-C
 * does.
 *
 * A signal handler or another thread interrupts the code by setting hooks in
 * the running Lua threads. Before a Lua thread is left, and perhaps freed, its
 * owner waits until no call of fz_linterrupt() is setting hooks.
 */
#ifndef FZ_LINTERRUPT_H
#define FZ_LINTERRUPT_H

#include <sched.h>
#include <signal.h>
#include <stdatomic.h>

#include <lua.h>

struct fz_linterrupt {
	/* an interrupt has come, and its error is not raised yet */
	_Atomic sig_atomic_t pending;
	/* number of hook calls that have put the error off, see linterrupt.c */
	unsigned nput_off;
	/* number of calls that are setting hooks */
	atomic_uint nvisits;
	lua_State *main;
	int wake_fd; /* a byte written to it wakes the loop; -1: none */
	/* the innermost running coroutine; NULL: none runs */
	_Atomic(lua_State *) coroutine;
	/* the thread of the running call with jobs = 0; NULL: none runs */
	_Atomic(lua_State *) local;
};

/*
 * Let the next instruction or wait raise "interrupted". Async-signal-safe, and
 * safe in other threads.
 */
void fz_linterrupt(struct fz_linterrupt *interrupt);

/* Raise the error of an interrupt that is pending. [-0, +0, e] */
void fz_linterrupt_check(lua_State *L, struct fz_linterrupt *interrupt);

/* Note that `thread` runs from now on. Returns the thread that ran before. */
static inline lua_State *
fz_linterrupt_enter(_Atomic(lua_State *) *running, lua_State *thread)
{
	lua_State *outer = atomic_load_explicit(running, memory_order_relaxed);

	atomic_store_explicit(running, thread, memory_order_release);
	return outer;
}

/* Note that the running thread is left, and that `outer` runs again. */
static inline void
fz_linterrupt_leave(struct fz_linterrupt *interrupt,
    _Atomic(lua_State *) *running, lua_State *outer)
{
	atomic_store(running, outer);
	while (atomic_load(&interrupt->nvisits) != 0)
		sched_yield();
}

#endif
