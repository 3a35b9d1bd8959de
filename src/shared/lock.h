/*
 * lock.h - a lock in shared memory; if its owner dies, another process can
 * acquire it.
 *
 * Acquiring a free lock takes one instruction. Releasing it takes another, and
 * a notification if a process waits. The owner is a member of the shared heap
 * and one of its tasks. Waiters see if the member has died.
 */
#ifndef FZ_LOCK_H
#define FZ_LOCK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "shared/eventcount.h"

/* A lock in shared memory. All bytes are 0 at first: the lock is free. */
struct fz_lock {
	/* owning member; 0: the lock is free; FZ_LOCK_LEFT: a task left it */
	_Atomic uint32_t owner;
	/* how often the owner has acquired the lock; used only by callers */
	uint32_t depth;
	uint32_t task; /* task that owns the lock; used only by callers */
	struct fz_eventcount waiters;
};

enum fz_lock_state { FZ_LOCK_BUSY, FZ_LOCK_ACQUIRED, FZ_LOCK_ABANDONED };

#define FZ_LOCK_LEFT UINT32_MAX /* a number that no member has */

/* Acquire the lock for the member `self`, if it is free. */
static inline bool
fz_lock_try(struct fz_lock *lock, uint32_t self)
{
	uint32_t free = 0;

	return atomic_load_explicit(&lock->owner, memory_order_relaxed) == 0 &&
	       atomic_compare_exchange_strong(&lock->owner, &free, self);
}

/*
 * As fz_lock_try(), but also acquires a lock whose owning task has ended
 * without releasing it. The result is then FZ_LOCK_ABANDONED.
 */
static inline enum fz_lock_state
fz_lock_adopt(struct fz_lock *lock, uint32_t self)
{
	uint32_t left = FZ_LOCK_LEFT;

	if (fz_lock_try(lock, self))
		return FZ_LOCK_ACQUIRED;
	return atomic_load(&lock->owner) == left &&
		       atomic_compare_exchange_strong(&lock->owner, &left, self)
		   ? FZ_LOCK_ABANDONED
		   : FZ_LOCK_BUSY;
}

/* As fz_lock_adopt(), but also acquires the lock from a dead owner. */
enum fz_lock_state fz_lock_recover(struct fz_lock *lock, uint32_t self);

/*
 * Sleep until the lock is acquired, or until `until_ns`. Also acquires the lock
 * of a dead owner. Returns whether the lock was acquired. Only for locks that
 * are held for short changes.
 */
bool fz_lock_wait(struct fz_lock *lock, uint32_t self, int64_t until_ns);

/* Whether any task of the member `self` owns the lock. */
static inline bool
fz_lock_is_mine(const struct fz_lock *lock, uint32_t self)
{
	return atomic_load_explicit(&lock->owner, memory_order_relaxed) == self;
}

/* Whether the task `task` of the member `self` owns the lock. */
static inline bool
fz_lock_is_of(const struct fz_lock *lock, uint32_t self, uint32_t task)
{
	return fz_lock_is_mine(lock, self) && lock->task == task;
}

/* Release a lock that this process owns. */
static inline void
fz_lock_release(struct fz_lock *lock)
{
	atomic_store(&lock->owner, 0);
	fz_eventcount_notify(&lock->waiters, 1);
}

/* Note that the task that owns the lock has ended without releasing it. */
static inline void
fz_lock_abandon(struct fz_lock *lock)
{
	atomic_store(&lock->owner, FZ_LOCK_LEFT);
	fz_eventcount_notify(&lock->waiters, 1);
}

#endif
