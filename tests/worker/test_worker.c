/*
 * One worker as its parent sees it: killed at every step, and worse.
 * wrap: malloc calloc realloc mmap epoll_create1 epoll_ctl epoll_wait fork
 * wrap: pipe2 read write pwritev2 syscall nanosleep
 */
/* kill, syscall and usleep are not in C11. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "faults.h"
#include "os/loop.h"
#include "worker/blob.h"
#include "worker/child_port.h"
#include "worker/wire.h"
#include "worker/worker.h"
#include "world.h"

enum { MANY = 50 };

/* As on a kernel before Linux 5.3, and under a valgrind before 3.21. */
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

/* Naps of this process of 0.5 ms, as it takes while it waits for a death. */
static int nnaps;

int __real_nanosleep(const struct timespec *nap, struct timespec *left);
int __wrap_nanosleep(const struct timespec *nap, struct timespec *left);

int
__wrap_nanosleep(const struct timespec *nap, struct timespec *left)
{
	nnaps += nap->tv_sec == 0 && nap->tv_nsec == 500000;
	return __real_nanosleep(nap, left);
}

/* A job, and what was told of it. */
struct task {
	struct fz_job job;
	int ndone, nfailed, nreturned, nstarted;
	struct fz_blob *value; /* the first one */
	uint32_t nvalues;
	struct fz_failure failure;
};

/* A worker, and what was told of it. */
struct keeper {
	struct fz_worker *worker; /* NULL: dead and freed */
	int nidle, ndead;
	struct fz_death death;
};

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

static struct fz_worker *
keep(struct world *w, struct keeper *k, struct fz_err *err)
{
	struct fz_worker_opts opts = {
		.engine = &w->engine,
		.ops = &keeper_ops,
		.ops_ctx = k,
		.main = serve,
		.main_ctx = w->shared,
	};

	k->nidle = k->ndead = 0;
	k->worker = fz_worker_new(&opts, err);
	return k->worker;
}

static void
task_init(struct task *t, enum job func)
{
	*t = (struct task){ .job = { .ops = &task_ops,
				.func = func,
				.nvalues = 1,
				.timeout_ns = FZ_CLOCK_NEVER } };
}

static void
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

/* Send a job with one argument, which is given up. */
static void
send_blob(struct keeper *k, struct task *t, enum job func, struct fz_blob *arg)
{
	int64_t timeout_ns = t->job.timeout_ns;

	task_init(t, func);
	if (timeout_ns != 0)
		t->job.timeout_ns = timeout_ns;
	assert_int_equal(fz_worker_send(k->worker, &t->job, &arg, 1, NULL), 0);
	fz_blob_unref(arg);
}

static void
send_number(struct keeper *k, struct task *t, enum job func, uint64_t arg)
{
	send_blob(k, t, func, blob_of_number(arg));
}

/* Until the worker is idle or dead; false when it takes longer. */
static bool
settle(struct world *w, struct keeper *k, int64_t ms)
{
	int64_t until = in_ms(ms);

	while (k->worker != NULL && k->worker->njobs != 0) {
		if (!step_until(w, until))
			return false;
	}
	return true;
}

static bool
dies(struct world *w, struct keeper *k, int64_t ms)
{
	int64_t until = in_ms(ms);

	while (k->worker != NULL) {
		if (!step_until(w, until))
			return false;
	}
	return true;
}

static void
assert_done(struct world *w, struct task *t, uint64_t value)
{
	assert_int_equal(t->ndone, 1);
	assert_int_equal(t->nfailed + t->nreturned, 0);
	assert_int_equal(t->nvalues, 1);
	assert_int_equal(number_of_blob(w, t->value), value);
	task_fini(t);
}

static void
assert_failed(struct task *t, enum fz_err_kind kind)
{
	assert_int_equal(t->nfailed, 1);
	assert_int_equal(t->ndone + t->nreturned, 0);
	assert_int_equal(t->failure.err.kind, kind);
	task_fini(t);
}

static void
assert_returned(struct task *t)
{
	assert_int_equal(t->nreturned, 1);
	assert_int_equal(t->ndone + t->nfailed, 0);
}

/* ---- a worker that is well ---------------------------------------------- */

static void
test_worker_does_a_job(void **state)
{
	struct world *w = *state;
	struct keeper k;
	struct task t = { 0 };

	keep(w, &k, NULL);
	send_number(&k, &t, JOB_ADD, 42);
	assert_true(settle(w, &k, 5000));
	assert_int_equal(t.nstarted, 1);
	assert_int_equal(t.job.pid, k.worker->pid);
	assert_done(w, &t, 42);
	assert_int_equal(k.nidle, 1);
	fz_worker_free(k.worker);
}

static void
test_worker_does_jobs_in_order(void **state)
{
	struct world *w = *state;
	static struct task t[1000];
	struct keeper k;

	keep(w, &k, NULL);
	for (uint64_t i = 0; i < 1000; i++) {
		t[i].job.timeout_ns = 0;
		send_number(&k, &t[i], JOB_ADD, i);
	}
	assert_int_equal(k.worker->njobs, 1000);
	while (k.worker->njobs != 0) {
		assert_true(
		    fz_loop_step(w->engine.loop, in_ms(5000), NULL) >= 0);
		for (int i = 1; i < 1000; i++)
			assert_true(t[i - 1].ndone >= t[i].ndone);
	}
	for (uint64_t i = 0; i < 1000; i++)
		assert_done(w, &t[i], i);
	assert_int_equal(atomic_load(&w->shared->calls[JOB_ADD]), 1000);
	fz_worker_free(k.worker);
}

