/*
 * Slots: who has one, who waits, and what comes back of those who die.
 * wrap: malloc calloc realloc mmap epoll_create1 epoll_ctl epoll_wait fork
 * wrap: pipe2 read write pwritev2
 */
/* kill and environ are not in C11. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "faults.h"
#include "os/jobserver.h"
#include "os/loop.h"
#include "sched/pool.h"
#include "sched/slots.h"
#include "worker/blob.h"
#include "worker/child_port.h"
#include "worker/wire.h"
#include "worker/worker.h"
#include "world.h"

struct waiter {
	struct fz_slots_waiter waiter;
	struct fz_slots *takes; /* when it is told, if not NULL */
	int ntold;
	bool got;
};

static void
told(struct fz_slots_waiter *waiter)
{
	struct waiter *w = (struct waiter *)waiter;

	w->ntold++;
	if (w->takes != NULL)
		w->got = fz_slots_take(w->takes, waiter);
}

static struct waiter
waiter_of(struct fz_slots *takes)
{
	return (struct waiter){ .waiter.freed = told, .takes = takes };
}

/* A make with these tokens, whose pipe the test sees. */
struct make {
	int pipe[2];
	struct fz_slots *slots;
};

static void
make_begin(struct world *w, struct make *m, const char *tokens)
{
	int fd[2], n = (int)strlen(tokens);

	assert_int_equal(pipe2(m->pipe, O_CLOEXEC), 0);
	assert_int_equal(write(m->pipe[1], tokens, (size_t)n), n);
	fd[0] = fz_jobserver_reader(m->pipe[0]);
	fd[1] = fcntl(m->pipe[1], F_DUPFD_CLOEXEC, 0);
	m->slots = fz_slots_of_make(&w->engine, fd, NULL);
	assert_non_null(m->slots);
	assert_ptr_equal(w->engine.slots, m->slots);
	assert_ptr_equal(fz_slots_for(&w->engine, NULL), m->slots);
}

static unsigned
left(const struct make *m)
{
	return fz_jobserver_count(m->pipe[0]);
}

static void
make_end(struct world *w, struct make *m)
{
	fz_slots_unref(m->slots);
	w->engine.slots = NULL;
	close(m->pipe[0]);
	close(m->pipe[1]);
}

/* How many can be taken now; they are given back. */
static unsigned
free_slots(struct world *w, struct fz_slots *slots)
{
	struct waiter waiter = waiter_of(NULL);
	unsigned n = 0;

	fz_loop_step(w->engine.loop, 0, NULL); /* it may have news */
	while (fz_slots_take(slots, &waiter.waiter))
		n++;
	fz_slots_forget(&waiter.waiter);
	for (unsigned i = 0; i < n; i++)
		fz_slots_give(slots);
	assert_true(step_until(w, in_ms(1000)));
	return n;
}

/* ---- one process -------------------------------------------------------- */

static void
test_slots_the_first_needs_no_token_and_no_call(void **state)
{
	struct waiter waiter = waiter_of(NULL);
	struct world *w = *state;
	struct make m;

	make_begin(w, &m, "ab");
	faults_at(1000);
	assert_true(fz_slots_take(m.slots, &waiter.waiter));
	assert_int_equal(faults.calls, 0);
	faults_end();
	assert_int_equal(left(&m), 2);
	assert_true(fz_slots_take(m.slots, &waiter.waiter));
	assert_int_equal(left(&m), 1);
	assert_true(fz_slots_take(m.slots, &waiter.waiter));
	assert_true(fz_slots_has_free(m.slots)); /* as far as it knows */
	assert_false(fz_slots_take(m.slots, &waiter.waiter));
	assert_false(fz_slots_has_free(m.slots));
	faults_at(1000);
	assert_false(fz_slots_take(m.slots, &waiter.waiter));
	assert_int_equal(faults.calls, 0); /* it knows */
	faults_end();
	fz_slots_forget(&waiter.waiter);
	make_end(w, &m);
}

