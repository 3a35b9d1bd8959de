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
#include "proc/death.h"
#include "proc/proc.h"
#include "wire/wire.h"

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
	const char *node; /* the node of the worker; NULL: this machine */
	int signal;       /* the signal that killed the worker; 0: none */
	int exitcode;     /* exit code of the worker; -1: none */
	/* peak memory in bytes of a worker that died; 0: unknown */
	uint64_t peak_rss;
	/* processor time of a worker that died, for this job; 0: unknown */
	uint64_t cpu_ns;
	unsigned attempt;
	bool apart; /* the failed item will come in a frame of its own */
};

/*
 * Functions that notify the owner of a job. Only `started` is called inside a
 * send.
 */
struct fz_job_ops {
	/*
	 * The job returned `n` values. A value is NULL if there was no memory
	 * for it. The owner takes the references.
	 */
	void (*done)(struct fz_job *job, struct fz_blob **values, uint32_t n);
	/* The job failed. `failure` is valid during the call; the owner takes
	 * `value`. */
	void (*failed)(struct fz_job *job, struct fz_failure *failure);
	/*
	 * The job was sent ahead and never started: send it to another worker.
	 * If the job is a chunk, only its last `nitems` items are returned; if
	 * `job->worker` is set, the worker still has the others.
	 */
	void (*returned)(struct fz_job *job, uint32_t nitems);
	/* The job runs now, as far as the parent knows. */
	void (*started)(struct fz_job *job);
	/*
	 * Items `first` (from 0) to `first` + `n` - 1 of a chunk have returned
	 * the results that follow `skip` others in `blob`. `blob` is NULL if
	 * there was no memory for the results, and the job's result buffer if
	 * the worker stored them there. It is not a new reference. If the job
	 * is a chunk, `done` and `failed` are about item `job->ndone` - 1.
	 */
	void (*items)(struct fz_job *job, uint32_t first, uint32_t n,
	    struct fz_blob *blob, uint32_t skip);
};

struct fz_job {
	const struct fz_job_ops *ops;
	struct fz_job *next;      /* next job in the same queue */
	struct fz_worker *worker; /* worker that has the job; NULL: none */
	void *owner;              /* owner of the job; set by the sender */
	pid_t pid;                /* pid of the last worker that had the job */
	uint32_t func;            /* number of the function in the worker */
	uint32_t nvalues;         /* number of results that are wanted */
	uint32_t seq;             /* number of its first item at this worker */
	/* number of its items: 1 for a job that is not a chunk */
	uint32_t nitems;
	uint32_t ndone; /* number of items that are answered */
	size_t nbytes;  /* bytes of its frame */
	uint32_t end;   /* bytes of the link up to there, modulo 2^32 */
	/* memory for its raw results; NULL: none */
	struct fz_blob *result_buffer;
	uint64_t seed;
	uint64_t memory;    /* limit of memory in bytes; 0: none */
	int64_t timeout_ns; /* time limit of each item; FZ_CLOCK_NEVER: none */
	/* time of its start, as far as the parent knows it */
	int64_t started_ns;
	int64_t ended_ns; /* time at which its last reply was read */
	bool repeats;     /* the job is tried again if its worker is lost */
	/*
	 * A node was lost while it had the job, which may be the cause: a
	 * worker that gets the job gets no other one.
	 */
	bool alone;
	/*
	 * For a measured job: the usage of the items in its last answer. Times
	 * are those of fz_clock_ns() in this process.
	 */
	struct fz_used used;
	/* node of the last worker that had the job; NULL: this machine */
	const char *node;
	/* time at which the job could be sent; 0: there is no trace */
	int64_t queued_ns;
	size_t nreceived; /* bytes of its results; 0: there is no trace */
	bool measured;    /* the worker measures the job, for a trace */
};

/* The properties of a chunk besides its job. */
struct fz_worker_chunk {
	uint32_t kind;  /* enum fz_wire_kind */
	uint64_t first; /* index of its first item */
};

enum { FZ_WORKER_FUNCS = 64 };

/* Functions that notify the owner of the worker. */
struct fz_worker_ops {
	/* The last job was answered (or returned). */
	void (*idle)(void *ctx, struct fz_worker *worker);
	/*
	 * The worker is dead and reaped: free it. The owners of its jobs were
	 * notified.
	 */
	void (*dead)(void *ctx, struct fz_worker *worker);
};

