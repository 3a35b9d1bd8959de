/*
 * worker_state.h - the private part of a worker: start (worker_spawn.c),
 * sending (worker.c), recall (worker_jobs.c), jobs that their owner does not
 * want any more (worker_unwanted.c), replies (worker_replies.c), time limits
 * (worker_timeout.c) and end (worker_death.c).
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

/* Results that were read from the mailbox while their frame grew. */
struct fz_worker_seen {
	uint32_t seq, nitems;
	size_t len; /* size of these results in bytes */
};

/* The follower of a worker, see handover.h. */
struct fz_follower {
	struct fz_worker *worker; /* the follower; NULL: unknown */
	/* value of engine->nfreed when the follower was noted */
	uint64_t nfreed;
};

/* The private part of a worker. */
struct fz_worker_private {
	struct fz_worker_opts opts;
	struct fz_worker *worker;
	struct fz_proc proc;
	struct fz_link *link;
	/* account of a program; NULL: it is in the mailbox */
	struct fz_program_account *account;
	uint32_t answered; /* all items with lower numbers are answered */
	/* replies to all items with lower numbers have come through the link */
	uint32_t piped;
	struct fz_worker_seen seen;
	struct fz_follower follower;
	struct fz_awaited awaited; /* for fz_loop_await() */
	/* the usage that the current reply reports */
	struct fz_used used;
	int64_t used_ns; /* time up to which usage was counted */
	/* time that its start took in this process; 0: it was reported */
	int64_t launch_ns;
	/*
	 * only if the link shares no memory: how far the worker's clock is
	 * ahead of the clock of this process, in nanoseconds
	 */
	int64_t ahead_ns;
	/* processor time of the answered jobs */
	uint64_t cpu_ns;
	bool head_begun; /* current job has begun, whatever the link says */
	/* pid of the worker on its machine; 0: unknown until it has joined */
	pid_t pid;
	/* time at which the worker joined its node; 0: never */
	int64_t joined_ns;
	/* the worker sent an impossible reply: its replies are read no more */
	bool distrusted;
	/* why the worker was killed; FZ_ERR_NONE: it was not */
	enum fz_err_kind ending;
	char why[FZ_ERR_TEXT_MAX];
	/*
	 * time at which the link was lost, after which `timer` ends the worker;
	 * 0: it was not lost
	 */
	int64_t lost_ns;
	/* time until which a dismissed worker must end; 0: not dismissed */
	int64_t leave_ns;
	/*
	 * The node of the worker was lost. The known death is then that of the
	 * local program that connects the worker.
	 */
	bool node_lost;
	struct fz_watch death;
	struct fz_worker_output output;
	struct fz_timer timer;
	/* kills a worker that was asked to end and does not end */
	struct fz_timer force;
	/*
	 * Armed until the worker joins its node, and whenever only a part of a
	 * reply has come.
	 */
	struct fz_timer half;
};

#define PRIVATE_OF(member, ptr) \
	FZ_CONTAINER_OF(ptr, struct fz_worker_private, member)

static inline struct fz_loop *
loop_of(const struct fz_worker_private *p)
{
	return p->opts.engine->loop;
}

/* Number of the first unanswered item of `job`. */
static inline uint32_t
fz_worker_next_number(const struct fz_job *job)
{
	return job->seq + job->ndone;
}

/* A failure of a job of this worker; the caller adds the error. */
struct fz_failure fz_worker_failure(const struct fz_worker_private *p);

/*
 * 1 + number of the last started item. An impossible or unknown number is
 * replaced by that for the first unanswered item.
 */
uint32_t fz_worker_claimed(const struct fz_worker_private *p);

/* The worker runs its first unanswered job since `now_ns`; arm its timeout. */
void fz_worker_start_head(struct fz_worker_private *p, int64_t now_ns);

/*
 * Note the usage for the next answers, which is at `bytes` of a frame; NULL:
 * there is none. Its times are converted to the clock of this process. They are
 * checked, because a function of the worker may have overwritten them.
 */
void fz_worker_note_used(
    struct fz_worker_private *p, const unsigned char *bytes, int64_t now_ns);

/* Count `n` items of the first job as answered; dequeue it if none is left. */
struct fz_job *fz_worker_answer_head(struct fz_worker *w, uint32_t n);

/*
 * Return the items with numbers from `from` to `end` - 1 to their owners.
 * Returns the number of these items.
 */
unsigned fz_worker_return(
    struct fz_worker_private *p, uint32_t from, uint32_t end);

/*
 * If `n` is not 0 and the worker has no job left, report the worker as idle.
 * `n` is the number of items that were answered or returned.
 */
void fz_worker_report_idle(struct fz_worker_private *p, unsigned n);

/*
 * Process the replies that have come through the link. Returns the number of
 * new results and of returned items, or -1 and `err`.
 */
int fz_worker_take_replies(struct fz_worker_private *p, struct fz_err *err);

/*
 * Process the replies that the worker has finished but not sent. Returns the
 * number of new results.
 */
unsigned fz_worker_take_unsent(struct fz_worker_private *p);

/*
 * Kill the worker if it runs an unwanted job. Call this function after replies
 * were processed.
 */
void fz_worker_check_unwanted(struct fz_worker_private *p);

/* Functions that the link calls: replies can be read, or the link is lost. */
void fz_worker_replies_ready(void *ctx);
void fz_worker_link_lost(void *ctx);

/*
 * Arm the timer of the worker. If there is no memory for the timer, kill the
 * worker, because it might never end.
 */
void fz_worker_arm(struct fz_worker_private *p, int64_t at_ns);

/* Arm the timer for the timeout of the first job, or disarm it. */
void fz_worker_arm_timeout(struct fz_worker_private *p);

/* Called by `timer`: check the job's timeout, or end a lost worker. */
void fz_worker_time_is_up(struct fz_timer *timer);

/*
 * Arm a timer for an incomplete reply: if it is only bytes that a function has
 * written, its rest never comes.
 */
void fz_worker_watch_half(struct fz_worker_private *p);

/*
 * Called by the timer `half`. Kills the worker if it has not joined its node in
 * time, or if the rest of a reply cannot come any more.
 */
void fz_worker_check_half(struct fz_timer *timer);

/*
 * Check a worker whose link is lost: report its death if there is no pidfd for
 * that; kill it if it has not ended in time.
 */
void fz_worker_check_lost(struct fz_worker_private *p);

/* Called by the watch `death`: reap the process and end its jobs. */
void fz_worker_death_ready(struct fz_watch *watch, unsigned events);

/* Called by the timer `force`: kill the process that did not end. */
void fz_worker_use_force(struct fz_timer *timer);

/* Wait some time for a dismissed process; kill any other, and reap it. */
void fz_worker_end_process(struct fz_worker_private *p);

#endif
