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
 * Value of `until_ns` for a put or take that does not wait. It may still wait
 * briefly for a process that holds the lock of the queue.
 */
#define FZ_LCHANNEL_NOW INT64_MIN

/* Arguments of a put or a take. */
struct fz_lchannel {
	struct fz_lshared *shared;
	struct fz_queue *queue;
	uint32_t self;
	/* The following fields are used only by takes. */
	bool is_tracked; /* see fz_queue_take() */
	/* for a pipe, which ends without a close; all zero for a queue */
	struct fz_pipe_receiver receiver;
};

/*
 * Called at the end of a put or take. Returns what a C function returns. If an
 * item was taken, its value is on top.
 */
typedef int (*fz_lchannel_then)(lua_State *L, enum fz_queue_state state);

/*
 * Put the value at index 2. Waits for room until `until_ns`, and ends with
 * `then`: FZ_QUEUE_DONE, _WAIT (no room in time) or _CLOSED. If the value
 * cannot be sent, memory is short, or the wait is interrupted, this raises, and
 * nothing is put. The caller returns the result. [-0, +n, e]
 */
int fz_lchannel_put(lua_State *L, const struct fz_lchannel *channel,
    int64_t until_ns, fz_lchannel_then then);

/*
 * Take an item and push its value. Waits until `until_ns`, and ends with
 * `then`: FZ_QUEUE_DONE, or _WAIT or _CLOSED and no value. An item that cannot
 * be decoded is lost, and its error raised. An item for which there is no
 * memory stays. The caller returns the result. [-0, +n, e]
 */
int fz_lchannel_take(lua_State *L, const struct fz_lchannel *channel,
    int64_t until_ns, fz_lchannel_then then);

#endif
