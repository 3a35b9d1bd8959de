#include "sched/run_dispatch.h"

#include <stdlib.h>

#include "base/clock.h"
#include "base/container.h"
#include "sched/graph.h"
#include "sched/run_state.h"
#include "sched/run_step.h"
#include "worker/engine.h"

/* Jobs that were sent behind one that takes longer may go elsewhere. */
#define DISPATCH_STEAL_NS FZ_CLOCK_MS

static struct fz_step *
step_of(struct fz_job *job)
{
	return FZ_CONTAINER_OF(job, struct fz_step, job);
}

static struct fz_job *
pop_ready(struct fz_ready *ready)
{
	struct fz_job *job = ready->head;

	ready->head = job->next;
	if (ready->head == NULL)
		ready->tail = &ready->head;
	return job;
}

static int
send(struct fz_run *run, struct fz_worker *w, struct fz_step *step,
    struct fz_err *err)
{
	enum { FEW = 16 };
	const struct fz_node *plan = fz_step_plan(step);
	const uint32_t *inputs =
	    fz_graph_inputs(run->opts.graph, fz_step_number(step));
	const struct fz_limits *limits;
	struct fz_blob *some[FEW], **args = some;
	int rc;

	if (plan->ninputs > FEW)
		args = malloc(plan->ninputs * sizeof(struct fz_blob *));
	if (args == NULL)
		return fz_err_nomem(err, "arguments");
	for (uint32_t i = 0; i < plan->ninputs; i++)
		args[i] = run->values[inputs[i]];
	limits = fz_run_limits_of(run, fz_step_number(step));
	step->job.timeout_ns = limits->timeout_ns;
	step->job.memory = limits->memory;
	step->state = FZ_STEP_SENT;
	rc = fz_worker_send(w, &step->job, args, plan->ninputs, err);
	if (rc == 0)
		run->sent++;
	if (args != some)
		free(args);
	return rc;
}

/* A worker for the next job of `pool`; NULL: none now. */
static struct fz_worker *
pick(struct fz_run *run, struct fz_pool *pool, struct fz_err *err)
{
	struct fz_worker *w;

	if (run->nbusy < run->opts.jobs) {
		w = fz_pool_take(pool, &run->user, err);
		if (w != NULL) {
			run->nbusy++;
			return w;
		}
	}
	return fz_pool_room(pool, &run->user);
}

/* Send what is ready in `pool`. False: it needs a slot that others have. */
static bool
dispatch_pool(struct fz_run *run, uint32_t number)
{
	struct fz_ready *ready = &run->ready[number];
	struct fz_pool *pool = run->opts.pools[number];
	struct fz_failure failure = { .exitcode = -1 };

	while (ready->head != NULL) {
		struct fz_worker *w = pick(run, pool, &failure.err);
		struct fz_step *step;

		if (w == NULL && failure.err.kind == FZ_ERR_NONE)
			return run->nbusy < run->opts.jobs;
		step = step_of(pop_ready(ready));
		if (w == NULL) {
			fz_step_failed(step, &failure);
		} else if (send(run, w, step, &failure.err) != 0) {
			fz_pool_untake(pool, w);
			fz_step_failed(step, &failure);
		}
		failure = (struct fz_failure){ .exitcode = -1 };
	}
	return true;
}

static bool
may_steal(const struct fz_run *run, const struct fz_pool *pool)
{
	return run->nbusy < run->opts.jobs && fz_pool_has_free(pool);
}

/* Come back when a worker has kept jobs waiting behind a long one. */
static void
arm_steal(struct fz_run *run)
{
	int64_t at = FZ_CLOCK_NEVER;

	if (run->steal.place != 0)
		return;
	for (uint32_t i = 0; i < run->opts.npools; i++) {
		struct fz_worker *w = fz_pool_busy(run->opts.pools[i]);

		for (; w != NULL; w = w->next) {
			if (w->owner == &run->user && w->njobs > 1 &&
			    (w->peeked_ns != w->news_ns ||
				may_steal(run, run->opts.pools[i])) &&
			    w->news_ns < at)
				at = w->news_ns;
		}
	}
	fz_loop_arm(run->opts.engine->loop, &run->steal,
	    fz_clock_after(at, DISPATCH_STEAL_NS));
}

