#include "shared/queue.h"

#include <string.h>

#include "base/buf.h"
#include "base/clock.h"
#include "os/spin.h"

/*
 *   segment     next, items one after the other, room for a NEXT
 *   item        u16 length, bytes
 *               or u16 BIG, u64 offset of its blocks, u64 length
 *               or u16 NEXT: the item is the first one of the next segment
 *   head, tail  offset / 8 in the upper 35 bits, number of items below
 *
 * Bytes after the tail are free. If a process was killed while it wrote there,
 * the next process overwrites these bytes, and uses a segment that was added.
 * The queue owns the blocks of an item from a time before the tail includes the
 * item until a time after the head has left it. If a process is killed just
 * before or after this, the blocks stay allocated until the queue is freed.
 *
 * An empty queue frees its segment in several steps, see compact_held().
 * Between two of them the tail is 0, and the head is at a NEXT that has no next
 * segment. The next item is then in the first segment.
 */
enum {
	ALIGN = 8,
	BIG = 0xfffe,
	NEXT = 0xffff,
	BIG_SIZE = 24,
	COUNT_BITS = 29,
	/* attempts to acquire a lock before this process yields */
	SPINS = 50,
};

#define COUNT_MASK ((UINT64_C(1) << COUNT_BITS) - 1)

struct segment {
	struct fz_ref next;
	unsigned char bytes[FZ_HEAP_BLOCK - 2 * ALIGN];
	unsigned char end[ALIGN]; /* room for a NEXT */
};

_Static_assert(sizeof(struct segment) == FZ_HEAP_BLOCK, "one");
_Static_assert(FZ_QUEUE_MAX == COUNT_MASK, "it counts them");

static uint64_t
position(const unsigned char *at, uint32_t count)
{
	return fz_ref_offset(at) / ALIGN << COUNT_BITS | (count & COUNT_MASK);
}

/* The address of a position; NULL: the position is in no segment. */
static unsigned char *
at_position(uint64_t pos)
{
	return fz_ref_at((pos >> COUNT_BITS) * ALIGN);
}

static uint32_t
count_at(uint64_t pos)
{
	return (uint32_t)(pos & COUNT_MASK);
}

static uint32_t
between(uint64_t head, uint64_t tail)
{
	return (count_at(tail) - count_at(head)) & COUNT_MASK;
}

static bool
is_empty(const struct fz_queue *q)
{
	return between(atomic_load(&q->head), atomic_load(&q->tail)) == 0;
}

static struct segment *
segment_of(const unsigned char *at)
{
	uint64_t offset = fz_ref_offset(at);

	return fz_ref_at(offset & ~(uint64_t)(FZ_HEAP_BLOCK - 1));
}

static size_t
size_of(size_t len)
{
	return (2 + len + ALIGN - 1) & ~(size_t)(ALIGN - 1);
}

static void
store_u16(unsigned char *at, size_t n)
{
	at[0] = (unsigned char)n;
	at[1] = (unsigned char)(n >> 8);
}

static size_t
load_u16(const unsigned char *at)
{
	return (size_t)at[0] | (size_t)at[1] << 8;
}

static bool
acquire_contended(struct fz_lock *lock, uint32_t self)
{
	struct fz_spin spin = { 0 };

	for (int i = 0; i < SPINS; i++) {
		if (fz_lock_try(lock, self))
			return true;
		fz_eventcount_pause();
	}
	while (fz_spin_again(&spin)) {
		if (fz_lock_try(lock, self))
			return true;
	}
	return fz_lock_wait(
	    lock, self, fz_clock_after(fz_clock_ns(), FZ_EVENTCOUNT_CHECK_NS));
}

/*
 * Acquire a lock of the queue. Also acquires the lock of a dead owner, because
 * the queue is consistent at any time. Returns false after
 * FZ_EVENTCOUNT_CHECK_NS if the owner is alive, but is stopped or is not
 * scheduled.
 */
static inline bool
acquire(struct fz_lock *lock, uint32_t self)
{
	return fz_lock_try(lock, self) || acquire_contended(lock, self);
}

void
fz_queue_init(struct fz_queue *q, struct fz_object *object, uint32_t max)
{
	fz_ref_set(&q->object, object);
	q->max = max != 0 && max < FZ_QUEUE_MAX ? max : FZ_QUEUE_MAX;
}

static bool
is_bounded(const struct fz_queue *q)
{
	return q->max != FZ_QUEUE_MAX;
}

static struct segment *
new_segment(const struct fz_queue *q, uint32_t self, struct fz_err *err)
{
	struct segment *s = fz_heap_alloc(self, sizeof(*s), err);

	if (s != NULL)
		fz_heap_set_owner(s, fz_ref_get(&q->object));
	return s;
}

