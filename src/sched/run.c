#include "sched/run.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/seed.h"
#include "sched/graph.h"
#include "sched/run_state.h"
#include "sched/run_step.h"
#include "worker/blob.h"
#include "worker/engine.h"

static void
fail_whole(struct fz_run *run, enum fz_err_kind kind, const char *text)
{
	run->whole_failed = true;
	fz_err_set(&run->whole.err, kind, "%s", text);
	fz_step_stop(run, FZ_GRAPH_NONE);
	fz_step_stop_sources(run, &run->whole.err);
}

static void
deadline_over(struct fz_timer *timer)
{
	fail_whole(FZ_RUN_OF(deadline, timer), FZ_ERR_TIMEOUT,
	    "the deadline of the whole call ran out");
}

/* The run is done: pass on what its workers printed, and leave the pools. */
static void
finish(struct fz_run *run)
{
	struct fz_loop *loop = run->opts.engine->loop;

	run->done = true;
	fz_changed(&run->change);
	fz_loop_disarm(loop, &run->deadline);
	fz_loop_undefer(&run->settle);
	fz_dispatcher_leave(&run->dispatcher);
	if (run->local == NULL)
		fz_dispatcher_flush(&run->dispatcher);
}

static void
settle(struct fz_defer *defer)
{
	struct fz_run *run = FZ_RUN_OF(settle, defer);

	if (!run->done && run->sent == 0 &&
	    (run->unfinished == 0 || run->stopping))
		finish(run);
}

void
fz_run_cancel(struct fz_run *run, enum fz_err_kind kind, const char *text)
{
	const struct fz_err *err = &run->whole.err;

	if (run->done)
		return;
	fail_whole(run, kind, text);
	for (uint32_t i = 0; i < run->opts.npools; i++)
		fz_source_recall(&run->lanes[i].source, err);
	for (uint32_t i = 0; i < run->opts.npools; i++)
		fz_source_end(&run->lanes[i].source, err);
	finish(run);
}

/*
 * In a forked child: mark the run of the parent as done, and drop its
 * references without releasing them.
 */
static void
in_child(struct fz_fork_hook *hook)
{
	struct fz_run *run = FZ_RUN_OF(hook, hook);

	run->done = true;
	fz_dispatcher_in_child(&run->dispatcher);
	run->failed = NULL;
	memset(run->values, 0, run->nvalues * sizeof(*run->values));
	for (uint32_t i = 0; i < run->nnodes; i++) {
		if (run->steps[i].failure != NULL) /* a write copies a page */
			run->steps[i].failure = NULL;
	}
}

static int
allocate(struct fz_run *run, struct fz_err *err)
{
	size_t nnodes = run->nnodes, nvalues = run->nvalues;

	run->steps = calloc(nnodes + 1, sizeof(*run->steps));
	run->values = calloc(nvalues + 1, sizeof(*run->values));
	run->uses = calloc(nvalues + 1, sizeof(*run->uses));
	run->lanes = calloc(run->opts.npools + 1, sizeof(*run->lanes));
	if (run->opts.jobs == 0)
		run->local = calloc(nnodes / 64 + 1, sizeof(*run->local));
	if (run->steps == NULL || run->values == NULL || run->uses == NULL ||
	    run->lanes == NULL || (run->opts.jobs == 0 && run->local == NULL))
		return fz_err_nomem(err, "a run");
	return 0;
}

static void
init_steps(struct fz_run *run)
{
	for (uint32_t i = 0; i < run->nnodes; i++) {
		const struct fz_node *plan = fz_graph_get(run->opts.graph, i);
		struct fz_step *step = &run->steps[i];

		step->run = run;
		step->waiting = plan->nmade;
		step->because = FZ_GRAPH_NONE;
		step->job = (struct fz_job){ .ops = &fz_step_job_ops,
			.owner = &run->lanes[plan->pool].source,
			.func = plan->func,
			.nvalues = plan->nvalues,
			.seed = fz_seed_mix(run->opts.seed, i) };
	}
	for (uint32_t v = 0; v < run->nvalues; v++)
		fz_graph_users(run->opts.graph, v, &run->uses[v]);
	for (uint32_t i = 0; i < run->opts.npools; i++) {
		struct fz_run_lane *lane = &run->lanes[i];

		lane->tail = &lane->head;
		fz_source_init(
		    &lane->source, &fz_run_source_ops, &run->dispatcher, i);
	}
}

