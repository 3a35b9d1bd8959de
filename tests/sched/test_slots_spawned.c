/*
 * Slots of workers that are programs; the program is this test. The workers
 * share the slots. The tokens of killed workers and of their descendants,
 * forked or spawned, come back.
 */
/* pipe2, kill and setenv are not in C11. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "os/jobserver.h"
#include "os/loop.h"
#include "proc/proc.h"
#include "sched/pool.h"
#include "sched/slots.h"
#include "sched/slots_state.h"
#include "slots_test.h"
#include "wire/account.h"
#include "wire/blob.h"
#include "wire/child_port.h"
#include "wire/child_spawned.h"
#include "wire/child_stream.h"
#include "wire/wire.h"
#include "world.h"

/* The action of a worker. */
enum plan {
	PLAN_COUNT, /* fail unless it can take COUNTED slots */
	PLAN_DIE,   /* take all slots and die */
	PLAN_HOLD,  /* take all slots and stay */
	PLAN_SPAWN, /* spawn a worker that takes all, and die */
	PLAN_FORK   /* fork a worker that takes all, and die */
};

enum { COUNTED = 4 };

static const char *this_program;

static unsigned
take_all(struct fz_slots *slots)
{
	static struct slots_waiter waiter;
	unsigned n = 0;

	waiter = slots_waiter(NULL);
	while (fz_slots_take(slots, &waiter.waiter))
		n++;
	fz_slots_forget(&waiter.waiter);
	return n;
}

static unsigned
in_pipe(const struct fz_slots *s)
{
	return fz_jobserver_count(s->shared[0] != -1 ? s->shared[0] : s->in);
}

static int forked_main(void *ctx, struct fz_port *port);

static struct fz_blob *
no_setup(void *ctx, struct fz_err *err)
{
	(void)ctx;
	(void)err;
	return blob_of_number(0);
}

static struct fz_pool *
new_pool(struct fz_engine *engine, struct fz_slots *slots, bool spawns)
{
	struct fz_pool_opts opts = { .engine = engine,
		.max = 1,
		.slots = slots,
		.spawns = spawns,
		.setup = no_setup,
		.main = forked_main,
		.main_ctx = engine };

	engine->program = this_program;
	return fz_pool_new(&opts, NULL);
}

/* Die while a worker below this one holds all tokens. */
static void
die_above(struct fz_engine *engine, bool spawns)
{
	struct fz_pool *pool = new_pool(engine, NULL, spawns);
	static struct slots_user u;

	slots_user_begin(&u, pool, 1, JOB_ECHO, PLAN_HOLD);
	while (in_pipe(engine->slots) != 0)
		fz_loop_turn(engine->loop, in_ms(1), NULL);
	raise(SIGKILL);
}

static bool
run_plan(struct fz_engine *engine, enum plan plan)
{
	unsigned n;

	if (plan == PLAN_SPAWN || plan == PLAN_FORK)
		die_above(engine, plan == PLAN_SPAWN);
	fz_loop_turn(engine->loop, 0, NULL); /* handle pending events */
	n = take_all(engine->slots);
	if (plan == PLAN_DIE)
		raise(SIGKILL);
	while (plan == PLAN_HOLD)
		pause();
	for (unsigned i = 0; i < n; i++)
		fz_slots_give(engine->slots);
	fz_slots_trim(engine->slots);
	return n == COUNTED;
}

static int
serve_calls(struct fz_engine *engine, struct fz_port *port)
{
	struct fz_call call;
	int rc;

	while ((rc = fz_port_next(port, &call, NULL)) == 1) {
		uint64_t plan = next_number(port, &call);

		if (call.type == FZ_WIRE_SETUP)
			continue;
		if (!run_plan(engine, (enum plan)plan))
			return 96;
		fz_port_begin(port, &call, FZ_WIRE_RESULT, 1);
		put_number(port, plan);
		if (fz_port_send(port, NULL) != 0)
			return 97;
	}
	return rc == 0 ? 0 : 98;
}

static int
forked_main(void *ctx, struct fz_port *port)
{
	return serve_calls(ctx, port);
}

static void
no_output(void *ctx, enum fz_stdio file, const char *bytes, size_t len)
{
	(void)ctx;
	(void)file;
	(void)bytes;
	(void)len;
}

