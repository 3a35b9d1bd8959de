#include "sched/run.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/container.h"
#include "base/seed.h"
#include "sched/batch_state.h"
#include "sched/graph.h"
#include "sched/run_lookup.h"
#include "sched/run_map.h"
#include "sched/run_state.h"
#include "sched/run_step.h"
#include "wire/blob.h"
#include "worker/engine.h"

/* An invoke: a flow and its only run. */
struct invoke {
	struct fz_flow flow;
	struct fz_run run;
};

void
fz_run_end(struct fz_run *run)
{
	if (run->done)
		return;
	run->done = true;
	fz_loop_undefer(&run->settle);
	run->flow->over(run);
}

static void
settle(struct fz_defer *defer)
{
	struct fz_run *run = FZ_RUN_OF(settle, defer);

	if (!run->flow->foreign && run->sent == 0 && run->unrecorded == 0 &&
	    (run->unfinished == 0 || run->stopping))
		fz_run_end(run);
}

/* An invoke is over: pass on incomplete lines of output, leave the pools. */
static void
invoke_over(struct fz_run *run)
{
	fz_changed(&run->flow->change);
	fz_flow_close(run->flow);
}

int
fz_run_init(struct fz_run *run, struct fz_flow *flow, struct fz_err *err)
{
	size_t nnodes = flow->nnodes, nvalues = flow->nvalues;

	*run = (struct fz_run){ .flow = flow, .done = true };
	run->last_failed = &run->failed;
	run->settle.call = settle;
	run->steps = calloc(nnodes + 1, sizeof(*run->steps));
	run->values = calloc(nvalues + 1, sizeof(*run->values));
	run->uses = calloc(nvalues + 1, sizeof(*run->uses));
	if (flow->opts.jobs == 0)
		run->local = calloc(nnodes / 64 + 1, sizeof(*run->local));
	if (run->steps == NULL || run->values == NULL || run->uses == NULL ||
	    (flow->opts.jobs == 0 && run->local == NULL))
		return fz_err_nomem(err, "a run");
	return 0;
}

void
fz_run_clear(struct fz_run *run)
{
	struct fz_flow *flow = run->flow;

	fz_lookup_clear(run);
	for (uint32_t i = 0; i < flow->nnodes && flow->has_maps; i++) {
		fz_map_free(run->steps[i].map);
		run->steps[i].map = NULL;
	}
	for (uint32_t v = 0; v < flow->nvalues; v++)
		fz_run_set(run, v, NULL);
	for (struct fz_step *step = run->failed; step != NULL;
	     step = step->next_failed) {
		if (step->failure == &flow->lost)
			continue;
		fz_blob_unref(step->failure->value);
		free(step->failure);
	}
	run->failed = NULL;
	run->last_failed = &run->failed;
}

void
fz_run_fini(struct fz_run *run)
{
	/* a local run may be done before its last node ends */
	fz_loop_undefer(&run->settle);
	if (run->steps != NULL && run->values != NULL && !run->flow->foreign)
		fz_run_clear(run);
	free(run->steps);
	free(run->values);
	free(run->uses);
	free(run->local);
}

static void
init_step(struct fz_run *run, uint32_t i, uint64_t seed)
{
	struct fz_flow *flow = run->flow;
	const struct fz_graph_node *node = fz_graph_get(flow->opts.graph, i);

	run->steps[i] = (struct fz_step){ .run = run,
		.waiting = node->nmade,
		.because = FZ_GRAPH_NONE,
		.job = { .ops = &fz_step_job_ops,
		    .owner = &flow->ready[node->pool].producer,
		    .func = node->func,
		    .nvalues = node->nvalues,
		    .seed = fz_seed_mix(seed, i) } };
}

void
fz_run_begin(struct fz_run *run, uint64_t item)
{
	struct fz_flow *flow = run->flow;
	uint64_t seed = flow->opts.seed;

	run->item = item;
	if (item != 0)
		seed = fz_seed_mix(seed, item);
	run->unfinished = flow->nnodes;
	run->done = run->skipped = run->stopping = false;
	for (uint32_t i = 0; i < flow->nnodes; i++)
		init_step(run, i, seed);
	fz_list_push(&flow->runs, &run->link);
}

struct fz_run *
fz_run_new(const struct fz_run_opts *opts, struct fz_err *err)
{
	struct invoke *invoke = calloc(1, sizeof(*invoke));

	if (invoke == NULL) {
		fz_err_nomem(err, "a run");
		return NULL;
	}
	invoke->run.flow = &invoke->flow;
	invoke->run.done = true; /* nothing needs to be cancelled yet */
	if (fz_flow_init(&invoke->flow, opts, invoke_over, err) != 0 ||
	    fz_run_init(&invoke->run, &invoke->flow, err) != 0) {
		fz_run_free(&invoke->run);
		return NULL;
	}
	fz_run_begin(&invoke->run, 0);
	return &invoke->run;
}