struct fz_run *
fz_run_new(const struct fz_run_opts *opts, struct fz_err *err)
{
	struct fz_run *run = calloc(1, sizeof(*run));

	if (run == NULL) {
		fz_err_nomem(err, "a run");
		return NULL;
	}
	run->opts = *opts;
	run->nnodes = fz_graph_nnodes(opts->graph);
	run->nvalues = fz_graph_nvalues(opts->graph);
	run->settle.call = settle;
	fz_change_init(&run->change, opts->engine);
	run->deadline.fired = deadline_over;
	run->hook.in_child = in_child;
	run->whole.exitcode = run->lost.exitcode = -1;
	run->last_failed = &run->failed;
	run->events.change = opts->events ? &run->change : NULL;
	fz_err_set(&run->lost.err, FZ_ERR_MEMORY,
	    "not enough memory to keep the error");
	if (fz_dispatcher_init(&run->dispatcher, opts->engine, opts->pools,
		opts->npools, opts->jobs, err) != 0 ||
	    allocate(run, err) != 0) {
		run->nnodes = run->nvalues = 0;
		run->done = true;
		fz_run_free(run);
		return NULL;
	}
	run->unfinished = run->nnodes;
	init_steps(run);
	fz_loop_hook(opts->engine->loop, &run->hook);
	return run;
}

void
fz_run_free(struct fz_run *run)
{
	if (run == NULL)
		return;
	fz_run_cancel(run, FZ_ERR_CANCELLED, "the run was closed");
	/* A local one may have been done before its last node ended. */
	fz_loop_undefer(&run->settle);
	fz_dispatcher_fini(&run->dispatcher);
	fz_change_fini(&run->change);
	fz_loop_unhook(&run->hook);
	for (uint32_t v = 0; v < run->nvalues; v++)
		fz_blob_unref(run->values[v]);
	for (uint32_t i = 0; i < run->nnodes; i++) {
		struct fz_failure *failure = run->steps[i].failure;

		if (failure != NULL && failure != &run->lost) {
			fz_blob_unref(failure->value);
			free(failure);
		}
	}
	free(run->steps);
	free(run->values);
	free(run->uses);
	free(run->lanes);
	free(run->local);
	free(run->limits);
	fz_job_event_fini(&run->events);
	free(run);
}

int
fz_run_limit(struct fz_run *run, uint32_t node, const struct fz_limits *limits,
    struct fz_err *err)
{
	if (run->limits == NULL) {
		run->limits = calloc(run->nnodes, sizeof(*run->limits));
		if (run->limits == NULL)
			return fz_err_nomem(err, "a run");
		for (uint32_t i = 0; i < run->nnodes; i++)
			run->limits[i] = run->opts.limits;
	}
	run->limits[node] = *limits;
	return 0;
}

const struct fz_limits *
fz_run_limits_of(const struct fz_run *run, uint32_t node)
{
	return run->limits != NULL ? &run->limits[node] : &run->opts.limits;
}

void
fz_run_set(struct fz_run *run, uint32_t value, struct fz_blob *blob)
{
	fz_blob_unref(run->values[value]);
	run->values[value] = blob;
}

void
fz_run_keep(struct fz_run *run, uint32_t value)
{
	run->uses[value]++;
}

