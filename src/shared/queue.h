/*
 * queue.h - items in shared memory, put and taken by any number of processes.
 *
 * Producers and consumers have a lock each, held for a short copy. One store
 * adds an item and one removes it: if a process is killed before its store,
 * other processes see no change, and its lock is recovered. Items are in
 * segments, each of which is a block of the shared heap; big items are in
 * blocks of their own. A queue that was never used is small: it has no segment.
 */
#ifndef FZ_QUEUE_H
#define FZ_QUEUE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "shared/eventcount.h"
#include "shared/heap.h"
#include "shared/lock.h"
#include "shared/unfinished.h"

struct fz_err;

/*
 * Bytes of the largest item in a segment; bigger items are in blocks of their
 * own.
 */
#define FZ_QUEUE_INLINE ((size_t)32 << 10)

/* The maximum number of items that a queue can hold. */
#define FZ_QUEUE_MAX ((UINT32_C(1) << 29) - 1)

enum fz_queue_state {
	FZ_QUEUE_DONE,
	FZ_QUEUE_WAIT,   /* there is no room, or no item */
	FZ_QUEUE_BUSY,   /* a stopped process holds the lock: try again */
	FZ_QUEUE_CLOSED, /* closed; this does not change again */
	FZ_QUEUE_FAILED, /* no memory */
};

struct fz_queue {
	/* For producers. */
	_Alignas(64) struct fz_lock putting;
	_Atomic uint64_t tail;      /* position after the last item */
	struct fz_eventcount items; /* consumers wait here */
	/* For consumers. */
	_Alignas(64) struct fz_lock taking;
	_Atomic uint64_t head;     /* position of the first item */
	struct fz_eventcount room; /* producers wait here */
	struct fz_unfinished unfinished;
	/*
	 * These fields are rarely written, so they are in other cache lines
	 * than the fields above.
	 */
	struct fz_ref object; /* the owner of the blocks */
	/* maximum number of items that it may hold; FZ_QUEUE_MAX: unbounded */
	uint32_t max;
	_Atomic uint32_t closed;
	/* segment of the first item ever; none: the queue is unused */
	struct fz_ref first;
};

/*
 * Initialise a queue in `object`. The memory of the queue is all zero. `max` 0:
 * any number of items.
 */
void fz_queue_init(struct fz_queue *q, struct fz_object *object, uint32_t max);

/* An item to put: `head` and `body` with at most FZ_QUEUE_INLINE bytes
 * together, or blocks. */
struct fz_queue_item {
	const void *head, *body;
	size_t nhead, nbody;
	/*
	 * blocks with the `nbody` bytes of the item, which the caller owns;
	 * NULL: the bytes are at `head` and `body`
	 */
	void *blocks;
};

/* Put the item if there is room. Then the queue owns its blocks. */
enum fz_queue_state fz_queue_put(struct fz_queue *q, uint32_t self,
    const struct fz_queue_item *item, struct fz_err *err);

/* An item that was taken: bytes copied to `bytes`, or blocks. */
struct fz_queue_taken {
	/* room for FZ_QUEUE_INLINE bytes; set by the caller */
	unsigned char *bytes;
	size_t len;
	/*
	 * blocks with the `len` bytes, for the caller to free; NULL: see
	 * `bytes`
	 */
	void *blocks;
	/* set by the caller: the item is unfinished until task_done() */
	bool is_tracked;
};

/*
 * Take the first item. Returns FZ_QUEUE_CLOSED after the last item of a closed
 * queue. If there is no memory to track the item, it stays in the queue.
 */
enum fz_queue_state fz_queue_take(
    struct fz_queue *q, uint32_t self, struct fz_queue_taken *taken);

/* Refuse further items; items in the queue can still be taken. */
void fz_queue_close(struct fz_queue *q, uint32_t self);

uint32_t fz_queue_size(const struct fz_queue *q);

/*
 * Free the memory of an empty queue, unless another process holds a lock for
 * long.
 */
void fz_queue_compact(struct fz_queue *q, uint32_t self);

/* Whether there is an item, or the queue is closed. Acquires no lock. */
static inline bool
fz_queue_is_ready(const struct fz_queue *q)
{
	return ((atomic_load(&q->head) ^ atomic_load(&q->tail)) &
		   FZ_QUEUE_MAX) != 0 ||
	       atomic_load(&q->closed);
}

/* Acknowledge one item: see fz_unfinished_ack(). */
bool fz_queue_task_done(struct fz_queue *q, uint32_t self);

/* Whether every item that was put is done; `late`: see fz_unfinished_any(). */
bool fz_queue_all_done(struct fz_queue *q, bool late);

/*
 * A buffer for an item. It begins in `bytes`, which may be NULL, and moves to
 * blocks of the heap if it grows. Ends with fz_buf_fini().
 */
struct fz_queue_buf {
	struct fz_buf buf; /* first, because the store casts it */
	void *blocks;      /* the blocks; NULL: it has not moved */
	uint32_t self;     /* the member that owns the blocks */
};

void fz_queue_buf_init(
    struct fz_queue_buf *qb, uint32_t self, unsigned char *bytes, size_t room);

/*
 * Free the unused blocks and return the used ones; the buffer still owns them.
 */
void *fz_queue_buf_trim(struct fz_queue_buf *qb);

/* Give up ownership of the blocks. */
void fz_queue_buf_forget(struct fz_queue_buf *qb);

#endif
