/* linterrupt.h - ends what runs in a Lua state from outside, as Ctrl-C does. */
#ifndef FZ_LINTERRUPT_H
#define FZ_LINTERRUPT_H

#include <signal.h>

#include <lua.h>

struct fz_linterrupt {
	volatile sig_atomic_t pending; /* set until the error is raised */
	lua_State *main;
	int wake_fd; /* a byte written to it wakes the loop; -1: none */
	/* The innermost coroutine, and the thread of a call with jobs = 0. */
	lua_State *volatile *coroutine, *volatile *local;
};

/*
 * Let the next instruction or wait raise "interrupted". Async-signal-safe, and
 * safe in other threads.
 */
void fz_linterrupt(struct fz_linterrupt *interrupt);

/* Raise the error if it is pending. [-0, +0, e] */
void fz_linterrupt_check(lua_State *L, struct fz_linterrupt *interrupt);

#endif