/* Room for an item of `size` bytes at the tail. NULL: there is no memory. */
static unsigned char *
make_room(struct fz_queue *q, uint32_t self, uint64_t tail, size_t size,
    struct fz_err *err)
{
	unsigned char *at = at_position(tail);
	struct fz_ref *link = &q->first;
	struct segment *s;

	if (at != NULL) {
		s = segment_of(at);
		if (size <= (size_t)(s->end - at))
			return at;
		link = &s->next;
	}
	s = fz_ref_get(link); /* another process may have set it, and died */
	if (s == NULL) {
		s = new_segment(q, self, err);
		if (s == NULL)
			return NULL;
		fz_ref_set(&s->next, NULL);
		fz_ref_set(link, s);
	}
	if (at != NULL)
		store_u16(at, NEXT);
	return s->bytes;
}

static void
write_bytes(unsigned char *at, const struct fz_queue_item *item)
{
	store_u16(at, item->nhead + item->nbody);
	memcpy(at + 2, item->head, item->nhead);
	if (item->nbody != 0)
		memcpy(at + 2 + item->nhead, item->body, item->nbody);
}

static void
write_big(unsigned char *at, const struct fz_queue_item *item)
{
	store_u16(at, BIG);
	fz_le64_store(at + 8, fz_ref_offset(item->blocks));
	fz_le64_store(at + 16, item->nbody);
}

static enum fz_queue_state
put_held(struct fz_queue *q, uint32_t self, const struct fz_queue_item *item,
    struct fz_err *err)
{
	uint64_t tail = atomic_load_explicit(&q->tail, memory_order_relaxed);
	size_t size = item->blocks != NULL ? BIG_SIZE
					   : size_of(item->nhead + item->nbody);
	unsigned char *at;

	if (atomic_load(&q->closed))
		return FZ_QUEUE_CLOSED;
	if (between(atomic_load(&q->head), tail) >= q->max)
		return FZ_QUEUE_WAIT;
	at = make_room(q, self, tail, size, err);
	if (at == NULL)
		return FZ_QUEUE_FAILED;
	if (item->blocks != NULL) {
		write_big(at, item);
		fz_heap_set_owner(item->blocks, fz_ref_get(&q->object));
	} else {
		write_bytes(at, item);
	}
	atomic_store(&q->tail, position(at + size, count_at(tail) + 1));
	return FZ_QUEUE_DONE;
}

enum fz_queue_state
fz_queue_put(struct fz_queue *q, uint32_t self,
    const struct fz_queue_item *item, struct fz_err *err)
{
	enum fz_queue_state state;

	/*
	 * check before acquiring the lock, because a stopped process may hold
	 * it forever
	 */
	if (atomic_load(&q->closed))
		return FZ_QUEUE_CLOSED;
	if (is_bounded(q) && fz_queue_size(q) >= q->max)
		return FZ_QUEUE_WAIT;
	if (!acquire(&q->putting, self))
		return FZ_QUEUE_BUSY;
	state = put_held(q, self, item, err);
	fz_lock_release(&q->putting);
	if (state == FZ_QUEUE_DONE)
		fz_eventcount_notify(&q->items, 1);
	return state;
}

void
fz_queue_close(struct fz_queue *q, uint32_t self)
{
	bool acquired = acquire(&q->putting, self);

	/*
	 * Set `closed` even without the lock. The owner of the lock may be
	 * stopped, and may still finish its put.
	 */
	atomic_store(&q->closed, 1);
	if (acquired)
		fz_lock_release(&q->putting);
	fz_eventcount_notify(&q->items, FZ_EVENTCOUNT_ALL);
	fz_eventcount_notify(&q->room, FZ_EVENTCOUNT_ALL);
	fz_queue_compact(q, self);
}

/* Copy the item at `at` to `taken`. Returns its size. */
static size_t
read_item(const unsigned char *at, struct fz_queue_taken *taken)
{
	size_t len = load_u16(at);

	taken->blocks = NULL;
	if (len == BIG) {
		taken->blocks = fz_ref_at(fz_le64_load(at + 8));
		taken->len = fz_le64_load(at + 16);
		return BIG_SIZE;
	}
	memcpy(taken->bytes, at + 2, len);
	taken->len = len;
	return size_of(len);
}

/* The item at the head. `*old`: the segment that the head leaves, or NULL. */
static const unsigned char *
find_item(struct fz_queue *q, uint64_t head, struct segment **old)
{
	const unsigned char *at = at_position(head);
	struct segment *next = NULL;

	*old = NULL;
	if (at != NULL && load_u16(at) != NEXT)
		return at;
	if (at != NULL) {
		*old = segment_of(at);
		next = fz_ref_get(&(*old)->next);
	}
	if (next == NULL)
		next = fz_ref_get(&q->first);
	return next->bytes;
}

