/* clock_gettime is POSIX, MAP_ANONYMOUS is not: -std=c11 hides both. */
#define _GNU_SOURCE
#include "base/clock.h"

#include <limits.h>
#include <stdatomic.h>
#include <stddef.h>
#include <sys/mman.h>
#include <time.h>

/*
 * The skipped time in nanoseconds, in memory that the processes of a run share;
 * NULL if there is no such memory.
 */
static _Atomic int64_t *skipped_ns;

int64_t
fz_clock_ns(void)
{
	struct timespec t;
	int64_t ns;

	clock_gettime(CLOCK_MONOTONIC, &t);
	ns = (int64_t)t.tv_sec * FZ_CLOCK_SECOND + t.tv_nsec;
	if (skipped_ns != NULL)
		ns -= atomic_load_explicit(skipped_ns, memory_order_relaxed);
	return ns;
}

void
fz_clock_share(void)
{
	void *page;

	if (skipped_ns != NULL)
		return;
	page = mmap(NULL, sizeof(*skipped_ns), PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (page != MAP_FAILED)
		skipped_ns = page;
}

void
fz_clock_in_child(void)
{
	if (skipped_ns != NULL)
		mprotect(skipped_ns, sizeof(*skipped_ns), PROT_READ);
}

void
fz_clock_skip(int64_t ns)
{
	if (skipped_ns != NULL)
		atomic_fetch_add(skipped_ns, ns);
}

int64_t
fz_clock_from_seconds(double seconds)
{
	if (!(seconds > 0))
		return 0;
	if (seconds >= (double)(INT64_MAX / FZ_CLOCK_SECOND))
		return FZ_CLOCK_NEVER;
	return (int64_t)(seconds * (double)FZ_CLOCK_SECOND);
}

int64_t
fz_clock_after(int64_t now_ns, int64_t delay_ns)
{
	if (delay_ns == FZ_CLOCK_NEVER ||
	    (now_ns > 0 && delay_ns >= FZ_CLOCK_NEVER - now_ns))
		return FZ_CLOCK_NEVER;
	return now_ns + delay_ns;
}

int
fz_clock_poll_ms(int64_t now_ns, int64_t deadline_ns)
{
	int64_t ms;

	if (deadline_ns == FZ_CLOCK_NEVER)
		return -1;
	if (deadline_ns <= now_ns)
		return 0;
	ms = (deadline_ns - now_ns - 1) / FZ_CLOCK_MS + 1;
	return ms > INT_MAX ? INT_MAX : (int)ms;
}

int64_t
fz_clock_wall_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return (int64_t)ts.tv_sec * FZ_CLOCK_SECOND + ts.tv_nsec;
}