/*
 * The main function of a worker, in the child: serve the calls of `port` until
 * there are no more. Returns the exit status.
 */
typedef int (*fz_worker_main)(void *ctx, struct fz_port *port);

/* How a program shares the slots of its parent: see slots.h. */
struct fz_worker_slots {
	/* environment of the program; NULL: it shares no slots */
	char *const *environ_;
	unsigned n;
	/* the pipe that `environ_` names; -1: the pipe of make */
	int shared[2];
	/* accounts of this process, or NULL */
	const struct fz_lineage *lineage;
};

/*
 * A worker that is a program: it calls fz_child_spawned_enter(), and gets
 * `setup` in place of the memory that a forked worker inherits. Its link is a
 * byte stream.
 */
struct fz_worker_program {
	/* path of the program; NULL: the worker is forked, or on a node */
	const char *path;
	struct fz_node *node; /* the node that it runs on; NULL: this machine */
	struct fz_blob *setup;
	uint32_t number; /* number of the worker in its pool */
	uint32_t flags;  /* flags in the body of FZ_WIRE_SETUP */
	struct fz_worker_slots slots;
};

struct fz_worker_opts {
	struct fz_engine *engine;
	const struct fz_worker_ops *ops;
	void *ops_ctx;
	fz_worker_main main; /* entry function of a forked worker */
	void *main_ctx;
	struct fz_worker_program program;
	/* kind of the link; NULL: fz_link_fork */
	const struct fz_link_ops *link;
	/* name of a worker in messages; NULL: "worker" */
	const char *noun;
	/* the owner replaces this worker if it cannot start */
	bool replaceable;
};

struct fz_worker {
	/* jobs that are sent and not answered, in order */
	struct fz_job *head, **tail;
	unsigned njobs;
	uint64_t nitems; /* number of unanswered items of all its jobs */
	/* number of items sent to the worker, less those that it returned */
	uint64_t nsent;
	size_t nbytes;   /* bytes of the frames of all its jobs */
	void *owner;     /* owner of all its jobs; set by the sender */
	unsigned number; /* number in its pool, from 1; set by the pool */
	int64_t idle_ns; /* time at which it became idle; set by the pool */
	pid_t pid;
	int64_t news_ns; /* time at which it last answered, or became busy */
	int64_t mean_ns; /* moving average of the time of a job; 0: unknown */
	bool rested;     /* it had no job when its head was sent */
	bool dying;      /* the worker is killed and not yet reaped */
	/* a recall has taken effect when fz_worker_recall() returns */
	bool recalls;
	/*
	 * jobs may be sent ahead, because a recall returns them soon, even
	 * while the worker computes
	 */
	bool ahead;
	bool leaving; /* the worker is dismissed and ends by itself */
	/*
	 * dismiss the worker when it is idle: it has damaged shared memory, or
	 * its node leaves
	 */
	bool retiring;
	bool unreached; /* the worker did not join its node */
	/* the worker died by itself before it started a job */
	bool failed_start;
	/* the reason that the worker reported; NONE: unknown */
	struct fz_err start_err;
	struct fz_death death; /* how the worker ended; set at its death */
	/*
	 * version of each entry; set by the sender of functions or kept values
	 */
	uint64_t funcs[FZ_WORKER_FUNCS];
	uint64_t version; /* newest version of functions that it inherited */
	/*
	 * the worker holds a slot of fz_slots while it is busy; set by the pool
	 */
	bool has_slot;
	struct fz_node *node; /* the node that it runs on; NULL: this machine */
	/* the worker counts as busy on its node; set by the pool */
	bool loads_node;
	struct fz_worker *next, **prev;
	struct fz_list resting; /* in the engine's list while it rests */
	struct fz_worker_pipes *pipes;
};

/* Start a worker. NULL and `err` on failure. */
struct fz_worker *fz_worker_new(
    const struct fz_worker_opts *opts, struct fz_err *err);

/*
 * Send `job` with `n` encoded arguments. The bytes leave at the end of the
 * loop's turn, those of many jobs in one write. 0, or -1 and `err` if there is
 * no memory; then the caller still owns the job.
 */
