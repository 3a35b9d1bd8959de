/*
 * eventcount.h - where processes wait for a change of what they share.
 *
 * Who waits enters, looks whether it can go on, and only then sleeps; who
 * changes something wakes afterwards: no wake-up is missed. But a process may
 * be killed between its change and the wake-up, or after it was woken and
 * before it has done what it was woken for. So everybody who waits looks again
 * after FZ_EVENTCOUNT_LOOK_NS, and whoever went on after a sleep calls
 * fz_eventcount_again() where only one is woken at a time.
 */
#ifndef FZ_EVENTCOUNT_H
#define FZ_EVENTCOUNT_H

#include <stdatomic.h>
#include <stdint.h>

#define FZ_EVENTCOUNT_LOOK_NS (INT64_C(50) * 1000 * 1000)
#define FZ_EVENTCOUNT_ALL UINT32_MAX

/* How one waits. */
enum {
	FZ_EVENTCOUNT_SLEEP = 1, /* in fz_eventcount_sleep() */
	FZ_EVENTCOUNT_LOOP =
	    2, /* for the bell of the shared heap, among others */
};

/* In shared memory; all zero is a new one. */
struct fz_eventcount {
	_Atomic uint32_t seq;
	_Atomic uint32_t waiting; /* a set of the above; may have too many */
};

/* Before looking whether one can go on. Returns what fz_eventcount_sleep()
 * takes. */
uint32_t fz_eventcount_enter(struct fz_eventcount *gate, uint32_t how);

/*
 * Sleep until woken after `seq` was entered, until `until_ns`, a signal, or
 * FZ_EVENTCOUNT_LOOK_NS have passed: then enter and look again.
 */
void fz_eventcount_sleep(
    struct fz_eventcount *gate, uint32_t seq, int64_t until_ns);

/*
 * After a change, made by a sequentially consistent store: wake at most `n`
 * that sleep, and all that wait in a loop.
 */
void fz_eventcount_wake_slowly(struct fz_eventcount *gate, uint32_t n);
static inline void
fz_eventcount_wake(struct fz_eventcount *gate, uint32_t n)
{
	if (atomic_load(&gate->waiting) != 0)
		fz_eventcount_wake_slowly(gate, n);
}

/* Between two looks at what another processor is about to change. */
static inline void
fz_eventcount_pause(void)
{
#if defined(__x86_64__) || defined(__i386__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("yield");
#endif
}

/* Others may sleep still: the next change is to wake one. */
static inline void
fz_eventcount_again(struct fz_eventcount *gate)
{
	atomic_fetch_or(&gate->waiting, FZ_EVENTCOUNT_SLEEP);
}

#endif
