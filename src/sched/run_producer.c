#include "sched/run_state.h"

#include <stdlib.h>

#include "base/container.h"
#include "base/err.h"
#include "sched/graph.h"
#include "sched/retry.h"
#include "sched/run_step.h"
#include "wire/blob.h"

/* Maximum sizes of a frame with several steps. */
enum {
	TOGETHER_STEPS = 64,
	TOGETHER_ARGS = 128,
	TOGETHER_BYTES = 4096, /* bytes; only the last step may exceed them */
};

static struct fz_ready_list *
list_of(const struct fz_producer *producer)
{
	return FZ_CONTAINER_OF(producer, struct fz_ready_list, producer);
}

static struct fz_step *
step_of(struct fz_job *job)
{
	return FZ_CONTAINER_OF(job, struct fz_step, job);
}

static struct fz_step *
pop_ready(struct fz_ready_list *list)
{
	struct fz_job *job = list->head;

	list->n--;
	list->head = job->next;
	if (list->head == NULL)
		list->tail = &list->head;
	return step_of(job);
}

static void
count_sent(struct fz_ready_list *list, struct fz_step *step)
{
	step->run->sent++;
	list->nsent++;
}

static int
send_step(struct fz_step *step, struct fz_worker *w, struct fz_err *err)
{
	enum { FEW = 16 };
	struct fz_run *run = step->run;
	uint32_t number = fz_step_number(step);
	const struct fz_graph_node *node = fz_step_node(step);
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
	step->job.repeats =
	    fz_retry_may(limits, step->attempts + 1, FZ_ERR_CRASH);
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

/* Steps that are sent in one frame, and the arguments of all of them. */
struct together {
	struct fz_job *jobs[TOGETHER_STEPS];
	struct fz_blob *args[TOGETHER_ARGS];
	uint32_t n, nargs;
	size_t nbytes; /* size of all arguments in bytes */
};

/* Whether a step can be sent together with others of its node. */
static bool
is_joinable(const struct fz_step *step)
{
	const struct fz_graph_node *node = fz_step_node(step);

	return node->nvalues == 1 && node->ninputs <= TOGETHER_ARGS &&
	       fz_run_limits_of(step->run, fz_step_number(step))->memory == 0;
}

/* Move the first step of the ready list into the frame. */
static void
join(struct together *t, struct fz_ready_list *list)
{
	struct fz_step *step = pop_ready(list);
	struct fz_run *run = step->run;
	uint32_t number = fz_step_number(step);
	const uint32_t *inputs = fz_graph_inputs(run->flow->opts.graph, number);
	uint32_t ninputs = fz_step_node(step)->ninputs;
	const struct fz_limits *limits = fz_run_limits_of(run, number);

	for (uint32_t i = 0; i < ninputs; i++) {
		struct fz_blob *arg = run->values[inputs[i]];

		t->args[t->nargs++] = arg;
		t->nbytes += arg->len;
	}
	step->job.timeout_ns = limits->timeout_ns;
	step->job.repeats =
	    fz_retry_may(limits, step->attempts + 1, FZ_ERR_CRASH);
	step->job.memory = 0;
	step->state = FZ_STEP_SENT;
	t->jobs[t->n++] = &step->job;
}

/* Collect the next steps of one node, as long as they fit into a frame. */
static void
collect(struct together *t, struct fz_ready_list *list, uint32_t max)
{
	const struct fz_step *first = step_of(list->head);
	uint32_t ninputs = fz_step_node(first)->ninputs;

	t->n = t->nargs = 0;
	t->nbytes = 0;
	do
		join(t, list);
	while (t->n < max && t->n < TOGETHER_STEPS && list->head != NULL &&
	       !list->head->alone &&
	       fz_step_number(step_of(list->head)) == fz_step_number(first) &&
	       t->nargs + ninputs <= TOGETHER_ARGS &&
	       t->nbytes < TOGETHER_BYTES);
}

static void
fail_unsent(struct fz_step *step, const struct fz_err *err)
{
	struct fz_failure failure = { .exitcode = -1, .err = *err };

	fz_step_failed(step, &failure);
}

static bool
send_together(struct fz_ready_list *list, struct fz_worker *w, uint32_t max)
{
	struct together t;
	struct fz_err err;
	int rc;

	fz_err_init(&err);
	collect(&t, list, max);
	rc = fz_worker_send_steps(w, t.jobs, t.n, t.args, t.nargs / t.n, &err);
	for (uint32_t i = 0; i < t.n; i++) {
		if (rc != 0)
			fail_unsent(step_of(t.jobs[i]), &err);
		else
			count_sent(list, step_of(t.jobs[i]));
	}
	return rc == 0;
}

static bool
send_alone(struct fz_ready_list *list, struct fz_worker *w)
{
	struct fz_step *step = pop_ready(list);
	struct fz_err err;

	fz_err_init(&err);
	if (send_step(step, w, &err) != 0) {
		fail_unsent(step, &err);
		return false;
	}
	count_sent(list, step);
	return true;
}

static bool
send(struct fz_producer *producer, struct fz_worker *w, uint32_t max)
{
	struct fz_ready_list *list = list_of(producer);
	uint32_t n = fz_dispatch_together(w);

	if (n > max)
		n = max;
	if (n > 1 && list->n > 1 && !list->head->alone &&
	    is_joinable(step_of(list->head)))
		return send_together(list, w, n);
	return send_alone(list, w);
}

static void
fail_next(struct fz_producer *producer, const struct fz_failure *failure)
{
	struct fz_failure copy = *failure;

	fz_step_failed(pop_ready(list_of(producer)), &copy);
}

static bool
next_is_alone(const struct fz_producer *producer)
{
	return list_of(producer)->head->alone;
}

const struct fz_producer_ops fz_run_producer_ops = { nready, send, fail_next,
	next_is_alone };
