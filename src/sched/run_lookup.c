#include "sched/run_lookup.h"

#include <stdlib.h>

#include "base/err.h"
#include "base/vec.h"
#include "os/loop.h"
#include "sched/batch_state.h"
#include "sched/graph.h"
#include "sched/run_map.h"
#include "sched/run_state.h"
#include "sched/run_step.h"
#include "wire/blob.h"
#include "worker/engine.h"

/*
 * The lists `asked` and `made` of a flow are linked by `next_failed`, which
 * steps that have not failed do not use otherwise.
 */

/* The elements of a map whose results are known, in their order. */
struct fz_known {
	struct known_element {
		uint64_t element;
		struct fz_blob *value;
	} * list;
	size_t n, cap;
};

int
fz_lookup_want(struct fz_flow *flow, uint32_t node, struct fz_err *err)
{
	if (flow->lookups == NULL) {
		flow->lookups = calloc(flow->nnodes, sizeof(*flow->lookups));
		if (flow->lookups == NULL)
			return fz_err_nomem(err, "a run");
	}
	flow->lookups[node] = true;
	return 0;
}

struct fz_run *
fz_lookup_run(const struct fz_flow *flow, uint64_t item)
{
	struct fz_list *link = flow->runs.next;

	for (; link != &flow->runs && !flow->foreign; link = link->next) {
		struct fz_run *run = FZ_RUN_OF(link, link);

		if (run->item == item)
			return run;
	}
	return NULL;
}

static bool
is_looked_up(const struct fz_step *step)
{
	const struct fz_flow *flow = step->run->flow;

	return flow->lookups != NULL && flow->lookups[fz_step_number(step)];
}

bool
fz_lookup_wanted(const struct fz_step *step)
{
	return !step->looked_up && is_looked_up(step);
}

static void
append(struct fz_step *step, struct fz_step ***last)
{
	step->next_failed = NULL;
	**last = step;
	*last = &step->next_failed;
	fz_changed(&step->run->flow->change);
}

void
fz_lookup_ask(struct fz_step *step)
{
	step->looked_up = true;
	step->state = FZ_STEP_LOOKUP;
	append(step, &step->run->flow->last_asked);
}

/* Remove a step from a list: `at` is where the list begins, `last` its end. */
static void
take_out(struct fz_step *step, struct fz_step **at, struct fz_step ***last)
{
	while (*at != step)
		at = &(*at)->next_failed;
	*at = step->next_failed;
	if (*at == NULL)
		*last = at;
	step->next_failed = NULL;
}

void
fz_lookup_forget(struct fz_step *step)
{
	struct fz_flow *flow = step->run->flow;

	take_out(step, &flow->asked, &flow->last_asked);
}

/* Get a step's item and node. False: no step, or the flow of the parent. */
static bool
place_of(const struct fz_flow *flow, const struct fz_step *step,
    struct fz_lookup_at *at)
{
	if (flow->foreign || step == NULL)
		return false;
	*at = (struct fz_lookup_at){ step->run->item, fz_step_number(step) };
	return true;
}

uint32_t
fz_lookup_asked(
    const struct fz_flow *flow, struct fz_lookup_at *list, uint32_t n)
{
	const struct fz_step *step = flow->asked;
	uint32_t count = 0;

	for (; count < n && place_of(flow, step, &list[count]); count++)
		step = step->next_failed;
	return count;
}

/* The step at this place if it waits for an answer; else NULL. */
static struct fz_step *
asked_step(const struct fz_flow *flow, struct fz_lookup_at at)
{
	struct fz_run *run = fz_lookup_run(flow, at.item);

	if (run == NULL || run->steps[at.node].state != FZ_STEP_LOOKUP)
		return NULL;
	return &run->steps[at.node];
}

void
fz_lookup_found(struct fz_flow *flow, struct fz_lookup_at at,
    struct fz_blob *const *values, uint32_t n)
{
	struct fz_step *step = NULL;

	if (n == fz_graph_get(flow->opts.graph, at.node)->nvalues)
		step = asked_step(flow, at);
	if (step == NULL) {
		fz_blob_unref_all(values, n);
		return;
	}
	fz_lookup_forget(step);
	step->job.nreceived = fz_blob_sum(values, n);
	fz_step_add_event(step, FZ_JOB_EVENT_CACHED, 0);
	fz_step_found(step, values);
}

void
fz_lookup_not_found(struct fz_flow *flow, struct fz_lookup_at at)
{
	struct fz_step *step = asked_step(flow, at);

	if (step == NULL)
		return;
	fz_lookup_forget(step);
	fz_step_ready(step);
}

int
fz_lookup_know(struct fz_flow *flow, struct fz_lookup_at at, uint64_t element,
    struct fz_blob *value, struct fz_err *err)
{
	struct fz_step *step = asked_step(flow, at);
	struct fz_known *known = step != NULL ? step->known : NULL;
	struct known_element *list;

	if (step == NULL || !fz_step_node(step)->is_map || element == 0 ||
	    (known != NULL && known->n != 0 &&
		known->list[known->n - 1].element >= element)) {
		fz_blob_unref(value);
		return 0;
	}
	if (known == NULL)
		known = step->known = calloc(1, sizeof(*known));
	list = known != NULL ? fz_vec_room(known->list, &known->cap,
				   known->n + 1, sizeof(*list))
			     : NULL;
	if (list == NULL) {
		fz_blob_unref(value);
		return fz_err_nomem(err, "a recorded element");
	}
	known->list = list;
	list[known->n++] = (struct known_element){ element, value };
	return 0;
}

