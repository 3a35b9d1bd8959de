/* kill, syscall and usleep are not in C11. */
#define _GNU_SOURCE
#include "keeper.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdbool.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "os/loop.h"
#include "wire/blob.h"
#include "worker/worker.h"
#include "world.h"

/* There are no pidfds, as before Linux 5.3, or with valgrind before 3.21. */
static bool no_pidfd;

long __real_syscall(long number, ...);

long __wrap_syscall(long number, pid_t pid, unsigned flags);

long
__wrap_syscall(long number, pid_t pid, unsigned flags)
{
	if (number != SYS_pidfd_open || !no_pidfd)
		return __real_syscall(number, pid, flags);
	errno = ENOSYS;
	return -1;
}

static int
without_pidfd(void **state)
{
	(void)state;
	no_pidfd = true;
	return 0;
}

static struct task *
task_of(struct fz_job *job)
{
	return (struct task *)((char *)job - offsetof(struct task, job));
}

static void
task_done(struct fz_job *job, struct fz_blob **values, uint32_t n)
{
	struct task *t = task_of(job);

	t->ndone++;
	t->nvalues = n;
	for (uint32_t i = 0; i < n; i++) {
		if (i == 0)
			t->value = values[i];
		else
			fz_blob_unref(values[i]);
	}
}

static void
task_failed(struct fz_job *job, struct fz_failure *failure)
{
	struct task *t = task_of(job);

	t->nfailed++;
	t->failure = *failure;
	t->value = failure->value;
}

static void
task_returned(struct fz_job *job, uint32_t nitems)
{
	(void)nitems;
	assert_null(job->worker);
	task_of(job)->nreturned++;
}

static void
task_started(struct fz_job *job)
{
	task_of(job)->nstarted++;
}

static const struct fz_job_ops task_ops = { task_done, task_failed,
	task_returned, task_started, NULL };

static void
keeper_idle(void *ctx, struct fz_worker *worker)
{
	struct keeper *k = ctx;

	assert_ptr_equal(k->worker, worker);
	assert_null(worker->head);
	assert_int_equal(worker->njobs, 0);
	assert_int_equal(worker->nbytes, 0);
	k->nidle++;
}

static void
keeper_dead(void *ctx, struct fz_worker *worker)
{
	struct keeper *k = ctx;

	k->ndead++;
	k->death = worker->death;
	k->worker = NULL;
	fz_worker_free(worker);
}

static const struct fz_worker_ops keeper_ops = { keeper_idle, keeper_dead };

struct fz_worker *
keeper_start_opts(
    struct world *w, struct keeper *k, const struct fz_worker_opts *opts)
{
	struct fz_worker_opts all = *opts;

	all.engine = &w->engine;
	all.ops = &keeper_ops;
	all.ops_ctx = k;
	*k = (struct keeper){ .worker = NULL };
	k->worker = fz_worker_new(&all, NULL);
	return k->worker;
}

struct fz_worker *
keeper_start(struct world *w, struct keeper *k)
{
	struct fz_worker_opts opts = { .main = serve, .main_ctx = w->shared };

	return keeper_start_opts(w, k, &opts);
}

void
task_init(struct task *t, enum job func)
{
	*t = (struct task){ .job = { .ops = &task_ops,
				.func = func,
				.nvalues = 1,
				.timeout_ns = FZ_CLOCK_NEVER } };
}

void
task_fini(struct task *t)
{
	fz_blob_unref(t->value);
	t->value = NULL;
}

static bool
has_pidfd(void)
{
	long fd = syscall(SYS_pidfd_open, getpid(), 0);

	if (fd != -1)
		close((int)fd);
	return fd != -1;
}

void
task_send_blob(
    struct keeper *k, struct task *t, enum job func, struct fz_blob *arg)
{
	int64_t timeout_ns = t->job.timeout_ns;

