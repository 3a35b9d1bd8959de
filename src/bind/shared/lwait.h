/*
 * lwait.h - waiting for a change of what processes share.
 *
 * A wait is tried until it succeeds or its time is over. In a task it yields
 * between two tries; elsewhere it turns the loop, or sleeps if nothing is in
 * the loop. Both forms end with a call of end(), whose results are those of
 * the C function that waits. So a wait is the last thing that a C function
 * does, and never happens below a protected call.
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
	/*
	 * Do what the caller waits for if that is possible now: true, and it is
	 * done. `late`: also check what takes longer, such as a death; set at
	 * the first try and every FZ_EVENTCOUNT_CHECK_NS. Must not raise.
	 */
	bool (*try)(struct fz_lwait *wait, bool late);
	/*
	 * Push the results and return their number; `in_time`: try() has
	 * succeeded. May raise, call with a continuation, and wait again.
	 */
	int (*end)(lua_State *L, struct fz_lwait *wait, bool in_time);
	/*
	 * Undo what was begun: the wait ends with an error, which is at index
	 * 2, or its task is closed. Must not raise. NULL: nothing to undo.
	 * Called for waits of fz_lwait_new() only.
	 */
	void (*abandon)(lua_State *L, struct fz_lwait *wait);
};

/*
 * The first member of the caller's own structure, which has no pointer into
 * itself or the C stack: the wait may have to move.
 */
struct fz_lwait {
	const struct fz_lwait_class *class;
	struct fz_eventcount *at; /* changes before try() can succeed */
	int64_t until_ns;
	/*
	 * Set by fz_lwait(). Whether the process slept: if one sleeper is woken
	 * at a time, end() calls fz_eventcount_rearm().
	 */
	bool slept;
	unsigned char state;
	int index;       /* of it on the Lua stack; 0: not there */
	uint32_t self;   /* the member that waits */
	int64_t late_ns; /* when try() is to be called with `late` */
};

/*
 * Wait with `wait`, the head of `size` bytes on the C stack. Raises
 * "interrupted" for Ctrl-C, and what callbacks raise that are called meanwhile.
 * A return value for a C function, "return fz_lwait(...)". [-0, +n, e]
 */
int fz_lwait(lua_State *L, struct fz_lwait *wait, size_t size);

/*
 * Push a wait of `size` zeroed bytes whose class is to be set when there is
 * something to undo: from then on an error ends with abandon(). [-0, +1, e]
 */
struct fz_lwait *fz_lwait_new(lua_State *L, size_t size);

/*
 * Push a copy of a wait of the C stack, with what it has to undo, in a function
 * that is called protectedly and returns it. [-0, +1, m]
 */
struct fz_lwait *fz_lwait_copy(
    lua_State *L, const struct fz_lwait *wait, size_t size);

/*
 * Wait with one that fz_lwait_new() has pushed, or with a copy on top; from
 * end() once more with the same one, perhaps of another class. A return value
 * for a C function.
 * [-0, +n, e]
 */
int fz_lwait_pushed(lua_State *L, struct fz_lwait *wait);

/* Nothing is left to undo. */
void fz_lwait_over(struct fz_lwait *wait);

/*
 * Wait without end() and without yielding, for abandon(). Returns whether try()
 * has succeeded. [-0, +0, e]
 */
bool fz_lwait_here(lua_State *L, struct fz_lwait *wait);

/*
 * The deadline of the optional timeout at `idx`, in seconds: nil is never.
 * Raises for anything but a number. [-0, +0, e]
 */
int64_t fz_lwait_until(lua_State *L, int idx);

/* Return nil, "timeout". */
int fz_lwait_push_timeout(lua_State *L);

/* Open: the class of waits that a task yields. [-0, +0, e] */
int fz_lwait_open(lua_State *L);

#endif