static void
test_worker_an_error_is_no_death(void **state)
{
	struct world *w = *state;
	struct task t = { 0 }, u = { 0 };
	struct keeper k;

	keep(w, &k, NULL);
	send_number(&k, &t, JOB_RAISE, 0);
	send_number(&k, &u, JOB_ADD, 1);
	assert_true(settle(w, &k, 5000));
	assert_int_equal(t.failure.pid, k.worker->pid);
	assert_memory_equal(t.value->bytes, "raised", 6);
	assert_failed(&t, FZ_ERR_ERROR);
	assert_done(w, &u, 1);
	fz_worker_free(k.worker);
}

static void
test_worker_a_reply_with_too_few_values_is_told_as_it_is(void **state)
{
	struct world *w = *state;
	struct task t = { 0 }, u = { 0 };
	struct keeper k;

	keep(w, &k, NULL);
	send_number(&k, &t, JOB_TOO_MANY, 0);
	send_number(&k, &u, JOB_TOO_FEW, 0);
	assert_true(settle(w, &k, 5000));
	assert_failed(&t, FZ_ERR_CRASH);
	assert_int_equal(u.ndone, 1);
	assert_int_equal(u.nvalues, 0);
	fz_worker_free(k.worker);
}

static void
test_worker_prints_through_its_parent(void **state)
{
	struct world *w = *state;
	struct task t = { 0 };
	struct keeper k;

	keep(w, &k, NULL);
	send_blob(&k, &t, JOB_PRINT, fz_blob_new("a line\nhalf", 11, NULL));
	assert_true(settle(w, &k, 5000));
	fz_worker_flush(k.worker);
	assert_string_equal(w->output, "a line\nhalf");
	assert_done(w, &t, 1);
	fz_worker_free(k.worker);
}

static void
test_worker_big_values_go_by_the_arena_and_come_back(void **state)
{
	struct world *w = *state;
	struct task t = { 0 }, u = { 0 };
	struct keeper k;
	const char *at;

	keep(w, &k, NULL);
	send_number(&k, &t, JOB_BYTES, 8 << 20);
	assert_true(settle(w, &k, 5000));
	assert_true(t.value->in_shm);
	/* From a worker to a worker, as it is. */
	send_blob(&k, &u, JOB_ECHO, fz_blob_ref(t.value));
	assert_true(settle(w, &k, 5000));
	at = fz_blob_map(u.value, w->engine.shm, NULL);
	assert_int_equal(u.value->len, 8 << 20);
	assert_int_equal(at[(8 << 20) - 1], 'x');
	fz_blob_unmap(u.value, w->engine.shm, at);
	/* A blob may live longer than who made it. */
	fz_worker_free(k.worker);
	at = fz_blob_map(u.value, w->engine.shm, NULL);
	assert_int_equal(at[12345], 'x');
	fz_blob_unmap(u.value, w->engine.shm, at);
	task_fini(&t);
	task_fini(&u);
}

/* Each value is released before the next: one extent serves them all. */
static void
test_worker_released_values_are_used_again(void **state)
{
	struct world *w = *state;
	uint64_t offset = 0;
	struct keeper k;

	keep(w, &k, NULL);
	for (int i = 0; i < 20; i++) {
		struct task t = { 0 };

		send_number(&k, &t, JOB_BYTES, 4 << 20);
		assert_true(settle(w, &k, 5000));
		assert_true(t.value->in_shm);
		if (i == 2)
			offset = t.value->offset;
		if (i > 2)
			assert_true(t.value->offset <= offset + (16 << 20));
		task_fini(&t);
		fz_loop_step(w->engine.loop, 0, NULL);
	}
	fz_worker_free(k.worker);
}

static void
test_worker_leaves_by_itself_when_dismissed(void **state)
{
	struct world *w = *state;
	struct keeper k;
	int64_t start;

	keep(w, &k, NULL);
	start = fz_clock_ns();
	fz_worker_dismiss(k.worker);
	fz_worker_free(k.worker);
	assert_true(fz_clock_ns() - start < 900 * FZ_CLOCK_MS);
	assert_int_equal(atomic_load(&w->shared->leaves), 1);
}

static void
test_worker_runs_in_a_host_without_standard_descriptors(void **state)
{
	struct world *w = *state;
	struct task t = { 0 };
	struct keeper k;
	bool done;
	int keep_fd[3];

	fz_engine_arena(&w->engine);
	for (int i = 0; i < 3; i++) {
		keep_fd[i] = fcntl(i, F_DUPFD_CLOEXEC, 10);
		close(i);
	}
	keep(w, &k, NULL);
	send_blob(&k, &t, JOB_PRINT, fz_blob_new("there\n", 6, NULL));
	done = settle(w, &k, 5000);
	if (k.worker != NULL) {
		fz_worker_flush(k.worker);
		fz_worker_free(k.worker);
	}
	for (int i = 0; i < 3; i++) {
		dup2(keep_fd[i], i);
		close(keep_fd[i]);
	}
	assert_true(done);
	assert_done(w, &t, 1);
	assert_string_equal(w->output, "there\n");
}

/* ---- death at every step ------------------------------------------------ */

/*
 * A job that is done, one that kills in some way, and two that wait behind.
 * The first was done once, the last two are returned, and done elsewhere.
 */
static void
kill_in_the_midst(struct world *w, enum job how, struct task *victim)
{
	struct task first = { 0 }, last[2] = { { .ndone = 0 } };
	struct keeper k;

	keep(w, &k, NULL);
	send_number(&k, &first, JOB_ADD, 5);
	send_number(&k, victim, how, 3);
	send_number(&k, &last[0], JOB_ADD, 6);
	send_number(&k, &last[1], JOB_ADD, 7);
	assert_true(dies(w, &k, 5000));
	assert_int_equal(k.ndead, 1);
	assert_done(w, &first, 5);
	assert_returned(&last[0]);
	assert_returned(&last[1]);
	assert_int_equal(atomic_load(&w->shared->calls[JOB_ADD]), 1);
	assert_int_equal(atomic_load(&w->shared->calls[how]), 1);
}