	task_init(t, func);
	if (timeout_ns != 0)
		t->job.timeout_ns = timeout_ns;
	assert_int_equal(fz_worker_send(k->worker, &t->job, &arg, 1, NULL), 0);
	fz_blob_unref(arg);
}

void
task_send_number(struct keeper *k, struct task *t, enum job func, uint64_t arg)
{
	task_send_blob(k, t, func, blob_of_number(arg));
}

bool
keeper_settle(struct world *w, struct keeper *k)
{
	int64_t until = in_ms(PATIENCE_MS);

	while (k->worker != NULL && k->worker->njobs != 0) {
		if (!turn_until(w, until))
			return false;
	}
	return true;
}

bool
keeper_dies(struct world *w, struct keeper *k)
{
	int64_t until = in_ms(PATIENCE_MS);

	while (k->worker != NULL) {
		if (!turn_until(w, until))
			return false;
	}
	return true;
}

void
assert_one_outcome(const struct task *t)
{
	assert_int_equal(t->ndone + t->nfailed + t->nreturned, 1);
}

void
assert_task_done(struct world *w, struct task *t, uint64_t value)
{
	assert_int_equal(t->ndone, 1);
	assert_int_equal(t->nfailed + t->nreturned, 0);
	assert_int_equal(t->nvalues, 1);
	assert_int_equal(number_of_blob(w, t->value), value);
	task_fini(t);
}

void
assert_task_failed(struct task *t, enum fz_err_kind kind)
{
	assert_int_equal(t->nfailed, 1);
	assert_int_equal(t->ndone + t->nreturned, 0);
	assert_int_equal(t->failure.err.kind, kind);
	task_fini(t);
}

void
assert_task_returned(struct task *t)
{
	assert_int_equal(t->nreturned, 1);
	assert_int_equal(t->ndone + t->nfailed, 0);
}

/* Returns how many of the jobs were sent: three, unless a call has failed. */
static int
send_three(struct keeper *k, struct task *t)
{
	int nsent = 0;

	for (; nsent < 3; nsent++) {
		struct fz_blob *arg = blob_of_number(300000);
		int rc = -1;

		task_init(&t[nsent], nsent == 1 ? JOB_BYTES : JOB_ADD);
		t[nsent].job.timeout_ns = 20 * FZ_CLOCK_SECOND;
		if (arg != NULL)
			rc = fz_worker_send(
			    k->worker, &t[nsent].job, &arg, 1, NULL);
		fz_blob_unref(arg);
		if (rc != 0)
			break;
	}
	return nsent;
}

int
keeper_try_jobs(
    struct world *w, const struct fz_worker_opts *opts, bool recalls)
{
	struct task t[3];
	struct keeper k;
	int nsent, nwrong = 0;

	if (keeper_start_opts(w, &k, opts) == NULL)
		return -1;
	nsent = send_three(&k, t);
	if (recalls)
		fz_worker_recall(k.worker);
	while (k.worker != NULL && k.worker->njobs != 0)
		fz_loop_turn(w->engine.loop, in_ms(PATIENCE_MS), NULL);
	fz_worker_free(k.worker);
	for (int i = 0; i < nsent; i++) {
		assert_one_outcome(&t[i]);
		if (t[i].nreturned ? !recalls : t[i].value == NULL)
			nwrong++;
		if (t[i].nfailed != 0)
			nwrong++;
		task_fini(&t[i]);
	}
	return nsent == 3 && nwrong == 0 ? 0 : -1;
}

int64_t
cpu_ms(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000 +
	       (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1000;
}

int
run_with_and_without_pidfd(const struct CMUnitTest *tests, size_t n)
{
	int failed = _cmocka_run_group_tests("as it is", tests, n, NULL, NULL);

	if (has_pidfd())
		return failed + _cmocka_run_group_tests("without a pidfd",
				    tests, n, without_pidfd, NULL);
	print_message("these tests had no pidfd: not run again without one\n");
	return failed;
}
