/*
 * worker.h - one forked worker as its parent sees it.
 *
 *      fork            job sent          last reply
 *   --------> idle ----------------> busy ---------> idle ...
 *               \                     |  \
 *                \ closed             |   \ kill, crash, timeout
 *                 +-------------> dead <---+
 *
 * The parent never waits for a worker: what does not fit a pipe stays in a
 * buffer. Jobs may be sent ahead; they start in order, one at a time. When a
 * worker dies, the one job it had started and not answered has failed; those
 * it had not started are returned and do not count as tried.
 */
#ifndef FZ_WORKER_H
#define FZ_WORKER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "os/death.h"
#include "os/proc.h"
#include "worker/wire.h"

struct fz_account;
struct fz_blob;
struct fz_engine;
struct fz_job;
struct fz_link_ops;
struct fz_port;
struct fz_worker;

/* Why a job has no result. */
struct fz_failure {
	struct fz_err err; /* its kind decides; text where not by `value` */
	struct fz_blob
	    *value; /* an error raised in the worker, encoded, or NULL */
	pid_t pid;
	int signal;   /* 0: none */
	int exitcode; /* -1: none */
	unsigned attempt;
};

/* Told to the owner of a job; but for `started` never inside a send. */
struct fz_job_ops {
	/*
	 * It returned `n` values; a NULL is one that could not be kept for
	 * lack of memory. The owner takes the references.
	 */
	void (*done)(struct fz_job *job, struct fz_blob **values, uint32_t n);
	/* It failed; `failure` is valid during the call, `value` is taken. */
	void (*failed)(struct fz_job *job, struct fz_failure *failure);
	/*
	 * It was sent ahead and never started: send it to somebody else. Of a
	 * batch these are its last `nitems` items; it has others still to
	 * answer where `job->worker` is set.
	 */
	void (*returned)(struct fz_job *job, uint32_t nitems);
	/* It is the one that runs now, as far as the parent can know. */
	void (*started)(struct fz_job *job);
	/*
	 * Of a batch: `n` items from its item number `first` (from 0) on have
	 * returned what `blob` holds behind `skip` others; NULL where it could
	 * not be kept. It is the job's strip, behind `first` slots, where
	 * the worker has stored them there. Not a new reference. Items that are
	 * told by `done` or `failed` are those before `job->ndone`.
	 */
	void (*items)(struct fz_job *job, uint32_t first, uint32_t n,
	    struct fz_blob *blob, uint32_t skip);
};

struct fz_job {
	const struct fz_job_ops *ops;
	struct fz_job *next;      /* in the queue that holds it */
	struct fz_worker *worker; /* who has it; NULL: nobody */
	void *owner;              /* whose job it is; the sender's to set */
	pid_t pid;                /* of the worker that had it last */
	uint32_t func;            /* number of the function in the worker */
	uint32_t nvalues;         /* results that are wanted */
	uint32_t seq;             /* its number at this worker */
	uint32_t nitems;          /* numbers it takes: 1, or those of a batch */
	uint32_t ndone;           /* of these that were answered */
	size_t nbytes;            /* of its frame */
	struct fz_blob *strip;    /* slots for its results, NULL: none */
	uint64_t seed;
	uint64_t memory;    /* bytes, 0: no limit */
	int64_t timeout_ns; /* FZ_CLOCK_NEVER: none */
	int64_t started_ns; /* as the parent knows it */
};

/* What a batch has beside its job. */
struct fz_worker_batch {
	uint32_t kind;  /* enum fz_wire_kind */
	uint64_t first; /* index of its first item */
};

enum { FZ_WORKER_FUNCS = 64 };

/* Told to whoever keeps the workers. */
struct fz_worker_ops {
	/* The last job was answered (or returned). */
	void (*idle)(void *ctx, struct fz_worker *worker);
	/* It is dead and reaped; free it. Its jobs were told already. */
	void (*dead)(void *ctx, struct fz_worker *worker);
};

/* The life of a worker, in the child: serve `port` until it ends. */
typedef int (*fz_worker_main)(void *ctx, struct fz_port *port);

struct fz_worker_opts {
	struct fz_engine *engine;
	const struct fz_worker_ops *ops;
	void *ops_ctx;
	fz_worker_main main;
	void *main_ctx;
	const struct fz_link_ops *link; /* NULL: fz_link_fork */
	const char *noun;               /* what texts call it, NULL: "worker" */
	bool replaceable; /* its owner starts another one if it cannot start,
			   * so that no job fails of that */
};

