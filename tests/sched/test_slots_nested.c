/*
 * Slots below workers: nested pools, and the environment of their processes.
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
#include <unistd.h>

#include "os/loop.h"
#include "sched/pool.h"
#include "sched/slots.h"
#include "slots_test.h"
#include "wire/child_port.h"
#include "wire/wire.h"
#include "world.h"

/* The action of a worker that has workers of its own. */
enum plan {
	PLAN_COUNT,    /* run jobs that count how many run */
	PLAN_DEEPER,   /* do PLAN_COUNT one level below */
	PLAN_KILL,     /* die while its own workers run */
	PLAN_KILL_TOP, /* die while workers of its workers run */
	PLAN_STAY,     /* wait while its own workers run */
	PLAN_TELL      /* note its environment */
};

struct nest {
	struct world *world;
	enum plan plan;
	int level; /* in a worker: its level; 1 for workers of the test */
	struct {
		char flags[128], omp[16], mark[16];
		/* number of ends of the worker's pipe that programs inherit */
		int inherited;
	} * told;
};

static int nest_main(void *ctx, struct fz_port *port);

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

/* Whether `n` jobs run, which have the slot of the worker and all tokens. */
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
	struct slots_user u;

	if (runs_below(nest))
		pool = slots_pool(w, 4, NULL, nest_main, nest);
	else
		pool = slots_pool(w, 4, NULL, serve, w->shared);
	if (nest->plan == PLAN_COUNT || nest->plan == PLAN_DEEPER) {
		slots_user_begin(&u, pool, 4, JOB_COUNT, 5);
		pool_user_wait(w, &u.counts, 4);
		fz_pool_leave(pool, &u.counts.user);
		fz_pool_free(pool);
		return;
	}
	slots_user_begin(&u, pool, 4, JOB_SLEEP, 60000);
	while (!all_run(nest, 3) || nest->plan == PLAN_STAY)
		fz_loop_turn(w->engine.loop, in_ms(1), NULL);
	if (nest->level == 1)
		raise(SIGKILL);
	for (;;) /* wait for the worker above, which kills itself */
		fz_loop_turn(w->engine.loop, in_ms(100), NULL);
}

/* The main function of a worker that has workers. */
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
test_slots_nested_pools_share_them(void **state)
{
	struct world *w = *state;
	struct nest nest;
	struct slots_user u;

	nest_begin(&nest, w, PLAN_COUNT);
	for (unsigned n = 1; n <= 4; n++) {
		struct fz_slots *slots = fz_slots_new(&w->engine, NULL);
		struct fz_pool *pool;

		nest.plan = n % 2 == 0 ? PLAN_DEEPER : PLAN_COUNT;
		atomic_store(&w->shared->peak, 0);
		assert_int_equal(fz_slots_resize(slots, n, NULL), 0);
		pool = slots_pool(w, 4, slots, nest_main, &nest);
		slots_user_begin(&u, pool, 4, JOB_ECHO, 1);
		pool_user_wait(w, &u.counts, 4);
		assert_int_equal(u.counts.ndone, 4);
		assert_true(atomic_load(&w->shared->peak) <= (int)n);
		fz_pool_leave(pool, &u.counts.user);
		assert_int_equal(slots_free(w, slots), n);
		fz_pool_free(pool);
		fz_slots_unref(slots);
	}
	nest_end(&nest);
}

