#include "sched/run_step.h"

#include <stdlib.h>

#include "base/clock.h"
#include "base/container.h"
#include "sched/graph.h"
#include "sched/retry.h"
#include "sched/run_lookup.h"
#include "sched/run_map.h"
#include "sched/run_state.h"
#include "wire/blob.h"
#include "worker/engine.h"

static const struct fz_err another_failed = { FZ_ERR_CANCELLED, 0,
	"ended because another function failed" };

static struct fz_step *
step_of(struct fz_job *job)
{
	return FZ_CONTAINER_OF(job, struct fz_step, job);
}

uint32_t
fz_step_number(const struct fz_step *step)
{
	return (uint32_t)(step - step->run->steps);
}

const struct fz_graph_node *
fz_step_node(const struct fz_step *step)
{
	return fz_graph_get(step->run->flow->opts.graph, fz_step_number(step));
}

/* Describe in an event the end of an attempt, or a cancelled step. */
static void
describe_end(const struct fz_step *step, struct fz_job_event *event)
{
	const struct fz_run *run = step->run;

	/*
	 * Use the time of the reply if it is known: reading the clock would
	 * take longer than the rest of this function.
	 */
	event->ended_ns = step->job.ended_ns != 0 &&
				  step->job.ended_ns >= step->job.started_ns
			      ? step->job.ended_ns
			      : fz_clock_ns();
	run->flow->events.now_ns = event->ended_ns;
	if (step->job.used.started_ns != 0) {
		event->took_ns = step->job.used.took_ns;
		event->ended_ns = step->job.used.started_ns + event->took_ns;
	} else if (step->job.started_ns != 0)
		event->took_ns = event->ended_ns - step->job.started_ns;
	else if (step->map != NULL && step->job.queued_ns != 0)
		event->took_ns = event->ended_ns - step->job.queued_ns;
	fz_event_log_describe(
	    &run->flow->events, event, &step->job, step->failure);
	event->attempt = step->attempts;
	if (step->state == FZ_STEP_CANCELLED)
		event->err = FZ_ERR_CANCELLED;
}

void
fz_step_add_event(struct fz_step *step, enum fz_job_event_kind kind, pid_t pid)
{
	struct fz_event_log *events = &step->run->flow->events;
	struct fz_job_event own, *event;

	/* check first: this is quicker than the rest */
	if (!fz_event_log_wants(events, kind))
		return;
	event = fz_event_log_room(events, &own);
	fz_job_event_init(event, kind, fz_step_number(step), 1, pid);
	event->item = step->run->item;
	if (kind != FZ_JOB_EVENT_START)
		describe_end(step, event);
	if (kind == FZ_JOB_EVENT_FAILED && step->map != NULL &&
	    step->map->failed != 0)
		/* the trace has the failed element: only list this event */
		fz_event_log_tell(events, event);
	else
		fz_event_log_add(events, event, step->failure);
}

static void
drop_use(struct fz_run *run, uint32_t value)
{
	if (--run->uses[value] == 0)
		fz_run_set(run, value, NULL);
}

/* Set the final state of a step, and release its inputs. */
static void
end_step(struct fz_step *step, enum fz_step_state state)
{
	struct fz_run *run = step->run;
	const uint32_t *inputs =
	    fz_graph_inputs(run->flow->opts.graph, fz_step_number(step));
	struct fz_ready_list *list =
	    &run->flow->ready[fz_step_node(step)->pool];

	step->state = state;
	list->ndone += state == FZ_STEP_DONE;
	list->nfailed += state == FZ_STEP_FAILED;
	for (uint32_t i = 0; i < fz_step_node(step)->ninputs; i++)
		drop_use(run, inputs[i]);
	run->unfinished--;
	if (run->unfinished == 0 || run->stopping)
		fz_loop_defer(run->flow->opts.engine->loop, &run->settle);
}

