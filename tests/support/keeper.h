/* keeper.h - a worker, its jobs, and their outcomes. */
#ifndef KEEPER_H
#define KEEPER_H

#include <stddef.h>
#include <stdint.h>
#include <stdbool.h>

#include "base/err.h"
#include "worker/worker.h"
#include "world.h"

enum { KEEPER_MANY = 50 };

/* A job, and counts of its outcomes. */
struct task {
	struct fz_job job;
	int ndone, nfailed, nreturned, nstarted;
	struct fz_blob *value; /* the first value of the result */
	uint32_t nvalues;
	struct fz_failure failure;
};

/* A worker, and counts of the reports about it. */
struct keeper {
	struct fz_worker *worker; /* the worker; NULL after its death */
	int nidle, ndead;
	struct fz_death death;
};

/* Start a worker that serves the jobs of jobs.h. NULL: it could not start. */
struct fz_worker *keeper_start(struct world *w, struct keeper *k);

/*
 * As keeper_start(), with the `main`, `main_ctx`, `link` and `noun` of `opts`.
 */
struct fz_worker *keeper_start_opts(
    struct world *w, struct keeper *k, const struct fz_worker_opts *opts);

void task_init(struct task *t, enum job func);

void task_fini(struct task *t);

/* Send a job with one argument, whose reference passes to the worker. */
void task_send_blob(
    struct keeper *k, struct task *t, enum job func, struct fz_blob *arg);

void task_send_number(
    struct keeper *k, struct task *t, enum job func, uint64_t arg);

/* Turn the loop until the worker is idle or dead. False: it hangs. */
bool keeper_settle(struct world *w, struct keeper *k);

/* Turn the loop until the worker is dead. False: it hangs. */
bool keeper_dies(struct world *w, struct keeper *k);

/* Check that the job has exactly one outcome: done, failed or returned. */
void assert_one_outcome(const struct task *t);

void assert_task_done(struct world *w, struct task *t, uint64_t value);

void assert_task_failed(struct task *t, enum fz_err_kind kind);

void assert_task_returned(struct task *t);

/*
 * Send a new worker three jobs, one of them with a big result. If `recalls`,
 * recall them. Each job must have one outcome, even if a call fails. Returns 0,
 * or -1 if a job was not sent or has failed, or a result is missing.
 */
int keeper_try_jobs(
    struct world *w, const struct fz_worker_opts *opts, bool recalls);

/* Processor time of this process. */
int64_t cpu_ms(void);

struct CMUnitTest;

/* Run the tests twice, the second time without pidfds, as before Linux 5.3. */
int run_with_and_without_pidfd(const struct CMUnitTest *tests, size_t n);

#endif
