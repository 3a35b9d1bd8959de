#include "sched/stream.h"

#include <stdlib.h>

#include "base/err.h"
#include "base/list.h"
#include "sched/graph.h"
#include "sched/run_state.h"
#include "sched/run_step.h"
#include "trace/event_log.h"
#include "trace/job_event.h"
#include "worker/engine.h"

/*
 * A run that has begun is in the list of the flow, even when it is done:
 * results are taken in the order of the items. If it may be taken before
 * earlier items, it moves to `results`. A run that was taken is in no list, and
 * one whose item was released is in `spare`.
 */
struct fz_stream {
	struct fz_flow flow;
	bool unordered;
	enum fz_policy policy;
	bool stopped; /* an item has failed, so no more items are started */
	bool cancelled;
	uint64_t nadded;
	uint64_t nbusy; /* number of items that were added and are not done */
	struct fz_list results, spare;
};

static struct fz_stream *
stream_of(const struct fz_run *run)
{
	return FZ_CONTAINER_OF(run->flow, struct fz_stream, flow);
}

static struct fz_run *
first_run(const struct fz_list *list)
{
	struct fz_list *link = fz_list_first(list);

	return link != NULL ? FZ_RUN_OF(link, link) : NULL;
}

static struct fz_run *
pop_run(struct fz_list *list)
{
	struct fz_run *run = first_run(list);

	if (run != NULL)
		fz_list_remove(&run->link);
	return run;
}

/* Stop the items whose results come later than that of `failed`. */
static void
stop_later(struct fz_stream *stream, const struct fz_run *failed)
{
	struct fz_list *link = stream->flow.runs.next;

	stream->stopped = true;
	for (; link != &stream->flow.runs; link = link->next) {
		struct fz_run *run = FZ_RUN_OF(link, link);

		if (!run->done &&
		    (stream->unordered || stream->policy == FZ_POLICY_NOW ||
			run->item > failed->item))
			fz_step_stop(run, FZ_GRAPH_NONE);
	}
}

static void
run_over(struct fz_run *run)
{
	struct fz_stream *stream = stream_of(run);
	bool failed = (fz_run_stopper(run) != NULL || run->skipped) &&
		      stream->policy != FZ_POLICY_CONTINUE;

	stream->nbusy--;
	if (stream->unordered || (failed && stream->policy == FZ_POLICY_NOW)) {
		fz_list_remove(&run->link);
		fz_list_push(&stream->results, &run->link);
	}
	if (failed && !stream->stopped)
		stop_later(stream, run);
	fz_changed(&stream->flow.change);
}

struct fz_stream *
fz_stream_new(const struct fz_stream_opts *opts, struct fz_err *err)
{
	struct fz_stream *stream = calloc(1, sizeof(*stream));
	struct fz_run_opts run_opts = opts->run;

	if (stream == NULL) {
		fz_err_nomem(err, "a stream");
		return NULL;
	}
	stream->unordered = opts->unordered;
	stream->policy = opts->run.policy;
	run_opts.policy = FZ_POLICY_STOP; /* within the run of one item */
	stream->cancelled = true;         /* nothing to cancel yet */
	fz_list_init(&stream->results);
	fz_list_init(&stream->spare);
	if (fz_flow_init(&stream->flow, &run_opts, run_over, err) != 0 ||
	    fz_flow_open(&stream->flow, err) != 0) {
		fz_stream_free(stream);
		return NULL;
	}
	stream->flow.is_stream = stream->flow.dispatcher.sparing = true;
	stream->cancelled = false;
	return stream;
}

static void
free_runs(struct fz_list *list)
{
	struct fz_run *run;

	while ((run = pop_run(list)) != NULL) {
		fz_run_fini(run);
		free(run);
	}
}

void
fz_stream_free(struct fz_stream *stream)
{
	if (stream == NULL)
		return;
	fz_stream_cancel(stream, FZ_ERR_CANCELLED, "the stream was closed");
	free_runs(&stream->flow.runs);
	free_runs(&stream->results);
	free_runs(&stream->spare);
	fz_flow_fini(&stream->flow);
	free(stream);
}

int
fz_stream_limit(struct fz_stream *stream, uint32_t node,
    const struct fz_limits *limits, struct fz_err *err)
{
	return fz_flow_limit(&stream->flow, node, limits, err);
}

void
fz_stream_keep(struct fz_stream *stream, uint32_t value)
{
	fz_flow_keep(&stream->flow, value);
}

static struct fz_run *
new_run(struct fz_stream *stream, struct fz_err *err)
{
	struct fz_run *run = malloc(sizeof(*run));

	if (run == NULL) {
		fz_err_nomem(err, "an item");
		return NULL;
	}
	if (fz_run_init(run, &stream->flow, err) == 0)
		return run;
	fz_run_fini(run);
	free(run);
	return NULL;
}