void
fz_step_ready(struct fz_step *step)
{
	struct fz_run *run = step->run;
	uint32_t n = fz_step_number(step);

	if (fz_lookup_wanted(step)) {
		fz_lookup_ask(step);
		return;
	}
	step->state = FZ_STEP_READY;
	step->job.measured = run->flow->events.trace != NULL;
	if (step->job.measured) {
		step->job.queued_ns = run->flow->events.now_ns;
		/* remove what was measured in the previous attempt */
		if (step->attempts != 0)
			step->job.used.started_ns = 0;
	}
	if (fz_step_node(step)->is_map)
		fz_map_start(step);
	if (run->local != NULL) {
		run->local[n / 64] |= UINT64_C(1) << n % 64;
		if (n / 64 < run->local_from)
			run->local_from = n / 64;
	} else if (step->state == FZ_STEP_READY) {
		struct fz_ready_list *list =
		    &run->flow->ready[fz_step_node(step)->pool];

		step->job.next = NULL;
		*list->tail = &step->job;
		list->tail = &step->job.next;
		list->n++;
		fz_producer_wake(&list->producer);
	}
}

/* An input of the step is made, or not needed; the last one makes it ready. */
static void
input_there(struct fz_step *step)
{
	if (--step->waiting == 0 && step->state == FZ_STEP_WAITING &&
	    !step->run->stopping)
		fz_step_ready(step);
}

static void
value_made(struct fz_run *run, uint32_t value, struct fz_blob *blob)
{
	uint32_t n;
	const uint32_t *readers =
	    fz_graph_readers(run->flow->opts.graph, value, &n);

	if (run->uses[value] != 0)
		fz_run_set(run, value, blob);
	else
		fz_blob_unref(blob);
	for (uint32_t i = 0; i < n; i++)
		input_there(&run->steps[readers[i]]);
}

static void
keep_failure(struct fz_step *step, const struct fz_failure *failure)
{
	step->failure = malloc(sizeof(*step->failure));
	if (step->failure == NULL) {
		fz_blob_unref(failure->value);
		step->failure = &step->run->flow->lost;
		return;
	}
	*step->failure = *failure;
}

static void
drop_failure(struct fz_step *step)
{
	if (step->failure != &step->run->flow->lost) {
		fz_blob_unref(step->failure->value);
		free(step->failure);
	}
	step->failure = NULL;
}

static const struct fz_limits *
limits_of(const struct fz_step *step)
{
	return fz_run_limits_of(step->run, fz_step_number(step));
}

static void
add_failed(struct fz_step *step)
{
	struct fz_run *run = step->run;

	*run->last_failed = step;
	run->last_failed = &step->next_failed;
}

void
fz_step_end_failed(struct fz_step *step)
{
	fz_step_add_event(step, FZ_JOB_EVENT_FAILED, step->failure->pid);
	end_step(step, FZ_STEP_FAILED);
}

/* End a step that has failed finally. */
static void
conclude(struct fz_step *step)
{
	add_failed(step);
	fz_step_end_failed(step);
}

void
fz_step_cancel(struct fz_step *step, uint32_t because)
{
	step->because = because;
	end_step(step, FZ_STEP_CANCELLED);
	step->job.started_ns = step->job.used.started_ns = 0;
	fz_step_add_event(step, FZ_JOB_EVENT_FAILED, 0);
}

/*
 * A value will not be made: cancel the steps that need it, and add them to
 * `*list`, linked by job.next. Returns the number of its readers.
 */
static uint32_t
lose_value(
    struct fz_run *run, uint32_t value, uint32_t because, struct fz_step **list)
{
	const struct fz_flow *flow = run->flow;
	uint32_t n;
	const uint32_t *readers = fz_graph_readers(flow->opts.graph, value, &n);

	if (flow->absent != NULL && run->uses[value] != 0)
		run->values[value] = fz_blob_ref(flow->absent);
	for (uint32_t i = 0; i < n; i++) {
		struct fz_step *reader = &run->steps[readers[i]];

		if (reader->state != FZ_STEP_WAITING)
			continue;
		if (fz_graph_is_optional(flow->opts.graph, readers[i], value)) {
			input_there(reader);
			continue;
		}
		fz_step_cancel(reader, because);
		reader->job.next = *list != NULL ? &(*list)->job : NULL;
		*list = reader;
	}
	return n;
}

/*
 * Cancel all steps that cannot run because `failed` has failed. Returns whether
 * each lost value has a reader; the run can then go on.
 */
