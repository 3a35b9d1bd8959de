/*
 * limits.h - the limits of an attempt of a call, and how often it is retried.
 */
#ifndef FZ_LIMITS_H
#define FZ_LIMITS_H

#include <stdbool.h>
#include <stdint.h>

enum fz_policy {
	FZ_POLICY_STOP,    /* after a failure start nothing new */
	FZ_POLICY_NOW,     /* and end what runs */
	FZ_POLICY_CONTINUE /* run all that does not depend on it */
};

struct fz_limits {
	int64_t timeout_ns; /* of one attempt; FZ_CLOCK_NEVER: none */
	int64_t backoff_ns; /* before the first retry, doubled each time */
	uint64_t memory;    /* bytes, 0: no limit */
	unsigned retries;
	bool ask; /* the caller decides about each retry */
};

#endif
