#include "sched/run_state.h"

#include <stdlib.h>

#include "base/err.h"
#include "sched/batch.h"
#include "sched/graph.h"
#include "sched/run_map.h"
#include "sched/run_step.h"
#include "wire/blob.h"
#include "worker/engine.h"

/* Fail the flow as a whole: stop all its runs. */
static void
fail_whole(struct fz_flow *flow, enum fz_err_kind kind, const char *text)
{
	struct fz_list *link = flow->runs.next;

	flow->whole_failed = true;
	fz_err_set(&flow->whole.err, kind, "%s", text);
	for (; link != &flow->runs; link = link->next)
		fz_step_stop(FZ_RUN_OF(link, link), FZ_GRAPH_NONE);
	fz_step_stop_producers(flow, &flow->whole.err);
}

static void
deadline_over(struct fz_timer *timer)
{
	struct fz_flow *flow = FZ_CONTAINER_OF(timer, struct fz_flow, deadline);

	fail_whole(
	    flow, FZ_ERR_TIMEOUT, "the deadline of the whole call ran out");
	fz_changed(&flow->change);
}

/*
 * Called in a forked child: mark the parent's runs as done, and drop references
 * without releasing them.
 */
static void
in_child(struct fz_fork_hook *hook)
{
	struct fz_flow *flow = FZ_CONTAINER_OF(hook, struct fz_flow, hook);

	flow->foreign = true;
	fz_dispatcher_in_child(&flow->dispatcher);
}

static void
init_ready_lists(struct fz_flow *flow)
{
	for (uint32_t i = 0; i < flow->opts.npools; i++) {
		struct fz_ready_list *list = &flow->ready[i];

		list->tail = &list->head;
		fz_producer_init(&list->producer, &fz_run_producer_ops,
		    &flow->dispatcher, i);
	}
}

int
fz_flow_init(struct fz_flow *flow, const struct fz_run_opts *opts,
    void (*over)(struct fz_run *run), struct fz_err *err)
{
	*flow = (struct fz_flow){ .opts = *opts, .over = over };
	flow->last_undecided = &flow->undecided;
	flow->last_asked = &flow->asked;
	flow->last_made = &flow->made;
	flow->nnodes = fz_graph_nnodes(opts->graph);
	flow->nvalues = fz_graph_nvalues(opts->graph);
	fz_list_init(&flow->runs);
	fz_list_init(&flow->maps);
	flow->has_maps = opts->map_ops != NULL;
	fz_change_init(&flow->change, opts->engine);
	flow->deadline.fired = deadline_over;
	flow->hook.in_child = in_child;
	flow->whole.exitcode = flow->lost.exitcode = -1;
	flow->events.change = opts->events ? &flow->change : NULL;
	if (opts->trace != NULL)
		fz_event_log_trace(
		    &flow->events, opts->trace, opts->trace_names, false);
	fz_err_set(&flow->lost.err, FZ_ERR_MEMORY,
	    "not enough memory to keep the error");
	fz_loop_hook(opts->engine->loop, &flow->hook);
	flow->uses = calloc((size_t)flow->nvalues + 1, sizeof(*flow->uses));
	flow->ready = calloc((size_t)opts->npools + 1, sizeof(*flow->ready));
	if (fz_dispatcher_init(&flow->dispatcher, opts->engine, opts->pools,
		opts->npools, opts->jobs, err) != 0)
		return -1;
	if (fz_graph_has_optional(opts->graph))
		flow->absent = fz_blob_new(opts->absent, opts->absent_len, err);
	if (flow->uses == NULL || flow->ready == NULL ||
	    (fz_graph_has_optional(opts->graph) && flow->absent == NULL))
		return fz_err_nomem(err, "a run");
	for (uint32_t v = 0; v < flow->nvalues; v++)
		fz_graph_readers(opts->graph, v, &flow->uses[v]);
	init_ready_lists(flow);
	return 0;
}