/* Drop the known elements of a map from index `i` on. */
static void
drop_known(struct fz_step *step, size_t i)
{
	struct fz_known *known = step->known;

	step->known = NULL;
	if (known == NULL)
		return;
	for (; i < known->n; i++)
		fz_blob_unref(known->list[i].value);
	free(known->list);
	free(known);
}

void
fz_lookup_start_map(struct fz_step *step, struct fz_batch *batch)
{
	const struct fz_known *known = step->known;
	size_t i = 0;

	for (; known != NULL && i < known->n; i++) {
		const struct known_element *e = &known->list[i];

		if (e->element > batch->total ||
		    fz_batch_know(batch, e->element, e->value, NULL) != 0)
			break; /* call the functions of the other elements */
	}
	/* fz_batch_know() has taken over this value, although it has failed */
	if (known != NULL && i < known->n &&
	    known->list[i].element <= batch->total)
		i++;
	drop_known(step, i);
}

void
fz_lookup_keep(struct fz_step *step, struct fz_blob *const *values, uint32_t n)
{
	if (!is_looked_up(step))
		return;
	step->made = malloc(((size_t)n + 1) * sizeof(struct fz_blob *));
	if (step->made == NULL)
		return; /* the results of this step will not be recorded */
	for (uint32_t i = 0; i < n; i++)
		step->made[i] = fz_blob_ref(values[i]);
	step->run->unrecorded++;
	append(step, &step->run->flow->last_made);
}

bool
fz_lookup_made(const struct fz_flow *flow, struct fz_lookup_at *at)
{
	return place_of(flow, flow->made, at);
}

struct fz_blob *
fz_lookup_made_value(const struct fz_flow *flow, uint32_t k)
{
	return flow->made->made[k];
}

static void
drop_made(struct fz_step *step)
{
	struct fz_run *run = step->run;

	take_out(step, &run->flow->made, &run->flow->last_made);
	fz_blob_unref_all(step->made, fz_step_node(step)->nvalues);
	free(step->made);
	step->made = NULL;
	run->unrecorded--;
}

void
fz_lookup_recorded(struct fz_flow *flow)
{
	struct fz_step *step = flow->made;

	if (flow->foreign || step == NULL)
		return;
	drop_made(step);
	if (step->run->unrecorded == 0 && !step->run->done)
		fz_loop_defer(flow->opts.engine->loop, &step->run->settle);
}

void
fz_lookup_clear(struct fz_run *run)
{
	struct fz_step *step = run->flow->made, *next;

	for (; step != NULL && run->unrecorded != 0; step = next) {
		next = step->next_failed;
		if (step->run == run)
			drop_made(step);
	}
	for (uint32_t i = 0; i < run->flow->nnodes && run->flow->has_maps; i++)
		drop_known(&run->steps[i], 0);
}

/*
 * The next result that must be recorded. Skips known results and failures. NULL
 * if there is none now.
 */
static const struct fz_batch_result *
next_result(struct fz_run_map *map)
{
	const struct fz_batch *b = map->batch;

	for (; map->at < b->nresults; map->at++, map->ntaken = 0) {
		const struct fz_batch_result *result = &b->results[map->at];

		if (result->failure == NULL && !result->known &&
		    map->ntaken < result->n)
			return result;
		/* wait: more items may be added to the last result */
		if (map->at + 1 == b->nresults && !result->known &&
		    result->failure == NULL)
			return NULL;
	}
	return NULL;
}

bool
fz_lookup_has_elements(const struct fz_run_map *map)
{
	struct fz_run_map copy = *map;

	return is_looked_up(map->step) && map->batch != NULL &&
	       next_result(&copy) != NULL;
}

/* Make a list of the values of a result that were not taken yet. */
static void
take(struct fz_run_map *map, const struct fz_batch_result *result,
    struct fz_lookup_elements *elements)
{
	const struct fz_flow *flow = map->step->run->flow;
	struct fz_batch_result part = *result;

	part.first = 1;
	part.skip += map->ntaken;
	part.n -= map->ntaken;
	*elements = (struct fz_lookup_elements){
		.at = { map->step->run->item, fz_step_number(map->step) },
		.first = result->first + map->ntaken,
		.n = part.n,
		.list = flow->opts.map_ops->join(
		    flow->opts.map_ctx, &part, 1, part.n, NULL),
	};
	map->ntaken = result->n;
}

bool
fz_lookup_take_elements(
    struct fz_flow *flow, struct fz_lookup_elements *elements)
{
	struct fz_list *link = flow->maps.next;

	for (; link != &flow->maps && !flow->foreign; link = link->next) {
		struct fz_run_map *map = FZ_MAP_OF(link);
		const struct fz_batch_result *result;

		if (!is_looked_up(map->step))
			continue;
		while ((result = next_result(map)) != NULL) {
			take(map, result, elements);
			if (next_result(map) == NULL && map->batch->done)
				fz_loop_defer(
				    flow->opts.engine->loop, &map->ended);
			if (elements->list != NULL)
				return true;
		}
	}
	return false;
}