void
fz_dispatch_steal(struct fz_timer *timer)
{
	struct fz_run *run = FZ_RUN_OF(steal, timer);
	int64_t now = fz_clock_ns();

	for (uint32_t i = 0; i < run->opts.npools; i++) {
		struct fz_pool *pool = run->opts.pools[i];
		struct fz_worker *w = fz_pool_busy(pool), *next;

		for (; w != NULL; w = next) {
			next = w->next;
			if (w->owner != &run->user || w->njobs < 2 ||
			    now - w->news_ns < DISPATCH_STEAL_NS)
				continue;
			w->peeked_ns = w->news_ns;
			fz_worker_peek(w);
			if (w->njobs > 1 && may_steal(run, pool))
				fz_worker_recall(w);
		}
	}
	fz_loop_defer(run->opts.engine->loop, &run->dispatch);
}

/* Take back what did not start; with `kill`, end what did. */
static void
stop_workers(
    struct fz_run *run, bool kill, enum fz_err_kind kind, const char *text)
{
	for (uint32_t i = 0; i < run->opts.npools; i++) {
		struct fz_worker *w = fz_pool_busy(run->opts.pools[i]), *next;

		for (; w != NULL; w = next) {
			next = w->next;
			if (w->owner != &run->user)
				continue;
			fz_worker_recall(w);
			if (kill && w->njobs != 0)
				fz_worker_kill(w, kind, text);
		}
	}
}

/* The run has begun to stop: workers are to know. */
static void
recall(struct fz_run *run)
{
	const struct fz_err *err = &run->whole.err;

	run->recalled = true;
	if (run->whole_failed)
		stop_workers(run, true, err->kind, err->text);
	else
		stop_workers(run, run->opts.policy == FZ_POLICY_NOW,
		    FZ_ERR_CANCELLED, "ended because another function failed");
}

void
fz_dispatch_finish(struct fz_run *run)
{
	struct fz_loop *loop = run->opts.engine->loop;

	run->done = true;
	run->opts.engine->news++;
	fz_loop_disarm(loop, &run->deadline);
	fz_loop_disarm(loop, &run->steal);
	fz_loop_undefer(loop, &run->dispatch);
	for (uint32_t i = 0; i < run->opts.npools && run->joined; i++) {
		fz_pool_leave(run->opts.pools[i], &run->user);
		if (run->local == NULL)
			fz_pool_flush(run->opts.pools[i]);
	}
	run->joined = false;
}

void
fz_dispatch(struct fz_defer *defer)
{
	struct fz_run *run = FZ_RUN_OF(dispatch, defer);

	if (run->done)
		return;
	if (run->stopping && !run->recalled)
		recall(run);
	if (run->local == NULL && !run->stopping) {
		for (uint32_t i = run->opts.npools; i-- > 0;) {
			if (!dispatch_pool(run, i))
				break;
		}
		arm_steal(run);
	}
	if (run->sent == 0 && (run->unfinished == 0 || run->stopping))
		fz_dispatch_finish(run);
}

void
fz_dispatch_freed(struct fz_pool_user *user, struct fz_worker *w)
{
	struct fz_run *run = FZ_RUN_OF(user, user);

	if (w != NULL)
		run->nbusy--;
	fz_loop_defer(run->opts.engine->loop, &run->dispatch);
}

/* End a worker of the run; false: it has none. */
static bool
kill_one(struct fz_run *run, enum fz_err_kind kind, const char *text)
{
	for (uint32_t i = 0; i < run->opts.npools; i++) {
		struct fz_worker *w = fz_pool_busy(run->opts.pools[i]);

		for (; w != NULL; w = w->next) {
			if (w->owner == &run->user) {
				fz_worker_end(w, kind, text);
				return true;
			}
		}
	}
	return false;
}

void
fz_dispatch_end(struct fz_run *run, enum fz_err_kind kind, const char *text)
{
	stop_workers(run, true, kind, text); /* all at once, then one by one */
	while (kill_one(run, kind, text))
		continue;
}
