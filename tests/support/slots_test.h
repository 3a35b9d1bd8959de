/* slots_test.h - slots, and users of pools that run jobs in them. */
#ifndef SLOTS_TEST_H
#define SLOTS_TEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pool_user.h"
#include "sched/slots.h"
#include "world.h"

struct slots_waiter {
	struct fz_slots_waiter waiter;
	struct fz_slots *takes; /* takes one when notified; or NULL */
	int ntold;
	bool got;
};

/* A jobserver as of make, with some tokens in a pipe that the test can read. */
struct slots_make {
	int pipe[2];
	struct fz_slots *slots;
};

/* A user of a pool, which sends its jobs as soon as there are slots. */
struct slots_user {
	struct pool_user counts;
	struct fz_pool *pool;
	struct pool_task tasks[16];
	enum job func;
	uint64_t arg;
	int njobs, nsent;
	int nbusy, peak;
};

struct slots_waiter slots_waiter(struct fz_slots *takes);

void slots_make_begin(
    struct world *w, struct slots_make *m, const char *tokens);

void slots_make_end(struct world *w, struct slots_make *m);

/* The number of tokens in the pipe. */
unsigned slots_left(const struct slots_make *m);

/* Take all free slots, give them back, and return their number. */
unsigned slots_free(struct world *w, struct fz_slots *slots);

struct fz_pool *slots_pool(struct world *w, unsigned max,
    struct fz_slots *slots, fz_worker_main main_, void *ctx);

/* Returns 0, or -1 if the pool has no memory for another user. */
int slots_user_try(struct slots_user *u, struct fz_pool *pool, int njobs,
    enum job func, uint64_t arg);

void slots_user_begin(struct slots_user *u, struct fz_pool *pool, int njobs,
    enum job func, uint64_t arg);

#endif
