/* clock_gettime is POSIX, which -std=c11 hides. */
#define _GNU_SOURCE
#include "base/clock.h"

#include <limits.h>
#include <time.h>

int64_t
fz_clock_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * FZ_CLOCK_SECOND + t.tv_nsec;
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
	if (delay_ns >= FZ_CLOCK_NEVER - now_ns)
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
