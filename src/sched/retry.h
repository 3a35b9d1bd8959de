/* retry.h - whether and when a failed call is tried again. */
#ifndef FZ_RETRY_H
#define FZ_RETRY_H

#include <stdbool.h>

#include "base/err.h"

struct fz_limits;
struct fz_loop;
struct fz_timer;

/*
 * Whether a failure of that kind after `attempts` attempts allows another
 * attempt.
 */
bool fz_retry_may(
    const struct fz_limits *limits, unsigned attempts, enum fz_err_kind kind);

/*
 * Arm `timer` for the attempt after `attempts` failed ones. False if that
 * attempt is due at once, because it has no pause or because there is no memory
 * for the timer.
 */
bool fz_retry_arm(struct fz_loop *loop, struct fz_timer *timer,
    const struct fz_limits *limits, unsigned attempts);

#endif
