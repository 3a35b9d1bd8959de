/*
 * queue.h - items in shared memory, put and taken by any number of processes.
 *
 * Producers have one lock, consumers another; a lock is held for a short copy.
 * A single store adds or removes an item. If a process is killed before this
 * store, other processes see no change, and can acquire the lock of the dead
 * process. Items are in segments, each of which is a block of the shared heap.
 * A big item is in separate blocks. A queue that was never used has no segment.
 */
#ifndef FZ_QUEUE_H
#define FZ_QUEUE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shared/eventcount.h"
#include "shared/heap.h"
#include "shared/lock.h"
#include "shared/unfinished.h"

struct fz_err;

/*
 * Maximum size in bytes of an item in a segment. Larger items are in separate
 * blocks.
 */
#define FZ_QUEUE_INLINE ((size_t)32 << 10)

/* The maximum number of items that a queue can hold. */
#define FZ_QUEUE_MAX ((UINT32_C(1) << 29) - 1)

enum fz_queue_state {
	FZ_QUEUE_DONE,
	FZ_QUEUE_WAIT, /* there is no room, or there is no item */
	FZ_QUEUE_BUSY, /* a process that is stopped holds the lock: try again */
	FZ_QUEUE_CLOSED, /* the queue is closed, which does not change again */
	FZ_QUEUE_FAILED, /* there is no memory */
};

struct fz_queue {
	/* fields for producers */
	_Alignas(64) struct fz_lock putting;
	_Atomic uint64_t tail;      /* position after the last item */
	struct fz_eventcount items; /* consumers that wait for items */
	/* fields for consumers */
	_Alignas(64) struct fz_lock taking;
	_Atomic uint64_t head;     /* position of the first item */
	struct fz_eventcount room; /* producers that wait for room */
	struct fz_unfinished unfinished;
	/* rarely written, so in other cache lines than the fields above */
	struct fz_ref object; /* the object that owns the blocks of the queue */
	/* maximum number of items in the queue; FZ_QUEUE_MAX: not limited */
	uint32_t max;
	_Atomic uint32_t closed;
	/* first segment; none: never used, or emptied and compacted */
	struct fz_ref first;
};

/*
 * Initialise a queue that is part of `object`. Its memory must be 0. `max` is
 * the maximum number of items; 0: any number.
 */
void fz_queue_init(struct fz_queue *q, struct fz_object *object, uint32_t max);

/* An item to put: `head` and `body`, up to FZ_QUEUE_INLINE bytes, or blocks. */
struct fz_queue_item {
	const void *head, *body;
	size_t nhead, nbody;
	/*
	 * blocks that contain the `nbody` bytes of the item, owned by the
	 * caller; NULL: the bytes are those of `head` and `body`
	 */
	void *blocks;
};

/* Put the item if there is room. The queue then owns the blocks of the item. */
enum fz_queue_state fz_queue_put(struct fz_queue *q, uint32_t self,
    const struct fz_queue_item *item, struct fz_err *err);

/* An item that was taken: a copy in `bytes`, or blocks. */
struct fz_queue_taken {
	/* room for FZ_QUEUE_INLINE bytes; set by the caller */
	unsigned char *bytes;
	size_t len;
	/*
	 * blocks that contain the `len` bytes of the item; the caller must free
	 * them. NULL: the bytes are at `bytes`
	 */
	void *blocks;
	/* the item is unfinished until task_done(); set by the caller */
	bool is_tracked;
};

/*
 * Take the first item. FZ_QUEUE_CLOSED: a closed queue has none left. Without
 * memory to note it as unfinished, the item stays in the queue.
 */
enum fz_queue_state fz_queue_take(
    struct fz_queue *q, uint32_t self, struct fz_queue_taken *taken);

/* Refuse further items. Items in the queue can still be taken. */
void fz_queue_close(struct fz_queue *q, uint32_t self);

uint32_t fz_queue_size(const struct fz_queue *q);

/*
 * Free the memory of the queue if it is empty. Does nothing if another process
 * holds a lock for long.
 */
void fz_queue_compact(struct fz_queue *q, uint32_t self);

/* Whether the queue has an item, or is closed. Acquires no lock. */
static inline bool
fz_queue_is_ready(const struct fz_queue *q)
{
	return ((atomic_load(&q->head) ^ atomic_load(&q->tail)) &
		   FZ_QUEUE_MAX) != 0 ||
	       atomic_load(&q->closed);
}

/* Acknowledge an item that was taken: see fz_unfinished_ack(). */
bool fz_queue_task_done(struct fz_queue *q, uint32_t self);

/* Whether all items are acknowledged. `late`: see fz_unfinished_any(). */
bool fz_queue_all_done(struct fz_queue *q, bool late);

#endif
