/* clock.h - monotonic time in nanoseconds, and deadlines made of it. */
#ifndef FZ_CLOCK_H
#define FZ_CLOCK_H

#include <stdint.h>

#define FZ_CLOCK_NEVER INT64_MAX
#define FZ_CLOCK_SECOND INT64_C(1000000000)
#define FZ_CLOCK_MS INT64_C(1000000)

/*
 * Nanoseconds since some fixed point, less those that were skipped; never goes
 * back in a process that does not run while time is skipped.
 */
int64_t fz_clock_ns(void);

/*
 * Share what is skipped with all processes that are forked later. Without
 * memory for this the clock skips nothing.
 */
void fz_clock_share(void);

/* In a forked child: what is skipped can be read only, so that no stray write
 * changes the time of all processes. */
void fz_clock_in_child(void);

/*
 * Not in a forked child. Let the `ns` nanoseconds that have just passed not
 * count, in all processes that share it. Async-signal-safe.
 */
void fz_clock_skip(int64_t ns);

/*
 * Seconds as nanoseconds. Too long for the clock, or infinite, gives
 * FZ_CLOCK_NEVER; negative or NaN gives 0.
 */
int64_t fz_clock_from_seconds(double seconds);

/* `delay_ns` after `now_ns`, FZ_CLOCK_NEVER where that overflows. */
int64_t fz_clock_after(int64_t now_ns, int64_t delay_ns);

/*
 * Milliseconds from `now_ns` until `deadline_ns`, rounded up so that a poll
 * never wakes early; -1 for FZ_CLOCK_NEVER, 0 when it has passed.
 */
int fz_clock_poll_ms(int64_t now_ns, int64_t deadline_ns);

/* Nanoseconds since 1970, for people; it may jump. */
int64_t fz_clock_wall_ns(void);

#endif