static void
test_slots_tokens_go_back_as_they_were(void **state)
{
	struct waiter waiter = waiter_of(NULL);
	struct world *w = *state;
	char bytes[4] = "";
	struct make m;

	make_begin(w, &m, "abc");
	for (int i = 0; i < 4; i++)
		assert_true(fz_slots_take(m.slots, &waiter.waiter));
	assert_int_equal(left(&m), 0);
	for (int i = 0; i < 4; i++)
		fz_slots_give(m.slots);
	assert_int_equal(left(&m), 0);
	assert_true(step_until(w, in_ms(1000)));
	assert_int_equal(read(m.pipe[0], bytes, 4), 3);
	assert_non_null(strchr(bytes, 'a'));
	assert_non_null(strchr(bytes, 'b'));
	assert_non_null(strchr(bytes, 'c'));
	make_end(w, &m);
}

/* Bytes that are no tokens, until the pipe has no room. */
static void
fill_pipe(int fd)
{
	static char bytes[4096];
	int flags = fcntl(fd, F_GETFL);

	fcntl(fd, F_SETFL, flags | O_NONBLOCK);
	while (write(fd, bytes, sizeof(bytes)) > 0)
		continue;
	while (write(fd, bytes, 1) > 0)
		continue;
	fcntl(fd, F_SETFL, flags);
}

/* A program that shares the pipe fills it: tokens are lost, and no time. */
static void
test_slots_a_full_pipe_blocks_nobody(void **state)
{
	struct world *w = *state;
	struct waiter waiter = waiter_of(NULL);
	struct make m;

	make_begin(w, &m, "+++");
	for (int i = 0; i < 4; i++)
		assert_true(fz_slots_take(m.slots, &waiter.waiter));
	fill_pipe(m.pipe[1]);
	fz_slots_give(m.slots);
	assert_true(step_until(w, in_ms(1000)));
	fz_slots_give(m.slots);
	fz_slots_trim(m.slots);
	make_end(w, &m);
}

static void
test_slots_within_a_step_tokens_are_kept(void **state)
{
	struct waiter waiter = waiter_of(NULL);
	struct world *w = *state;
	struct make m;

	make_begin(w, &m, "ab");
	for (int i = 0; i < 2; i++)
		assert_true(fz_slots_take(m.slots, &waiter.waiter));
	faults_at(1000);
	for (int i = 0; i < 10; i++) {
		fz_slots_give(m.slots);
		assert_true(fz_slots_take(m.slots, &waiter.waiter));
	}
	assert_int_equal(faults.calls, 0);
	faults_end();
	assert_true(step_until(w, in_ms(1000)));
	assert_int_equal(left(&m), 1);
	fz_slots_give(m.slots);
	fz_slots_trim(m.slots); /* not only when the loop turns */
	assert_int_equal(left(&m), 2);
	make_end(w, &m);
}

static void
test_slots_who_waits_gets_what_becomes_free(void **state)
{
	struct world *w = *state;
	struct waiter waiters[3];
	struct make m;

	make_begin(w, &m, "a");
	for (int i = 0; i < 3; i++)
		waiters[i] = waiter_of(m.slots);
	assert_true(fz_slots_take(m.slots, &waiters[0].waiter));
	assert_true(fz_slots_take(m.slots, &waiters[0].waiter));
	for (int i = 0; i < 3; i++)
		assert_false(fz_slots_take(m.slots, &waiters[i].waiter));
	fz_slots_forget(&waiters[1].waiter);
	fz_slots_forget(&waiters[1].waiter);
	fz_slots_give(m.slots);
	assert_true(step_until(w, in_ms(1000)));
	assert_int_equal(waiters[1].ntold, 0);
	assert_int_equal(waiters[0].got + waiters[2].got, 1);
	assert_int_equal(waiters[0].ntold + waiters[2].ntold, 2);
	assert_int_equal(left(&m), 0); /* it went from hand to hand */
	fz_slots_give(m.slots);
	assert_true(step_until(w, in_ms(1000)));
	assert_int_equal(waiters[0].got + waiters[2].got, 2);
	make_end(w, &m);
}

