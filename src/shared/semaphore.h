/*
 * semaphore.h - a number of permits in shared memory.
 *
 * A permit has no owner. If a process dies that has acquired a permit, the
 * permit is lost.
 */
#ifndef FZ_SEMAPHORE_H
#define FZ_SEMAPHORE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "shared/eventcount.h"

#define FZ_SEMAPHORE_MAX INT64_MAX

/* In shared memory, all 0 except the fields that the creator sets. */
struct fz_semaphore {
	_Atomic int64_t count; /* number of free permits; set by the creator */
	int64_t limit; /* maximum number of free permits; set by the creator */
	struct fz_eventcount waiters;
};

/* Acquire a permit if one is free. Returns whether one was. */
static inline bool
fz_semaphore_try(struct fz_semaphore *s)
{
	int64_t count = atomic_load_explicit(&s->count, memory_order_relaxed);

	while (count > 0) {
		if (atomic_compare_exchange_weak(&s->count, &count, count - 1))
			return true;
	}
	return false;
}

/* Release `n` permits (n > 0). False if that would exceed the limit. */
static inline bool
fz_semaphore_release(struct fz_semaphore *s, int64_t n)
{
	int64_t count = atomic_load_explicit(&s->count, memory_order_relaxed);

	do {
		if (n > s->limit - count)
			return false;
	} while (!atomic_compare_exchange_weak(&s->count, &count, count + n));
	fz_eventcount_notify(&s->waiters,
	    n < FZ_EVENTCOUNT_ALL ? (uint32_t)n : FZ_EVENTCOUNT_ALL);
	return true;
}

/*
 * Called by a waiter that has slept and then got a permit: notify the next
 * waiter if more permits are free.
 */
static inline void
fz_semaphore_pass_on(struct fz_semaphore *s)
{
	fz_eventcount_rearm(&s->waiters);
	if (atomic_load(&s->count) > 0)
		fz_eventcount_notify(&s->waiters, 1);
}

#endif
