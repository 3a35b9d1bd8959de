/*
 * worker.h - one worker as its parent sees it: jobs, replies, death.
 *
 *      fork            job sent          last reply
 *   --------> idle ----------------> busy ---------> idle ...
 *               \                     |  \
 *                \ closed             |   \ kill, crash, timeout
 *                 +-------------> dead <---+
 *
 * The parent never waits for a worker: bytes that do not fit the link (see
 * link.h) stay in a buffer. Jobs may be sent ahead; they start in order, one at
 * a time. If a worker dies, the job that it had started and not answered fails;
 * jobs that it had not started are returned and do not count as tried.
 */
#ifndef FZ_WORKER_H
#define FZ_WORKER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "base/list.h"
#include "os/death.h"
#include "os/proc.h"
#include "worker/wire.h"

struct fz_account;
struct fz_blob;
struct fz_engine;
struct fz_job;
struct fz_link_ops;
struct fz_node;
struct fz_port;
struct fz_worker;

/* Why a job has no result. */
struct fz_failure {
	struct fz_err err;     /* kind, and a text unless `value` is set */
	struct fz_blob *value; /* the error, encoded; NULL: none */
	pid_t pid;
	const char *node;  /* where the worker is; NULL: on this machine */
	int signal;        /* 0: none */
	int exitcode;      /* -1: none */
	uint64_t peak_rss; /* bytes, of a worker that died; 0: not known */
	uint64_t cpu_ns;   /* the same: for this job; 0: not known */
	unsigned attempt;
	bool apart; /* of an item that is to come in a frame of its own */
};

/* Notify the owner of a job. Only `started` is called inside a send. */
struct fz_job_ops {
	/*
	 * The job returned `n` values; NULL is a value that there was no memory
	 * for. The owner takes the references.
	 */
	void (*done)(struct fz_job *job, struct fz_blob **values, uint32_t n);
	/* The job failed. `failure` is valid during the call; the owner takes
	 * `value`. */
	void (*failed)(struct fz_job *job, struct fz_failure *failure);
	/*
	 * The job was sent ahead and never started: send it to another worker.
	 * Of a chunk only its last `nitems` items are returned; if
	 * `job->worker` is set, the worker still has others.
	 */
	void (*returned)(struct fz_job *job, uint32_t nitems);
	/* The job runs now, as far as the parent knows. */
	void (*started)(struct fz_job *job);
	/*
	 * Items `first` (from 0) to `first` + `n` - 1 of a chunk have returned
	 * the results that follow `skip` others in `blob`; NULL if there was no
	 * memory for them. `blob` is the job's result buffer if the worker
	 * stored them there. It is not a new reference. `done` and `failed` of
	 * a chunk are about item `job->ndone` - 1.
	 */
	void (*items)(struct fz_job *job, uint32_t first, uint32_t n,
	    struct fz_blob *blob, uint32_t skip);
};

struct fz_job {
	const struct fz_job_ops *ops;
	struct fz_job *next;      /* in the queue that holds it */
	struct fz_worker *worker; /* NULL: no worker has it */
	void *owner;              /* whose job it is; the sender's to set */
	pid_t pid;                /* of the last worker that had it */
	uint32_t func;            /* number of the function in the worker */
	uint32_t nvalues;         /* results that are wanted */
	uint32_t seq;             /* its number at this worker */
	uint32_t nitems; /* how many numbers it has: 1, or one per item */
	uint32_t ndone;  /* of these, answered */
	size_t nbytes;   /* of its frame */
	struct fz_blob *result_buffer; /* for its raw results, NULL: none */
	uint64_t seed;
	uint64_t memory;    /* bytes, 0: no limit */
	int64_t timeout_ns; /* FZ_CLOCK_NEVER: none */
	int64_t started_ns; /* as the parent knows it */
	int64_t ended_ns;   /* when its last reply was read */
	bool repeats;       /* it is tried again if its worker is lost */
	bool measured;      /* for a trace: by its worker */
	/*
	 * Of a measured job: what its last answer says of these items, by the
	 * clock of this process. And where it runs, NULL: here.
	 */
	struct fz_used used;
	const char *node;
	/* For a trace: when it could be sent, and bytes of its results; or 0.
	 */
	int64_t queued_ns;
	size_t nreceived;
};