static void
assert_crashed(struct task *t, int sig, int exitcode)
{
	assert_int_equal(t->failure.signal, sig);
	assert_int_equal(t->failure.exitcode, exitcode);
	assert_non_null(strstr(t->failure.err.text, "the worker died"));
	assert_failed(t, FZ_ERR_CRASH);
}

static void
test_worker_killed_in_a_job_fails_that_job_alone(void **state)
{
	struct task t = { 0 };

	kill_in_the_midst(*state, JOB_KILL, &t);
	assert_crashed(&t, SIGKILL, -1);
}

static void
test_worker_that_exits_fails_its_job(void **state)
{
	struct task t = { 0 };

	kill_in_the_midst(*state, JOB_EXIT, &t);
	assert_crashed(&t, 0, 3);
}

static void
test_worker_that_exits_with_success_fails_its_job(void **state)
{
	struct world *w = *state;
	struct task t = { 0 };
	struct keeper k;

	keep(w, &k, NULL);
	send_number(&k, &t, JOB_EXIT, 0);
	assert_true(dies(w, &k, 5000));
	assert_crashed(&t, 0, 0);
}

static void
test_worker_killed_with_its_reply_stored_has_done_it(void **state)
{
	struct task t = { 0 };

	kill_in_the_midst(*state, JOB_KILL_STORED, &t);
	assert_done(*state, &t, 1);
}

static void
test_worker_killed_with_half_its_reply_written_has_done_it(void **state)
{
	struct task t = { 0 };

	kill_in_the_midst(*state, JOB_KILL_HALF, &t);
	assert_done(*state, &t, 1);
}

static void
test_worker_killed_before_it_notes_the_write_has_done_it_once(void **state)
{
	struct task t = { 0 };

	kill_in_the_midst(*state, JOB_KILL_WRITTEN, &t);
	assert_done(*state, &t, 1);
}

static void
test_worker_killed_with_half_a_big_reply_written_has_failed(void **state)
{
	struct task t = { 0 };

	kill_in_the_midst(*state, JOB_KILL_BIG_HALF, &t);
	assert_crashed(&t, SIGKILL, -1);
}

static void
test_worker_that_writes_garbage_is_ended(void **state)
{
	struct task t = { 0 };

	kill_in_the_midst(*state, JOB_GARBAGE, &t);
	assert_non_null(strstr(t.failure.err.text, "no frame"));
	assert_failed(&t, FZ_ERR_CRASH);
}

static void
test_worker_that_writes_garbage_behind_a_reply_is_ended(void **state)
{
	struct task t = { 0 };

	kill_in_the_midst(*state, JOB_REPLY_GARBAGE, &t);
	assert_done(*state, &t, 1);
}

static void
test_worker_that_closes_its_results_is_ended(void **state)
{
	struct task t = { 0 };

	kill_in_the_midst(*state, JOB_CLOSE_OUT, &t);
	/* Without pidfds, as on valgrind, the end of the pipe is the death. */
	if (!on_valgrind())
		assert_non_null(strstr(t.failure.err.text, "closed its pipe"));
	assert_failed(&t, FZ_ERR_CRASH);
}