void
fz_flow_fini(struct fz_flow *flow)
{
	fz_dispatcher_fini(&flow->dispatcher);
	fz_change_fini(&flow->change);
	fz_loop_unhook(&flow->hook);
	free(flow->uses);
	free(flow->ready);
	free(flow->limits);
	free(flow->lookups);
	fz_blob_unref(flow->absent);
	fz_event_log_fini(&flow->events);
}

int
fz_flow_open(struct fz_flow *flow, struct fz_err *err)
{
	if (flow->opts.jobs != 0 &&
	    fz_dispatcher_join(&flow->dispatcher, err) != 0)
		return -1;
	if (fz_loop_arm(flow->opts.engine->loop, &flow->deadline,
		flow->opts.deadline_ns) != 0)
		return fz_err_nomem(err, "a deadline");
	return 0;
}

void
fz_flow_close(struct fz_flow *flow)
{
	fz_loop_disarm(flow->opts.engine->loop, &flow->deadline);
	fz_dispatcher_leave(&flow->dispatcher);
	if (flow->opts.jobs != 0)
		fz_dispatcher_flush(&flow->dispatcher);
}

/* Add the elements of those running maps that use this ready list. */
static void
count_maps(const struct fz_flow *flow, const struct fz_ready_list *list,
    struct fz_run_counts *counts)
{
	struct fz_list *link = flow->maps.next;

	for (; link != &flow->maps && !flow->foreign; link = link->next) {
		const struct fz_run_map *map = FZ_MAP_OF(link);
		struct fz_batch_counts c;

		if (fz_map_ready_list(map) != list)
			continue;
		c = fz_batch_counts(map->batch);
		counts->more.done += c.done;
		counts->more.failed += c.failed;
		counts->waiting += c.waiting;
		counts->running += (unsigned)c.running;
	}
}

struct fz_run_counts
fz_flow_counts(const struct fz_flow *flow, uint32_t pool)
{
	const struct fz_ready_list *list = &flow->ready[pool];
	struct fz_run_counts counts = { 0 };

	counts.done = list->ndone;
	counts.failed = list->nfailed;
	counts.waiting = list->n + list->nsent;
	if (flow->opts.jobs != 0 && !flow->foreign)
		counts.running = fz_producer_nrunning(&list->producer);
	counts.waiting -= counts.running;
	counts.more = list->more;
	count_maps(flow, list, &counts);
	return counts;
}

int
fz_flow_limit(struct fz_flow *flow, uint32_t node,
    const struct fz_limits *limits, struct fz_err *err)
{
	if (flow->limits == NULL) {
		flow->limits = calloc(flow->nnodes, sizeof(*flow->limits));
		if (flow->limits == NULL)
			return fz_err_nomem(err, "a run");
		for (uint32_t i = 0; i < flow->nnodes; i++)
			flow->limits[i] = flow->opts.limits;
	}
	flow->limits[node] = *limits;
	return 0;
}

void
fz_flow_keep(struct fz_flow *flow, uint32_t value)
{
	flow->uses[value]++;
}

void
fz_flow_cancel(struct fz_flow *flow, enum fz_err_kind kind, const char *text)
{
	const struct fz_err *err = &flow->whole.err;
	struct fz_list *link, *next;

	fail_whole(flow, kind, text);
	for (uint32_t i = 0; i < flow->opts.npools; i++)
		fz_producer_recall(&flow->ready[i].producer, err);
	while ((link = fz_list_first(&flow->maps)) != NULL)
		fz_map_cancel(FZ_MAP_OF(link), kind, text);
	for (uint32_t i = 0; i < flow->opts.npools; i++)
		fz_producer_end(&flow->ready[i].producer, err);
	for (link = flow->runs.next; link != &flow->runs; link = next) {
		next = link->next;
		fz_run_end(FZ_RUN_OF(link, link));
	}
}
