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
	/* the final failure; cancelled nodes have this event, too */
	FZ_JOB_EVENT_FAILED,
	FZ_JOB_EVENT_RETRY,
	FZ_JOB_EVENT_LIST,  /* `n` is the length of the list of a map */
	FZ_JOB_EVENT_CACHED /* done with a recorded result, without a call */
};

struct fz_job_event {
	enum fz_job_event_kind kind;
	uint32_t ntext;  /* length of `text` in bytes */
	uint64_t first;  /* number of the node, or index of the first item */
	uint32_t n;      /* number of items; 1 for a node */
	pid_t pid;       /* process of the worker; 0: none */
	int64_t took_ns; /* time of each item, as far as known; 0 for a start */
	/*
	 * for a node: the index of its item in a stream, from 1; 0: an invoke
	 */
	uint64_t item;
	/* for an element of a map: the number of its node, from 1; else 0 */
	uint32_t map;

	/* The fields for a trace, set at the end of an attempt, else 0. */
	uint32_t attempt; /* number of the attempt, from 1; 0: there was none */
	/* time at which the attempt could have started; 0: unknown */
	int64_t queued_ns;
	int64_t ended_ns;   /* time at which its end was known */
	uint64_t nsent;     /* bytes of the call */
	uint64_t nreceived; /* bytes of the results */
	uint64_t cpu_ns;    /* processor time of its worker; 0: unknown */
	/* peak memory of its worker so far in bytes; 0: unknown */
	uint64_t peak_rss;
	const char *node;           /* node of its worker; NULL: this machine */
	struct fz_trace_name *name; /* name of the node or item; NULL: none */
	/*
	 * Text of its error, in a record; NULL: none. It may contain zeros, and
	 * has another one at its end.
	 */
	char *text;
	int16_t err;      /* kind of its error (enum fz_err_kind); 0: none */
	int16_t signal;   /* signal that ended its worker; 0: none */
	int16_t exitcode; /* exit code of its worker; -1: it did not exit */
};

/*
 * Set an event of `n` nodes or items, from `first` on. Each field is set apart,
 * because a compiler would clear the whole struct by an instruction that is
 * slow to start.
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
	event->node = NULL;
	event->name = NULL;
	event->text = NULL;
	event->err = 0;
	event->signal = 0;
	event->exitcode = 0;
}

#endif
