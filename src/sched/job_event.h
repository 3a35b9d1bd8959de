/* job_event.h - what happens to a node of a run or an item of a batch. */
#ifndef FZ_JOB_EVENT_H
#define FZ_JOB_EVENT_H

#include <stdint.h>
#include <sys/types.h>

struct fz_trace_name;

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

#endif
