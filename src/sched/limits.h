/* limits.h - limits of a call: time and memory of an attempt, retries. */
#ifndef FZ_LIMITS_H
#define FZ_LIMITS_H

#include <stdbool.h>
#include <stdint.h>

enum fz_policy {
	FZ_POLICY_STOP, /* after a failure start nothing new */
	/* after a failure start nothing new, and end what runs */
	FZ_POLICY_NOW,
	/* after a failure run all that does not depend on it */
	FZ_POLICY_CONTINUE
};

struct fz_limits {
	/* time limit of one attempt; FZ_CLOCK_NEVER: none */
	int64_t timeout_ns;
	/* pause before the first retry; doubled for each further one */
	int64_t backoff_ns;
	uint64_t memory; /* limit of memory in bytes; 0: none */
	unsigned retries;
	bool ask; /* the caller decides about each retry */
};

#endif
