/*
 * eventcount.h - processes wait here until shared memory has changed.
 *
 * A waiter calls prepare, then checks its condition, and only then calls
 * commit, which sleeps. A process that changes the condition notifies
 * afterwards, so no notification is missed. But that process may be killed
 * before it notifies; or the woken process may be killed before it has done its
 * work. Every waiter therefore checks again after FZ_EVENTCOUNT_CHECK_NS. If
 * notifications wake only one process each, a waiter that has slept calls
 * fz_eventcount_rearm() at the end of its wait.
 */
#ifndef FZ_EVENTCOUNT_H
#define FZ_EVENTCOUNT_H

#include <stdatomic.h>
#include <stdint.h>

#define FZ_EVENTCOUNT_CHECK_NS (INT64_C(50) * 1000 * 1000)
#define FZ_EVENTCOUNT_ALL UINT32_MAX

/* Flags: how processes wait. */
enum {
	FZ_EVENTCOUNT_SLEEP = 1, /* they sleep in fz_eventcount_commit() */
	FZ_EVENTCOUNT_LOOP = 2,  /* their loops poll fz_heap_wake_fd() */
};

/* An eventcount in shared memory. All bytes are 0 at first. */
struct fz_eventcount {
	_Atomic uint32_t seq;
	/* flags of the waiting processes; some may be out of date */
	_Atomic uint32_t waiting;
};

/* Call this before the check. Returns `seq` for fz_eventcount_commit(). */
uint32_t fz_eventcount_prepare(struct fz_eventcount *ec, uint32_t how);

/*
 * Sleep until a notification after `seq`, `until_ns`, or a signal, at most for
 * FZ_EVENTCOUNT_CHECK_NS. Then prepare and check again.
 */
void fz_eventcount_commit(
    struct fz_eventcount *ec, uint32_t seq, int64_t until_ns);

/*
 * Notify after a change: wake at most `n` of the processes that sleep, and all
 * that wait in a loop. The change must be a sequentially consistent store.
 */
void fz_eventcount_notify_contended(struct fz_eventcount *ec, uint32_t n);
static inline void
fz_eventcount_notify(struct fz_eventcount *ec, uint32_t n)
{
	if (atomic_load(&ec->waiting) != 0)
		fz_eventcount_notify_contended(ec, n);
}

/* Let the next notification wake another process, which may still sleep. */
static inline void
fz_eventcount_rearm(struct fz_eventcount *ec)
{
	atomic_fetch_or(&ec->waiting, FZ_EVENTCOUNT_SLEEP);
}

/* Call this between checks of memory that another processor will change. */
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
