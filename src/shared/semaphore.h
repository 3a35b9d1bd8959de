/*
 * semaphore.h - a number of permits in shared memory.
 *
 * They are nobody's: one that acquired and died has taken its permit with it.
 */
#ifndef FZ_SEMAPHORE_H
#define FZ_SEMAPHORE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "shared/eventcount.h"

#define FZ_SEMAPHORE_MAX INT64_MAX

/* In shared memory; the count and the limit are its maker's to set. */
struct fz_semaphore {
	_Atomic int64_t count;
	int64_t limit; /* of the count */
	struct fz_eventcount gate;
};

/* Take one if there is any. */
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

/* Give `n` of them, at least one; false where they would exceed the limit. */
static inline bool
fz_semaphore_give(struct fz_semaphore *s, int64_t n)
{
	int64_t count = atomic_load_explicit(&s->count, memory_order_relaxed);

	do {
		if (n > s->limit - count)
			return false;
	} while (!atomic_compare_exchange_weak(&s->count, &count, count + n));
	fz_eventcount_wake(
	    &s->gate, n < FZ_EVENTCOUNT_ALL ? (uint32_t)n : FZ_EVENTCOUNT_ALL);
	return true;
}

/* For who took one after a sleep: others may sleep beside what is there. */
static inline void
fz_semaphore_pass_on(struct fz_semaphore *s)
{
	fz_eventcount_again(&s->gate);
	if (atomic_load(&s->count) > 0)
		fz_eventcount_wake(&s->gate, 1);
}

#endif