static int64_t
cpu_ms(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000 +
	       (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1000;
}

/* And its parent does not turn round and round until then. */
static void
test_worker_that_closes_its_jobs_is_ended(void **state)
{
	int64_t before = cpu_ms();
	struct task t = { 0 };

	kill_in_the_midst(*state, JOB_CLOSE_IN, &t);
	assert_failed(&t, FZ_ERR_CRASH);
	assert_true(cpu_ms() - before < 500);
}

static void
test_worker_that_crashes_names_the_signal(void **state)
{
	struct task t = { 0 };

	kill_in_the_midst(*state, JOB_CRASH, &t);
#if defined(__SANITIZE_ADDRESS__)
	assert_failed(&t, FZ_ERR_CRASH); /* it exits instead */
#else
	assert_crashed(&t, SIGSEGV, -1);
#endif
}

/* Jobs that no worker has claimed count as never tried. */
static void
die_unclaimed(struct world *w, enum start_mode mode)
{
	struct task t[3] = { { .ndone = 0 } };
	struct keeper k;

	w->shared->mode = mode;
	keep(w, &k, NULL);
	for (int i = 0; i < 3; i++)
		send_number(&k, &t[i], JOB_ADD, 1);
	assert_true(dies(w, &k, 5000));
	for (int i = 0; i < 3; i++)
		assert_returned(&t[i]);
	assert_int_equal(atomic_load(&w->shared->calls[JOB_ADD]), 0);
}

static void
test_worker_killed_before_it_reads_has_started_nothing(void **state)
{
	die_unclaimed(*state, START_FIRST_DIES_UNREAD);
}

static void
test_worker_killed_before_it_claims_has_started_nothing(void **state)
{
	die_unclaimed(*state, START_FIRST_DIES_READING);
}

static void
test_worker_killed_from_outside_at_any_time_loses_nothing(void **state)
{
	struct world *w = *state;
	int nfailed = 0;

	for (int round = 0; round < 60; round++) {
		static struct task t[MANY];
		struct keeper k;
		int ndone = 0, nbad = 0, nback = 0, before, ran;

		before = atomic_load(&w->shared->calls[JOB_ADD]);
		keep(w, &k, NULL);
		for (int i = 0; i < MANY; i++) {
			t[i].job.timeout_ns = 0;
			send_number(&k, &t[i], JOB_ADD, 1);
		}
		fz_loop_step(w->engine.loop, 0, NULL);
		usleep((useconds_t)(round * 37 % 700));
		kill(k.worker->pid, SIGKILL);
		assert_true(dies(w, &k, 5000));
		for (int i = 0; i < MANY; i++) {
			assert_int_equal(
			    t[i].ndone + t[i].nfailed + t[i].nreturned, 1);
			ndone += t[i].ndone;
			nbad += t[i].nfailed;
			nback += t[i].nreturned;
			task_fini(&t[i]);
		}
		/* What ran is done, but for one; what did not is returned. */
		ran = atomic_load(&w->shared->calls[JOB_ADD]) - before;
		assert_true(nbad <= 1);
		assert_true(ndone <= ran && ran <= ndone + nbad);
		assert_int_equal(nback, MANY - ndone - nbad);
		nfailed += nbad;
	}
	print_message("60 kills: %d jobs were in the midst\n", nfailed);
}

/* ---- a job that begins at the fork ------------------------------------- */

/* Answers call 0 without a frame, or waits to be killed where deaf. */
static int
answer_begun(void *ctx, struct fz_port *port)
{
	const struct shared *shared = ctx;
	struct fz_call call = { .seq = 0 };

	if (shared->mode == START_NEVER_READS)
		nap(60000);
	fz_port_begin(port, &call, FZ_WIRE_RESULT, 1);
	put_number(port, 17);
	if (fz_port_send(port, NULL) != 0 || fz_port_flush(port, NULL) != 0)
		return 96;
	return 5;
}

static void
begin(struct world *w, struct keeper *k, struct task *t)
{
	struct fz_worker_opts opts = {
		.engine = &w->engine,
		.ops = &keeper_ops,
		.ops_ctx = k,
		.main = answer_begun,
		.main_ctx = w->shared,
		.noun = "process",
	};

	*k = (struct keeper){ .worker = fz_worker_new(&opts, NULL) };
	task_init(t, JOB_ADD);
	fz_worker_begin(k->worker, &t->job);
}

static void
test_worker_does_a_job_that_was_begun_and_leaves(void **state)
{
	struct world *w = *state;
	struct keeper k;
	struct task t;

	begin(w, &k, &t);
	assert_int_equal(t.nstarted, 1);
	assert_true(dies(w, &k, 5000));
	assert_int_equal(k.death.exitcode, 5);
	assert_int_equal(k.death.signal, 0);
	assert_done(w, &t, 17);
}

/* However early it dies, the job is not returned to be sent to another. */
static void
test_worker_killed_with_a_begun_job_has_failed_it(void **state)
{
	struct world *w = *state;
	struct keeper k;
	struct task t;

	w->shared->mode = START_NEVER_READS;
	begin(w, &k, &t);
	kill(k.worker->pid, SIGKILL);
	assert_true(dies(w, &k, 5000));
	assert_int_equal(k.death.signal, SIGKILL);
	assert_int_equal(t.failure.signal, SIGKILL);
	assert_non_null(strstr(t.failure.err.text, "the process died: killed"));
	assert_failed(&t, FZ_ERR_CRASH);
}

static void
test_worker_terminate_is_a_crash_by_sigterm(void **state)
{
	struct world *w = *state;
	struct keeper k;
	struct task t;

	w->shared->mode = START_NEVER_READS;
	begin(w, &k, &t);
	kill(k.worker->pid, SIGSTOP);
	fz_worker_terminate(k.worker);
	fz_worker_terminate(k.worker);
	assert_true(dies(w, &k, 5000));
	assert_int_equal(t.failure.signal, SIGTERM);
	assert_failed(&t, FZ_ERR_CRASH);
}

/* ---- kill, end, recall, peek ------------------------------------------- */

static void
test_worker_kill_gives_the_reason(void **state)
{
	struct world *w = *state;
	struct task t = { 0 }, u = { 0 };
	struct keeper k;

	keep(w, &k, NULL);
	send_number(&k, &t, JOB_SLEEP, 60000);
	send_number(&k, &u, JOB_ADD, 1);
	while (atomic_load(&w->shared->calls[JOB_SLEEP]) == 0)
		fz_loop_step(w->engine.loop, in_ms(1), NULL);
	fz_worker_kill(k.worker, FZ_ERR_INTERRUPTED, "because");
	fz_worker_kill(k.worker, FZ_ERR_CRASH, "later ones count not");
	assert_int_equal(t.nfailed, 0);
	assert_true(dies(w, &k, 2000));
	assert_string_equal(t.failure.err.text, "because");
	assert_failed(&t, FZ_ERR_INTERRUPTED);
	assert_returned(&u);
}

/* Whether the worker has begun a job of this kind, soon. */
static bool
begins(struct world *w, enum job func)
{
	int64_t until = in_ms(20000);

	while (atomic_load(&w->shared->calls[func]) == 0) {
		if (!step_until(w, until < in_ms(5) ? until : in_ms(5)))
			return false;
	}
	return true;
}

/* The parent goes on at once, and uses force later or at once. */
static void
test_worker_kill_never_waits(void **state)
{
	static const enum job wedged[] = { JOB_SLEEP, JOB_IGNORE, JOB_BLOCK };
	struct world *w = *state;
	struct task t = { 0 };
	struct keeper k;

	for (int i = 0; i < 3; i++) {
		keep(w, &k, NULL);
		send_number(&k, &t, wedged[i], 60000);
		assert_true(begins(w, wedged[i]));
		usleep(10000); /* it has the job, and soon is as it asks */
		nnaps = 0;
		fz_worker_kill(k.worker, FZ_ERR_CANCELLED, "no longer wanted");
		assert_non_null(k.worker);
		assert_true(dies(w, &k, 20000));
		assert_int_equal(nnaps, 0);
		assert_failed(&t, FZ_ERR_CANCELLED);
	}
}

/* The time that they have to end themselves is the same for all of them. */
static void
test_worker_several_that_ignore_signals_end_together(void **state)
{
	enum { N = 6 };
	struct world *w = *state;
	struct task t[N] = { 0 };
	struct keeper k[N];

	for (int i = 0; i < N; i++) {
		keep(w, &k[i], NULL);
		send_number(&k[i], &t[i], JOB_IGNORE, 60000);
	}
	while (atomic_load(&w->shared->calls[JOB_IGNORE]) < N)
		assert_true(step_until(w, in_ms(20)));
	usleep(20000);
	nnaps = 0;
	for (int i = 0; i < N; i++)
		fz_worker_kill(k[i].worker, FZ_ERR_CANCELLED, "all of them");
	for (int i = 0; i < N; i++)
		fz_worker_end(k[i].worker, FZ_ERR_CANCELLED, "all of them");
	assert_true(nnaps <= 501); /* of 0.5 ms: for one of them alone */
	for (int i = 0; i < N; i++)
		assert_failed(&t[i], FZ_ERR_CANCELLED);
}

static void
test_worker_end_waits_until_all_is_told(void **state)
{
	struct world *w = *state;
	struct task t = { 0 }, u = { 0 };
	struct keeper k;

	keep(w, &k, NULL);
	send_number(&k, &t, JOB_SLEEP, 60000);
	send_number(&k, &u, JOB_ADD, 1);
	while (atomic_load(&w->shared->calls[JOB_SLEEP]) == 0)
		fz_loop_step(w->engine.loop, in_ms(1), NULL);
	fz_worker_end(k.worker, FZ_ERR_CANCELLED, "stop");
	assert_int_equal(k.ndead, 1);
	assert_failed(&t, FZ_ERR_CANCELLED);
	assert_returned(&u);
}

static void
test_worker_recall_takes_back_what_has_not_started(void **state)
{
	struct world *w = *state;
	struct task t = { 0 }, u[3] = { { .ndone = 0 } }, v = { 0 };
	struct keeper k;

	keep(w, &k, NULL);
	send_number(&k, &t, JOB_SLEEP, 50);
	for (int i = 0; i < 3; i++)
		send_number(&k, &u[i], JOB_ADD, 1);
	while (atomic_load(&w->shared->calls[JOB_SLEEP]) == 0)
		fz_loop_step(w->engine.loop, in_ms(1), NULL);
	assert_int_equal(fz_worker_recall(k.worker), 3);
	assert_int_equal(fz_worker_recall(k.worker), 0);
	assert_int_equal(k.worker->njobs, 1);
	for (int i = 0; i < 3; i++)
		assert_returned(&u[i]);
	/* It can be sent more, and does these and no others. */
	send_number(&k, &v, JOB_ADD, 9);
	assert_true(settle(w, &k, 5000));
	assert_done(w, &t, 50);
	assert_done(w, &v, 9);
	assert_int_equal(atomic_load(&w->shared->calls[JOB_ADD]), 1);
	assert_int_equal(k.nidle, 1);
	fz_worker_free(k.worker);
}

static void
test_worker_recall_of_all_makes_it_idle(void **state)
{
	struct world *w = *state;
	struct task t = { 0 }, u = { 0 };
	struct keeper k;

	keep(w, &k, NULL);
	send_number(&k, &t, JOB_ADD, 1);
	assert_int_equal(fz_worker_recall(k.worker), 1);
	assert_returned(&t);
	assert_int_equal(k.nidle, 1);
	assert_int_equal(k.worker->nbytes, 0);
	send_number(&k, &u, JOB_ADD, 2);
	assert_true(settle(w, &k, 5000));
	assert_done(w, &u, 2);
	fz_worker_free(k.worker);
}

/* Recalled while it claims: somebody has each job, and only one. */
static void
test_worker_recall_races_with_claims(void **state)
{
	struct world *w = *state;
	struct keeper k;

	keep(w, &k, NULL);
	for (int round = 0; round < 200; round++) {
		static struct task t[MANY];
		int before = atomic_load(&w->shared->calls[JOB_ADD]);
		int ndone = 0, nback = 0;

		for (int i = 0; i < MANY; i++) {
			t[i].job.timeout_ns = 0;
			send_number(&k, &t[i], JOB_ADD, 1);
		}
		fz_loop_step(w->engine.loop, 0, NULL);
		usleep((useconds_t)(round % 40));
		fz_worker_recall(k.worker);
		assert_true(settle(w, &k, 5000));
		for (int i = 0; i < MANY; i++) {
			assert_int_equal(t[i].ndone + t[i].nreturned, 1);
			ndone += t[i].ndone;
			nback += t[i].nreturned;
			task_fini(&t[i]);
		}
		assert_int_equal(ndone + nback, MANY);
		assert_int_equal(
		    atomic_load(&w->shared->calls[JOB_ADD]) - before, ndone);
	}
	fz_worker_free(k.worker);
}

static void
test_worker_peek_takes_replies_that_wait_behind_a_long_job(void **state)
{
	struct world *w = *state;
	struct task t[4] = { { .ndone = 0 } };
	struct keeper k;
	int64_t until;

	keep(w, &k, NULL);
	for (int i = 0; i < 3; i++)
		send_number(&k, &t[i], JOB_ADD, 1);
	send_number(&k, &t[3], JOB_SLEEP, 60000);
	until = in_ms(5000);
	while (atomic_load(&w->shared->calls[JOB_SLEEP]) == 0)
		assert_true(step_until(w, until));
	fz_worker_peek(k.worker);
	fz_worker_peek(k.worker);
	fz_loop_step(w->engine.loop, 0, NULL);
	for (int i = 0; i < 3; i++)
		assert_done(w, &t[i], 1);
	assert_int_equal(t[3].nstarted, 1);
	fz_worker_end(k.worker, FZ_ERR_CANCELLED, "enough");
	assert_failed(&t[3], FZ_ERR_CANCELLED);
}

/* While it writes over what is copied. */
static void
test_worker_peek_never_takes_a_torn_reply(void **state)
{
	struct world *w = *state;
	static struct task t[2000];
	struct keeper k;
	int64_t until = in_ms(20000);

	keep(w, &k, NULL);
	for (uint64_t i = 0; i < 2000; i++) {
		t[i].job.timeout_ns = 0;
		send_number(&k, &t[i], JOB_ADD, i);
	}
	while (k.worker->njobs != 0) {
		fz_worker_peek(k.worker);
		if (k.worker->njobs != 0)
			assert_true(step_until(w, until));
	}
	for (uint64_t i = 0; i < 2000; i++)
		assert_done(w, &t[i], i);
	fz_worker_free(k.worker);
}

/* ---- time -------------------------------------------------------------- */

static void
test_worker_a_timeout_ends_the_job(void **state)
{
	struct world *w = *state;
	struct task t = { .job.timeout_ns = 50 * FZ_CLOCK_MS }, u = { 0 };
	int64_t start = fz_clock_ns();
	struct keeper k;

	keep(w, &k, NULL);
	send_number(&k, &t, JOB_SLEEP, 60000);
	send_number(&k, &u, JOB_ADD, 1);
	assert_true(dies(w, &k, 2000));
	assert_true(fz_clock_ns() - start >= 50 * FZ_CLOCK_MS);
	assert_non_null(strstr(t.failure.err.text, "0.05 s"));
	assert_failed(&t, FZ_ERR_TIMEOUT);
	assert_returned(&u);
}

static void
test_worker_a_timeout_counts_from_the_start_of_the_job(void **state)
{
	struct world *w = *state;
	struct task t = { 0 }, u = { .job.timeout_ns = 150 * FZ_CLOCK_MS };
	struct keeper k;

	keep(w, &k, NULL);
	send_number(&k, &t, JOB_SLEEP, 200);
	send_number(&k, &u, JOB_SLEEP, 20);
	assert_true(settle(w, &k, 5000));
	assert_done(w, &t, 200);
	assert_done(w, &u, 20);
	fz_worker_free(k.worker);
}

/*
 * A timed job is done, its reply waits in the cell, and the job behind it
 * takes long: nobody is over time.
 */
static void
test_worker_a_timeout_does_not_hit_the_job_behind(void **state)
{
	struct world *w = *state;
	struct task t[3] = { { .job.timeout_ns = 60 * FZ_CLOCK_MS },
		{ .job.timeout_ns = 60 * FZ_CLOCK_MS },
		{ .job.timeout_ns = FZ_CLOCK_NEVER } };
	struct keeper k;

	keep(w, &k, NULL);
	send_number(&k, &t[0], JOB_ADD, 1);
	send_number(&k, &t[1], JOB_ADD, 2);
	send_number(&k, &t[2], JOB_SLEEP, 300);
	assert_true(settle(w, &k, 5000));
	assert_done(w, &t[0], 1);
	assert_done(w, &t[1], 2);
	assert_done(w, &t[2], 300);
	fz_worker_free(k.worker);
}

static void
test_worker_a_timeout_is_not_put_off_by_replies_that_wait(void **state)
{
	struct world *w = *state;
	struct task t[3] = { { .job.timeout_ns = 200 * FZ_CLOCK_MS },
		{ .job.timeout_ns = 200 * FZ_CLOCK_MS },
		{ .job.timeout_ns = 200 * FZ_CLOCK_MS } };
	int64_t start = fz_clock_ns();
	struct keeper k;

	keep(w, &k, NULL);
	send_number(&k, &t[0], JOB_ADD, 1);
	send_number(&k, &t[1], JOB_ADD, 2);
	send_number(&k, &t[2], JOB_SLEEP, 60000);
	assert_true(dies(w, &k, 5000));
	assert_true(fz_clock_ns() - start < 390 * FZ_CLOCK_MS);
	assert_done(w, &t[0], 1);
	assert_done(w, &t[1], 2);
	assert_failed(&t[2], FZ_ERR_TIMEOUT);
}

static void
test_worker_a_timeout_holds_after_a_recall(void **state)
{
	struct world *w = *state;
	struct task t = { .job.timeout_ns = 100 * FZ_CLOCK_MS }, u = { 0 };
	struct keeper k;

	keep(w, &k, NULL);
	send_number(&k, &t, JOB_SLEEP, 60000);
	send_number(&k, &u, JOB_ADD, 1);
	while (atomic_load(&w->shared->calls[JOB_SLEEP]) == 0)
		fz_loop_step(w->engine.loop, in_ms(1), NULL);
	fz_worker_recall(k.worker);
	fz_worker_recall(k.worker);
	assert_true(dies(w, &k, 2000));
	assert_failed(&t, FZ_ERR_TIMEOUT);
	assert_returned(&u);
}

/* A worker that never reads, and one that is stopped with jobs before it. */
static void
test_worker_a_timeout_holds_for_a_job_that_is_not_begun(void **state)
{
	struct world *w = *state;
	struct task t = { .job.timeout_ns = 10 * FZ_CLOCK_MS }, u = { 0 };
	struct keeper k;

	for (int stopped = 0; stopped < 2; stopped++) {
		w->shared->mode = stopped ? START_NORMAL : START_NEVER_READS;
		t.job.timeout_ns = 10 * FZ_CLOCK_MS;
		keep(w, &k, NULL);
		if (stopped) {
			send_number(&k, &u, JOB_ADD, 7);
			assert_true(settle(w, &k, 20000));
			assert_done(w, &u, 7);
			kill(k.worker->pid, SIGSTOP);
		}
		send_number(&k, &t, JOB_ADD, 1);
		send_number(&k, &u, JOB_ADD, 2);
		assert_true(dies(w, &k, 20000));
		assert_non_null(strstr(t.failure.err.text, "did not start"));
		assert_failed(&t, FZ_ERR_TIMEOUT);
		assert_returned(&u);
		assert_int_equal(
		    atomic_load(&w->shared->calls[JOB_ADD]), stopped);
	}
}

/* ---- bulk through the pipe --------------------------------------------- */

static void
test_worker_without_an_arena_big_values_go_inline(void **state)
{
	struct world *w = *state;
	struct fz_blob *big = blob_of_bytes(bulk_size());
	struct task t = { 0 };
	struct keeper k;

	w->engine.shm_tried = true;
	keep(w, &k, NULL);
	send_blob(&k, &t, JOB_ECHO, big);
	assert_true(settle(w, &k, 60000));
	assert_int_equal(t.ndone, 1);
	assert_false(t.value->in_shm);
	assert_int_equal(t.value->len, bulk_size());
	assert_int_equal(t.value->bytes[bulk_size() - 1], 'x');
	task_fini(&t);
	fz_worker_free(k.worker);
}

static void
test_worker_that_does_not_read_never_blocks_its_parent(void **state)
{
	struct world *w = *state;
	int64_t start, until, before;
	struct task t = { 0 };
	struct keeper k;

	w->engine.shm_tried = true;
	w->shared->mode = START_NEVER_READS;
	keep(w, &k, NULL);
	send_blob(&k, &t, JOB_ECHO, blob_of_bytes(bulk_size()));
	start = fz_clock_ns();
	fz_loop_step(w->engine.loop, 0, NULL);
	assert_true(fz_clock_ns() - start < 500 * FZ_CLOCK_MS);
	before = cpu_ms();
	until = in_ms(300);
	while (step_until(w, until))
		continue;
	assert_true(cpu_ms() - before < 100); /* idle, no turning */
	fz_worker_end(k.worker, FZ_ERR_CANCELLED, "enough");
	assert_returned(&t);
}

static void
test_worker_killed_while_it_reads_a_big_argument_loses_nothing(void **state)
{
	struct world *w = *state;
	struct fz_blob *big = blob_of_bytes(bulk_size());
	struct task t = { 0 };
	struct keeper k;

	w->engine.shm_tried = true;
	w->shared->mode = START_FIRST_DIES_HALFWAY;
	keep(w, &k, NULL);
	send_blob(&k, &t, JOB_ECHO, fz_blob_ref(big));
	assert_true(dies(w, &k, 20000));
	assert_returned(&t);
	keep(w, &k, NULL);
	task_init(&t, JOB_ECHO);
	send_blob(&k, &t, JOB_ECHO, big);
	assert_true(settle(w, &k, 60000));
	assert_int_equal(t.ndone, 1);
	task_fini(&t);
	fz_worker_free(k.worker);
}

/* ---- calls that fail
 * ---------------------------------------------------------- */

static void
test_worker_short_and_interrupted_calls_lose_nothing(void **state)
{
	static const int errors[] = { EINTR, EAGAIN };
	struct world *w = *state;

	for (int round = 0; round < 2; round++) {
		struct task t[20] = { { .ndone = 0 } };
		struct keeper k;

		keep(w, &k, NULL);
		faults_at(0);
		faults.most = 7;
		faults.odd_every = 3;
		faults.odd_error = errors[round];
		for (uint64_t i = 0; i < 20; i++)
			send_number(&k, &t[i], JOB_ADD, i);
		assert_true(settle(w, &k, 20000));
		assert_true(faults.nodd != 0);
		faults_end();
		for (uint64_t i = 0; i < 20; i++)
			assert_done(w, &t[i], i);
		fz_worker_free(k.worker);
	}
}

/*
 * Two jobs, one with a big result. Every job is told once, whatever fails.
 * Returns 0, or -1 where something could not be done.
 */
static int
scenario(struct world *w)
{
	struct task t[3];
	struct keeper k;
	struct fz_blob *arg;
	int rc = 0, nsent = 0;

	if (keep(w, &k, NULL) == NULL)
		return -1;
	arg = blob_of_number(300000);
	for (int i = 0; i < 3 && arg != NULL; i++) {
		task_init(&t[i], i == 1 ? JOB_BYTES : JOB_ADD);
		t[i].job.timeout_ns = 20 * FZ_CLOCK_SECOND;
		if (fz_worker_send(k.worker, &t[i].job, &arg, 1, NULL) != 0)
			break;
		nsent++;
	}
	fz_blob_unref(arg);
	while (k.worker != NULL && k.worker->njobs != 0)
		fz_loop_step(w->engine.loop, in_ms(5000), NULL);
	if (k.worker != NULL)
		fz_worker_free(k.worker);
	for (int i = 0; i < nsent; i++) {
		assert_int_equal(t[i].ndone + t[i].nfailed + t[i].nreturned, 1);
		if (t[i].ndone != 1 || t[i].value == NULL)
			rc = -1;
		task_fini(&t[i]);
	}
	return nsent == 3 ? rc : -1;
}

static void
test_worker_any_call_may_fail(void **state)
{
	struct world *w = *state;
	unsigned long n = 0;
	int rc, nfailed = 0;

	do {
		faults_at(++n);
		rc = scenario(w);
		nfailed += rc != 0;
		assert_no_children();
	} while (faults_end());
	assert_int_equal(rc, 0);
	assert_true(nfailed > 10);
	print_message("%lu calls, %d failures\n", n, nfailed);
}

/* With no timer armed before, and no memory for one. */
static void
test_worker_any_call_may_fail_when_it_dies(void **state)
{
	struct world *w = *state;
	unsigned long n = 0;

	do {
		int64_t until = in_ms(5000);
		struct task t = { 0 };
		struct keeper k;

		keep(w, &k, NULL);
		send_number(&k, &t, JOB_KILL, 0);
		faults_at(++n);
		while (k.worker != NULL && fz_clock_ns() < until)
			fz_loop_step(w->engine.loop, until, NULL);
		assert_null(k.worker);
		assert_int_equal(t.nfailed + t.nreturned, 1);
		task_fini(&t);
		assert_no_children();
	} while (faults_end());
	assert_true(n > 3);
}

/* Run the tests, and again as on a kernel before Linux 5.3. */
static int
run_with_and_without_pidfd(const struct CMUnitTest *tests, size_t n)
{
	int failed = _cmocka_run_group_tests("as it is", tests, n, NULL, NULL);

	if (has_pidfd())
		return failed + _cmocka_run_group_tests("without a pidfd",
				    tests, n, without_pidfd, NULL);
	print_message("these tests had no pidfd: not run again without one\n");
	return failed;
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
		    test_worker_does_a_job, world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(test_worker_does_jobs_in_order,
		    world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(
		    test_worker_an_error_is_no_death, world_setup,
		    world_teardown),
		cmocka_unit_test_setup_teardown(
		    test_worker_a_reply_with_too_few_values_is_told_as_it_is,
		    world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(
		    test_worker_prints_through_its_parent, world_setup,
		    world_teardown),
		cmocka_unit_test_setup_teardown(
		    test_worker_big_values_go_by_the_arena_and_come_back,
		    world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(
		    test_worker_released_values_are_used_again, world_setup,
		    world_teardown),
		cmocka_unit_test_setup_teardown(
		    test_worker_leaves_by_itself_when_dismissed, world_setup,
		    world_teardown),
		cmocka_unit_test_setup_teardown(
		    test_worker_runs_in_a_host_without_standard_descriptors,
		    world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(
		    test_worker_killed_in_a_job_fails_that_job_alone,
		    world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(
		    test_worker_that_exits_fails_its_job, world_setup,
		    world_teardown),
		cmocka_unit_test_setup_teardown(
		    test_worker_that_exits_with_success_fails_its_job,
		    world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(
		    test_worker_killed_with_its_reply_stored_has_done_it,
		    world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(
		    test_worker_killed_with_half_its_reply_written_has_done_it,
		    world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(
		    test_worker_killed_before_it_notes_the_write_has_done_it_once,
		    world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(
		    test_worker_killed_with_half_a_big_reply_written_has_failed,
		    world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(
		    test_worker_that_writes_garbage_is_ended, world_setup,
		    world_teardown),
		cmocka_unit_test_setup_teardown(
		    test_worker_that_writes_garbage_behind_a_reply_is_ended,
		    world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(
		    test_worker_that_closes_its_results_is_ended, world_setup,
		    world_teardown),
		cmocka_unit_test_setup_teardown(
		    test_worker_that_closes_its_jobs_is_ended, world_setup,
		    world_teardown),
		cmocka_unit_test_setup_teardown(
		    test_worker_that_crashes_names_the_signal, world_setup,
		    world_teardown),
		cmocka_unit_test_setup_teardown(
		    test_worker_killed_before_it_reads_has_started_nothing,
		    world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(
		    test_worker_killed_before_it_claims_has_started_nothing,
		    world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(
		    test_worker_killed_from_outside_at_any_time_loses_nothing,
		    world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(
		    test_worker_does_a_job_that_was_begun_and_leaves,
		    world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(
		    test_worker_killed_with_a_begun_job_has_failed_it,
		    world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(
		    test_worker_terminate_is_a_crash_by_sigterm, world_setup,
		    world_teardown),
		cmocka_unit_test_setup_teardown(
		    test_worker_kill_gives_the_reason, world_setup,
		    world_teardown),
		cmocka_unit_test_setup_teardown(
		    test_worker_kill_never_waits, world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(
		    test_worker_several_that_ignore_signals_end_together,
		    world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(
		    test_worker_end_waits_until_all_is_told, world_setup,
		    world_teardown),
		cmocka_unit_test_setup_teardown(
		    test_worker_recall_takes_back_what_has_not_started,
		    world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(
		    test_worker_recall_of_all_makes_it_idle, world_setup,
		    world_teardown),
		cmocka_unit_test_setup_teardown(
		    test_worker_recall_races_with_claims, world_setup,
		    world_teardown),
		cmocka_unit_test_setup_teardown(
		    test_worker_peek_takes_replies_that_wait_behind_a_long_job,
		    world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(
		    test_worker_peek_never_takes_a_torn_reply, world_setup,
		    world_teardown),
		cmocka_unit_test_setup_teardown(
		    test_worker_a_timeout_ends_the_job, world_setup,
		    world_teardown),
		cmocka_unit_test_setup_teardown(
		    test_worker_a_timeout_counts_from_the_start_of_the_job,
		    world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(
		    test_worker_a_timeout_does_not_hit_the_job_behind,
		    world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(
		    test_worker_a_timeout_is_not_put_off_by_replies_that_wait,
		    world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(
		    test_worker_a_timeout_holds_after_a_recall, world_setup,
		    world_teardown),
		cmocka_unit_test_setup_teardown(
		    test_worker_a_timeout_holds_for_a_job_that_is_not_begun,
		    world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(
		    test_worker_without_an_arena_big_values_go_inline,
		    world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(
		    test_worker_that_does_not_read_never_blocks_its_parent,
		    world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(
		    test_worker_killed_while_it_reads_a_big_argument_loses_nothing,
		    world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(
		    test_worker_short_and_interrupted_calls_lose_nothing,
		    world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(
		    test_worker_any_call_may_fail, world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(
		    test_worker_any_call_may_fail_when_it_dies, world_setup,
		    world_teardown),
	};

	return run_with_and_without_pidfd(
	    tests, sizeof(tests) / sizeof(tests[0]));
}