static void
test_slots_a_token_of_others_wakes_who_waits(void **state)
{
	struct world *w = *state;
	struct waiter waiter;
	struct make m;

	make_begin(w, &m, "");
	waiter = waiter_of(m.slots);
	assert_true(fz_slots_take(m.slots, &waiter.waiter));
	for (int i = 1; i <= 3; i++) {
		assert_false(fz_slots_take(m.slots, &waiter.waiter));
		assert_int_equal(fz_loop_step(w->engine.loop, 0, NULL), 0);
		assert_int_equal(write(m.pipe[1], "x", 1), 1);
		assert_true(fz_slots_has_free(m.slots) == false);
		assert_true(step_until(w, in_ms(1000)));
		assert_int_equal(waiter.ntold, i);
		assert_true(waiter.got);
		assert_int_equal(left(&m), 0);
	}
	/* Nobody waits any more: a token is no reason to wake. */
	assert_int_equal(write(m.pipe[1], "x", 1), 1);
	assert_int_equal(fz_loop_step(w->engine.loop, 0, NULL), 0);
	assert_int_equal(waiter.ntold, 3);
	make_end(w, &m);
}

static void
test_slots_have_the_number_they_were_given(void **state)
{
	struct waiter waiter = waiter_of(NULL);
	struct world *w = *state;
	struct fz_slots *slots = fz_slots_new(&w->engine, NULL);

	assert_null(fz_slots_for(&w->engine, slots)); /* no limit yet */
	assert_null(fz_slots_for(&w->engine, NULL));
	for (unsigned n = 1; n < 600; n += 299) {
		assert_int_equal(fz_slots_resize(slots, n, NULL), 0);
		assert_ptr_equal(fz_slots_for(&w->engine, slots), slots);
		assert_int_equal(free_slots(w, slots), n);
	}
	assert_int_equal(fz_slots_resize(slots, 3, NULL), 0);
	assert_true(fz_slots_take(slots, &waiter.waiter));
	assert_int_equal(
	    fz_slots_resize(slots, 1, NULL), 0); /* one is in use */
	assert_int_equal(free_slots(w, slots), 2);
	assert_int_equal(fz_slots_resize(slots, 5, NULL), 0);
	assert_int_equal(free_slots(w, slots), 4);
	fz_slots_give(slots);
	assert_true(step_until(w, in_ms(1000)));
	assert_int_equal(fz_slots_resize(slots, 2, NULL), 0);
	assert_int_equal(free_slots(w, slots), 2);
	assert_int_equal(fz_slots_resize(slots, 65536, NULL), 0);
	assert_true(free_slots(w, slots) > 4096); /* what a pipe holds */
	fz_slots_unref(slots);
	fz_slots_unref(NULL);
}