int fz_worker_send(struct fz_worker *worker, struct fz_job *job,
    struct fz_blob *const *args, uint32_t n, struct fz_err *err);

/*
 * Send a chunk of `job->nitems` items; `parts` contain the items in the form of
 * `chunk->kind`. Otherwise like fz_worker_send().
 */
int fz_worker_send_chunk(struct fz_worker *worker, struct fz_job *job,
    const struct fz_worker_chunk *chunk, struct fz_blob *const *parts,
    uint32_t nparts, struct fz_err *err);

/*
 * Send `n` jobs in one frame: calls of one function that returns one value,
 * without a limit of memory. `args` has `nargs` arguments of each. Otherwise
 * like fz_worker_send(): nothing is sent on failure.
 */
int fz_worker_send_steps(struct fz_worker *worker, struct fz_job *const *jobs,
    uint32_t n, struct fz_blob *const *args, uint32_t nargs,
    struct fz_err *err);

/* Write now what was sent, and not at the end of the turn. */
void fz_worker_write(struct fz_worker *worker);

/*
 * Let `job` be the work of a new worker from its fork on: no frame is sent, and
 * the worker's main function replies to call number 0 without fz_port_next().
 */
void fz_worker_begin(struct fz_worker *worker, struct fz_job *job);

/*
 * Send the worker an encoded function, which it keeps as `number`. 0, or -1 and
 * `err`.
 */
int fz_worker_send_func(struct fz_worker *worker, uint32_t number,
    struct fz_blob *code, struct fz_err *err);

/*
 * Send the worker `n` values to keep in `entry` for the calls of later chunks.
 * If `n` is 0, the worker drops the values in that entry. 0, or -1 and `err`.
 */
int fz_worker_keep(struct fz_worker *worker, uint32_t entry,
    struct fz_blob *const *values, uint32_t n, struct fz_err *err);

/* Whether the worker has started an item of its first job. */
bool fz_worker_has_begun(const struct fz_worker *worker);

/*
 * Take back the jobs and items that the worker has not started. `returned` is
 * called for them, now or, if the link has no exact recall, later. Returns the
 * number of items that are taken back now.
 */
unsigned fz_worker_recall(struct fz_worker *worker);

/*
 * Take replies that are finished but not yet written (see mailbox.h). The last
 * results of a measured job are taken only with its usage.
 */
void fz_worker_peek(struct fz_worker *worker);

/*
 * Kill the worker and all its descendants. A job that runs fails with `kind`
 * and `text`. `dead` is called in a later turn, after the worker was reaped.
 */
void fz_worker_kill(
    struct fz_worker *worker, enum fz_err_kind kind, const char *text);

/* Send SIGTERM to the worker. A job that runs then counts as crashed. */
void fz_worker_terminate(struct fz_worker *worker);

/*
 * Kill the worker and wait until it is dead; `dead` is called before this
 * returns.
 */
void fz_worker_end(
    struct fz_worker *worker, enum fz_err_kind kind, const char *text);

/* Let an idle worker end by itself: it reads end of file in place of a call. */
void fz_worker_dismiss(struct fz_worker *worker);

/*
 * The account of the tokens of the worker and its descendants, valid until the
 * worker is freed. NULL if the link shares no account.
 */
struct fz_account *fz_worker_account(const struct fz_worker *worker);

/* Pass on an incomplete last line that the worker printed. */
void fz_worker_flush(struct fz_worker *worker);

/*
 * Note whether the worker rests: it is idle in its pool, or its job is to serve
 * other processes. A resting worker does nothing by itself, so it ends no wait
 * of this process.
 */
void fz_worker_rest(struct fz_worker *worker, bool rests);
bool fz_worker_rests(const struct fz_worker *worker);

/* Number of the watches and timers of all resting workers of the engine. */
unsigned fz_worker_nresting(const struct fz_engine *engine);

/* Whether `pid` is a resting worker of the engine. */
bool fz_worker_is_resting(const struct fz_engine *engine, pid_t pid);

/*
 * Kill the worker if needed, wait until it is dead, and free it. Nothing is
 * reported about its jobs. NULL is allowed.
 */
void fz_worker_free(struct fz_worker *worker);

#endif
