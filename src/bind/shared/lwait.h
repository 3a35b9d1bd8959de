/*
 * lwait.h - waits for changes of shared objects.
 *
 * A wait calls try() until try() succeeds or the deadline passes. In a task,
 * the wait yields between two tries. Outside of tasks, the process turns its
 * loop, or sleeps if the loop is idle. Both forms end with a call of end(),
 * whose results are those of the C function that waits. So a wait is the last
 * action of a C function, and never inside a protected call.
 */
#ifndef FZ_LWAIT_H
#define FZ_LWAIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <lua.h>

struct fz_eventcount;
struct fz_lwait;

struct fz_lwait_class {
	const char *what; /* for messages: "an item of a queue" */
	/*
	 * Do the operation for which the caller waits, if it is possible now.
	 * Returns whether it was done. `late`: also do expensive checks, such
	 * as for the death of a process; set at the first try and every
	 * FZ_EVENTCOUNT_CHECK_NS. Must not raise.
	 */
	bool (*try)(struct fz_lwait *wait, bool late);
	/*
	 * Push the results and return their number. `in_time`: try() has
	 * succeeded. May raise, call with a continuation, and wait again.
	 */
	int (*end)(lua_State *L, struct fz_lwait *wait, bool in_time);
	/*
	 * Undo what the operation has begun, because an error has ended the
	 * wait, or the task was closed. Must not raise an error. NULL: there is
	 * nothing to undo. Called only for waits of fz_lwait_new().
	 */
	void (*abandon)(lua_State *L, struct fz_lwait *wait);
};

/*
 * The first member of a structure of the caller. The structure must not point
 * into itself or the C stack, because a wait may be moved.
 */
struct fz_lwait {
	const struct fz_lwait_class *class;
	struct fz_eventcount *at; /* changes before try() can succeed */
	int64_t until_ns;
	/*
	 * Set by fz_lwait(): whether the process has slept. If a notification
	 * wakes one sleeper only, end() then calls fz_eventcount_rearm().
	 */
	bool slept;
	unsigned char state;
	/* index of the wait on the Lua stack; 0: it is on the C stack */
	int index;
	uint32_t self;   /* the member that waits */
	int64_t now_ns;  /* time of the last try, except spins */
	int64_t late_ns; /* time from which on try() is called with `late` */
	/* time of the next check whether anything can end the wait */
	int64_t check_ns;
	int64_t pause_ns; /* pause after a check; 0: none was made yet */
	unsigned ntries;  /* last result of fz_lsuspended_ntries() */
};

/*
 * Wait with `wait`, which is the first member of a structure of `size` bytes on
 * the C stack. Raises "interrupted" for Ctrl-C, and the errors of callbacks
 * that run during the wait. The caller returns the result of this function.
 * [-0, +n, e]
 */
int fz_lwait(lua_State *L, struct fz_lwait *wait, size_t size);

/*
 * Push a wait of `size` zeroed bytes. The caller sets the class of the wait
 * when there is something to undo. From then on, an error calls abandon(). [-0,
 * +1, e]
 */
struct fz_lwait *fz_lwait_new(lua_State *L, size_t size);

/*
 * Push a copy of `wait`, which is on the C stack, with the state that abandon()
 * needs. Used by a protected function, which returns the copy. [-0, +1, m]
 */
struct fz_lwait *fz_lwait_copy(
    lua_State *L, const struct fz_lwait *wait, size_t size);

/*
 * Wait with a wait of fz_lwait_new(), or with one of fz_lwait_copy(), which is
 * on top. end() may give `wait` another class and call this function again. The
 * caller returns the result of this function. [-0, +n, e]
 */
int fz_lwait_pushed(lua_State *L, struct fz_lwait *wait);

/* The wait at the stack index `idx`. [-0, +0, -] */
struct fz_lwait *fz_lwait_at(lua_State *L, int idx);

/* There is nothing to undo any more: do not call abandon(). */
void fz_lwait_over(struct fz_lwait *wait);

/*
 * Wait without a call of end() and without a yield. Used by abandon(). Returns
 * whether try() has succeeded. [-0, +0, e]
 */
bool fz_lwait_here(lua_State *L, struct fz_lwait *wait);

/*
 * Read the optional timeout at `idx`, in seconds, and return the deadline. nil
 * stands for no deadline. Raises an error for other values. [-0, +0, e]
 */
int64_t fz_lwait_until(lua_State *L, int idx);

/* Push nil and "timeout". Returns 2. */
int fz_lwait_push_timeout(lua_State *L);

/* Add the class of waits, and the functions of lsuspended.h. [-0, +0, e] */
int fz_lwait_open(lua_State *L);

#endif
