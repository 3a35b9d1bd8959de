/* limits.h - limits of a call: time, memory, number of attempts. */
#ifndef FZ_LIMITS_H
#define FZ_LIMITS_H

#include <stdbool.h>
#include <stdint.h>

enum fz_policy {
	FZ_POLICY_STOP, /* after a failure, start no more calls */
	/* after a failure, start no more calls and end the running ones */
	FZ_POLICY_NOW,
	/* after a failure, run all that does not depend on that call */
	FZ_POLICY_CONTINUE
};

struct fz_limits {
	/* time limit of an attempt; FZ_CLOCK_NEVER: none */
	int64_t timeout_ns;
	/* pause before the first retry; doubled for each further retry */
	int64_t backoff_ns;
	uint64_t memory; /* memory limit of an attempt in bytes; 0: none */
	unsigned retries;
	bool ask; /* before each retry, the caller decides about it */
};

#endif
