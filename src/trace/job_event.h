/* job_event.h - what happens to a node of a run or an item of a batch. */
#ifndef FZ_JOB_EVENT_H
#define FZ_JOB_EVENT_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct fz_trace_name;

enum fz_job_event_kind {
	FZ_JOB_EVENT_START,
	FZ_JOB_EVENT_DONE,
	/* the final failure, or the cancellation, of a node or an item */
	FZ_JOB_EVENT_FAILED,
	FZ_JOB_EVENT_RETRY,
	FZ_JOB_EVENT_LIST,  /* length of a map's list, in `n` */
	FZ_JOB_EVENT_CACHED /* done without a call: the result was recorded */
};

struct fz_job_event {
	enum fz_job_event_kind kind;
	uint32_t ntext;  /* length of `text` in bytes */
	uint64_t first;  /* number of the node, or index of the first item */
	uint32_t n;      /* number of items; 1 for a node */
	pid_t pid;       /* pid of the worker; 0: none */
	int64_t took_ns; /* mean time of an item if known; 0 at the start */
	/* only for a node of a stream: index of its item, from 1; else 0 */
	uint64_t item;
	/* for an element of a map: 1 + number of the map's node; else 0 */
	uint32_t map;

	/* the rest is for a trace: set at the end of an attempt, else 0 */
	uint32_t attempt; /* number of the attempt, from 1; 0: there was none */
	/* time at which the attempt could have started; 0: unknown */
	int64_t queued_ns;
	int64_t ended_ns;   /* time at which this process noticed the end */
	uint64_t nsent;     /* size of the call in bytes */
	uint64_t nreceived; /* size of the results in bytes */
	uint64_t cpu_ns;    /* processor time of the attempt; 0: unknown */
	/* peak memory of the worker up to this time, in bytes; 0: unknown */
	uint64_t peak_rss;
	/*
	 * time for which the worker was initialised before the attempt; 0: it
	 * was not
	 */
	int64_t init_ns;
	/*
	 * time that this process took to start the worker; 0: the worker has an
	 * earlier record
	 */
	int64_t launch_ns;
	const char *node;           /* node of the worker; NULL: this machine */
	struct fz_trace_name *name; /* name of the node or item; NULL: none */
	/*
	 * text of the error, in a record of a trace; NULL: none. The text may
	 * contain zero bytes, and has another one at its end.
	 */
	char *text;
	int16_t err;      /* kind of the error (enum fz_err_kind); 0: none */
	int16_t signal;   /* signal that ended the worker; 0: none */
	int16_t exitcode; /* exit code of the worker; -1: it did not exit */
};

/*
 * Initialise an event of `n` nodes or items, the first of which is `first`.
 * Each field is set separately, because a compiler would clear a whole struct
 * with an instruction that is slow to start.
 */
static inline void
fz_job_event_init(struct fz_job_event *event, enum fz_job_event_kind kind,
    uint64_t first, uint32_t n, pid_t pid)
{
	event->kind = kind;
	event->ntext = 0;
	event->first = first;
	event->n = n;
	event->pid = pid;
	event->took_ns = 0;
	event->item = 0;
	event->map = 0;
	event->attempt = 0;
	event->queued_ns = 0;
	event->ended_ns = 0;
	event->nsent = 0;
	event->nreceived = 0;
	event->cpu_ns = 0;
	event->peak_rss = 0;
	event->init_ns = 0;
	event->launch_ns = 0;
	event->node = NULL;
	event->name = NULL;
	event->text = NULL;
	event->err = 0;
	event->signal = 0;
	event->exitcode = 0;
}

#endif
