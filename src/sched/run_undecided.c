#include "sched/run_state.h"

#include "sched/batch.h"
#include "sched/graph.h"
#include "sched/run_map.h"
#include "sched/run_step.h"

/*
 * Here are the functions by which the caller decides whether a failed step is
 * retried. The change of the flow notifies the caller of such a step.
 */

void
fz_flow_ask(struct fz_step *step)
{
	struct fz_flow *flow = step->run->flow;

	step->state = FZ_STEP_UNDECIDED;
	step->next_failed = NULL;
	*flow->last_undecided = step;
	flow->last_undecided = &step->next_failed;
	fz_changed(&flow->change);
}

void
fz_flow_forget(struct fz_step *step)
{
	struct fz_flow *flow = step->run->flow;
	struct fz_step **at = &flow->undecided;

	while (*at != step)
		at = &(*at)->next_failed;
	*at = step->next_failed;
	if (*at == NULL)
		flow->last_undecided = at;
	step->next_failed = NULL;
}

bool
fz_flow_undecided_element(
    const struct fz_flow *flow, struct fz_run_element *element)
{
	struct fz_list *link = flow->maps.next;

	for (; link != &flow->maps && !flow->foreign; link = link->next) {
		const struct fz_run_map *map = FZ_MAP_OF(link);

		element->item = map->step->run->item;
		element->node = fz_step_number(map->step);
		element->element =
		    fz_batch_undecided(map->batch, &element->failure);
		if (element->element != 0)
			return true;
	}
	return false;
}

static void
decide_element(struct fz_flow *flow, uint64_t item, uint32_t node,
    uint64_t element, bool again)
{
	struct fz_list *link = flow->maps.next;

	for (; link != &flow->maps; link = link->next) {
		const struct fz_run_map *map = FZ_MAP_OF(link);

		if (map->step->run->item != item ||
		    fz_step_number(map->step) != node)
			continue;
		fz_batch_decide(map->batch, element, again);
		return;
	}
}

void
fz_flow_decide(struct fz_flow *flow, uint64_t item, uint32_t node,
    uint64_t element, bool again)
{
	struct fz_step *step = flow->foreign ? NULL : flow->undecided;

	if (element != 0 && !flow->foreign) {
		decide_element(flow, item, node, element, again);
		return;
	}
	while (step != NULL &&
	       (step->run->item != item || fz_step_number(step) != node))
		step = step->next_failed;
	if (step == NULL)
		return;
	fz_flow_forget(step);
	if (again)
		fz_step_retry(step);
	else
		fz_step_fail(step);
}

uint32_t
fz_run_undecided(const struct fz_run *run)
{
	const struct fz_flow *flow = run->flow;

	if (flow->foreign || flow->undecided == NULL)
		return FZ_GRAPH_NONE;
	return fz_step_number(flow->undecided);
}

bool
fz_run_undecided_element(
    const struct fz_run *run, struct fz_run_element *element)
{
	return fz_flow_undecided_element(run->flow, element);
}

void
fz_run_decide(struct fz_run *run, uint32_t node, uint64_t element, bool again)
{
	fz_flow_decide(run->flow, run->item, node, element, again);
}