static void
test_slots_lost_tokens_are_made_anew(void **state)
{
	struct waiter waiter = waiter_of(NULL);
	struct world *w = *state;
	struct fz_slots *slots = fz_slots_new(&w->engine, NULL);
	pid_t pid;

	assert_int_equal(fz_slots_resize(slots, 4, NULL), 0);
	pid = fork();
	if (pid == 0) {
		for (int i = 0; i < 3; i++)
			fz_slots_take(slots, &waiter.waiter);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	assert_int_equal(free_slots(w, slots), 2);
	assert_int_equal(fz_slots_resize(slots, 4, NULL), 0);
	assert_int_equal(free_slots(w, slots), 4);
	fz_slots_unref(slots);
}

static void
test_slots_under_make_there_are_no_others(void **state)
{
	struct world *w = *state;
	struct fz_slots *slots = fz_slots_new(&w->engine, NULL);
	struct make m;

	make_begin(w, &m, "a");
	assert_int_equal(fz_slots_resize(slots, 64, NULL), 0);
	assert_ptr_equal(fz_slots_for(&w->engine, slots), m.slots);
	assert_int_equal(free_slots(w, m.slots), 2);
	fz_slots_unref(slots);
	make_end(w, &m);
}

/* ---- pools and workers -------------------------------------------------- */

/* Somebody who sends jobs to a pool: all at once, as far as there are slots. */
struct user {
	struct fz_pool_user user;
	struct fz_pool *pool;
	struct fz_job jobs[16];
	enum job func;
	uint64_t arg;
	int njobs, nsent, ndone, nfailed;
	int nbusy, peak;
};

static struct user *
user_of(struct fz_job *job)
{
	/* The number of the job is its seed. */
	return (struct user *)((char *)(job - job->seed) -
			       offsetof(struct user, jobs));
}

static void
done(struct fz_job *job, struct fz_blob **values, uint32_t n)
{
	user_of(job)->ndone++;
	for (uint32_t i = 0; i < n; i++)
		fz_blob_unref(values[i]);
}

static void
failed(struct fz_job *job, struct fz_failure *failure)
{
	user_of(job)->nfailed++;
	fz_blob_unref(failure->value);
}

static void
returned(struct fz_job *job, uint32_t left)
{
	(void)left;
	user_of(job)->nfailed++;
}

static void
started(struct fz_job *job)
{
	(void)job;
}

static const struct fz_job_ops ops = {
	.done = done, .failed = failed, .returned = returned, .started = started
};

static void
send_all(struct user *u)
{
	while (u->nsent < u->njobs) {
		struct fz_job *job = &u->jobs[u->nsent];
		struct fz_worker *w = fz_pool_take(u->pool, &u->user, NULL);
		struct fz_blob *arg;

		if (w == NULL)
			return;
		u->nbusy++;
		if (u->nbusy > u->peak)
			u->peak = u->nbusy;
		arg = blob_of_number(u->arg);
		*job = (struct fz_job){ .ops = &ops,
			.func = u->func,
			.nvalues = 1,
			.seed = (uint64_t)u->nsent,
			.timeout_ns = FZ_CLOCK_NEVER };
		if (arg == NULL || fz_worker_send(w, job, &arg, 1, NULL) != 0)
			fz_pool_put_back(u->pool, w);
		else
			u->nsent++;
		fz_blob_unref(arg);
	}
}

static void
freed(struct fz_pool_user *user, struct fz_worker *worker)
{
	struct user *u = (struct user *)user;

	if (worker != NULL)
		u->nbusy--;
	send_all(u);
}

static void
user_begin(struct user *u, struct fz_pool *pool, int njobs, enum job func,
    uint64_t arg)
{
	*u = (struct user){ .user.freed = freed,
		.pool = pool,
		.njobs = njobs,
		.func = func,
		.arg = arg };
	assert_int_equal(fz_pool_join(pool, &u->user, NULL), 0);
	send_all(u);
}

/* Turn the loop until `n` jobs have ended. */
static void
user_wait(struct world *w, struct user *u, int n)
{
	int64_t until = in_ms(20000);

	while (u->ndone + u->nfailed < n)
		assert_true(step_until(w, until));
}

/* What a worker with workers of its own is to do. */
enum plan {
	PLAN_COUNT,    /* run jobs that count how many run */
	PLAN_DEEPER,   /* the same one level below */
	PLAN_KILL,     /* die while its own workers run */
	PLAN_KILL_TOP, /* the same, the jobs run one level below that */
	PLAN_STAY,     /* stay like that */
	PLAN_TELL      /* note its environment */
};

struct nest {
	struct world *world;
	enum plan plan;
	int level; /* in a worker: how deep it is */
	struct {
		char flags[128], omp[16], mark[16];
		int inherited; /* descriptors that programs get of its pipe */
	} * told;
};

static int nest_main(void *ctx, struct fz_port *port);

static struct fz_pool *
pool_of(struct world *w, unsigned max, struct fz_slots *slots,
    fz_worker_main main_, void *ctx)
{
	struct fz_pool_opts opts = { .engine = &w->engine,
		.max = max,
		.slots = slots,
		.main = main_,
		.main_ctx = ctx };

	return fz_pool_new(&opts, NULL);
}

static void
copy_text(char *to, size_t size, const char *name)
{
	const char *value = getenv(name);

	snprintf(to, size, "%s", value != NULL ? value : "(none)");
}

static void
tell(struct nest *nest)
{
	const char *auth;
	int fd[2];

	copy_text(nest->told->flags, sizeof(nest->told->flags), "MAKEFLAGS");
	copy_text(nest->told->omp, sizeof(nest->told->omp), "OMP_NUM_THREADS");
	copy_text(nest->told->mark, sizeof(nest->told->mark), "SLOTS_TEST");
	auth = strstr(nest->told->flags, "--jobserver-auth=");
	if (auth == NULL ||
	    sscanf(auth, "--jobserver-auth=%d,%d", &fd[0], &fd[1]) != 2)
		return;
	for (int i = 0; i < 2; i++)
		nest->told->inherited += fcntl(fd[i], F_GETFD) == 0;
}

static bool
runs_below(const struct nest *nest)
{
	return nest->level == 1 &&
	       (nest->plan == PLAN_DEEPER || nest->plan == PLAN_KILL_TOP);
}

/* All slots are taken: its own, and those of all tokens. */
static bool
all_run(struct nest *nest, int n)
{
	return atomic_load(&nest->world->shared->calls[JOB_SLEEP]) >= n;
}

static void
run_below(struct nest *nest)
{
	struct world *w = nest->world;
	struct fz_pool *pool;
	struct user u;

	if (runs_below(nest))
		pool = pool_of(w, 4, NULL, nest_main, nest);
	else
		pool = pool_of(w, 4, NULL, serve, w->shared);
	if (nest->plan == PLAN_COUNT || nest->plan == PLAN_DEEPER) {
		user_begin(&u, pool, 4, JOB_COUNT, 5);
		user_wait(w, &u, 4);
		fz_pool_leave(pool, &u.user);
		fz_pool_free(pool);
		return;
	}
	user_begin(&u, pool, 4, JOB_SLEEP, 60000);
	while (!all_run(nest, 3) || nest->plan == PLAN_STAY)
		fz_loop_step(w->engine.loop, in_ms(1), NULL);
	if (nest->level == 1)
		raise(SIGKILL);
	for (;;) /* the one above does it */
		fz_loop_step(w->engine.loop, in_ms(100), NULL);
}

/* A worker that has workers. */
static int
nest_main(void *ctx, struct fz_port *port)
{
	struct nest *nest = ctx;
	struct fz_call call;
	int rc;

	nest->level++;
	while ((rc = fz_port_next(port, &call, NULL)) == 1) {
		uint64_t arg = next_number(port, &call);

		if (nest->plan == PLAN_TELL)
			tell(nest);
		else
			run_below(nest);
		fz_port_begin(port, &call, FZ_WIRE_RESULT, 1);
		put_number(port, arg);
		if (fz_port_send(port, NULL) != 0)
			return 96;
	}
	return rc == 0 ? 0 : 97;
}

static void
nest_begin(struct nest *nest, struct world *w, enum plan plan)
{
	*nest = (struct nest){ .world = w, .plan = plan };
	nest->told = mmap(NULL, sizeof(*nest->told), PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_true(nest->told != MAP_FAILED);
}

static void
nest_end(struct nest *nest)
{
	munmap(nest->told, sizeof(*nest->told));
}

static void
test_slots_a_pool_runs_no_more_than_there_are(void **state)
{
	struct world *w = *state;
	struct fz_slots *slots = fz_slots_new(&w->engine, NULL);
	struct fz_pool *pools[2];
	struct user users[2];

	assert_int_equal(fz_slots_resize(slots, 3, NULL), 0);
	for (int i = 0; i < 2; i++)
		pools[i] = pool_of(w, 4, slots, serve, w->shared);
	fz_slots_unref(slots); /* the pools have it */
	for (int i = 0; i < 2; i++)
		user_begin(&users[i], pools[i], 12, JOB_COUNT, 30);
	for (int i = 0; i < 2; i++)
		user_wait(w, &users[i], 12);
	assert_int_equal(atomic_load(&w->shared->peak), 3);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(users[i].ndone, 12);
		fz_pool_leave(pools[i], &users[i].user);
		fz_pool_free(pools[i]);
	}
}

static void
test_slots_a_worker_that_dies_gives_its_own_back(void **state)
{
	static const enum job deaths[] = { JOB_KILL, JOB_EXIT, JOB_CRASH };
	struct world *w = *state;
	struct fz_slots *slots = fz_slots_new(&w->engine, NULL);
	struct user u;

	assert_int_equal(fz_slots_resize(slots, 2, NULL), 0);
	for (size_t i = 0; i < sizeof(deaths) / sizeof(deaths[0]); i++) {
		struct fz_pool *pool = pool_of(w, 4, slots, serve, w->shared);

		user_begin(&u, pool, 6, deaths[i], 1);
		user_wait(w, &u, 6);
		assert_int_equal(u.nfailed, 6);
		assert_true(u.peak <= 2);
		fz_pool_leave(pool, &u.user);
		fz_pool_free(pool);
		assert_int_equal(free_slots(w, slots), 2);
	}
	fz_slots_unref(slots);
}

static void
test_slots_closing_a_pool_gives_all_back(void **state)
{
	struct world *w = *state;
	struct fz_slots *slots = fz_slots_new(&w->engine, NULL);
	struct fz_pool *pool, *other;
	struct user u, v;

	assert_int_equal(fz_slots_resize(slots, 2, NULL), 0);
	pool = pool_of(w, 4, slots, serve, w->shared);
	other = pool_of(w, 4, slots, serve, w->shared);
	user_begin(&u, pool, 4, JOB_SLEEP, 60000);
	user_begin(&v, other, 4, JOB_ADD, 1); /* they wait */
	assert_int_equal(v.nsent, 0);
	fz_pool_leave(pool, &u.user);
	fz_pool_close(pool);
	user_wait(w, &v, 4);
	assert_int_equal(v.ndone, 4);
	fz_pool_leave(other, &v.user);
	fz_pool_free(other);
	fz_pool_free(pool);
	assert_int_equal(free_slots(w, slots), 2);
	fz_slots_unref(slots);
}

/* Two levels, then three: 4 x 4 (x 4) jobs in 1 to 4 slots. */
static void
test_slots_nested_pools_share_them(void **state)
{
	struct world *w = *state;
	struct nest nest;
	struct user u;

	nest_begin(&nest, w, PLAN_COUNT);
	for (unsigned n = 1; n <= 4; n++) {
		struct fz_slots *slots = fz_slots_new(&w->engine, NULL);
		struct fz_pool *pool;

		nest.plan = n % 2 == 0 ? PLAN_DEEPER : PLAN_COUNT;
		atomic_store(&w->shared->peak, 0);
		assert_int_equal(fz_slots_resize(slots, n, NULL), 0);
		pool = pool_of(w, 4, slots, nest_main, &nest);
		user_begin(&u, pool, 4, JOB_ECHO, 1);
		user_wait(w, &u, 4);
		assert_int_equal(u.ndone, 4);
		assert_true(atomic_load(&w->shared->peak) <= (int)n);
		fz_pool_leave(pool, &u.user);
		assert_int_equal(free_slots(w, slots), n);
		fz_pool_free(pool);
		fz_slots_unref(slots);
	}
	nest_end(&nest);
}

/* The tokens of a worker and of those below it. */
static void
test_slots_tokens_of_the_dead_come_back(void **state)
{
	struct world *w = *state;
	struct nest nest;
	struct user u;

	nest_begin(&nest, w, PLAN_KILL);
	for (int i = 0; i < 2; i++) {
		struct fz_pool *pool;
		struct make m;

		nest.plan = i == 0 ? PLAN_KILL : PLAN_KILL_TOP;
		memset(w->shared, 0, sizeof(*w->shared));
		make_begin(w, &m, "++");
		pool = pool_of(w, 4, NULL, nest_main, &nest);
		user_begin(&u, pool, 1, JOB_ECHO, 1);
		user_wait(w, &u, 1);
		assert_int_equal(u.nfailed, 1);
		assert_int_equal(atomic_load(&w->shared->calls[JOB_SLEEP]), 3);
		assert_int_equal(left(&m), 2);
		fz_slots_leave(m.slots); /* there is nothing more */
		assert_int_equal(left(&m), 2);
		fz_pool_leave(pool, &u.user);
		fz_pool_free(pool);
		make_end(w, &m);
	}
	nest_end(&nest);
}

/* What os.exit() does under make. */
static void
test_slots_leaving_gives_back_what_those_below_hold(void **state)
{
	struct world *w = *state;
	struct fz_pool *pool, *own;
	struct nest nest;
	struct user u, v;
	struct make m;

	nest_begin(&nest, w, PLAN_STAY);
	make_begin(w, &m, "+++");
	pool = pool_of(w, 4, NULL, nest_main, &nest);
	own = pool_of(w, 1, NULL, serve, w->shared);
	user_begin(&u, pool, 1, JOB_ECHO, 1);
	user_begin(&v, own, 1, JOB_SLEEP, 60000);
	while (!all_run(&nest, 4))
		fz_loop_step(w->engine.loop, in_ms(1), NULL);
	assert_int_equal(left(&m), 0);
	fz_slots_leave(m.slots);
	assert_int_equal(left(&m), 3);
	fz_slots_leave(m.slots); /* once */
	assert_int_equal(left(&m), 3);
	fz_pool_leave(pool, &u.user);
	fz_pool_leave(own, &v.user);
	fz_pool_free(pool);
	fz_pool_free(own);
	make_end(w, &m);
	nest_end(&nest);
}

static void
assert_told(struct world *w, struct nest *nest, struct fz_slots *slots,
    const char *flags, const char *mark)
{
	struct fz_pool *pool = pool_of(w, 1, slots, nest_main, nest);
	struct user u;

	memset(nest->told, 0, sizeof(*nest->told));
	user_begin(&u, pool, 1, JOB_ECHO, 1);
	user_wait(w, &u, 1);
	assert_int_equal(u.ndone, 1);
	assert_memory_equal(nest->told->flags, flags, strlen(flags));
	assert_string_equal(nest->told->omp, "1");
	assert_string_equal(nest->told->mark, mark);
	fz_pool_leave(pool, &u.user);
	fz_pool_free(pool);
}

static void
test_slots_workers_are_told_how_to_share(void **state)
{
	struct world *w = *state;
	struct fz_slots *slots = fz_slots_new(&w->engine, NULL);
	char **before = environ;
	struct nest nest;

	unsetenv("MAKEFLAGS");
	unsetenv("OMP_NUM_THREADS");
	unsetenv("SLOTS_TEST");
	nest_begin(&nest, w, PLAN_TELL);
	assert_int_equal(fz_slots_resize(slots, 3, NULL), 0);
	assert_told(w, &nest, slots, " -j3 --jobserver-auth=", "(none)");
	assert_int_equal(nest.told->inherited, 2);
	assert_ptr_equal(environ, before); /* they alone */
	assert_null(getenv("MAKEFLAGS"));
	/* What the process has changed since, they see. */
	setenv("SLOTS_TEST", "x", 1);
	assert_told(w, &nest, slots, " -j3 --jobserver-auth=", "x");
	setenv("SLOTS_TEST", "yy", 1);
	assert_int_equal(fz_slots_resize(slots, 5, NULL), 0);
	assert_told(w, &nest, slots, " -j5 --jobserver-auth=", "yy");
	before = environ;
	environ = NULL;
	assert_told(w, &nest, slots, " -j5 --jobserver-auth=", "(none)");
	environ = before;
	unsetenv("SLOTS_TEST");
	nest_end(&nest);
	fz_slots_unref(slots);
}

static void
test_slots_under_make_workers_are_told_nothing_new(void **state)
{
	struct world *w = *state;
	struct nest nest;
	struct make m;

	setenv("MAKEFLAGS", "theirs", 1);
	unsetenv("OMP_NUM_THREADS");
	nest_begin(&nest, w, PLAN_TELL);
	make_begin(w, &m, "a");
	assert_told(w, &nest, NULL, "theirs", "(none)");
	make_end(w, &m);
	nest_end(&nest);
	unsetenv("MAKEFLAGS");
}

/* ---- failures ----------------------------------------------------------- */

/* All of it; returns false where something could not be had. */
static bool
try_all(struct world *w)
{
	struct fz_slots *slots = fz_slots_new(&w->engine, NULL);
	struct fz_pool *pools[2] = { NULL, NULL };
	struct user users[2];
	bool good = slots != NULL;

	good = good && fz_slots_resize(slots, 3, NULL) == 0;
	good = good && fz_slots_resize(slots, 2, NULL) == 0;
	for (int i = 0; i < 2 && good; i++) {
		pools[i] = pool_of(w, 2, slots, serve, w->shared);
		good = pools[i] != NULL;
	}
	for (int i = 0; i < 2 && good; i++) {
		users[i] = (struct user){ .user.freed = freed,
			.pool = pools[i],
			.njobs = 3,
			.func = JOB_ADD,
			.arg = 1 };
		good = fz_pool_join(pools[i], &users[i].user, NULL) == 0;
		if (good)
			send_all(&users[i]);
	}
	for (int i = 0; i < 2 && good; i++) {
		int64_t until = in_ms(10000);

		while (users[i].ndone + users[i].nfailed < users[i].nsent &&
		       fz_clock_ns() < until)
			fz_loop_step(w->engine.loop, in_ms(10), NULL);
		good = users[i].ndone == 3;
		assert_int_equal(
		    users[i].ndone + users[i].nfailed, users[i].nsent);
	}
	for (int i = 0; i < 2; i++)
		fz_pool_free(pools[i]);
	fz_slots_unref(slots);
	return good;
}

static void
test_slots_any_call_may_fail(void **state)
{
	struct world *w = *state;
	int nbad = 0, nfds;

	assert_true(try_all(w)); /* the engine keeps its arena */
	nfds = count_fds();
	for (unsigned long n = 1;; n++) {
		bool good;

		faults_at(n);
		good = try_all(w);
		nbad += !good;
		if (!faults_end()) {
			assert_true(good);
			break;
		}
		/* Without memory the loop makes its epoll set anew. */
		assert_true(count_fds() <= nfds);
		assert_no_children();
	}
	assert_true(nbad >= 4);
}

/* The descriptors are taken in any case. */
static void
test_slots_of_make_may_fail(void **state)
{
	struct world *w = *state;
	int nfds = count_fds(), fd[2];
	unsigned long n = 0;
	struct fz_slots *slots;
	struct fz_err err;

	do {
		assert_int_equal(pipe2(fd, O_CLOEXEC), 0);
		err = (struct fz_err){ 0 };
		faults_at(++n);
		slots = fz_slots_of_make(&w->engine, fd, &err);
		if (!faults_end())
			break;
		assert_null(slots);
		assert_int_not_equal(err.kind, FZ_ERR_NONE);
		assert_null(w->engine.slots);
		assert_int_equal(count_fds(), nfds);
	} while (n < 10);
	assert_int_equal(n, 4);
	assert_non_null(slots);
	fz_slots_unref(slots);
	w->engine.slots = NULL;
}

#define TEST(name) \
	cmocka_unit_test_setup_teardown(name, world_setup, world_teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_slots_the_first_needs_no_token_and_no_call),
		TEST(test_slots_tokens_go_back_as_they_were),
		TEST(test_slots_a_full_pipe_blocks_nobody),
		TEST(test_slots_within_a_step_tokens_are_kept),
		TEST(test_slots_who_waits_gets_what_becomes_free),
		TEST(test_slots_a_token_of_others_wakes_who_waits),
		TEST(test_slots_have_the_number_they_were_given),
		TEST(test_slots_lost_tokens_are_made_anew),
		TEST(test_slots_under_make_there_are_no_others),
		TEST(test_slots_a_pool_runs_no_more_than_there_are),
		TEST(test_slots_a_worker_that_dies_gives_its_own_back),
		TEST(test_slots_closing_a_pool_gives_all_back),
		TEST(test_slots_nested_pools_share_them),
		TEST(test_slots_tokens_of_the_dead_come_back),
		TEST(test_slots_leaving_gives_back_what_those_below_hold),
		TEST(test_slots_workers_are_told_how_to_share),
		TEST(test_slots_under_make_workers_are_told_nothing_new),
		TEST(test_slots_any_call_may_fail),
		TEST(test_slots_of_make_may_fail),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