static bool
lose_values(const struct fz_step *failed)
{
	const struct fz_graph_node *node = fz_step_node(failed);
	/* cancelled steps whose values are still to be handled */
	struct fz_step *list = NULL;
	bool all_read = true;

	for (;;) {
		uint32_t nusers = 0;

		for (uint32_t v = 0; v < node->nvalues; v++)
			nusers += lose_value(failed->run, node->first_value + v,
			    fz_step_number(failed), &list);
		all_read = all_read && nusers != 0;
		if (list == NULL)
			return all_read;
		node = fz_step_node(list);
		list = list->job.next != NULL ? step_of(list->job.next) : NULL;
	}
}

/* Remove all steps of `run` from the ready list. */
static void
drop_ready(struct fz_ready_list *list, const struct fz_run *run)
{
	struct fz_job **at = &list->head;

	while (*at != NULL) {
		if (step_of(*at)->run != run) {
			at = &(*at)->next;
			continue;
		}
		*at = (*at)->next;
		list->n--;
	}
	list->tail = at;
}

/* Cancel or end a step of a run that stops, unless its job or map runs. */
static void
stop_step(struct fz_step *step, uint32_t because)
{
	switch (step->state) {
	case FZ_STEP_LOOKUP:
		fz_lookup_forget(step);
		fz_step_cancel(step, because);
		break;
	case FZ_STEP_DELAYED:
		/* it may have been retried, so it does not count as failed */
		fz_loop_disarm(
		    step->run->flow->opts.engine->loop, &step->delay);
		fz_step_cancel(step, because);
		break;
	case FZ_STEP_WAITING:
	case FZ_STEP_READY:
		fz_step_cancel(step, because);
		break;
	case FZ_STEP_UNDECIDED:
		fz_flow_forget(step);
		conclude(step);
		break;
	case FZ_STEP_MAPPED:
		fz_map_stop(step->map, NULL);
		break;
	case FZ_STEP_SENT:
	case FZ_STEP_DONE:
	case FZ_STEP_FAILED:
	case FZ_STEP_CANCELLED:
		break;
	}
}

void
fz_step_stop(struct fz_run *run, uint32_t because)
{
	struct fz_flow *flow = run->flow;

	if (run->stopping)
		return;
	run->stopping = true;
	run->because = because;
	for (uint32_t i = 0; i < flow->opts.npools; i++)
		drop_ready(&flow->ready[i], run);
	for (uint32_t i = 0; i < flow->nnodes; i++)
		stop_step(&run->steps[i], because);
	if (!flow->is_stream)
		fz_step_stop_producers(flow, flow->opts.policy == FZ_POLICY_NOW
						 ? &another_failed
						 : NULL);
}

void
fz_step_stop_producers(struct fz_flow *flow, const struct fz_err *kill)
{
	const struct fz_list *link = flow->maps.next;

	for (uint32_t i = 0; i < flow->opts.npools; i++)
		fz_producer_stop(&flow->ready[i].producer, kill);
	for (; link != &flow->maps; link = link->next)
		fz_map_stop(FZ_MAP_OF(link), kill);
}

static void
delay_over(struct fz_timer *timer)
{
	struct fz_step *step = FZ_CONTAINER_OF(timer, struct fz_step, delay);

	step->run->flow->events.now_ns = fz_clock_ns();
	fz_step_ready(step);
}

void
fz_step_retry(struct fz_step *step)
{
	struct fz_loop *loop = step->run->flow->opts.engine->loop;

	fz_step_add_event(step, FZ_JOB_EVENT_RETRY, step->failure->pid);
	step->told_start = false;
	drop_failure(step);
	step->delay.fired = delay_over;
	if (fz_retry_arm(loop, &step->delay, limits_of(step), step->attempts))
		step->state = FZ_STEP_DELAYED;
	else
		fz_step_ready(step);
}

/*
 * Handle a final failure: stop the run, unless it can go on without this step.
 */
static void
lose(struct fz_step *step)
{
	struct fz_run *run = step->run;

	if (!lose_values(step) && run->flow->opts.policy != FZ_POLICY_CONTINUE)
		fz_step_stop(run, fz_step_number(step));
}

