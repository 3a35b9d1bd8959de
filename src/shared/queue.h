/*
 * queue.h - items in shared memory, put and taken by any number of processes.
 *
 * Those who put and those who take have a lock each, held for a short copy.
 * One store makes an item be there, and one makes it be taken: who is killed
 * in between leaves nothing that others would see, and its lock is inherited.
 * Items lie in segments, a chunk of the shared heap each; big ones in chunks of
 * their own. One that nothing was put into is small: it has no segment.
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

#define FZ_QUEUE_INLINE ((size_t)32 << 10)     /* bigger ones have own chunks */
#define FZ_QUEUE_MAX ((UINT32_C(1) << 29) - 1) /* items at once */

enum fz_queue_state {
	FZ_QUEUE_DONE,
	FZ_QUEUE_WAIT,   /* there is no room, or no item */
	FZ_QUEUE_BUSY,   /* one that was stopped is in the way: try again */
	FZ_QUEUE_CLOSED, /* for good */
	FZ_QUEUE_FAILED, /* no memory */
};

struct fz_queue {
	/* Those who put. */
	_Alignas(64) struct fz_lock putting;
	_Atomic uint64_t tail; /* where the next goes, and how many were put */
	struct fz_eventcount items;
	/* Those who take. */
	_Alignas(64) struct fz_lock taking;
	_Atomic uint64_t head; /* the next one, and how many were taken */
	struct fz_eventcount room;
	struct fz_unfinished owed;
	/* Seldom written, and far enough from what often is. */
	struct fz_ref object; /* the memory is its */
	uint32_t max; /* items at once; FZ_QUEUE_MAX: its user sets none */
	_Atomic uint32_t closed;
	struct fz_ref first; /* segment of the first item ever; none: unused */
	struct fz_ref spare; /* an empty segment, kept for the next put */
};

/* A new one, all zero before. `max` 0: any number of items. */
void fz_queue_init(struct fz_queue *q, struct fz_object *object, uint32_t max);

/* What is put: two runs of bytes, FZ_QUEUE_INLINE together at most, or chunks.
 */
struct fz_queue_item {
	const void *head, *body;
	size_t nhead, nbody;
	void *chunks; /* not NULL: `nbody` bytes there; the caller's */
};

/* Put it, unless one has to wait for room. Chunks are the queue's then. */
enum fz_queue_state fz_queue_put(struct fz_queue *q, uint32_t self,
    const struct fz_queue_item *item, struct fz_err *err);

/* What is taken: bytes copied to `bytes`, or chunks. */
struct fz_queue_taken {
	unsigned char *bytes; /* the caller's, with room for FZ_QUEUE_INLINE */
	size_t len;
	void *chunks; /* not NULL: `len` bytes there, to give back */
	bool is_owed; /* until it is said to be done */
};

/*
 * Take the first one. After the last of a closed one: FZ_QUEUE_CLOSED. Without
 * memory to count it is still there.
 */
enum fz_queue_state fz_queue_take(
    struct fz_queue *q, uint32_t self, struct fz_queue_taken *taken);

/* No more is put; what is there can still be taken. */
void fz_queue_close(struct fz_queue *q, uint32_t self);

uint32_t fz_queue_size(const struct fz_queue *q);

/*
 * Give the memory of an empty one back; the next put takes some anew. One that
 * others have in hand for long stays as it is.
 */
void fz_queue_compact(struct fz_queue *q, uint32_t self);

/* Whether one can be taken, or never will be again. Without a lock. */
static inline bool
fz_queue_is_ready(const struct fz_queue *q)
{
	return ((atomic_load(&q->head) ^ atomic_load(&q->tail)) &
		   FZ_QUEUE_MAX) != 0 ||
	       atomic_load(&q->closed);
}

/* ---- what was taken and not said to be done ---------------------------- */

/* One was done, by this process if it has any. False: there is none. */
bool fz_queue_task_done(struct fz_queue *q, uint32_t self);

/*
 * Whether every item that was put is done. What a dead process had is, which
 * only `late` sees.
 */
bool fz_queue_all_done(struct fz_queue *q, bool late);

/* ---- bytes for it ------------------------------------------------------ */

/*
 * A buffer that begins in `bytes`, which may be NULL, and moves to chunks.
 * Ends with fz_buf_fini().
 */
struct fz_queue_buf {
	struct fz_buf buf; /* first: the store finds us by it */
	void *chunks;      /* NULL: it is where it began */
};

void fz_queue_buf_init(
    struct fz_queue_buf *qb, unsigned char *bytes, size_t room);

/* The chunks that it is in, no more than are needed; they are still its. */
void *fz_queue_buf_trim(struct fz_queue_buf *qb);

/* The chunks are another's now. */
void fz_queue_buf_forget(struct fz_queue_buf *qb);

#endif
