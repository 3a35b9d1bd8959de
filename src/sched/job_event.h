/* job_event.h - what happens to the nodes of a run or the items of a batch. */
#ifndef FZ_JOB_EVENT_H
#define FZ_JOB_EVENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct fz_change;

enum fz_job_event_kind {
	FZ_JOB_EVENT_START,
	FZ_JOB_EVENT_DONE,
	FZ_JOB_EVENT_FAILED, /* once per node or item, cancelled nodes included
			      */
	FZ_JOB_EVENT_RETRY,
	FZ_JOB_EVENT_LIST /* `n` is the length of the list of a map */
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
};

/* Events in the order of time; all zero at first, which records none. */
struct fz_job_event_log {
	struct fz_change *change; /* of the object; NULL: record none */
	struct fz_job_event *list;
	size_t at, n, cap; /* the next one to take; events; room */
};

/* Add an event. It is lost if memory runs out. */
void fz_job_event_add(
    struct fz_job_event_log *log, const struct fz_job_event *event);

/* Take the oldest event. Returns 1, or 0 if there is none. */
int fz_job_event_next(struct fz_job_event_log *log, struct fz_job_event *event);

void fz_job_event_fini(struct fz_job_event_log *log);

#endif