struct fz_run *
fz_stream_add(struct fz_stream *stream, struct fz_err *err)
{
	struct fz_run *run;

	if (stream->cancelled || stream->flow.foreign) {
		fz_err_set(err, FZ_ERR_CLOSED, "the stream is closed");
		return NULL;
	}
	run = pop_run(&stream->spare);
	if (run == NULL)
		run = new_run(stream, err);
	if (run == NULL)
		return NULL;
	fz_run_begin(run, ++stream->nadded);
	stream->nbusy++;
	return run;
}

void
fz_stream_start(struct fz_run *run)
{
	if (run->flow->whole_failed)
		fz_run_end(run);
	else
		fz_run_start_steps(run);
}

void
fz_stream_skip(struct fz_run *run, uint32_t why)
{
	struct fz_job_event event = { .kind = FZ_JOB_EVENT_FAILED,
		.item = run->item,
		.first = FZ_GRAPH_NONE,
		.n = 1 };

	run->skipped = true;
	run->because = why;
	if (fz_event_log_wanted(&run->flow->events))
		fz_event_log_add(&run->flow->events, &event, NULL);
	fz_run_end(run);
}

bool
fz_stream_was_skipped(const struct fz_run *run, uint32_t *why)
{
	*why = run->because;
	return run->skipped || (run->stopping && fz_run_stopper(run) == NULL);
}

size_t
fz_stream_nbytes(const struct fz_stream *stream)
{
	return stream->flow.nbytes;
}

struct fz_flow *
fz_stream_flow(struct fz_stream *stream)
{
	return &stream->flow;
}

uint64_t
fz_stream_id(const struct fz_stream *stream)
{
	return stream->flow.change.id;
}

bool
fz_stream_is_busy(const struct fz_stream *stream)
{
	return stream->nbusy != 0;
}

uint64_t
fz_stream_index(const struct fz_run *run)
{
	return run->item;
}

/* The run of the next result to take; NULL if there is none now. */
static struct fz_run *
next_result(const struct fz_stream *stream)
{
	struct fz_run *run = first_run(&stream->results);

	if (run != NULL || stream->unordered)
		return run;
	run = first_run(&stream->flow.runs);
	return run != NULL && run->done ? run : NULL;
}

bool
fz_stream_has_result(const struct fz_stream *stream)
{
	return next_result(stream) != NULL;
}

struct fz_run *
fz_stream_take(struct fz_stream *stream)
{
	struct fz_run *run = next_result(stream);

	if (run != NULL)
		fz_list_remove(&run->link);
	return run;
}

void
fz_stream_release(struct fz_run *run)
{
	fz_run_clear(run);
	fz_list_push(&stream_of(run)->spare, &run->link);
}

bool
fz_stream_is_stopped(const struct fz_stream *stream)
{
	return stream->stopped;
}

void
fz_stream_cancel(
    struct fz_stream *stream, enum fz_err_kind kind, const char *text)
{
	if (stream->cancelled || stream->flow.foreign)
		return;
	stream->cancelled = true;
	fz_flow_cancel(&stream->flow, kind, text);
	fz_flow_close(&stream->flow);
}

const struct fz_run *
fz_stream_undecided(const struct fz_stream *stream, uint32_t *node)
{
	const struct fz_step *step = stream->flow.undecided;

	if (step == NULL || stream->flow.foreign)
		return NULL;
	*node = fz_step_number(step);
	return step->run;
}

bool
fz_stream_undecided_element(
    const struct fz_stream *stream, struct fz_run_element *element)
{
	return fz_flow_undecided_element(&stream->flow, element);
}

void
fz_stream_decide(struct fz_stream *stream, uint64_t index, uint32_t node,
    uint64_t element, bool again)
{
	fz_flow_decide(&stream->flow, index, node, element, again);
}

struct fz_run_counts
fz_stream_counts(const struct fz_stream *stream, uint32_t pool)
{
	return fz_flow_counts(&stream->flow, pool);
}

int
fz_stream_next_event(struct fz_stream *stream, struct fz_job_event *event)
{
	return fz_event_log_next(&stream->flow.events, event);
}

bool
fz_stream_local_ready(const struct fz_stream *stream)
{
	const struct fz_list *runs = &stream->flow.runs;

	struct fz_list *link = runs->next;

	for (; link != runs; link = link->next) {
		if (fz_run_local_ready(FZ_RUN_OF(link, link)))
			return true;
	}
	return false;
}

struct fz_run *
fz_stream_local_next(struct fz_stream *stream, uint32_t *node)
{
	const struct fz_list *runs = &stream->flow.runs;
	struct fz_list *link = runs->next;

	for (; link != runs; link = link->next) {
		*node = fz_run_local_next(FZ_RUN_OF(link, link));
		if (*node != FZ_GRAPH_NONE)
			return FZ_RUN_OF(link, link);
	}
	return NULL;
}