static enum fz_queue_state
take_held(struct fz_queue *q, uint32_t self, struct fz_queue_taken *taken)
{
	uint64_t head = atomic_load_explicit(&q->head, memory_order_relaxed);
	_Atomic uint64_t *counter = NULL;
	struct segment *old;
	const unsigned char *at;
	size_t size;

	if (between(head, atomic_load(&q->tail)) == 0)
		return FZ_QUEUE_WAIT;
	if (taken->is_tracked) {
		counter = fz_unfinished_counter(
		    &q->unfinished, fz_ref_get(&q->object), self, NULL);
		if (counter == NULL)
			return FZ_QUEUE_FAILED;
	}
	at = find_item(q, head, &old);
	size = read_item(at, taken);
	/*
	 * Count the item before it is removed, so that at any time it is in the
	 * queue or counted as unfinished.
	 */
	if (counter != NULL)
		fz_unfinished_add(counter, self);
	atomic_store(&q->head, position(at + size, count_at(head) + 1));
	if (taken->blocks != NULL)
		fz_heap_own(taken->blocks, self);
	if (old != NULL)
		fz_heap_give_back(old);
	return FZ_QUEUE_DONE;
}

enum fz_queue_state
fz_queue_take(struct fz_queue *q, uint32_t self, struct fz_queue_taken *taken)
{
	/* read this first: no items can follow if it is set */
	bool closed = atomic_load(&q->closed);
	enum fz_queue_state state;

	if (is_empty(q))
		return closed ? FZ_QUEUE_CLOSED : FZ_QUEUE_WAIT;
	if (!acquire(&q->taking, self))
		return FZ_QUEUE_BUSY;
	state = take_held(q, self, taken);
	fz_lock_release(&q->taking);
	if (state == FZ_QUEUE_WAIT && closed)
		return FZ_QUEUE_CLOSED;
	if (state == FZ_QUEUE_DONE && is_bounded(q))
		fz_eventcount_notify(&q->room, 1);
	if (state == FZ_QUEUE_DONE && atomic_load(&q->closed))
		fz_queue_compact(q, self);
	return state;
}

uint32_t
fz_queue_size(const struct fz_queue *q)
{
	uint64_t head, tail;

	do {
		head = atomic_load(&q->head);
		tail = atomic_load(&q->tail);
	} while (head != atomic_load(&q->head));
	return between(head, tail);
}

static bool
has_memory(const struct fz_queue *q)
{
	return at_position(atomic_load(&q->head)) != NULL ||
	       at_position(atomic_load(&q->tail)) != NULL ||
	       fz_ref_get(&q->first) != NULL;
}

/*
 * Clear a reference to a segment, and free the segment if there was one. The
 * caller holds both locks.
 */
static void
free_segment(struct fz_ref *ref)
{
	struct segment *s = fz_ref_get(ref);

	fz_ref_set(ref, NULL);
	if (s != NULL)
		fz_heap_give_back(s);
}

/*
 * Free the memory of an empty queue. The caller holds both locks. If this
 * process is killed between any two stores, the queue still works. At worst, a
 * segment stays allocated until the queue is freed.
 */
static void
compact_held(struct fz_queue *q)
{
	uint64_t head = atomic_load(&q->head), tail = atomic_load(&q->tail);
	unsigned char *at = at_position(head);
	struct segment *s = at != NULL ? segment_of(at) : NULL;

	/*
	 * If the tail is in a segment, `first` may refer to a segment that was
	 * freed when the head left it.
	 */
	if (at_position(tail) != NULL)
		fz_ref_set(&q->first, NULL);
	free_segment(&q->first);
	if (s != NULL) {
		/* free a segment that a killed process has added */
		free_segment(&s->next);
		store_u16(at, NEXT);
	}
	atomic_store(&q->tail, count_at(tail));
	atomic_store(&q->head, count_at(head));
	if (s != NULL)
		fz_heap_give_back(s);
}

void
fz_queue_compact(struct fz_queue *q, uint32_t self)
{
	if (!is_empty(q) || !has_memory(q) || !acquire(&q->putting, self))
		return;
	if (acquire(&q->taking, self)) {
		if (is_empty(q))
			compact_held(q);
		fz_lock_release(&q->taking);
	}
	fz_lock_release(&q->putting);
}

bool
fz_queue_task_done(struct fz_queue *q, uint32_t self)
{
	return fz_unfinished_ack(&q->unfinished, self);
}

bool
fz_queue_all_done(struct fz_queue *q, bool late)
{
	uint64_t tail = atomic_load(&q->tail);

	/*
	 * Check the tail again: after it was read, another item may have been
	 * put, taken and acknowledged.
	 */
	return between(atomic_load(&q->head), tail) == 0 &&
	       !fz_unfinished_any(&q->unfinished, late) &&
	       between(atomic_load(&q->tail), tail) == 0;
}