int
fz_run_start(struct fz_run *run, struct fz_err *err)
{
	const struct fz_graph *graph = run->opts.graph;

	for (uint32_t v = 0; v < run->nvalues; v++) {
		if (fz_graph_maker(graph, v) == FZ_GRAPH_NONE &&
		    run->uses[v] != 0 && run->values[v] == NULL)
			return fz_err_set(
			    err, FZ_ERR_GRAPH, "value %u was not given", v + 1);
	}
	if (run->local == NULL &&
	    fz_dispatcher_join(&run->dispatcher, err) != 0)
		return -1;
	if (fz_loop_arm(run->opts.engine->loop, &run->deadline,
		run->opts.deadline_ns) != 0)
		return fz_err_nomem(err, "a deadline");
	for (uint32_t i = 0; i < run->nnodes; i++) {
		if (run->steps[i].waiting == 0)
			fz_step_ready(&run->steps[i]);
	}
	fz_loop_defer(run->opts.engine->loop, &run->settle);
	return 0;
}

uint64_t
fz_run_id(const struct fz_run *run)
{
	return run->change.id;
}

bool
fz_run_done(const struct fz_run *run)
{
	return run->done;
}

struct fz_blob *
fz_run_value(const struct fz_run *run, uint32_t value)
{
	return run->values[value];
}

const struct fz_failure *
fz_run_failure_of(const struct fz_run *run, uint32_t node, uint32_t *because)
{
	static const struct fz_failure never_ran = {
		.err = { FZ_ERR_CANCELLED, 0, "never ran" }, .exitcode = -1
	};
	const struct fz_step *n = &run->steps[node];

	*because = n->because;
	if (n->failure != NULL)
		return n->failure;
	return n->state == FZ_STEP_CANCELLED ? &never_ran : NULL;
}

const struct fz_failure *
fz_run_failure(const struct fz_run *run, uint32_t *node)
{
	*node = FZ_GRAPH_NONE;
	if (run->whole_failed && (run->opts.policy != FZ_POLICY_CONTINUE ||
				     run->whole.err.kind != FZ_ERR_TIMEOUT))
		return &run->whole;
	if (run->opts.policy == FZ_POLICY_CONTINUE || run->failed == NULL)
		return NULL;
	*node = fz_step_number(run->failed);
	return run->failed->failure;
}

uint32_t
fz_run_next_failed(const struct fz_run *run, uint32_t node)
{
	const struct fz_step *next =
	    node != FZ_GRAPH_NONE ? run->steps[node].next_failed : run->failed;

	return next != NULL ? fz_step_number(next) : FZ_GRAPH_NONE;
}

int
fz_run_next_event(struct fz_run *run, struct fz_job_event *event)
{
	return fz_job_event_next(&run->events, event);
}

bool
fz_run_is_local(const struct fz_run *run)
{
	return run->local != NULL;
}

uint32_t
fz_run_local_next(struct fz_run *run)
{
	uint32_t nwords = run->nnodes / 64 + 1;

	if (run->done || run->stopping)
		return FZ_GRAPH_NONE;
	for (uint32_t i = run->local_from; i < nwords; i++) {
		uint64_t word = run->local[i];
		struct fz_step *step;
		uint32_t n;

		if (word == 0)
			continue;
		run->local_from = i;
		run->local[i] = word & (word - 1);
		n = i * 64 + (uint32_t)__builtin_ctzll(word);
		step = &run->steps[n];
		step->state = FZ_STEP_SENT;
		step->job.started_ns = fz_clock_ns();
		run->sent++;
		fz_step_record(step, FZ_JOB_EVENT_START, 0);
		return n;
	}
	run->local_from = nwords;
	return FZ_GRAPH_NONE;
}

uint64_t
fz_run_local_seed(const struct fz_run *run, uint32_t node)
{
	return run->steps[node].job.seed;
}

void
fz_run_local_done(
    struct fz_run *run, uint32_t node, struct fz_blob **values, uint32_t n)
{
	run->sent--;
	fz_step_done(&run->steps[node], values, n, 0);
}

void
fz_run_local_failed(
    struct fz_run *run, uint32_t node, struct fz_failure *failure)
{
	run->sent--;
	fz_step_failed(&run->steps[node], failure);
}
