/*
 * worker_state.h - what the files of a worker share of it: worker_spawn.c
 * starts it, worker.c sends jobs, worker_replies.c takes replies and recalls
 * jobs, worker_death.c handles timeouts and its end.
 */
#ifndef FZ_WORKER_STATE_H
#define FZ_WORKER_STATE_H

#include "base/container.h"
#include "os/loop.h"
#include "os/proc.h"
#include "worker/child_port.h"
#include "worker/engine.h"
#include "worker/worker.h"
#include "worker/worker_output.h"

struct fz_worker_slice;

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
	bool kept; /* as fz_cell_keep() said */
	struct fz_worker_slice *slice;
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
	struct fz_worker_output output;
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

/* Number of the first item of `job` that is not answered. */
static inline uint32_t
fz_worker_next_number(const struct fz_job *job)
{
	return job->seq + job->ndone;
}

/* Unwatch the watch's descriptor and close it. */
void fz_worker_close_watch(struct fz_worker_pipes *p, struct fz_watch *watch);

/* Return `started`, or a safe number if the worker cannot have started that. */
uint32_t fz_worker_plausible(const struct fz_worker_pipes *p, uint32_t started);

/* One above the number of the item it has started last; 0: none. */
uint32_t fz_worker_claimed(const struct fz_worker_pipes *p);

/* Record that the worker runs the head since `now_ns`, and arm its timeout. */
void fz_worker_start_head(struct fz_worker_pipes *p, int64_t now_ns);

/* Count `n` items of the head as answered; dequeue it if none is left. */
struct fz_job *fz_worker_answer_head(struct fz_worker *w, uint32_t n);

/* Process the replies in `p->wire`. Returns how many are new; -1 and `err`. */
int fz_worker_take_replies(struct fz_worker_pipes *p, struct fz_err *err);

/* Process the replies that a dead worker left in its cell. */
void fz_worker_take_cell(struct fz_worker_pipes *p);

/* Return all items from number `claim` on to their owners. Returns how many. */
unsigned fz_worker_return_from(struct fz_worker_pipes *p, uint32_t claim);

/* Callback of `results`: read the pipe and process the replies. */
void fz_worker_results_ready(struct fz_watch *watch, unsigned events);

/* Callback of `half`: kill the worker if the rest of a reply cannot come. */
void fz_worker_look_at_half(struct fz_timer *timer);

/* Close a pipe that has failed or ended, and arm the kill of the worker. */
void fz_worker_lose_pipe(struct fz_worker_pipes *p, struct fz_watch *watch);

/* Arm the timer for the timeout of the head; disarm it if there is none. */
void fz_worker_arm_timeout(struct fz_worker_pipes *p);

/* Callback of `death`: reap the process and report its jobs and its death. */
void fz_worker_death_ready(struct fz_watch *watch, unsigned events);

/* Callback of `force`: kill the process, because it did not end when asked. */
void fz_worker_use_force(struct fz_timer *timer);

/* Callback of `timer`: check the timeout of the head, or end a lost worker. */
void fz_worker_time_is_up(struct fz_timer *timer);

/* Wait for a dismissed process, kill any other, and reap it. */
void fz_worker_end_process(struct fz_worker_pipes *p);

#endif
