/* retry.h - whether and when a failed call is tried again. */
#ifndef FZ_RETRY_H
#define FZ_RETRY_H

#include <stdbool.h>

#include "base/err.h"

struct fz_limits;
struct fz_loop;
struct fz_timer;

/*
 * Whether another attempt is allowed after `attempts` attempts, the last of
 * which failed with `kind`.
 */
bool fz_retry_may(
    const struct fz_limits *limits, unsigned attempts, enum fz_err_kind kind);

/*
 * Arm `timer` for the attempt that follows `attempts` failed ones. Returns
 * false if that attempt must begin at once: it has no pause, or there is no
 * memory for the timer.
 */
bool fz_retry_arm(struct fz_loop *loop, struct fz_timer *timer,
    const struct fz_limits *limits, unsigned attempts);

#endif
