/*
 * lhandle.h - a userdata for an object of the shared heap.
 *
 * A forked process inherits the handle. A message contains the name of the
 * object. The object is freed when the process that made it has collected the
 * handle, and all children that it forked after it made the object have ended.
 * An object that was sent in a message stays allocated until the run ends,
 * because any process may still receive it. For such an object, the function
 * `idle` of its class may free memory that the object does not need.
 */
#ifndef FZ_LHANDLE_H
#define FZ_LHANDLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <lauxlib.h>
#include <lua.h>

struct fz_lshared;
struct fz_object;

/* Types of objects. Only messages within one run contain these numbers. */
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
	const char *mark; /* fz_lhandle_mark, which no other userdata has */
	struct fz_lshared *shared; /* the shared state of its Lua state */
	enum fz_lhandle_type type;
	void *object;
	uint32_t side;       /* set by the class: the end of a pipe */
	uint32_t generation; /* generation of the object */
	/* set by the class: whether the object is closed in this process */
	bool closed;
};

/* The functions of a type of handles. Each may be NULL. */
struct fz_lhandle_class {
	/* name of the metatable; NULL: there is no such class */
	const char *name;
	/*
	 * Methods and metamethods, or NULL. The table of methods is an upvalue
	 * of all metamethods. __index, __gc, __eq and __tostring have defaults.
	 * Another __gc must end with fz_lhandle_drop().
	 */
	const luaL_Reg *methods, *metamethods;
	/* Complete the handle on top, which came in a message. [-0, +0, e] */
	void (*load)(lua_State *L, struct fz_lhandle *handle);
	/*
	 * Called with n = 1 when a handle is encoded into a message, and with n
	 * = -1 when that message is dropped.
	 */
	void (*stored)(void *object, uint32_t side, int n);
	/*
	 * Called when a handle of a sent object is collected and its maker has
	 * no handle any more. Other processes may still use the object.
	 */
	void (*idle)(void *object, uint32_t self);
};

/* Register a type of handles, when the library is opened. [-0, +0, m] */
void fz_lhandle_class(lua_State *L, enum fz_lhandle_type type,
    const struct fz_lhandle_class *class);

/* Push the handle of a new object of `size` bytes. [-0, +1, e] */
void *fz_lhandle_new(lua_State *L, enum fz_lhandle_type type, size_t size);

/* Push another handle of an existing object. [-0, +1, m] */
struct fz_lhandle *fz_lhandle_push(
    lua_State *L, enum fz_lhandle_type type, void *object, uint32_t side);

extern const char fz_lhandle_mark[1];

/*
 * The handle at `idx`, of any type. Returns NULL if that is not a handle. The
 * object of the handle may be dropped.
 */
static inline struct fz_lhandle *
fz_lhandle_at(lua_State *L, int idx)
{
	struct fz_lhandle *handle = lua_touserdata(L, idx);

	return handle != NULL && lua_rawlen(L, idx) == sizeof(*handle) &&
		       handle->mark == fz_lhandle_mark
		   ? handle
		   : NULL;
}

/* The handle at `idx`; raises for any other value. [-0, +0, e] */
struct fz_lhandle *fz_lhandle_check(
    lua_State *L, int idx, enum fz_lhandle_type type);

/* The handle at `idx`. Returns NULL if that is not a handle of this type. */
struct fz_lhandle *fz_lhandle_test(
    lua_State *L, int idx, enum fz_lhandle_type type);

/* End a handle and free its object if possible. A second call does nothing. */
void fz_lhandle_drop(struct fz_lhandle *handle);

/*
 * The number of this state as a member of the shared heap. The value at index 1
 * is a handle. Raises if the state is not a member. [-0, +0, e]
 */
uint32_t fz_lhandle_self(lua_State *L);

/*
 * The handles in a message that is neither sent nor dropped yet. If all members
 * are 0, there are none.
 */
struct fz_lhandle_stored {
	struct fz_lshared *shared;
	struct fz_lhandle_note *notes;
	size_t n, room;
	bool on;
	struct fz_lhandle_stored *outer;
};

/*
 * Between fz_lhandle_begin() and fz_lhandle_end() the encoded handles are
 * noted. fz_lhandle_settle() is called when the message is sent or dropped. An
 * inner message ends before the outer one continues.
 */
void fz_lhandle_begin(
    struct fz_lshared *shared, struct fz_lhandle_stored *stored);
void fz_lhandle_end(struct fz_lhandle_stored *stored);
void fz_lhandle_settle(struct fz_lhandle_stored *stored, bool sent);

#endif
