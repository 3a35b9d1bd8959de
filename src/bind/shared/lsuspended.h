/*
 * lsuspended.h - tasks that are suspended in a wait for a shared object.
 *
 * The tasks that wait for changes of one eventcount form a list. After a
 * change, the first task of the list is woken and tries. If it succeeds or is
 * cancelled, it wakes the next task, which may succeed, too. If it fails, all
 * others would fail, so it becomes the first task again.
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

/* A task in a wait. All zero: the task is not suspended. */
struct fz_lsuspended {
	struct fz_list link; /* in its list, or in the list of woken tasks */
	/* the list of the task; NULL if the task is not suspended */
	struct fz_lsuspended_list *list;
	struct fz_timer timer; /* fires when the time of the wait is over */
	/* name of the object of the wait, for messages */
	const char *what;
	bool timed; /* whether the wait has a timeout */
	bool late;  /* whether the task was woken only for a regular check */
};

/*
 * Suspend the task until the eventcount `at` changes, or until the time
 * `until_ns`. `seq` is the result of fz_eventcount_prepare(). If `again` is
 * set, the task was woken before, and keeps its place in the list. [-0, +0, e]
 */
void fz_lsuspended_begin(lua_State *L, struct fz_lsuspended *s,
    struct fz_eventcount *at, uint32_t seq, int64_t until_ns, bool again);

/*
 * End the wait of a task. If `more` is set, the next task of the list is woken.
 * Also called when the task is closed.
 */
void fz_lsuspended_end(struct fz_lsuspended *s, bool more);

/*
 * Called when a wait outside of tasks begins to check whether anything can end
 * the wait. The wait must try late (see lwait.h) when the result of
 * fz_lsuspended_ntries() has changed. [-0, +0, -]
 */
void fz_lsuspended_begin_check(lua_State *L);
unsigned fz_lsuspended_ntries(lua_State *L);

/*
 * Add core.waits_try, waits_woken, waits_count, wait_what, is_working and
 * is_idle. [-0, +0, e]
 */
int fz_lsuspended_open(lua_State *L);

#endif
