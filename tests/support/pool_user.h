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
	int nfreed;  /* reports of workers free after own jobs */
	int nothers; /* reports of workers free after others' jobs */
	int ndone, nfailed, nreturned; /* numbers of jobs */
	enum fz_err_kind kind;         /* kind of the last failure */
};

struct pool_task {
	struct fz_job job;
	struct pool_user *user;
};

void pool_user_init(struct pool_user *u);

/* Send a job with a number as argument. Returns 0, or -1 without memory. */
int pool_user_send(struct fz_worker *worker, struct pool_user *u,
    struct pool_task *t, enum job func, uint64_t n);

/* The number of jobs that are done, have failed or were returned. */
int pool_user_ended(const struct pool_user *u);

/* Turn the loop until `n` jobs have ended. */
void pool_user_wait(struct world *w, const struct pool_user *u, int n);

#endif
