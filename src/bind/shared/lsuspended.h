/*
 * lsuspended.h - tasks that are suspended in a wait for a shared object.
 *
 * The tasks that wait at one eventcount form a list. After a change the first
 * task of a list is woken and tries. If it succeeds, or is cancelled, it wakes
 * the next one, which may succeed, too. If it fails, the others would fail,
 * too, so it becomes the first task of the list again.
 */
#ifndef FZ_LSUSPENDED_H
#define FZ_LSUSPENDED_H

#include <stdbool.h>
#include <stdint.h>

#include <lua.h>

#include "base/list.h"
#include "os/loop.h"

struct fz_eventcount;
struct fz_lsuspended_list;

/* A task in a wait; all zero: it is not suspended. */
struct fz_lsuspended {
	struct fz_list link; /* in its list, or in the list of woken tasks */
	/* the list of the task; NULL: not suspended */
	struct fz_lsuspended_list *list;
	struct fz_timer timer; /* fires at the end of the timeout */
	/* what the task waits for, as messages say it */
	const char *what;
	bool timed; /* the wait has a timeout */
	bool late;  /* the task was woken for a regular check */
};

/*
 * Suspend the task at the eventcount `at`, for which fz_eventcount_prepare()
 * returned `seq`. It is woken at `until_ns` at the latest. `again`: it was
 * woken before and goes on waiting, at the same place in the list. [-0, +0, e]
 */
void fz_lsuspended_begin(lua_State *L, struct fz_lsuspended *s,
    struct fz_eventcount *at, uint32_t seq, int64_t until_ns, bool again);

/*
 * End the wait of a task, which may have been closed. The next task of the list
 * is woken if `more` is set, or if this task was woken and did not try.
 */
void fz_lsuspended_end(struct fz_lsuspended *s, bool more);

/*
 * Called when a wait outside of tasks begins to check whether anything can end
 * it. The wait tries late (see lwait.h) when fz_lsuspended_ntries() has
 * changed. [-0, +0, -]
 */
void fz_lsuspended_begin_check(lua_State *L);
unsigned fz_lsuspended_ntries(lua_State *L);

/*
 * Open: core.waits_try, .waits_woken, .waits_count, .wait_what, .is_working,
 * .is_idle. [-0, +0, e]
 */
int fz_lsuspended_open(lua_State *L);

#endif
