/* lchannel.h - Lua values into a shared queue, and out of it. */
#ifndef FZ_LCHANNEL_H
#define FZ_LCHANNEL_H

#include <stdbool.h>
#include <stdint.h>

#include <lua.h>

#include "shared/queue.h"

/* Do not wait: a moment at most, for a process that was stopped within. */
#define FZ_LCHANNEL_NOW INT64_MIN

/* How one takes. */
struct fz_lchannel {
	struct fz_queue *queue;
	uint32_t self;
	bool is_owed; /* see fz_queue_take() */
	/*
	 * Asked while it is empty: whether nothing will come; `late`: also for
	 * a death. NULL: never.
	 */
	bool (*is_over)(void *ctx, bool late);
	void *ctx;
};

/*
 * Put the value at `idx`, when there is room, until `until_ns`: FZ_QUEUE_DONE,
 * _WAIT or _CLOSED. Raises for values that cannot be sent, for memory, and
 * "interrupted"; the queue is as it was then. [-0, +0, e]
 */
enum fz_queue_state fz_lchannel_put(lua_State *L, struct fz_queue *queue,
    uint32_t self, int idx, int64_t until_ns);

/*
 * Take an item when there is one, until `until_ns`, and push its value.
 * FZ_QUEUE_DONE, or _WAIT or _CLOSED and nothing. What cannot be decoded is
 * lost, and raises; so does one that there is no memory for, which is not. [-0,
 * +1|0, e]
 */
enum fz_queue_state fz_lchannel_take(
    lua_State *L, const struct fz_lchannel *channel, int64_t until_ns);

#endif
