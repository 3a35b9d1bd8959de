#include "sched/run_map.h"

#include <stdlib.h>

#include "base/container.h"
#include "base/seed.h"
#include "sched/batch_state.h"
#include "sched/graph.h"
#include "sched/run_lookup.h"
#include "sched/run_state.h"
#include "sched/run_step.h"
#include "wire/blob.h"
#include "wire/wire.h"
#include "worker/engine.h"

static struct fz_run_map *
map_of(struct fz_batch_owner *owner)
{
	return FZ_CONTAINER_OF(owner, struct fz_run_map, owner);
}

static struct fz_flow *
flow_of(const struct fz_run_map *map)
{
	return map->step->run->flow;
}

struct fz_ready_list *
fz_map_ready_list(const struct fz_run_map *map)
{
	return &flow_of(map)->ready[fz_step_node(map->step)->pool];
}

/* The entry, in each worker, for the values that all calls share. */
static uint32_t
entry_of(const struct fz_run_map *map)
{
	if (flow_of(map)->opts.jobs == 0)
		return 0;
	return (uint32_t)(fz_batch_id(map->batch) % FZ_WORKER_FUNCS);
}

/*
 * Send the values that all calls of this map share to a worker that lacks them.
 */
static int
prepare(struct fz_batch_owner *owner, struct fz_worker *w, uint32_t func,
    struct fz_err *err)
{
	const struct fz_run_map *map = map_of(owner);
	uint64_t *version = &w->funcs[entry_of(map)];

	(void)func; /* workers have inherited the functions of a run */
	if (map->nshared == 0 || *version == fz_batch_id(map->batch))
		return 0;
	if (fz_worker_keep(w, entry_of(map), map->shared, map->nshared, err) !=
	    0)
		return -1;
	*version = fz_batch_id(map->batch);
	return 0;
}

/*
 * Called at the end of a map: tell the worker to drop the values that the calls
 * of this map shared. Without memory for this frame, the worker keeps them.
 */
static void
forget_shared(void *ctx, struct fz_worker *w)
{
	const struct fz_run_map *map = ctx;
	uint64_t *version = &w->funcs[entry_of(map)];

	if (*version != fz_batch_id(map->batch) || w->dying || w->leaving)
		return;
	*version = 0;
	fz_worker_keep(w, entry_of(map), NULL, 0, NULL);
}

static void
done(struct fz_batch_owner *owner, struct fz_batch *batch)
{
	struct fz_run_map *map = map_of(owner);

	(void)batch; /* callers still use the batch: end the step later */
	fz_loop_defer(flow_of(map)->opts.engine->loop, &map->ended);
}

static void
asked(struct fz_batch_owner *owner)
{
	fz_changed(&flow_of(map_of(owner))->change);
}

/* A result has arrived: notify the caller, which records it. */
static void
answered(struct fz_batch_owner *owner)
{
	if (flow_of(map_of(owner))->lookups != NULL)
		fz_changed(&flow_of(map_of(owner))->change);
}

static void
failed(struct fz_batch_owner *owner, uint64_t item,
    const struct fz_failure *failure)
{
	struct fz_run_map *map = map_of(owner);
	struct fz_failure copy = *failure;

	if (map->failed != 0 || failure->err.kind == FZ_ERR_CANCELLED)
		return;
	map->failed = item;
	if (copy.value != NULL)
		fz_blob_ref(copy.value);
	fz_step_note_failure(map->step, &copy);
}

/* Drop the values; fz_map_failure() still needs the failures. */
static void
drop_values(struct fz_batch *b)
{
	size_t n = b->result_at;

	for (size_t i = b->result_at; i < b->nresults; i++) {
		if (b->results[i].failure != NULL)
			b->results[n++] = b->results[i];
		else
			fz_batch_drop_result(&b->results[i]);
	}
	b->nresults = n;
}

static int
compare(const void *a, const void *b)
{
	const struct fz_batch_result *x = a, *y = b;

	return x->first < y->first ? -1 : x->first > y->first;
}

