/* syscall() is an extension. */
#define _GNU_SOURCE
#include "shared/eventcount.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "shared/heap.h"

uint32_t
fz_eventcount_prepare(struct fz_eventcount *ec, uint32_t how)
{
	uint32_t seq = atomic_load(&ec->seq);

	atomic_fetch_or(&ec->waiting, how);
	return seq;
}

void
fz_eventcount_commit(struct fz_eventcount *ec, uint32_t seq, int64_t until_ns)
{
	int64_t left = until_ns - fz_clock_ns();
	struct timespec ts;

	if (left <= 0)
		return;
	if (left > FZ_EVENTCOUNT_CHECK_NS)
		left = FZ_EVENTCOUNT_CHECK_NS;
	ts.tv_sec = (time_t)(left / FZ_CLOCK_SECOND);
	ts.tv_nsec = (long)(left % FZ_CLOCK_SECOND);
	/* Ignore the result: the caller checks its condition in any case. */
	syscall(SYS_futex, &ec->seq, FUTEX_WAIT, seq, &ts, NULL, 0);
}

void
fz_eventcount_notify_contended(struct fz_eventcount *ec, uint32_t n)
{
	uint32_t how = atomic_exchange(&ec->waiting, 0);

	atomic_fetch_add(&ec->seq, 1);
	if (how & FZ_EVENTCOUNT_SLEEP)
		syscall(SYS_futex, &ec->seq, FUTEX_WAKE,
		    n < INT32_MAX ? n : INT32_MAX, NULL, NULL, 0);
	if (how & FZ_EVENTCOUNT_LOOP)
		fz_heap_wake_all();
}
