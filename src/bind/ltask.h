/*
 * ltask.h - resumes coroutines of tasks and of the user.
 *
 * A wait in a task yields to the scheduler of tasks. The wait may be in a
 * coroutine that the task has resumed, such as a generator. Then all coroutines
 * from the generator to the task are suspended, and continue when the wait is
 * over. Therefore coroutine.resume and coroutine.wrap are replaced by functions
 * that pass on a wait to their caller. In a coroutine that a function of the
 * host has resumed, waits do not yield.
 */
#ifndef FZ_LTASK_H
#define FZ_LTASK_H

#include <stdbool.h>
#include <stdint.h>

#include <lua.h>

struct fz_linterrupt;
struct fz_llimit;
struct fz_membership;

/* The running coroutines and the tasks of a Lua state. */
struct fz_ltasks {
	struct fz_membership *own; /* has the number of the running task */
	/* the coroutine whose waits may yield; NULL: none */
	lua_State *yields;
	struct fz_linterrupt *interrupt; /* has the innermost coroutine */
	struct fz_llimit *limit; /* limits of a task until its next wait */
	bool waits;              /* the last yield was for a wait */
	unsigned live;           /* number of tasks that have not ended */
	/* number of coroutines of the user that are in a wait */
	unsigned npassed;
	uint32_t last; /* number of the task that was made last */
	/*
	 * number of times that a task was resumed without ending in a wait in
	 * C, plus the number of functions that ran in this process
	 */
	uint64_t advances;
};

/* Whether L is a coroutine of the running task in which waits may yield. */
bool fz_ltask_is_running(lua_State *L);

/* Called before a wait yields. */
void fz_ltask_wait(lua_State *L);

/* Replace coroutine.resume and coroutine.wrap. [-0, +0, e] */
void fz_ltask_follow_coroutines(lua_State *L);

/*
 * Add core.task_new, task_run, task_results, task_close, suspend and
 * follow_coroutines. [-0, +0, e]
 */
int fz_ltask_open(lua_State *L);

#endif