/* The properties of a chunk besides its job. */
struct fz_worker_chunk {
	uint32_t kind;  /* enum fz_wire_kind */
	uint64_t first; /* index of its first item */
};

enum { FZ_WORKER_FUNCS = 64 };

/* Notify the owner of the worker. */
struct fz_worker_ops {
	/* The last job was answered (or returned). */
	void (*idle)(void *ctx, struct fz_worker *worker);
	/* It is dead and reaped: free it. The owners of its jobs were notified.
	 */
	void (*dead)(void *ctx, struct fz_worker *worker);
};

/* The life of a worker, in the child: serve `port` until it ends. */
typedef int (*fz_worker_main)(void *ctx, struct fz_port *port);

/* What a program gets of the slots of its parent: see slots.h. */
struct fz_worker_slots {
	char *const *environ_; /* of the program; NULL: it gets no slots */
	unsigned n;
	int shared[2]; /* the pipe that `environ_` names; -1: make's */
	const struct fz_lineage *lineage; /* of this process, or NULL */
};

/*
 * A worker that is a program: it calls fz_child_spawned_init(), and gets
 * `setup`, where a forked one inherits memory. Its link is a byte stream.
 */
struct fz_worker_program {
	const char *path;     /* NULL: the worker is forked, or on a node */
	struct fz_node *node; /* where it is; NULL: on this machine */
	struct fz_blob *setup;
	uint32_t number; /* of the worker */
	uint32_t flags;  /* of the body of FZ_WIRE_SETUP */
	struct fz_worker_slots slots;
};

struct fz_worker_opts {
	struct fz_engine *engine;
	const struct fz_worker_ops *ops;
	void *ops_ctx;
	fz_worker_main main; /* of a forked worker */
	void *main_ctx;
	struct fz_worker_program program;
	const struct fz_link_ops *link; /* NULL: fz_link_fork */
	const char *noun;               /* what texts call it, NULL: "worker" */
	bool replaceable; /* if it cannot start, its owner replaces it */
};

struct fz_worker {
	struct fz_job *head, **tail; /* sent and not answered, in order */
	unsigned njobs;
	uint64_t nitems; /* of those jobs, not answered */
	uint64_t nsent;  /* items it was sent, less those it returned */
	size_t nbytes;   /* of those jobs' frames */
	void *owner;     /* whose jobs these are; the sender's to set */
	unsigned number; /* in its pool, from 1; the pool's to set */
	int64_t idle_ns; /* when it became idle; the pool's to set */
	pid_t pid;
	int64_t news_ns; /* when it answered last, or became busy */
	int64_t mean_ns; /* time a job takes, a moving average; 0: not known */
	bool dying;      /* killed, not yet reaped */
	bool recalls;    /* jobs that it has not begun come back at once */
	bool leaving;    /* dismissed: it ends by itself */
	bool retiring;   /* dismiss it once idle: it damaged shared memory, or
			    its node leaves */
	bool unreached;  /* it did not join its node */
	bool failed_start;       /* died by itself before it started a job */
	struct fz_err start_err; /* why, as it reported; NONE: unknown */
	struct fz_death death;   /* how it ended, once it is dead */
	/* version in each entry, for the sender of functions or kept values
	 */
	uint64_t funcs[FZ_WORKER_FUNCS];
	uint64_t version; /* newest version of functions that it inherited */
	bool has_slot;    /* of fz_slots, while it is busy; the pool's to set */
	struct fz_node *node; /* where it is; NULL: on this machine */
	bool loads_node;      /* it counts as busy there; the pool's to set */
	struct fz_worker *next, **prev;
	struct fz_list resting; /* in the engine's list while it rests */
	struct fz_worker_pipes *pipes;
};

/* Start one. NULL and `err` on failure. */
struct fz_worker *fz_worker_new(
    const struct fz_worker_opts *opts, struct fz_err *err);

