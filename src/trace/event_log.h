/*
 * event_log.h - the events of a run or a batch, in the order of time.
 *
 * A progress function reads the events from the list of the log. A trace
 * (trace.h) keeps the ends of attempts. A log may have one of them, or both.
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
	/* change of the object; NULL: events are not listed */
	struct fz_change *change;
	struct fz_job_event *list;
	size_t at;  /* index of the next event to take */
	size_t n;   /* number of events in the list */
	size_t cap; /* number of events for which the list has room */
	struct fz_trace *trace; /* a reference to the trace; NULL: none */
	/* a reference to the names: one for each node, or a single one */
	struct fz_trace_names *names;
	bool of_items; /* a single name stands for all items */
	pid_t pid;     /* with a trace: pid of this process */
	/*
	 * With a trace: the time of the newest end of an attempt, or of the
	 * start.
	 */
	int64_t now_ns;
};

/* Whether anything reads the events. */
static inline bool
fz_event_log_wanted(const struct fz_event_log *log)
{
	return log->change != NULL || log->trace != NULL;
}

/*
 * Whether anything reads the events of this kind. A trace keeps only the ends
 * of attempts.
 */
static inline bool
fz_event_log_wants(const struct fz_event_log *log, enum fz_job_event_kind kind)
{
	return log->change != NULL ||
	       (log->trace != NULL && kind != FZ_JOB_EVENT_START &&
		   kind != FZ_JOB_EVENT_LIST);
}

/* Pass events on to a trace as well, with the names of the nodes or items. */
void fz_event_log_trace(struct fz_event_log *log, struct fz_trace *trace,
    struct fz_trace_names *names, bool of_items);

/*
 * Set what a trace records of an attempt that has ended: its job, and its
 * failure or NULL. Does nothing without a trace.
 */
void fz_event_log_describe(const struct fz_event_log *log,
    struct fz_job_event *event, const struct fz_job *job,
    const struct fz_failure *failure);

/*
 * The memory in which the caller sets the next event: memory of the trace, so
 * that fz_event_log_add() need not copy the event, or else `own`.
 */
struct fz_job_event *fz_event_log_room(
    const struct fz_event_log *log, struct fz_job_event *own);

/*
 * Add an event, with its failure or NULL. The event is lost if there is no
 * memory.
 */
void fz_event_log_add(struct fz_event_log *log,
    const struct fz_job_event *event, const struct fz_failure *failure);

/* As fz_event_log_add(), but the trace does not get the event. */
void fz_event_log_tell(
    struct fz_event_log *log, const struct fz_job_event *event);

/* Take the oldest event. Returns 1, or 0 if there is none. */
int fz_event_log_next(struct fz_event_log *log, struct fz_job_event *event);

void fz_event_log_fini(struct fz_event_log *log);

#endif