static int
program_main(char **argv)
{
	static struct fz_engine engine;
	struct fz_lineage lineage[FZ_ACCOUNT_DEPTH];
	struct fz_child_spawned spawned;
	struct fz_slots *slots;
	struct fz_port port;
	unsigned n;
	int status;

	if (fz_child_spawned_enter(&spawned, argv) != 0 ||
	    spawned.slots == FZ_CHILD_SPAWNED_NO_SLOTS ||
	    fz_engine_init(&engine, no_output, NULL, NULL) != 0)
		return 93;
	n = fz_account_lineage(spawned.account, lineage, FZ_ACCOUNT_DEPTH);
	slots = fz_slots_of_parent(&engine, (unsigned)spawned.slots,
	    spawned.pipe, n != 0 ? lineage : NULL, NULL);
	if (n == 0 || slots == NULL ||
	    fz_child_stream_init(
		&port, spawned.link, spawned.link, NULL, false, NULL) != 0)
		return 94;
	status = serve_calls(&engine, &port);
	fz_slots_leave(slots);
	return status;
}

/* The worker ends as planned, and the next one has all slots. */
static void
check_plan(struct world *w, struct fz_slots *slots, bool spawns, enum plan plan)
{
	struct fz_slots *used = fz_slots_for(&w->engine, slots);
	struct fz_pool *pool = new_pool(&w->engine, slots, spawns);
	struct slots_user u;

	slots_user_begin(&u, pool, 1, JOB_ECHO, plan);
	pool_user_wait(w, &u.counts, 1);
	assert_int_equal(u.counts.nfailed, plan != PLAN_COUNT);
	assert_int_equal(in_pipe(used), COUNTED - 1);
	fz_pool_leave(pool, &u.counts.user);
	slots_user_begin(&u, pool, 1, JOB_ECHO, PLAN_COUNT);
	pool_user_wait(w, &u.counts, 1);
	assert_int_equal(u.counts.nfailed, 0);
	assert_int_equal(in_pipe(used), COUNTED - 1);
	fz_pool_leave(pool, &u.counts.user);
	fz_pool_free(pool);
}

static void
check_plans(struct world *w, struct fz_slots *slots)
{
	for (int plan = PLAN_COUNT; plan <= PLAN_FORK; plan++) {
		if (plan == PLAN_HOLD)
			continue;
		check_plan(w, slots, true, (enum plan)plan);
		check_plan(w, slots, false, (enum plan)plan);
	}
}

static void
test_slots_spawned_workers_share_them(void **state)
{
	struct world *w = *state;
	struct fz_slots *slots = fz_slots_new(&w->engine, NULL);

	assert_int_equal(fz_slots_resize(slots, COUNTED, NULL), 0);
	check_plans(w, slots);
	fz_slots_unref(slots);
}

/* Begin as under make, with a pipe that programs inherit. */
static void
begin_make(struct world *w, struct slots_make *m)
{
	char text[64];

	slots_make_begin(w, m, "+++");
	snprintf(text, sizeof(text), "--jobserver-auth=%d,%d", m->pipe[0],
	    m->pipe[1]);
	setenv("MAKEFLAGS", text, 1);
	for (int i = 0; i < 2; i++)
		fcntl(m->pipe[i], F_SETFD, 0);
}

static void
end_make(struct world *w, struct slots_make *m)
{
	slots_make_end(w, m);
	unsetenv("MAKEFLAGS");
}

/* Programs find the pipe of make by its descriptors or by its name. */
static void
test_slots_spawned_workers_share_those_of_make(void **state)
{
	struct world *w = *state;
	struct slots_make m;

	begin_make(w, &m);
	check_plans(w, NULL);
	/* This process's account includes the tokens of processes below it. */
	assert_int_equal(atomic_load(&m.slots->first.account->held) +
			     atomic_load(&fz_account_find(
				 atomic_load(&m.slots->first.account->shared))
					      ->held),
	    0);
	end_make(w, &m);
}

/* os.exit() makes this call under make, while the workers still run. */
static void
test_slots_leaving_gives_back_what_programs_hold(void **state)
{
	struct world *w = *state;
	struct fz_pool *pool;
	struct slots_make m;
	struct slots_user u;

	begin_make(w, &m);
	pool = new_pool(&w->engine, NULL, true);
	slots_user_begin(&u, pool, 1, JOB_ECHO, PLAN_HOLD);
	while (slots_left(&m) != 0)
		fz_loop_turn(w->engine.loop, in_ms(1), NULL);
	fz_slots_leave(m.slots);
	assert_int_equal(slots_left(&m), 3);
	fz_pool_free(pool);
	assert_int_equal(slots_left(&m), 3);
	end_make(w, &m);
}

#define TEST(name) \
	cmocka_unit_test_setup_teardown(name, world_setup, world_teardown)

int
main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		TEST(test_slots_spawned_workers_share_them),
		TEST(test_slots_spawned_workers_share_those_of_make),
		TEST(test_slots_leaving_gives_back_what_programs_hold),
	};

	this_program = argv[0];
	if (fz_child_spawned_is(argc, argv)) {
		this_program = "/proc/self/exe";
		fz_proc_exit(program_main(argv));
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
