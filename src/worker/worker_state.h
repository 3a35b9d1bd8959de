/* worker_state.h - what worker.c and worker_spawn.c share of one worker. */
#ifndef FZ_WORKER_STATE_H
#define FZ_WORKER_STATE_H

#include "base/container.h"
#include "os/loop.h"
#include "os/proc.h"
#include "worker/child_port.h"
#include "worker/engine.h"
#include "worker/worker.h"
#include "worker/worker_output.h"

struct fz_slice;

/* A frame of items of which the beginning was peeked at. */
struct fz_worker_seen {
	uint32_t seq, nitems;
	size_t len; /* bytes of these items */
};

/* What only its own files know of a worker. */
struct fz_worker_pipes {
	struct fz_worker_opts opts;
	struct fz_worker *worker;
	struct fz_proc proc;
	struct fz_cell *cell;
	struct fz_slice *slice;
	uint32_t next_seq; /* of the next job sent */
	uint32_t answered; /* no number below it is still to be answered */
	uint32_t piped;    /* the pipe has replies from this number on alone */
	struct fz_buf unsent;   /* frames the pipe had no room for */
	size_t written;         /* bytes of these that it had room for */
	struct fz_wire_in wire; /* replies not yet whole */
	struct fz_worker_seen seen;
	bool distrusted; /* it has sent what it cannot: the rest is not read */
	enum fz_err_kind ending; /* why it was killed; NONE: it was not */
	char why[FZ_ERR_TEXT_MAX];
	bool overdue;     /* killed because it has not begun its head in time */
	int64_t lost_ns;  /* when it closed a pipe, 0: not; the timer ends it */
	int64_t leave_ns; /* when it must have left; 0: it was not dismissed */
	struct fz_watch jobs, results, death;
	struct fz_relay relay;
	struct fz_timer timer;
	struct fz_timer force; /* kills it if it does not end as it was asked */
	struct fz_timer half;  /* armed while a reply has come in part */
	struct fz_defer flush;
};

#define PIPES_OF(member, ptr) \
	FZ_CONTAINER_OF(ptr, struct fz_worker_pipes, member)

static inline struct fz_loop *
loop_of(const struct fz_worker_pipes *p)
{
	return p->opts.engine->loop;
}

#endif
