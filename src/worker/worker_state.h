/*
 * worker_state.h - the private part of a worker: worker_spawn.c starts it,
 * worker.c sends jobs, worker_jobs.c counts what is answered and recalls jobs,
 * worker_replies.c reads replies, worker_death.c handles timeouts and its end.
 */
#ifndef FZ_WORKER_STATE_H
#define FZ_WORKER_STATE_H

#include "base/container.h"
#include "os/loop.h"
#include "os/proc.h"
#include "worker/engine.h"
#include "worker/link.h"
#include "worker/worker.h"
#include "worker/worker_output.h"

/* The results of a growing frame of items that were peeked at. */
struct fz_worker_seen {
	uint32_t seq, nitems;
	size_t len; /* bytes of these items */
};

/* The worker that became busy after the last reply of this one. */
struct fz_follower {
	struct fz_worker *worker; /* NULL: not known */
	uint64_t nfreed;          /* of the engine, when it was learned */
};

/* The private part of a worker. */
struct fz_worker_pipes {
	struct fz_worker_opts opts;
	struct fz_worker *worker;
	struct fz_proc proc;
	struct fz_link *link;
	struct fz_program_account *account; /* NULL: its mailbox has it */
	uint32_t answered; /* no number below it is still to be answered */
	uint32_t piped;    /* no number below it comes through the link again */
	struct fz_worker_seen seen;
	struct fz_follower follower;
	struct fz_awaited awaited; /* by the loop, while it spins */
	/* What the reply that is processed says that its items used. */
	struct fz_used used;
	int64_t used_ns;  /* the end of the newest of these times */
	int64_t ahead_ns; /* of its clock, of a worker without shared memory */
	uint64_t cpu_ns;  /* of it, counted for jobs that were answered */
	bool head_begun;  /* the head counts as begun, whatever the link says */
	pid_t pid;        /* of the worker on its machine; 0: not known yet */
	int64_t joined_ns; /* when it joined its node; 0: not, or it has none */
	bool distrusted; /* it sent an impossible reply: the rest is not read */
	enum fz_err_kind ending; /* why it was killed; NONE: it was not */
	char why[FZ_ERR_TEXT_MAX];
	int64_t lost_ns; /* when the link was lost, 0: not; the timer ends it */
	int64_t leave_ns; /* when it must have left; 0: it was not dismissed */
	/*
	 * Of a worker on a node that is dead: its node was lost, so that its
	 * death is that of the program between them.
	 */
	bool node_lost;
	struct fz_watch death;
	struct fz_worker_output output;
	struct fz_timer timer;
	struct fz_timer force; /* kills it if it does not end when asked */
	/* Armed while a reply has come in part, and until it joins its node. */
	struct fz_timer half;
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

/* A failure of a job of this worker, without its reason. */
struct fz_failure fz_worker_failure(const struct fz_worker_pipes *p);

/*
 * One above the number of the item that the worker started last, or a safe
 * number if the link does not know it or says what cannot be.
 */
uint32_t fz_worker_claimed(const struct fz_worker_pipes *p);

/* Record that the worker runs the head since `now_ns`, and arm its timeout. */
void fz_worker_start_head(struct fz_worker_pipes *p, int64_t now_ns);

/*
 * Keep what the next answers have used, which is in a frame at `bytes`, by the
 * clock of this process. It is checked, because a function may overwrite it.
 * NULL: nothing is said.
 */
void fz_worker_note_used(
    struct fz_worker_pipes *p, const unsigned char *bytes, int64_t now_ns);

/* Count `n` items of the head as answered; dequeue it if none is left. */
struct fz_job *fz_worker_answer_head(struct fz_worker *w, uint32_t n);

/* Return the items from `from` on, below `end`, to their owners; how many. */
unsigned fz_worker_return(
    struct fz_worker_pipes *p, uint32_t from, uint32_t end);

/* Report the worker as idle if the last of `n` items was its last job. */
void fz_worker_report_idle(struct fz_worker_pipes *p, unsigned n);

/* Process the replies that came. Returns how many are new; -1 and `err`. */
int fz_worker_take_replies(struct fz_worker_pipes *p, struct fz_err *err);

/* Process the finished replies that are not sent. Returns how many are new. */
unsigned fz_worker_take_unsent(struct fz_worker_pipes *p);

/* For the link: read replies and process them; the link is lost. */
void fz_worker_replies_ready(void *ctx);
void fz_worker_link_lost(void *ctx);

/*
 * Callback of `half`: kill the worker if the rest of a reply cannot come, or it
 * has not joined its node in time.
 */
void fz_worker_check_half(struct fz_timer *timer);

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
