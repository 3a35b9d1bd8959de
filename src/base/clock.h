/* clock.h - monotonic time in nanoseconds, and deadlines. */
#ifndef FZ_CLOCK_H
#define FZ_CLOCK_H

#include <stdint.h>

#define FZ_CLOCK_NEVER INT64_MAX
#define FZ_CLOCK_SECOND INT64_C(1000000000)
#define FZ_CLOCK_MS INT64_C(1000000)

/*
 * Nanoseconds since some fixed point, without the skipped time
 * (fz_clock_skip()). For a process that is stopped while time is skipped, the
 * clock never goes back.
 */
int64_t fz_clock_ns(void);

/*
 * Share the skipped time with all processes that are forked later. If there is
 * no memory for this, the clock skips nothing.
 */
void fz_clock_share(void);

/*
 * In a forked child: make the skipped time, which all processes share,
 * read-only.
 */
void fz_clock_in_child(void);

/*
 * Skip the last `ns` nanoseconds: exclude them from the clock of all processes
 * that share the skipped time. Do not call it in a forked child.
 * Async-signal-safe.
 */
void fz_clock_skip(int64_t ns);

/*
 * Seconds as nanoseconds. Infinity, or a number too large for the clock, gives
 * FZ_CLOCK_NEVER; a negative number or NaN gives 0.
 */
int64_t fz_clock_from_seconds(double seconds);

/* `delay_ns` after `now_ns`; FZ_CLOCK_NEVER on overflow. */
int64_t fz_clock_after(int64_t now_ns, int64_t delay_ns);

/*
 * Milliseconds from `now_ns` until `deadline_ns`, rounded up so that a poll
 * never wakes early; -1 for FZ_CLOCK_NEVER, 0 if the deadline has passed.
 */
int fz_clock_poll_ms(int64_t now_ns, int64_t deadline_ns);

/* Wall clock: nanoseconds since 1970. It may jump. */
int64_t fz_clock_wall_ns(void);

#endif
