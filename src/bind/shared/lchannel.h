/* lchannel.h - puts Lua values into a shared queue and takes them out. */
#ifndef FZ_LCHANNEL_H
#define FZ_LCHANNEL_H

#include <stdbool.h>
#include <stdint.h>

#include <lua.h>

#include "bind/shared/lshared.h"
#include "shared/pipe.h"
#include "shared/queue.h"

/*
 * The `until_ns` of puts and takes that do not wait, except briefly for a
 * process that holds the lock of the queue.
 */
#define FZ_LCHANNEL_NOW INT64_MIN

/* The arguments of a put or take. */
struct fz_lchannel {
	struct fz_lshared *shared;
	struct fz_queue *queue;
	uint32_t self;
	/* The other fields are for takes only. */
	bool is_tracked; /* see fz_queue_take() */
	/* For a pipe, which can end without a close; else all zero. */
	struct fz_pipe_receiver receiver;
};

/*
 * Called at the end; returns what a C function returns. A taken value is on
 * top.
 */
typedef int (*fz_lchannel_then)(lua_State *L, enum fz_queue_state state);

/*
 * Put the value at index 2, waiting for room until `until_ns`, and end with
 * `then`: FZ_QUEUE_DONE, _WAIT (no room in time) or _CLOSED. Raises an error if
 * the value cannot be sent, memory is short, or the wait is interrupted;
 * nothing is put then. A return value for a C function. [-0, +n, e]
 */
int fz_lchannel_put(lua_State *L, const struct fz_lchannel *channel,
    int64_t until_ns, fz_lchannel_then then);

/*
 * Take an item, waiting for one until `until_ns`, push its value and end with
 * `then`: FZ_QUEUE_DONE, or _WAIT or _CLOSED and no value. An item that cannot
 * be decoded is lost, and its error raised; an item for which there is no
 * memory stays. A return value for a C function. [-0, +n, e]
 */
int fz_lchannel_take(lua_State *L, const struct fz_lchannel *channel,
    int64_t until_ns, fz_lchannel_then then);

#endif