void
fz_run_free(struct fz_run *run)
{
	struct invoke *invoke;

	if (run == NULL)
		return;
	invoke = FZ_CONTAINER_OF(run, struct invoke, run);
	fz_run_cancel(run, FZ_ERR_CANCELLED, "the run was closed");
	fz_run_fini(run);
	fz_flow_fini(&invoke->flow);
	free(invoke);
}

void
fz_run_cancel(struct fz_run *run, enum fz_err_kind kind, const char *text)
{
	if (!fz_run_done(run))
		fz_flow_cancel(run->flow, kind, text);
}

int
fz_run_limit(struct fz_run *run, uint32_t node, const struct fz_limits *limits,
    struct fz_err *err)
{
	return fz_flow_limit(run->flow, node, limits, err);
}

const struct fz_limits *
fz_run_limits_of(const struct fz_run *run, uint32_t node)
{
	const struct fz_flow *flow = run->flow;

	return flow->limits != NULL ? &flow->limits[node] : &flow->opts.limits;
}

void
fz_run_set(struct fz_run *run, uint32_t value, struct fz_blob *blob)
{
	struct fz_blob *old = run->values[value];

	if (old != NULL)
		run->flow->nbytes -= old->len;
	if (blob != NULL)
		run->flow->nbytes += blob->len;
	fz_blob_unref(old);
	run->values[value] = blob;
}

void
fz_run_keep(struct fz_run *run, uint32_t value)
{
	fz_flow_keep(run->flow, value);
}

void
fz_run_start_steps(struct fz_run *run)
{
	const struct fz_flow *flow = run->flow;

	memcpy(run->uses, flow->uses, flow->nvalues * sizeof(*run->uses));
	if (flow->events.trace != NULL)
		run->flow->events.now_ns = fz_clock_ns();
	for (uint32_t i = 0; i < flow->nnodes; i++) {
		if (run->steps[i].waiting == 0 &&
		    run->steps[i].state == FZ_STEP_WAITING && !run->stopping)
			fz_step_ready(&run->steps[i]);
	}
	fz_loop_defer(flow->opts.engine->loop, &run->settle);
}

int
fz_run_start(struct fz_run *run, struct fz_err *err)
{
	const struct fz_flow *flow = run->flow;
	const struct fz_graph *graph = flow->opts.graph;

	for (uint32_t v = 0; v < flow->nvalues; v++) {
		if (fz_graph_maker(graph, v) == FZ_GRAPH_NONE &&
		    flow->uses[v] != 0 && run->values[v] == NULL)
			return fz_err_set(err, FZ_ERR_GRAPH,
			    "input value %u was not set", v + 1);
	}
	if (fz_flow_open(run->flow, err) != 0)
		return -1;
	fz_run_start_steps(run);
	return 0;
}

struct fz_flow *
fz_run_flow(const struct fz_run *run)
{
	return run->flow;
}

uint64_t
fz_run_id(const struct fz_run *run)
{
	return run->flow->change.id;
}

bool
fz_run_done(const struct fz_run *run)
{
	return run->done || run->flow->foreign;
}

struct fz_blob *
fz_run_value(const struct fz_run *run, uint32_t value)
{
	return run->flow->foreign ? NULL : run->values[value];
}

const struct fz_failure *
fz_run_failure_of(const struct fz_run *run, uint32_t node, uint32_t *because)
{
	static const struct fz_failure never_ran = {
		.err = { FZ_ERR_CANCELLED, 0, "never ran" }, .exitcode = -1
	};
	const struct fz_step *n = &run->steps[node];

	*because = n->because;
	if (run->flow->foreign)
		return NULL;
	if (n->failure != NULL)
		return n->failure;
	return n->state == FZ_STEP_CANCELLED ? &never_ran : NULL;
}

struct fz_step *
fz_run_stopper(const struct fz_run *run)
{
	if (!run->stopping || run->because == FZ_GRAPH_NONE)
		return NULL;
	return &run->steps[run->because];
}

const struct fz_failure *
fz_run_failure(const struct fz_run *run, uint32_t *node)
{
	const struct fz_flow *flow = run->flow;
	const struct fz_step *stopper = fz_run_stopper(run);

	*node = FZ_GRAPH_NONE;
	if (flow->whole_failed && (flow->opts.policy != FZ_POLICY_CONTINUE ||
				      flow->whole.err.kind != FZ_ERR_TIMEOUT))
		return &flow->whole;
	if (flow->opts.policy == FZ_POLICY_CONTINUE || stopper == NULL ||
	    flow->foreign)
		return NULL;
	*node = fz_step_number(stopper);
	return stopper->failure;
}

