/* pool_user.h - a user of a pool, which counts what is reported to it. */
#ifndef POOL_USER_H
#define POOL_USER_H

#include <stdint.h>

#include "base/err.h"
#include "sched/pool.h"
#include "worker/worker.h"
#include "world.h"

struct pool_user {
	struct fz_pool_client user;
	int nfreed;  /* workers that had its jobs and became free */
	int nothers; /* free workers of other users */
	int ndone, nfailed, nreturned; /* jobs */
	enum fz_err_kind kind;         /* of the last failure */
};

/* A job and its user. */
struct pool_task {
	struct fz_job job;
	struct pool_user *user;
};

void pool_user_init(struct pool_user *u);

/* Send a job with a number as its argument. 0, or -1 without memory. */
int pool_user_send(struct fz_worker *worker, struct pool_user *u,
    struct pool_task *t, enum job func, uint64_t n);

/* How many jobs have ended, in any way. */
int pool_user_ended(const struct pool_user *u);

/* Turn the loop until `n` jobs have ended. */
void pool_user_wait(struct world *w, const struct pool_user *u, int n);

#endif
