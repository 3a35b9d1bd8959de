/*
 * event_log.h - the events of a run or a batch, in the order of time.
 *
 * A log has up to two readers. A progress function reads all events, from the
 * list of the log. A trace (trace.h) keeps the ends of attempts.
 */
#ifndef FZ_EVENT_LOG_H
#define FZ_EVENT_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "trace/job_event.h"

struct fz_change;
struct fz_failure;
struct fz_job;
struct fz_trace;
struct fz_trace_names;

/* Initialised with zeros, a log records nothing. */
struct fz_event_log {
	/* change of the run or batch; NULL: events are not listed */
	struct fz_change *change;
	struct fz_job_event *list;
	size_t at;  /* index of the next event to return */
	size_t n;   /* number of events in the list */
	size_t cap; /* number of events for which the list has room */
	struct fz_trace *trace; /* a reference to the trace; NULL: none */
	/* a reference to the names: one for each node, or one for all items */
	struct fz_trace_names *names;
	bool of_items; /* `names` has one name, for all items */
	pid_t pid;     /* only if there is a trace: pid of this process */
	/*
	 * only if there is a trace: time of the last event that may have made
	 * calls ready; it becomes the queued_ns of these calls
	 */
	int64_t now_ns;
};

/* Whether the log has a reader. */
static inline bool
fz_event_log_wanted(const struct fz_event_log *log)
{
	return log->change != NULL || log->trace != NULL;
}

/*
 * Whether an event of this kind has a reader. A trace reads only the ends of
 * attempts.
 */
static inline bool
fz_event_log_wants(const struct fz_event_log *log, enum fz_job_event_kind kind)
{
	return log->change != NULL ||
	       (log->trace != NULL && kind != FZ_JOB_EVENT_START &&
		   kind != FZ_JOB_EVENT_LIST);
}

/* Also pass events to a trace, with names of nodes, or one if `of_items`. */
void fz_event_log_trace(struct fz_event_log *log, struct fz_trace *trace,
    struct fz_trace_names *names, bool of_items);

/*
 * Set the fields of an event that only a trace needs, at the end of an attempt.
 * `failure` may be NULL. Does nothing without a trace.
 */
void fz_event_log_describe(const struct fz_event_log *log,
    struct fz_job_event *event, const struct fz_job *job,
    const struct fz_failure *failure);

/*
 * The memory for the next event: memory of the trace if possible, so that
 * fz_event_log_add() need not copy the event, else `own`.
 */
struct fz_job_event *fz_event_log_room(
    const struct fz_event_log *log, struct fz_job_event *own);

/*
 * Add an event. `failure` may be NULL. If there is no memory, the event is
 * lost.
 */
void fz_event_log_add(struct fz_event_log *log,
    const struct fz_job_event *event, const struct fz_failure *failure);

/* Add an event as fz_event_log_add() does, but only to the list. */
void fz_event_log_tell(
    struct fz_event_log *log, const struct fz_job_event *event);

/* Take the oldest event from the list. Returns 1, or 0 if the list is empty. */
int fz_event_log_next(struct fz_event_log *log, struct fz_job_event *event);

void fz_event_log_fini(struct fz_event_log *log);

#endif
