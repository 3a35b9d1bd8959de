/*
 * job_event.h - what happens to the nodes of a run or the items of a batch.
 *
 * There is one stream of events. A log passes it on to a progress function,
 * which reads its list, to a trace (trace.h), which keeps the ends of attempts,
 * or to both.
 */
#ifndef FZ_JOB_EVENT_H
#define FZ_JOB_EVENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct fz_change;
struct fz_failure;
struct fz_job;
struct fz_trace;
struct fz_trace_name;
struct fz_trace_names;

enum fz_job_event_kind {
	FZ_JOB_EVENT_START,
	FZ_JOB_EVENT_DONE,
	FZ_JOB_EVENT_FAILED, /* once per node or item, cancelled nodes included
			      */
	FZ_JOB_EVENT_RETRY,
	FZ_JOB_EVENT_LIST,  /* `n` is the length of the list of a map */
	FZ_JOB_EVENT_CACHED /* done by a recorded result; it was not called */
};

struct fz_job_event {
	enum fz_job_event_kind kind;
	uint64_t first;  /* number of the node, index of the first item */
	uint32_t n;      /* items; 1 for a node */
	pid_t pid;       /* 0: none */
	int64_t took_ns; /* of each, as far as is known; 0 for a start */
	uint64_t
	    item; /* of a node: its index in a stream, from 1; 0: an invoke */
	uint32_t map; /* of an element of a map: its node, from 1; or 0 */

	/* For a trace: set at the end of an attempt, else 0. */
	uint32_t attempt;   /* from 1; 0: there was none */
	int64_t queued_ns;  /* when it could have started; 0: not known */
	int64_t ended_ns;   /* when its end was known */
	uint64_t nsent;     /* bytes of the call */
	uint64_t nreceived; /* bytes of the results */
	uint64_t cpu_ns;    /* processor time of its worker; 0: not known */
	uint64_t peak_rss;  /* bytes, of its worker so far; 0: not known */
	const char *node;   /* of its worker; NULL: this machine */
	struct fz_trace_name *name; /* NULL: it has none */
	char *text;                 /* of its error, in a record; NULL: none */
	int16_t err;      /* enum fz_err_kind, why it failed; 0: it did not */
	int16_t signal;   /* that ended its worker; 0: none */
	int16_t exitcode; /* of its worker; -1: it did not exit */
};

/* Events in the order of time; all zero at first, which records none. */
struct fz_job_event_log {
	struct fz_change *change; /* of the object; NULL: list none */
	struct fz_job_event *list;
	size_t at, n, cap;            /* the next one to take; events; room */
	struct fz_trace *trace;       /* a reference; NULL: none */
	struct fz_trace_names *names; /* a reference: by node, or one */
	bool of_items;                /* that one is of all items */
	/* With a trace: the time of the newest end, or of the start. */
	int64_t now_ns;
};

/* Whether anything reads the events. */
static inline bool
fz_job_event_wanted(const struct fz_job_event_log *log)
{
	return log->change != NULL || log->trace != NULL;
}

/* Pass events on to a trace as well, with the names of the nodes or items. */
void fz_job_event_trace(struct fz_job_event_log *log, struct fz_trace *trace,
    struct fz_trace_names *names, bool of_items);

/*
 * Set what a trace records of an attempt that has ended: its job, and its
 * failure or NULL. Does nothing without a trace.
 */
void fz_job_event_describe(const struct fz_job_event_log *log,
    struct fz_job_event *event, const struct fz_job *job,
    const struct fz_failure *failure);

/*
 * Add an event, whose failure is `failure` or NULL. It is lost if memory runs
 * out.
 */
void fz_job_event_add(struct fz_job_event_log *log,
    const struct fz_job_event *event, const struct fz_failure *failure);

/* Take the oldest event. Returns 1, or 0 if there is none. */
int fz_job_event_next(struct fz_job_event_log *log, struct fz_job_event *event);

void fz_job_event_fini(struct fz_job_event_log *log);

#endif
