/*
 * run_dispatch.h - which job of a run goes to which worker next.
 *
 * Idle workers first, then new ones, then room behind jobs that were sent
 * already. What waits behind a long job is taken back when somebody is free.
 */
#ifndef FZ_RUN_DISPATCH_H
#define FZ_RUN_DISPATCH_H

#include "base/err.h"

struct fz_defer;
struct fz_pool_user;
struct fz_run;
struct fz_timer;
struct fz_worker;

/* The run's deferred call: send what can be sent, see whether it is done. */
void fz_dispatch(struct fz_defer *defer);

/* The run's timer: look behind jobs that take long. */
void fz_dispatch_steal(struct fz_timer *timer);

/* The run as a user of pools: a worker has become free. */
void fz_dispatch_freed(struct fz_pool_user *user, struct fz_worker *worker);

/* End all workers that have its jobs and wait until they are dead. */
void fz_dispatch_end(
    struct fz_run *run, enum fz_err_kind kind, const char *text);

/* The run is done: let go of pools and timers, pass on what was printed. */
void fz_dispatch_finish(struct fz_run *run);

#endif
