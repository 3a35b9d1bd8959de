#include "sched/retry.h"

#include "base/clock.h"
#include "os/loop.h"
#include "sched/limits.h"

bool
fz_retry_may(
    const struct fz_limits *limits, unsigned attempts, enum fz_err_kind kind)
{
	return kind != FZ_ERR_CANCELLED && kind != FZ_ERR_INTERRUPTED &&
	       kind != FZ_ERR_UNSENDABLE && kind != FZ_ERR_CLOSED &&
	       attempts <= limits->retries;
}

static int64_t
backoff(const struct fz_limits *limits, unsigned attempts)
{
	int64_t ns = limits->backoff_ns;

	for (unsigned i = 1; i < attempts && ns != 0; i++) {
		if (ns == FZ_CLOCK_NEVER)
			break;
		ns = fz_clock_after(ns, ns);
	}
	return ns;
}

bool
fz_retry_arm(struct fz_loop *loop, struct fz_timer *timer,
    const struct fz_limits *limits, unsigned attempts)
{
	int64_t ns = backoff(limits, attempts);

	return ns != 0 &&
	       fz_loop_arm(loop, timer, fz_clock_after(fz_clock_ns(), ns)) == 0;
}
