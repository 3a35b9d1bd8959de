/*
 * lhandle.h - a userdata for an object of the shared heap.
 *
 * A fork inherits it, and messages within the run carry it as its name. The
 * object lives until its maker has collected the handle and no child that was
 * forked meanwhile lives; one that was sent as a value, until the run ends,
 * since nobody knows who may still get it. So its class is told when it may
 * give back what it can do without.
 */
#ifndef FZ_LHANDLE_H
#define FZ_LHANDLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <lauxlib.h>
#include <lua.h>

struct fz_object;

/* Types of objects; the order is that of messages within one run alone. */
enum fz_lhandle_type {
	FZ_LHANDLE_LOCK = 1,
	FZ_LHANDLE_SEMAPHORE,
	FZ_LHANDLE_EVENT,
	FZ_LHANDLE_CONDITION,
	FZ_LHANDLE_BARRIER,
	FZ_LHANDLE_VALUE,
	FZ_LHANDLE_ARRAY,
	FZ_LHANDLE_QUEUE,
	FZ_LHANDLE_PIPE,
	FZ_LHANDLE_NTYPES
};

struct fz_lhandle {
	const char *name; /* of its class; its address marks our userdata */
	void *object;
	uint32_t part;       /* its class's: which end of a pipe */
	uint32_t generation; /* the object's */
	bool closed;         /* its class's: in this process */
};

/*
 * Make the metatable of a class: `name`, methods, metamethods (either may be
 * NULL). __gc, __eq and __tostring are there unless given; a __gc that is given
 * ends with fz_lhandle_drop(). `load` (NULL: none) completes a handle on top
 * that came in a message. Once for each type, at opening. [-0, +0, m]
 */
void fz_lhandle_class(lua_State *L, enum fz_lhandle_type type, const char *name,
    const luaL_Reg *methods, const luaL_Reg *metamethods,
    void (*load)(lua_State *L, struct fz_lhandle *handle));

/*
 * Have `stored` called whenever one of them was put into a message, with 1, and
 * with -1 when that message was given up.
 */
void fz_lhandle_on_store(enum fz_lhandle_type type,
    void (*stored)(void *object, uint32_t part, int n));

/*
 * Have `idle` called when a handle of one that was sent is collected, and its
 * maker has none any more. Others may have handles, and be using it.
 */
void fz_lhandle_on_idle(enum fz_lhandle_type type, void (*idle)(void *object));

/*
 * Push a new object of `size` bytes and its handle. Raises for memory.
 * [-0, +1, e]
 */
void *fz_lhandle_new(lua_State *L, enum fz_lhandle_type type, size_t size);

/* Push another handle of an object that lives. [-0, +1, m] */
struct fz_lhandle *fz_lhandle_push(
    lua_State *L, enum fz_lhandle_type type, void *object, uint32_t part);

/* The handle at `idx`; raises a type error for anything else. [-0, +0, e] */
struct fz_lhandle *fz_lhandle_check(
    lua_State *L, int idx, enum fz_lhandle_type type);

/* The same, NULL for anything else. */
struct fz_lhandle *fz_lhandle_test(
    lua_State *L, int idx, enum fz_lhandle_type type);

/* The end of a handle: its object is freed when that may be. Again: nothing. */
void fz_lhandle_drop(struct fz_lhandle *handle);

/* The number of this process in the shared heap; raises where it gets none. */
uint32_t fz_lhandle_self(lua_State *L);

/* ---- in messages ------------------------------------------------------- */

/* The handles in a message that is neither sent nor given up. Zeroed: none. */
struct fz_lhandle_stored {
	struct fz_lhandle_note *notes;
	size_t n, room;
	bool on;
	struct fz_lhandle_stored *outer;
};

/*
 * Handles that are encoded between begin() and end() are noted for settle(),
 * which says whether the message was sent. An inner message is ended, or
 * settled, before the outer one goes on.
 */
void fz_lhandle_begin(struct fz_lhandle_stored *stored);
void fz_lhandle_end(struct fz_lhandle_stored *stored);
void fz_lhandle_settle(struct fz_lhandle_stored *stored, bool sent);

#endif
