/*
 * eventcount.h - processes wait here until shared memory has changed.
 *
 * A waiter calls prepare, checks its condition, and only then commits to the
 * sleep. A process that changes the condition notifies afterwards, so no
 * wake-up is missed. But a process may be killed between its change and the
 * notification, or after it was woken and before it has done its work. So every
 * waiter checks again after FZ_EVENTCOUNT_CHECK_NS. If each notification wakes
 * only one process, a waiter that has slept calls fz_eventcount_rearm() when
 * its wait ends.
 */
#ifndef FZ_EVENTCOUNT_H
#define FZ_EVENTCOUNT_H

#include <stdatomic.h>
#include <stdint.h>

#define FZ_EVENTCOUNT_CHECK_NS (INT64_C(50) * 1000 * 1000)
#define FZ_EVENTCOUNT_ALL UINT32_MAX

/* How a process waits: a set of these bits. */
enum {
	FZ_EVENTCOUNT_SLEEP = 1, /* in fz_eventcount_commit() */
	FZ_EVENTCOUNT_LOOP = 2,  /* in a loop that polls fz_heap_wake_fd() */
};

/* In shared memory; all zero is a new eventcount. */
struct fz_eventcount {
	_Atomic uint32_t seq;
	/* how processes wait; may have bits that are out of date */
	_Atomic uint32_t waiting;
};

/* Call it before the check. Returns the `seq` for fz_eventcount_commit(). */
uint32_t fz_eventcount_prepare(struct fz_eventcount *ec, uint32_t how);

/*
 * Sleep until a notification after `seq`, until `until_ns`, until a signal, or
 * for FZ_EVENTCOUNT_CHECK_NS at most. Then prepare and check again.
 */
void fz_eventcount_commit(
    struct fz_eventcount *ec, uint32_t seq, int64_t until_ns);

/*
 * After a change, which is a sequentially consistent store: wake at most `n` of
 * the processes that sleep, and all that wait in a loop.
 */
void fz_eventcount_notify_contended(struct fz_eventcount *ec, uint32_t n);
static inline void
fz_eventcount_notify(struct fz_eventcount *ec, uint32_t n)
{
	if (atomic_load(&ec->waiting) != 0)
		fz_eventcount_notify_contended(ec, n);
}

/*
 * Other processes may still sleep: let the next notification wake one of them.
 */
static inline void
fz_eventcount_rearm(struct fz_eventcount *ec)
{
	atomic_fetch_or(&ec->waiting, FZ_EVENTCOUNT_SLEEP);
}

/* Call it between two checks of memory that another processor will change. */
static inline void
fz_eventcount_pause(void)
{
#if defined(__x86_64__) || defined(__i386__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("yield");
#endif
}

#endif