/* Make the list of all results. NULL and `err` on failure. */
static struct fz_blob *
join(const struct fz_run_map *map, struct fz_err *err)
{
	const struct fz_run_opts *opts = &flow_of(map)->opts;
	const struct fz_batch *b = map->batch;

	return opts->map_ops->join(opts->map_ctx, b->results + b->result_at,
	    b->nresults - b->result_at, b->total, err);
}

/*
 * End the step of a map that has failed, because of an element, or as a whole.
 */
static void
end_failed(struct fz_run_map *map)
{
	struct fz_step *step = map->step;
	const struct fz_failure *whole = fz_batch_whole(map->batch);

	if (step->failure == NULL && whole != NULL &&
	    whole->err.kind != FZ_ERR_CANCELLED) {
		struct fz_failure copy = *whole;

		fz_step_note_failure(step, &copy);
	}
	if (flow_of(map)->opts.policy == FZ_POLICY_CONTINUE)
		map->partial = join(map, NULL);
	drop_values(map->batch);
	if (step->failure != NULL)
		fz_step_end_failed(step);
	else
		fz_step_cancel(step, step->run->because);
}

static void
end_done(struct fz_run_map *map)
{
	struct fz_failure failure = { .exitcode = -1 };
	struct fz_blob *list = join(map, &failure.err);

	drop_values(map->batch);
	if (list != NULL)
		fz_step_done(map->step, &list, 1, 0);
	else
		fz_step_lost(map->step, &failure);
}

/* End the step of a map after its batch has ended. */
static void
end(struct fz_run_map *map)
{
	const struct fz_batch *b = map->batch;
	struct fz_ready_list *list = fz_map_ready_list(map);
	size_t n = b->nresults - b->result_at;

	if (n > 1)
		qsort(
		    b->results + b->result_at, n, sizeof(*b->results), compare);
	fz_list_remove(&map->link);
	map->step->run->sent--;
	if (map->nshared != 0)
		fz_pool_workers(b->producer.lane->pool, forget_shared, map);
	if (b->ndone == b->total) {
		list->more.done += b->total != 0 ? b->total - 1 : 0;
		end_done(map);
	} else {
		list->more.done += b->ndone;
		list->more.failed += b->nfailed != 0 ? b->nfailed - 1 : 0;
		end_failed(map);
	}
}

/* End the step, unless some results must be recorded first. */
static void
try_end(struct fz_defer *defer)
{
	struct fz_run_map *map =
	    FZ_CONTAINER_OF(defer, struct fz_run_map, ended);

	if (!fz_lookup_has_elements(map))
		end(map);
}

/* Collect the values that all calls share: the inputs from number `from` on. */
static int
share_inputs(struct fz_run_map *map, uint32_t from, struct fz_err *err)
{
	const struct fz_run *run = map->step->run;
	const struct fz_graph_node *node = fz_step_node(map->step);
	const uint32_t *inputs =
	    fz_graph_inputs(run->flow->opts.graph, fz_step_number(map->step));

	map->nshared = node->ninputs - from;
	if (map->nshared == 0)
		return 0;
	map->shared = calloc(map->nshared, sizeof(struct fz_blob *));
	if (map->shared == NULL)
		return fz_err_nomem(err, "a map");
	for (uint32_t i = 0; i < map->nshared; i++)
		map->shared[i] = run->values[inputs[from + i]];
	return 0;
}

