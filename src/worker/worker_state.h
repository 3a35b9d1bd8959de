/*
 * worker_state.h - the private part of a worker: worker_spawn.c starts it,
 * worker.c sends jobs, worker_jobs.c counts what is answered and recalls jobs,
 * worker_replies.c reads replies, worker_death.c handles timeouts and the end
 * of the worker.
 */
#ifndef FZ_WORKER_STATE_H
#define FZ_WORKER_STATE_H

#include "base/container.h"
#include "os/loop.h"
#include "proc/proc.h"
#include "worker/engine.h"
#include "worker/link.h"
#include "worker/worker.h"
#include "worker/worker_output.h"

/* The results of a growing frame of items that were peeked at. */
struct fz_worker_seen {
	uint32_t seq, nitems;
	size_t len; /* bytes of their results */
};

/* The worker that became busy after the last reply of this one. */
struct fz_follower {
	struct fz_worker *worker; /* the follower; NULL: unknown */
	/* value of engine->nfreed when this was learned */
	uint64_t nfreed;
};

/* The private part of a worker. */
struct fz_worker_pipes {
	struct fz_worker_opts opts;
	struct fz_worker *worker;
	struct fz_proc proc;
	struct fz_link *link;
	/* account of a program; NULL: it is in the mailbox */
	struct fz_program_account *account;
	uint32_t answered; /* all numbers below it are answered */
	/* replies to all numbers below it have come through the link */
	uint32_t piped;
	struct fz_worker_seen seen;
	struct fz_follower follower;
	struct fz_awaited awaited; /* for fz_loop_await() */
	/* The usage of items that the current reply reports. */
	struct fz_used used;
	int64_t used_ns; /* end of the time that was counted last */
	/*
	 * nanoseconds by which the worker's clock is ahead of this process, if
	 * the link shares no memory
	 */
	int64_t ahead_ns;
	/* processor time that was counted for answered jobs */
	uint64_t cpu_ns;
	bool head_begun; /* the head counts as begun, whatever the link says */
	/* pid of the worker on its machine; 0: not known yet */
	pid_t pid;
	/* time at which the worker joined its node; 0: not yet, or no node */
	int64_t joined_ns;
	/* the worker sent an impossible reply, so no more is read */
	bool distrusted;
	/* why the worker was killed; NONE: it was not */
	enum fz_err_kind ending;
	char why[FZ_ERR_TEXT_MAX];
	/*
	 * time at which the link was lost; 0: it was not. The timer then ends
	 * the worker
	 */
	int64_t lost_ns;
	/* time until which the worker must end; 0: it was not dismissed */
	int64_t leave_ns;
	/*
	 * The worker is on a node that was lost. The known death is therefore
	 * that of the program that connects the worker.
	 */
	bool node_lost;
	struct fz_watch death;
	struct fz_worker_output output;
	struct fz_timer timer;
	/* kills the worker if it does not end when asked */
	struct fz_timer force;
	/*
	 * Armed while only a part of a reply has come, and until the worker
	 * joins its node.
	 */
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

/* Describe a failure of a job of this worker, without its reason. */
struct fz_failure fz_worker_failure(const struct fz_worker_pipes *p);

/*
 * One above the number of the item that the worker started last, or a safe
 * number if the link does not know it or reports an impossible one.
 */
uint32_t fz_worker_claimed(const struct fz_worker_pipes *p);

/* Record that the worker runs the head since `now_ns`, and arm its timeout. */
void fz_worker_start_head(struct fz_worker_pipes *p, int64_t now_ns);

/*
 * Note the usage of the next answers, which is at `bytes` of a frame; NULL:
 * there is none. It is converted to the clock of this process. It is checked,
 * because a function may have overwritten it.
 */
void fz_worker_note_used(
    struct fz_worker_pipes *p, const unsigned char *bytes, int64_t now_ns);

/* Count `n` items of the head as answered; dequeue it if none is left. */
struct fz_job *fz_worker_answer_head(struct fz_worker *w, uint32_t n);

/*
 * Return the items from `from` on, below `end`, to their owners. Returns their
 * number.
 */
unsigned fz_worker_return(
    struct fz_worker_pipes *p, uint32_t from, uint32_t end);

/*
 * Report the worker as idle if `n` items have been answered and it has no job
 * left.
 */
void fz_worker_report_idle(struct fz_worker_pipes *p, unsigned n);

/*
 * Process the replies that came. Returns the number of new results, or -1 and
 * `err`.
 */
int fz_worker_take_replies(struct fz_worker_pipes *p, struct fz_err *err);

/*
 * Process the finished replies that are not sent. Returns the number of new
 * results.
 */
unsigned fz_worker_take_unsent(struct fz_worker_pipes *p);

/* Callbacks of the link: replies have come, or the link is lost. */
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