/*
 * Send `job` with `n` encoded arguments. The bytes leave at the end of the
 * loop's turn, those of many jobs in one write. 0, or -1 and `err` (no
 * memory), then the job is still the caller's.
 */
int fz_worker_send(struct fz_worker *worker, struct fz_job *job,
    struct fz_blob *const *args, uint32_t n, struct fz_err *err);

/*
 * Send a chunk of `job->nitems` items; `parts` are the items, as its kind
 * says. As fz_worker_send() otherwise.
 */
int fz_worker_send_chunk(struct fz_worker *worker, struct fz_job *job,
    const struct fz_worker_chunk *chunk, struct fz_blob *const *parts,
    uint32_t nparts, struct fz_err *err);

/*
 * Send `n` jobs in one frame: calls of one function that returns one value,
 * without a limit of memory. `args` has `nargs` arguments of each. As
 * fz_worker_send() otherwise: nothing is sent on failure.
 */
int fz_worker_send_steps(struct fz_worker *worker, struct fz_job *const *jobs,
    uint32_t n, struct fz_blob *const *args, uint32_t nargs,
    struct fz_err *err);

/* Write what was sent now, instead of at the end of the turn. */
void fz_worker_write(struct fz_worker *worker);

/*
 * `job` is what a new worker does from its fork on: nothing is sent to it, and
 * its main function replies to call number 0 without fz_port_next().
 */
void fz_worker_begin(struct fz_worker *worker, struct fz_job *job);

/* Send it an encoded function to keep as `number`. 0, or -1 and `err`. */
int fz_worker_send_func(struct fz_worker *worker, uint32_t number,
    struct fz_blob *code, struct fz_err *err);

/*
 * Send it `n` values to keep in `entry` for the calls of later chunks; 0: those
 * in the entry are needed no more. 0, or -1 and `err`.
 */
int fz_worker_keep(struct fz_worker *worker, uint32_t entry,
    struct fz_blob *const *values, uint32_t n, struct fz_err *err);

/* Whether it has started an item of its first job. */
bool fz_worker_has_begun(const struct fz_worker *worker);

/*
 * Take back the jobs and items that it has not started: `returned` is called
 * for them, now or later if the link is not exact. Returns how many items are
 * taken back now.
 */
unsigned fz_worker_recall(struct fz_worker *worker);

/*
 * Take replies that are finished but not yet written (see mailbox.h). The last
 * results of a measured job come with what it has used.
 */
void fz_worker_peek(struct fz_worker *worker);

/*
 * Kill it and all its descendants. A job that runs fails with `kind` and
 * `text`. `dead` is called in a later turn, once it is reaped.
 */
void fz_worker_kill(
    struct fz_worker *worker, enum fz_err_kind kind, const char *text);

/* Send it SIGTERM. A job that runs then counts as crashed. */
void fz_worker_terminate(struct fz_worker *worker);

/* Kill it and wait until it is dead; `dead` is called before this returns. */
void fz_worker_end(
    struct fz_worker *worker, enum fz_err_kind kind, const char *text);

/* Let an idle worker leave by itself: it reads the end of its calls. */
void fz_worker_dismiss(struct fz_worker *worker);

/* The tokens of it and its descendants, until it is freed; NULL if the link
 * shares none. */
struct fz_account *fz_worker_account(const struct fz_worker *worker);

/* Pass on an incomplete last line that it printed. */
void fz_worker_flush(struct fz_worker *worker);

/*
 * The worker rests, or gets a job or ends: while it rests it does nothing by
 * itself, so that it ends no wait. It rests in its pool, or its job is to serve
 * others and is not counted as busy.
 */
void fz_worker_rest(struct fz_worker *worker, bool rests);
bool fz_worker_rests(const struct fz_worker *worker);

/* The watches and timers of all workers of the engine that rest. */
unsigned fz_worker_nresting(const struct fz_engine *engine);

/* Whether `pid` is a worker of the engine that rests. */
bool fz_worker_is_resting(const struct fz_engine *engine, pid_t pid);

/*
 * Kill it if needed, wait until it is dead, free it. Nothing is reported of its
 * jobs. NULL is allowed.
 */
void fz_worker_free(struct fz_worker *worker);

#endif
