#include "sched/run_lookup.h"

#include <stdlib.h>

#include "base/err.h"
#include "sched/graph.h"
#include "sched/run_state.h"
#include "sched/run_step.h"
#include "worker/blob.h"

/* Both lists use `next_failed`, because the steps in them have not failed. */

int
fz_run_look_up(struct fz_run *run, uint32_t node, struct fz_err *err)
{
	struct fz_flow *flow = run->flow;

	if (flow->lookups == NULL) {
		flow->lookups = calloc(flow->nnodes, sizeof(*flow->lookups));
		if (flow->lookups == NULL)
			return fz_err_nomem(err, "a run");
	}
	flow->lookups[node] = true;
	return 0;
}

bool
fz_lookup_wanted(const struct fz_step *step)
{
	const struct fz_flow *flow = step->run->flow;

	return flow->lookups != NULL && !step->looked_up &&
	       flow->lookups[fz_step_number(step)];
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

void
fz_lookup_forget(struct fz_step *step)
{
	struct fz_flow *flow = step->run->flow;
	struct fz_step **at = &flow->asked;

	while (*at != step)
		at = &(*at)->next_failed;
	*at = step->next_failed;
	if (*at == NULL)
		flow->last_asked = at;
	step->next_failed = NULL;
}

uint32_t
fz_run_asked(const struct fz_run *run)
{
	const struct fz_flow *flow = run->flow;

	if (flow->foreign || flow->asked == NULL)
		return FZ_GRAPH_NONE;
	return fz_step_number(flow->asked);
}

/* The step of `node` if it waits for an answer, which it does no more. */
static struct fz_step *
take_asked(struct fz_run *run, uint32_t node)
{
	struct fz_step *step = &run->steps[node];

	if (run->flow->foreign || step->state != FZ_STEP_LOOKUP)
		return NULL;
	fz_lookup_forget(step);
	return step;
}

static void
unref_all(struct fz_blob *const *values, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		fz_blob_unref(values[i]);
}

void
fz_run_found(
    struct fz_run *run, uint32_t node, struct fz_blob **values, uint32_t n)
{
	struct fz_step *step = NULL;

	if (n == fz_graph_get(run->flow->opts.graph, node)->nvalues)
		step = take_asked(run, node);
	if (step != NULL)
		fz_step_found(step, values);
	else
		unref_all(values, n);
}

void
fz_run_not_found(struct fz_run *run, uint32_t node)
{
	struct fz_step *step = take_asked(run, node);

	if (step != NULL)
		fz_step_ready(step);
}

void
fz_lookup_keep(struct fz_step *step, struct fz_blob *const *values, uint32_t n)
{
	const struct fz_flow *flow = step->run->flow;

	if (flow->lookups == NULL || !flow->lookups[fz_step_number(step)])
		return;
	step->made = malloc(((size_t)n + 1) * sizeof(struct fz_blob *));
	if (step->made == NULL)
		return; /* they are not recorded */
	for (uint32_t i = 0; i < n; i++)
		step->made[i] = fz_blob_ref(values[i]);
	append(step, &step->run->flow->last_made);
}

uint32_t
fz_run_made(const struct fz_run *run)
{
	const struct fz_flow *flow = run->flow;

	if (flow->foreign || flow->made == NULL)
		return FZ_GRAPH_NONE;
	return fz_step_number(flow->made);
}

struct fz_blob *
fz_run_made_value(const struct fz_run *run, uint32_t k)
{
	return run->flow->made->made[k];
}

static void
drop_first(struct fz_flow *flow)
{
	struct fz_step *step = flow->made;

	flow->made = step->next_failed;
	if (flow->made == NULL)
		flow->last_made = &flow->made;
	step->next_failed = NULL;
	unref_all(step->made, fz_step_node(step)->nvalues);
	free(step->made);
	step->made = NULL;
}

void
fz_run_recorded(struct fz_run *run)
{
	if (fz_run_made(run) != FZ_GRAPH_NONE)
		drop_first(run->flow);
}

void
fz_lookup_clear(struct fz_flow *flow)
{
	while (!flow->foreign && flow->made != NULL)
		drop_first(flow);
}
