/* pipe2 is not in C11. */
#define _GNU_SOURCE
#include "slots_test.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "os/jobserver.h"
#include "os/loop.h"
#include "worker/worker.h"

static void
told(struct fz_slots_waiter *waiter)
{
	struct slots_waiter *w = (struct slots_waiter *)waiter;

	w->ntold++;
	if (w->takes != NULL)
		w->got = fz_slots_take(w->takes, waiter);
}

struct slots_waiter
slots_waiter(struct fz_slots *takes)
{
	return (struct slots_waiter){ .waiter.freed = told, .takes = takes };
}

void
slots_make_begin(struct world *w, struct slots_make *m, const char *tokens)
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

unsigned
slots_left(const struct slots_make *m)
{
	return fz_jobserver_count(m->pipe[0]);
}

void
slots_make_end(struct world *w, struct slots_make *m)
{
	fz_slots_unref(m->slots);
	w->engine.slots = NULL;
	close(m->pipe[0]);
	close(m->pipe[1]);
}

unsigned
slots_free(struct world *w, struct fz_slots *slots)
{
	struct slots_waiter waiter = slots_waiter(NULL);
	unsigned n = 0;

	fz_loop_turn(w->engine.loop, 0, NULL); /* handle pending events */
	while (fz_slots_take(slots, &waiter.waiter))
		n++;
	fz_slots_forget(&waiter.waiter);
	for (unsigned i = 0; i < n; i++)
		fz_slots_give(slots);
	assert_true(turn_until(w, in_ms(PATIENCE_MS)));
	return n;
}

static void
send_all(struct slots_user *u)
{
	while (u->nsent < u->njobs) {
		struct fz_worker *w =
		    fz_pool_take(u->pool, &u->counts.user, NULL);

		if (w == NULL)
			return;
		u->nbusy++;
		if (u->nbusy > u->peak)
			u->peak = u->nbusy;
		if (pool_user_send(w, &u->counts, &u->tasks[u->nsent], u->func,
			u->arg) == 0)
			u->nsent++;
		else
			fz_pool_put_back(u->pool, w);
	}
}

static void
freed(struct fz_pool_client *user, struct fz_worker *worker)
{
	struct slots_user *u = (struct slots_user *)user;

	if (worker != NULL)
		u->nbusy--;
	send_all(u);
}

int
slots_user_try(struct slots_user *u, struct fz_pool *pool, int njobs,
    enum job func, uint64_t arg)
{
	*u = (struct slots_user){ .counts.user.freed = freed,
		.pool = pool,
		.njobs = njobs,
		.func = func,
		.arg = arg };
	if (fz_pool_join(pool, &u->counts.user, NULL) != 0)
		return -1;
	send_all(u);
	return 0;
}

void
slots_user_begin(struct slots_user *u, struct fz_pool *pool, int njobs,
    enum job func, uint64_t arg)
{
	assert_int_equal(slots_user_try(u, pool, njobs, func, arg), 0);
}

struct fz_pool *
slots_pool(struct world *w, unsigned max, struct fz_slots *slots,
    fz_worker_main main_, void *ctx)
{
	struct fz_pool_opts opts = { .engine = &w->engine,
		.max = max,
		.slots = slots,
		.main = main_,
		.main_ctx = ctx };

	return fz_pool_new(&opts, NULL);
}
