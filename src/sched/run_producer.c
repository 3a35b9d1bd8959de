#include "sched/run_state.h"

#include <stdlib.h>

#include "base/err.h"
#include "sched/graph.h"
#include "sched/run_step.h"

static struct fz_ready_list *
list_of(const struct fz_producer *producer)
{
	return FZ_CONTAINER_OF(producer, struct fz_ready_list, producer);
}

static struct fz_step *
pop_ready(struct fz_ready_list *list)
{
	struct fz_job *job = list->head;

	list->n--;
	list->head = job->next;
	if (list->head == NULL)
		list->tail = &list->head;
	return FZ_CONTAINER_OF(job, struct fz_step, job);
}

static int
send_step(struct fz_step *step, struct fz_worker *w, struct fz_err *err)
{
	enum { FEW = 16 };
	struct fz_run *run = step->run;
	uint32_t number = fz_step_number(step);
	const struct fz_node *node = fz_step_node(step);
	const uint32_t *inputs = fz_graph_inputs(run->flow->opts.graph, number);
	const struct fz_limits *limits = fz_run_limits_of(run, number);
	struct fz_blob *some[FEW], **args = some;
	int rc;

	if (node->ninputs > FEW)
		args = malloc(node->ninputs * sizeof(struct fz_blob *));
	if (args == NULL)
		return fz_err_nomem(err, "arguments");
	for (uint32_t i = 0; i < node->ninputs; i++)
		args[i] = run->values[inputs[i]];
	step->job.timeout_ns = limits->timeout_ns;
	step->job.memory = limits->memory;
	step->state = FZ_STEP_SENT;
	rc = fz_worker_send(w, &step->job, args, node->ninputs, err);
	if (args != some)
		free(args);
	return rc;
}

static uint64_t
nready(const struct fz_producer *producer)
{
	return list_of(producer)->n;
}

static bool
send(struct fz_producer *producer, struct fz_worker *w, uint32_t max)
{
	struct fz_failure failure = { .exitcode = -1 };
	struct fz_ready_list *list = list_of(producer);
	struct fz_step *step = pop_ready(list);

	(void)max; /* a step is one item */
	if (send_step(step, w, &failure.err) != 0) {
		fz_step_failed(step, &failure);
		return false;
	}
	step->run->sent++;
	list->nsent++;
	return true;
}

static void
fail_next(struct fz_producer *producer, const struct fz_failure *failure)
{
	struct fz_failure copy = *failure;

	fz_step_failed(pop_ready(list_of(producer)), &copy);
}

const struct fz_producer_ops fz_run_producer_ops = { nready, send, fail_next };