struct fz_worker {
	struct fz_job *head, **tail; /* sent and not answered, in order */
	unsigned njobs;
	uint64_t nitems; /* of those jobs, not answered */
	uint64_t nsent;  /* items it was sent, less those it returned */
	size_t nbytes;   /* of those jobs' frames */
	void *owner;     /* whose jobs these are; the sender's to set */
	pid_t pid;
	int64_t news_ns; /* when it last answered, or became busy */
	int64_t mean_ns; /* time a job takes, a moving average; 0: not known */
	bool dying;      /* killed, not yet reaped */
	bool recalls;    /* jobs that it has not begun come back at once */
	bool leaving;    /* dismissed: it will end by itself */
	bool failed_start;       /* dead by itself before it started any job */
	struct fz_err start_err; /* what it said then; NONE: nothing */
	struct fz_death death;   /* how it ended, once it is dead */
	/* For who sends it functions: which version it has in each slot. */
	uint64_t funcs[FZ_WORKER_FUNCS];
	uint64_t stamp; /* versions up to this one it has inherited */
	bool has_slot;  /* of fz_slots, while it is busy; the pool's to set */
	struct fz_worker *next, **prev;
	struct fz_worker_pipes *pipes;
};

/* Fork one. NULL and `err` on failure. */
struct fz_worker *fz_worker_new(
    const struct fz_worker_opts *opts, struct fz_err *err);

/*
 * Send `job` with `n` encoded arguments. The bytes leave at the end of the
 * loop's step, those of many jobs in one write. 0, or -1 and `err` (no
 * memory), then the job is still the caller's.
 */
int fz_worker_send(struct fz_worker *worker, struct fz_job *job,
    struct fz_blob *const *args, uint32_t n, struct fz_err *err);

/*
 * Send a batch of `job->nitems` items; `parts` are the items, as its kind
 * says. As fz_worker_send() otherwise.
 */
int fz_worker_send_batch(struct fz_worker *worker, struct fz_job *job,
    const struct fz_worker_batch *batch, struct fz_blob *const *parts,
    uint32_t nparts, struct fz_err *err);

/* What was sent leaves now: for what is seldom sent, and waited for. */
void fz_worker_write(struct fz_worker *worker);

/*
 * `job` is what a new worker does from its fork on, once: nothing is sent to
 * it. Its main replies to the call number 0 without fz_port_next().
 */
void fz_worker_begin(struct fz_worker *worker, struct fz_job *job);

/* Have it keep an encoded function in `slot`. 0, or -1 and `err`. */
int fz_worker_send_func(struct fz_worker *worker, uint32_t slot,
    struct fz_blob *code, struct fz_err *err);

/* Whether it has started an item of what it was sent and has not answered. */
bool fz_worker_has_begun(const struct fz_worker *worker);

/*
 * Take back the jobs and items it has not started; they are told by
 * `returned`. Returns how many items these are.
 */
unsigned fz_worker_recall(struct fz_worker *worker);

/*
 * Take replies that it has finished but keeps until it has more (see
 * child_port.h).
 */
void fz_worker_peek(struct fz_worker *worker);

/*
 * End it and all that it started, at once. Its job, if one runs, fails with
 * `kind` and `text`. `dead` is called once it is reaped, in a later step.
 */
void fz_worker_kill(
    struct fz_worker *worker, enum fz_err_kind kind, const char *text);

/* Ask it to end, by SIGTERM. Its job, if one runs, has crashed then. */
void fz_worker_terminate(struct fz_worker *worker);

/* The same as to kill it, and wait until it is dead: all its jobs and `dead`
 * are told. */
void fz_worker_end(
    struct fz_worker *worker, enum fz_err_kind kind, const char *text);

/* Let an idle worker leave by itself: it reads the end of its pipe. */
void fz_worker_dismiss(struct fz_worker *worker);

/* The tokens that it and those below it hold; until it is freed. */
struct fz_account *fz_worker_account(const struct fz_worker *worker);

/* What it printed last before its replies is no piece of a longer line. */
void fz_worker_flush(struct fz_worker *worker);

/*
 * Kill if need be, wait until it is dead, free. Jobs that it still has are not
 * reported. NULL is allowed.
 */
void fz_worker_free(struct fz_worker *worker);

#endif