/* Read the list of a map, and create its batch. */
static int
open(struct fz_run_map *map, struct fz_failure *failure)
{
	struct fz_step *step = map->step;
	struct fz_flow *flow = step->run->flow;
	const struct fz_run_opts *run_opts = &flow->opts;
	const struct fz_graph_node *node = fz_step_node(step);
	struct fz_batch_opts *opts = &map->opts;
	bool sliced;

	*opts = (struct fz_batch_opts){ .owner = &map->owner,
		.pool = node->pool,
		.kind = FZ_WIRE_MAP,
		.func = node->func,
		.seed = fz_seed_mix(step->job.seed, 0),
		.policy = run_opts->policy,
		.limits = *fz_run_limits_of(step->run, fz_step_number(step)),
		.log = &flow->events,
		.map = fz_step_number(step) + 1,
		.item = step->run->item,
		.encode = run_opts->map_ops->encode };
	map->list.blob = step->run->values[fz_graph_inputs(
	    run_opts->graph, fz_step_number(step))[0]];
	/*
	 * With a memory limit, elements are sent one by one. Otherwise workers
	 * would keep the list, and its memory would count for each call.
	 */
	sliced = run_opts->jobs == 0 || opts->limits.memory != 0;
	if (run_opts->map_ops->open(
		run_opts->map_ctx, &map->list, sliced, failure) != 0 ||
	    share_inputs(
		map, map->list.reader != NULL ? 1 : 0, &failure->err) != 0)
		return -1;
	opts->n = map->list.n;
	opts->raw_size = map->list.raw_size;
	opts->ctx = map->list.reader;
	if (map->list.reader == NULL)
		opts->kind |= FZ_WIRE_INHERITED;
	if (map->nshared != 0)
		opts->kind |= FZ_WIRE_KEPT;
	map->batch = fz_batch_new(opts, &failure->err);
	if (map->batch == NULL)
		return -1;
	if (map->nshared != 0)
		opts->kind |= entry_of(map) << FZ_WIRE_ENTRY;
	map->batch->opts.kind = opts->kind;
	return 0;
}

/* Count the elements of the list, and record an event with their number. */
static void
count_list(struct fz_run_map *map)
{
	struct fz_job_event event = { .kind = FZ_JOB_EVENT_LIST,
		.n = (uint32_t)map->list.n,
		.item = map->step->run->item,
		.map = fz_step_number(map->step) + 1 };

	fz_map_ready_list(map)->more.total +=
	    map->list.n != 0 ? map->list.n - 1 : 0;
	fz_event_log_add(&flow_of(map)->events, &event, NULL);
}

void
fz_map_start(struct fz_step *step)
{
	struct fz_run_map *map = calloc(1, sizeof(*map));
	struct fz_flow *flow = step->run->flow;
	struct fz_failure failure = { .exitcode = -1 };

	step->map = map;
	if (map == NULL) {
		fz_err_nomem(&failure.err, "a map");
		fz_step_lost(step, &failure);
		return;
	}
	map->step = step;
	map->ended.call = try_end;
	map->owner = (struct fz_batch_owner){ &flow->dispatcher, NULL, done,
		prepare, asked, answered, failed };
	step->state = FZ_STEP_MAPPED;
	if (open(map, &failure) != 0) {
		fz_step_lost(step, &failure);
		return;
	}
	step->run->sent++;
	fz_list_push(&flow->maps, &map->link);
	count_list(map);
	fz_lookup_start_map(step, map->batch);
	fz_batch_start(map->batch);
}

void
fz_map_stop(struct fz_run_map *map, const struct fz_err *kill)
{
	if (fz_batch_done(map->batch))
		return;
	fz_batch_stop(map->batch);
	if (kill != NULL)
		fz_producer_stop(&map->batch->producer, kill);
	fz_batch_settle(map->batch);
}

void
fz_map_cancel(struct fz_run_map *map, enum fz_err_kind kind, const char *text)
{
	fz_batch_cancel(map->batch, kind, text);
	fz_loop_undefer(&map->ended);
	end(map);
}

uint64_t
fz_map_failure(
    const struct fz_run_map *map, size_t k, const struct fz_failure **failure)
{
	const struct fz_batch *b = map->batch;

	if (b == NULL || k >= b->nresults - b->result_at)
		return 0;
	*failure = b->results[b->result_at + k].failure;
	return b->results[b->result_at + k].first;
}

void
fz_map_free(struct fz_run_map *map)
{
	const struct fz_run_opts *opts;

	if (map == NULL)
		return;
	opts = &flow_of(map)->opts;
	fz_loop_undefer(&map->ended);
	fz_list_remove(&map->link);
	fz_batch_free(map->batch);
	if (map->list.reader != NULL)
		opts->map_ops->close(opts->map_ctx, map->list.reader);
	fz_blob_unref(map->partial);
	free(map->shared);
	free(map);
}