void
fz_step_note_failure(struct fz_step *step, struct fz_failure *failure)
{
	keep_failure(step, failure);
	add_failed(step);
	lose(step);
}

void
fz_step_fail(struct fz_step *step)
{
	conclude(step);
	lose(step);
}

void
fz_step_lost(struct fz_step *step, struct fz_failure *failure)
{
	keep_failure(step, failure);
	fz_step_fail(step);
}

void
fz_step_failed(struct fz_step *step, struct fz_failure *failure)
{
	const struct fz_limits *limits = limits_of(step);

	failure->attempt = ++step->attempts;
	keep_failure(step, failure);
	if (step->run->stopping ||
	    !fz_retry_may(limits, step->attempts, failure->err.kind))
		fz_step_fail(step);
	else if (limits->ask)
		fz_flow_ask(step);
	else
		fz_step_retry(step);
}

void
fz_step_found(struct fz_step *step, struct fz_blob *const *values)
{
	const struct fz_graph_node *node = fz_step_node(step);

	end_step(step, FZ_STEP_DONE);
	for (uint32_t i = 0; i < node->nvalues; i++)
		value_made(step->run, node->first_value + i, values[i]);
}

/* Fail a step because its values are not complete. Takes over the values. */
static void
refuse_values(
    struct fz_step *step, struct fz_blob **values, uint32_t n, pid_t pid)
{
	struct fz_failure failure = { .pid = pid, .exitcode = -1 };
	uint32_t nvalues = fz_step_node(step)->nvalues;

	fz_blob_unref_all(values, n);
	if (n != nvalues)
		fz_err_set(&failure.err, FZ_ERR_CRASH,
		    "the worker answered with %u values, not %u", n, nvalues);
	else
		fz_err_set(&failure.err, FZ_ERR_MEMORY,
		    "not enough memory to keep the results");
	fz_step_failed(step, &failure);
}

void
fz_step_done(
    struct fz_step *step, struct fz_blob **values, uint32_t n, pid_t pid)
{
	bool whole = n == fz_step_node(step)->nvalues;

	for (uint32_t i = 0; i < n; i++)
		whole = whole && values[i] != NULL;
	if (!whole) {
		refuse_values(step, values, n, pid);
		return;
	}
	step->attempts++;
	if (step->run->flow->events.trace != NULL)
		step->job.nreceived = fz_blob_sum(values, n);
	fz_lookup_keep(step, values, n);
	fz_step_add_event(step, FZ_JOB_EVENT_DONE, pid);
	fz_step_found(step, values);
}

/*
 * Record the start of an attempt, but only once: if the job is returned, it
 * starts again in the same attempt. Also called at the end of an attempt,
 * because its start may not have been reported.
 */
static void
tell_start(struct fz_step *step)
{
	if (step->told_start)
		return;
	step->told_start = true;
	fz_step_add_event(step, FZ_JOB_EVENT_START, step->job.pid);
}

/* Update the counts: the job of the step has left its worker. */
static void
leave_worker(struct fz_step *step)
{
	struct fz_ready_list *list =
	    FZ_CONTAINER_OF(step->job.owner, struct fz_ready_list, producer);

	step->run->sent--;
	list->nsent--;
}

static void
job_done(struct fz_job *job, struct fz_blob **values, uint32_t n)
{
	struct fz_step *step = step_of(job);

	leave_worker(step);
	fz_producer_wake(job->owner);
	tell_start(step);
	fz_step_done(step, values, n, job->pid);
}

static void
job_failed(struct fz_job *job, struct fz_failure *failure)
{
	struct fz_step *step = step_of(job);

	leave_worker(step);
	fz_producer_wake(job->owner);
	tell_start(step);
	fz_step_failed(step, failure);
}

static void
job_returned(struct fz_job *job, uint32_t nitems)
{
	struct fz_step *step = step_of(job);

	(void)nitems; /* always 1 */
	leave_worker(step);
	if (step->run->stopping)
		fz_step_cancel(step, step->run->because);
	else
		fz_step_ready(step);
}

static void
job_started(struct fz_job *job)
{
	tell_start(step_of(job));
}

const struct fz_job_ops fz_step_job_ops = { job_done, job_failed, job_returned,
	job_started, NULL };