uint32_t
fz_run_next_failed(const struct fz_run *run, uint32_t node)
{
	const struct fz_step *next =
	    node != FZ_GRAPH_NONE ? run->steps[node].next_failed : run->failed;

	if (run->flow->foreign)
		return FZ_GRAPH_NONE;
	return next != NULL ? fz_step_number(next) : FZ_GRAPH_NONE;
}

uint64_t
fz_run_failed_element(const struct fz_run *run, uint32_t node)
{
	const struct fz_run_map *map = run->steps[node].map;

	return run->flow->foreign || map == NULL ? 0 : map->failed;
}

bool
fz_run_lacks_list(const struct fz_run *run, uint32_t node)
{
	const struct fz_run_map *map = run->steps[node].map;

	return !run->flow->foreign && map != NULL && map->batch == NULL;
}

uint64_t
fz_run_element_failure(const struct fz_run *run, uint32_t node, size_t k,
    const struct fz_failure **failure)
{
	const struct fz_run_map *map = run->steps[node].map;

	if (run->flow->foreign || map == NULL)
		return 0;
	return fz_map_failure(map, k, failure);
}

struct fz_blob *
fz_run_partial(const struct fz_run *run, uint32_t node)
{
	const struct fz_run_map *map = run->steps[node].map;

	return run->flow->foreign || map == NULL ? NULL : map->partial;
}

struct fz_run_counts
fz_run_counts(const struct fz_run *run, uint32_t pool)
{
	return fz_flow_counts(run->flow, pool);
}

int
fz_run_next_event(struct fz_run *run, struct fz_job_event *event)
{
	return fz_event_log_next(&run->flow->events, event);
}

bool
fz_run_is_local(const struct fz_run *run)
{
	return run->local != NULL;
}

static void
clear_local(struct fz_run *run, uint32_t node)
{
	run->local[node / 64] &= ~(UINT64_C(1) << node % 64);
}

/*
 * Take a node that this process can run now. A map stays ready, because it has
 * many elements. Returns false if the node cannot be run now.
 */
static bool
take_local(struct fz_run *run, uint32_t node)
{
	struct fz_step *step = &run->steps[node];

	if (step->state == FZ_STEP_MAPPED && !fz_batch_done(step->map->batch))
		return fz_batch_ready(step->map->batch) != 0;
	clear_local(run, node);
	if (step->state != FZ_STEP_READY)
		return false;
	step->state = FZ_STEP_SENT;
	step->job.started_ns = fz_clock_ns();
	run->sent++;
	fz_step_add_event(step, FZ_JOB_EVENT_START, 0);
	return true;
}

/* Whether take_local() would return true for the node. */
static bool
is_ready(const struct fz_run *run, uint32_t node)
{
	const struct fz_step *step = &run->steps[node];

	if (step->state == FZ_STEP_MAPPED && !fz_batch_done(step->map->batch))
		return fz_batch_ready(step->map->batch) != 0;
	return step->state == FZ_STEP_READY;
}

bool
fz_run_local_ready(const struct fz_run *run)
{
	uint32_t nwords = run->flow->nnodes / 64 + 1;

	if (fz_run_done(run) || run->stopping)
		return false;
	for (uint32_t i = run->local_from; i < nwords; i++) {
		uint64_t left = run->local[i];

		for (; left != 0; left &= left - 1) {
			uint32_t n = i * 64 + (uint32_t)__builtin_ctzll(left);

			if (is_ready(run, n))
				return true;
		}
	}
	return false;
}

uint32_t
fz_run_local_next(struct fz_run *run)
{
	uint32_t nwords = run->flow->nnodes / 64 + 1;

	if (fz_run_done(run) || run->stopping)
		return FZ_GRAPH_NONE;
	while (run->local_from < nwords && run->local[run->local_from] == 0)
		run->local_from++;
	for (uint32_t i = run->local_from; i < nwords; i++) {
		uint64_t left = run->local[i];

		for (; left != 0; left &= left - 1) {
			uint32_t n = i * 64 + (uint32_t)__builtin_ctzll(left);

			if (take_local(run, n))
				return n;
		}
	}
	return FZ_GRAPH_NONE;
}

struct fz_run_map *
fz_run_local_map(const struct fz_run *run, uint32_t node)
{
	return run->steps[node].map;
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
