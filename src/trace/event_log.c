#include "trace/event_log.h"

#include <stdlib.h>
#include <unistd.h>

#include "base/vec.h"
#include "trace/job_event.h"
#include "trace/trace.h"
#include "worker/change.h"
#include "worker/worker.h"

void
fz_event_log_trace(struct fz_event_log *log, struct fz_trace *trace,
    struct fz_trace_names *names, bool of_items)
{
	log->trace = fz_trace_ref(trace);
	log->names = fz_trace_names_ref(names);
	log->of_items = of_items;
	log->pid = getpid();
}

void
fz_event_log_describe(const struct fz_event_log *log,
    struct fz_job_event *event, const struct fz_job *job,
    const struct fz_failure *failure)
{
	if (log->trace == NULL)
		return;
	event->queued_ns = job->queued_ns;
	event->nsent = job->nbytes;
	event->nreceived = job->nreceived;
	event->exitcode = -1;
	event->cpu_ns = job->used.cpu_ns;
	event->peak_rss = job->used.peak_rss;
	event->init_ns = job->used.init_ns;
	event->launch_ns = job->used.launch_ns;
	event->node = job->node;
	if (event->pid == 0 && job->started_ns != 0)
		event->pid = log->pid; /* this process itself made the call */
	if (failure == NULL)
		return;
	event->attempt = failure->attempt;
	event->err = (int16_t)failure->err.kind;
	event->signal = (int16_t)failure->signal;
	event->exitcode = (int16_t)failure->exitcode;
	/* for a dead worker, use what the kernel has counted */
	if (failure->peak_rss != 0) {
		event->peak_rss = failure->peak_rss;
		event->cpu_ns = failure->cpu_ns;
	}
}

/* Add the end of an attempt to the trace. */
static void
trace(const struct fz_event_log *log, const struct fz_job_event *event,
    const struct fz_failure *failure)
{
	struct fz_job_event *record;
	uint64_t node = event->map != 0 ? event->map - 1 : event->first;

	record = fz_trace_add(log->trace, event, log->names);
	if (record == NULL)
		return;
	record->name = fz_trace_name(log->names, log->of_items ? 0 : node);
	/* `first` was the number of the node; the name replaces it. */
	if (!log->of_items && event->map == 0)
		record->first = 0;
	if (failure != NULL && event->kind != FZ_JOB_EVENT_DONE)
		fz_trace_add_error(log->trace, record, failure);
}

struct fz_job_event *
fz_event_log_room(const struct fz_event_log *log, struct fz_job_event *own)
{
	struct fz_job_event *room = NULL;

	if (log->change == NULL && log->trace != NULL)
		room = fz_trace_room(log->trace);
	return room != NULL ? room : own;
}

void
fz_event_log_add(struct fz_event_log *log, const struct fz_job_event *event,
    const struct fz_failure *failure)
{
	if (!fz_event_log_wants(log, event->kind))
		return;
	if (log->trace != NULL && event->kind != FZ_JOB_EVENT_START &&
	    event->kind != FZ_JOB_EVENT_LIST)
		trace(log, event, failure);
	fz_event_log_tell(log, event);
}

void
fz_event_log_tell(struct fz_event_log *log, const struct fz_job_event *event)
{
	struct fz_job_event *list;

	if (log->change == NULL)
		return;
	list = fz_vec_room(log->list, &log->cap, log->n + 1, sizeof(*list));
	if (list == NULL)
		return;
	log->list = list;
	list[log->n++] = *event;
	fz_changed(log->change);
}

int
fz_event_log_next(struct fz_event_log *log, struct fz_job_event *event)
{
	if (log->at == log->n) {
		log->at = log->n = 0;
		return 0;
	}
	*event = log->list[log->at++];
	return 1;
}

void
fz_event_log_fini(struct fz_event_log *log)
{
	free(log->list);
	fz_trace_names_unref(log->names);
	fz_trace_unref(log->trace);
}