/* The tokens of a killed worker and of its own workers return to the pipe. */
static void
test_slots_tokens_of_the_dead_come_back(void **state)
{
	struct world *w = *state;
	struct nest nest;
	struct slots_user u;

	nest_begin(&nest, w, PLAN_KILL);
	for (int i = 0; i < 2; i++) {
		struct fz_pool *pool;
		struct slots_make m;

		nest.plan = i == 0 ? PLAN_KILL : PLAN_KILL_TOP;
		memset(w->shared, 0, sizeof(*w->shared));
		slots_make_begin(w, &m, "++");
		pool = slots_pool(w, 4, NULL, nest_main, &nest);
		slots_user_begin(&u, pool, 1, JOB_ECHO, 1);
		pool_user_wait(w, &u.counts, 1);
		assert_int_equal(u.counts.nfailed, 1);
		assert_int_equal(atomic_load(&w->shared->calls[JOB_SLEEP]), 3);
		assert_int_equal(slots_left(&m), 2);
		fz_slots_leave(m.slots); /* this process has no token */
		assert_int_equal(slots_left(&m), 2);
		fz_pool_leave(pool, &u.counts.user);
		fz_pool_free(pool);
		slots_make_end(w, &m);
	}
	nest_end(&nest);
}

/* fz_slots_leave() is called as os.exit() does it under make. */
static void
test_slots_leaving_gives_back_what_nested_workers_hold(void **state)
{
	struct world *w = *state;
	struct fz_pool *pool, *own;
	struct nest nest;
	struct slots_user u, v;
	struct slots_make m;

	nest_begin(&nest, w, PLAN_STAY);
	slots_make_begin(w, &m, "+++");
	pool = slots_pool(w, 4, NULL, nest_main, &nest);
	own = slots_pool(w, 1, NULL, serve, w->shared);
	slots_user_begin(&u, pool, 1, JOB_ECHO, 1);
	slots_user_begin(&v, own, 1, JOB_SLEEP, 60000);
	while (!all_run(&nest, 4))
		fz_loop_turn(w->engine.loop, in_ms(1), NULL);
	assert_int_equal(slots_left(&m), 0);
	fz_slots_leave(m.slots);
	assert_int_equal(slots_left(&m), 3);
	fz_slots_leave(m.slots); /* the second call has no effect */
	assert_int_equal(slots_left(&m), 3);
	fz_pool_leave(pool, &u.counts.user);
	fz_pool_leave(own, &v.counts.user);
	fz_pool_free(pool);
	fz_pool_free(own);
	slots_make_end(w, &m);
	nest_end(&nest);
}

static void
assert_told(struct world *w, struct nest *nest, struct fz_slots *slots,
    const char *flags, const char *mark)
{
	struct fz_pool *pool = slots_pool(w, 1, slots, nest_main, nest);
	struct slots_user u;

	memset(nest->told, 0, sizeof(*nest->told));
	slots_user_begin(&u, pool, 1, JOB_ECHO, 1);
	pool_user_wait(w, &u.counts, 1);
	assert_int_equal(u.counts.ndone, 1);
	assert_memory_equal(nest->told->flags, flags, strlen(flags));
	assert_string_equal(nest->told->omp, "1");
	assert_string_equal(nest->told->mark, mark);
	fz_pool_leave(pool, &u.counts.user);
	fz_pool_free(pool);
}

static void
test_slots_workers_get_the_pipe_to_share(void **state)
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
	assert_ptr_equal(environ, before); /* only workers have another one */
	assert_null(getenv("MAKEFLAGS"));
	/* Workers see later changes of the environment. */
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
test_slots_under_make_workers_keep_their_makeflags(void **state)
{
	struct world *w = *state;
	struct nest nest;
	struct slots_make m;

	setenv("MAKEFLAGS", "theirs", 1);
	unsetenv("OMP_NUM_THREADS");
	nest_begin(&nest, w, PLAN_TELL);
	slots_make_begin(w, &m, "a");
	assert_told(w, &nest, NULL, "theirs", "(none)");
	slots_make_end(w, &m);
	nest_end(&nest);
	unsetenv("MAKEFLAGS");
}

#define TEST(name) \
	cmocka_unit_test_setup_teardown(name, world_setup, world_teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_slots_nested_pools_share_them),
		TEST(test_slots_tokens_of_the_dead_come_back),
		TEST(test_slots_leaving_gives_back_what_nested_workers_hold),
		TEST(test_slots_workers_get_the_pipe_to_share),
		TEST(test_slots_under_make_workers_keep_their_makeflags),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
