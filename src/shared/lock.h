/*
 * lock.h - a lock in shared memory that no dead process holds.
 *
 * Taking a free one and letting it go are one instruction each, and a wake-up
 * where somebody waits. Whose it is is a number of the shared heap, so that
 * those who wait see when the holder has died.
 */
#ifndef FZ_LOCK_H
#define FZ_LOCK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "shared/eventcount.h"

/* In shared memory; all zero is a free one. */
struct fz_lock {
	_Atomic uint32_t owner; /* member of the shared heap, 0: nobody */
	uint32_t depth;         /* its user's: how often the owner has it */
	struct fz_eventcount gate;
};

enum fz_lock_state { FZ_LOCK_BUSY, FZ_LOCK_TAKEN, FZ_LOCK_ABANDONED };

/* Take it if it is free. `self` is fz_heap_self(). */
static inline bool
fz_lock_try(struct fz_lock *lock, uint32_t self)
{
	uint32_t nobody = 0;

	return atomic_load_explicit(&lock->owner, memory_order_relaxed) == 0 &&
	       atomic_compare_exchange_strong(&lock->owner, &nobody, self);
}

/* The same, or if its holder is dead: FZ_LOCK_ABANDONED. */
enum fz_lock_state fz_lock_inherit(struct fz_lock *lock, uint32_t self);

static inline bool
fz_lock_is_mine(const struct fz_lock *lock, uint32_t self)
{
	return atomic_load_explicit(&lock->owner, memory_order_relaxed) == self;
}

/* Let it go; it is ours. */
static inline void
fz_lock_release(struct fz_lock *lock)
{
	atomic_store(&lock->owner, 0);
	fz_eventcount_wake(&lock->gate, 1);
}

#endif
