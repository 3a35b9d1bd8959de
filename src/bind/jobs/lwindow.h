/*
 * lwindow.h - the common part of an imap and a stream. A window contains the
 * items that were read from a source and whose results were not returned yet.
 *
 *   nreturned <= results that are ready <= nread <= nreturned + limit
 *
 * Items are numbered from 1 in the order of the source. The limit is fixed, or
 * the window sizes itself: the limit is doubled each time a number of results
 * equal to the limit is returned within a few milliseconds.
 */
#ifndef FZ_LWINDOW_H
#define FZ_LWINDOW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <lauxlib.h>
#include <lua.h>

struct fz_lwindow;

/* First user value of a window's userdata: a table of errors by number. */
enum { FZ_LWINDOW_ERRORS = 1 };

/*
 * The functions of an imap or a stream. The userdata begins with the window,
 * and is at index 1 of the stack.
 */
struct fz_lwindow_ops {
	/* Whether a result is ready. [-0, +0, -] */
	bool (*ready)(lua_State *L, const struct fz_lwindow *w);
	/*
	 * Whether there is room for another item. `bytes` is the maximum total
	 * size of the values in the window.
	 */
	bool (*has_room)(const struct fz_lwindow *w, size_t bytes);
	/*
	 * Add the item on top, which has the number `nread`. If the item cannot
	 * be sent, its result is an error. [-1, +0, e]
	 */
	void (*put)(lua_State *L, struct fz_lwindow *w);
	void (*send)(lua_State *L, struct fz_lwindow *w);
	/*
	 * Push the next result: its number and its value, or its number, nil
	 * and the values that describe its error. Returns how many values were
	 * pushed; 0 if no result is ready. [-0, +?, e]
	 */
	int (*take)(lua_State *L, struct fz_lwindow *w);
};

struct fz_lwindow {
	const char *tag;
	const struct fz_lwindow_ops *ops;
	uint64_t nread, nreturned;
	/* maximum number of items that are read and not returned */
	uint64_t limit;
	bool fixed;        /* whether the limit never changes */
	bool calls_always; /* advance() is called for each result */
	unsigned ncalls;   /* number of calls of advance() in progress */
	bool ended;        /* no more items are read */
	bool closed;       /* no more results are returned */
	int64_t began_ns;  /* time at which read() was called */
	int64_t called_ns; /* time of the last call of the source */
	/* time at which `nreturned` was equal to `marked` */
	int64_t marked_ns;
	uint64_t marked;
};

/*
 * Initialise the new window on top, with `limit` and `fixed` of the options at
 * `idx`. Its user value FZ_LWINDOW_ERRORS becomes a table. [-0, +0, e]
 */
void fz_lwindow_init(lua_State *L, struct fz_lwindow *w,
    const struct fz_lwindow_ops *ops, int idx);

/* The window at `idx`, which must have the functions `ops`. [-0, +0, e] */
struct fz_lwindow *fz_lwindow_check(
    lua_State *L, int idx, const struct fz_lwindow_ops *ops);

/*
 * The window is at 1. fz_lwindow_keep_error() keeps the error on top as the
 * error of item `number` [-1, +0, m]. fz_lwindow_push_error() pushes nil and
 * the kept error of item `number` [-0, +2, m].
 */
void fz_lwindow_keep_error(lua_State *L, uint64_t number);
void fz_lwindow_push_error(lua_State *L, uint64_t number);

/* Methods of all windows. */
extern const luaL_Reg fz_lwindow_methods[];

#endif
