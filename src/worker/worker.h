/*
 * worker.h - the parent's view of one worker: jobs, replies, death.
 *
 *      fork            job sent          last reply
 *   --------> idle ----------------> busy ---------> idle ...
 *               \                     |  \
 *                \ closed             |   \ kill, crash, timeout
 *                 +-------------> dead <---+
 *
 * The parent never waits for a worker: bytes that the link (link.h) does not
 * accept yet stay in a buffer. Jobs may be sent ahead; the worker starts them
 * in order, one at a time. If a worker dies, the job that it had started but
 * not answered fails. Jobs that it had not started are returned, and do not
 * count as tried.
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

/* Why a job has failed. */
struct fz_failure {
	struct fz_err err; /* the kind, and the text unless `value` is set */
	struct fz_blob *value; /* the error that a function raised, or NULL */
	pid_t pid;
	const char *node; /* node of the worker; NULL: this machine */
	int signal;       /* signal that killed the worker; 0: none */
	int exitcode;     /* exit code of the worker; -1: it did not exit */
	/* if the worker died: its peak memory in bytes; 0: unknown */
	uint64_t peak_rss;
	/* if the worker died: processor time of this job; 0: unknown */
	uint64_t cpu_ns;
	unsigned attempt;
	bool apart; /* not failed: must be sent again, in its own frame */
};

/*
 * Functions that a worker calls to notify the owner of a job. While a job is
 * being sent, only `started` may be called.
 */
struct fz_job_ops {
	/*
	 * The job returned `n` values. A value is NULL if there was no memory
	 * for it. The owner gets the references to the values.
	 */
	void (*done)(struct fz_job *job, struct fz_blob **values, uint32_t n);
	/* The owner gets the reference `failure->value`. */
	void (*failed)(struct fz_job *job, struct fz_failure *failure);
	/*
	 * The job was sent ahead and did not start: the owner must send it
	 * again. If it is a chunk, only its last `nitems` items are returned;
	 * if `job->worker` is set, that worker still has the other items.
	 */
	void (*returned)(struct fz_job *job, uint32_t nitems);
	/* The job has become the worker's current job. */
	void (*started)(struct fz_job *job);
	/*
	 * The items `first` to `first + n - 1` of a chunk have results, which
	 * follow `skip` other results in `blob`. `blob` is no new reference: it
	 * is NULL if there was no memory, or the job's result buffer. For a
	 * chunk, `done` and `failed` are about its item `job->ndone - 1`.
	 */
	void (*items)(struct fz_job *job, uint32_t first, uint32_t n,
	    struct fz_blob *blob, uint32_t skip);
};

struct fz_job {
	const struct fz_job_ops *ops;
	struct fz_job *next; /* next job in a queue of the worker or owner */
	struct fz_worker *worker; /* worker that has the job, or NULL */
	void *owner;              /* owner of the job; set by the sender */
	pid_t pid;        /* pid of the last worker to which the job was sent */
	uint32_t func;    /* number of the function in the worker */
	uint32_t nvalues; /* number of results that the job must return */
	uint32_t seq; /* number of its first item, as counted for its worker */
	/* number of its items; 1 if the job is not a chunk */
	uint32_t nitems;
	uint32_t ndone; /* number of its items that are answered */
	size_t nbytes;  /* size of its frame in bytes */
	uint32_t end;   /* value of link->nput after its frame */
	/* memory for raw results of its items; NULL: none */
	struct fz_blob *result_buffer;
	uint64_t seed;
	uint64_t memory;    /* limit of memory in bytes; 0: none */
	int64_t timeout_ns; /* time limit of each item; FZ_CLOCK_NEVER: none */
	/* time of the job's start, as far as the parent knows */
	int64_t started_ns;
	int64_t ended_ns; /* time at which the last reply to the job was read */
	bool repeats;     /* the job is tried again if its worker is lost */
	/*
	 * The job may have caused the loss of a node that had it. The worker
	 * that gets the job next gets no other job beside it.
	 */
	bool alone;
	/*
	 * why its owner does not want the job any more; NULL: the owner wants
	 * it. Set by fz_worker_refuse()
	 */
	const struct fz_err *unwanted;
	/*
	 * For a measured job: usage of the items of the last reply. Its times
	 * are times of fz_clock_ns() in this process.
	 */
	struct fz_used used;
	/* node of the last worker that had the job; NULL: this machine */
	const char *node;
	/* time at which the job could be sent; 0: no trace is recorded */
	int64_t queued_ns;
	size_t nreceived; /* bytes of its results; 0: no trace is recorded */
	bool measured;    /* the worker measures the job, for a trace */
};

/* What describes a chunk in addition to its job. */
struct fz_worker_chunk {
	uint32_t kind;  /* enum fz_wire_kind, with flags */
	uint64_t first; /* index of the first item of the chunk */
};

enum { FZ_WORKER_FUNCS = 64 };

/* Functions that a worker calls to notify its owner. */
struct fz_worker_ops {
	/* The worker has no job left: the last one was answered or returned. */
	void (*idle)(void *ctx, struct fz_worker *worker);
	/*
	 * The worker is dead and reaped, and the owners of its jobs were
	 * notified. The owner of the worker must free it.
	 */
	void (*dead)(void *ctx, struct fz_worker *worker);
};

/*
 * The main function of a worker, called in the child: serve the calls that
 * arrive at `port` until it ends. Returns the exit status.
 */
typedef int (*fz_worker_main)(void *ctx, struct fz_port *port);

/* How a worker that is a program shares its parent's slots: slots.h. */
struct fz_worker_slots {
	/* environment for the program; NULL: the program shares no slots */
	char *const *environ_;
	unsigned n;
	/* the pipe that `environ_` names; -1: the pipe of make */
	int shared[2];
	/* accounts of this process; NULL: none */
	const struct fz_lineage *lineage;
};

/*
 * Options of a spawned worker. It calls fz_child_spawned_enter(), and gets
 * `setup` instead of the memory that a forked worker inherits. Its link is a
 * byte stream.
 */
struct fz_worker_program {
	/* path of the program; NULL: the worker is forked, or is on a node */
	const char *path;
	struct fz_node *node; /* node of the worker; NULL: this machine */
	struct fz_blob *setup;
	uint32_t number; /* number of the worker in its pool */
	uint32_t flags;  /* flags in the body of FZ_WIRE_SETUP */
	struct fz_worker_slots slots;
};

struct fz_worker_opts {
	struct fz_engine *engine;
	const struct fz_worker_ops *ops;
	void *ops_ctx;
	fz_worker_main main; /* main function of a forked worker */
	void *main_ctx;
	struct fz_worker_program program;
	/* kind of the link; NULL: fz_link_fork */
	const struct fz_link_ops *link;
	/* word for a worker in messages; NULL: "worker" */
	const char *noun;
	/* if this worker cannot start, the owner replaces it */
	bool replaceable;
};

struct fz_worker {
	/* queue of the jobs that are sent and not answered */
	struct fz_job *head, **tail;
	unsigned njobs;
	uint64_t nitems; /* number of unanswered items of all its jobs */
	/* number of items that were sent to the worker and not taken back */
	uint64_t nsent;
	size_t nbytes;   /* bytes of the frames of all its jobs */
	void *owner;     /* owner of all its jobs; set by the sender */
	unsigned number; /* number in its pool, from 1; set by the pool */
	int64_t idle_ns; /* time at which it became idle; set by the pool */
	pid_t pid;
	int64_t news_ns; /* time of its last answer, or of becoming busy */
	int64_t mean_ns; /* moving average of the time of a job; 0: unknown */
	bool rested; /* the worker had no job when its current job was sent */
	bool dying;  /* the worker is being killed and is not reaped yet */
	/* fz_worker_recall() takes effect before it returns */
	bool recalls;
	/*
	 * jobs may be sent ahead, because a recall returns them soon even if
	 * the worker computes
	 */
	bool ahead;
	bool leaving; /* the worker is dismissed: it ends by itself */
	/*
	 * dismiss the worker when it becomes idle, because it has damaged
	 * shared memory, or because its node leaves
	 */
	bool retiring;
	bool unreached; /* the worker has ended before it started on its node */
	/* the worker ended before it started a job, and was not killed */
	bool failed_start;
	/* why the worker could not start; FZ_ERR_NONE: unknown */
	struct fz_err start_err;
	struct fz_death death; /* how the worker ended; set at its death */
	/*
	 * version of each entry of functions or kept values; set by the sender
	 */
	uint64_t funcs[FZ_WORKER_FUNCS];
	uint64_t version; /* newest version of functions it inherited */
	/* the worker holds a slot of fz_slots while busy; set by the pool */
	bool has_slot;
	struct fz_node *node; /* node of the worker; NULL: this machine */
	/* node->nbusy includes this worker; set by the pool */
	bool loads_node;
	struct fz_worker *next, **prev;
	struct fz_list resting; /* in the engine's list while it rests */
	struct fz_worker_private *private;
};

/* Start a worker. NULL and `err` on failure. */
struct fz_worker *fz_worker_new(
    const struct fz_worker_opts *opts, struct fz_err *err);

/*
 * Send `job` with `n` encoded arguments. The bytes are written at the end of
 * the loop's turn, together with those of other jobs. Returns 0; or -1 and
 * `err` if there is no memory, and the caller still owns the job.
 */
int fz_worker_send(struct fz_worker *worker, struct fz_job *job,
    struct fz_blob *const *args, uint32_t n, struct fz_err *err);

/*
 * Send a chunk of `job->nitems` items. `parts` contain the items, as
 * chunk->kind says. In other respects as fz_worker_send().
 */
int fz_worker_send_chunk(struct fz_worker *worker, struct fz_job *job,
    const struct fz_worker_chunk *chunk, struct fz_blob *const *parts,
    uint32_t nparts, struct fz_err *err);

/*
 * Send `n` jobs in one frame. All are calls of the same function, return one
 * value, and have no limit of memory. `args` has `nargs` arguments for each
 * job. In other respects as fz_worker_send(); on failure no job is sent.
 */
int fz_worker_send_steps(struct fz_worker *worker, struct fz_job *const *jobs,
    uint32_t n, struct fz_blob *const *args, uint32_t nargs,
    struct fz_err *err);

/* Write now what was sent, instead of at the end of the loop's turn. */
void fz_worker_write(struct fz_worker *worker);

/*
 * Make `job` the current job of a new worker. No frame is sent: the worker
 * replies to call number 0 without fz_port_next().
 */
void fz_worker_begin(struct fz_worker *worker, struct fz_job *job);

/*
 * Send an encoded function to the worker. The worker keeps it as function
 * `number`. 0, or -1 and `err`.
 */
int fz_worker_send_func(struct fz_worker *worker, uint32_t number,
    struct fz_blob *code, struct fz_err *err);

/*
 * Send `n` values to the worker, which keeps them in `entry` for later chunks.
 * If `n` is 0, the worker drops the values in `entry`. 0, or -1 and `err`.
 */
int fz_worker_keep(struct fz_worker *worker, uint32_t entry,
    struct fz_blob *const *values, uint32_t n, struct fz_err *err);

/* Whether the worker has started an item of its current job. */
bool fz_worker_has_begun(const struct fz_worker *worker);

/*
 * Take back the jobs and items that the worker has not started. `returned` is
 * called for them: before this returns if `worker->recalls`, else later.
 * Returns the number of items that were taken back so far.
 */
unsigned fz_worker_recall(struct fz_worker *worker);

/*
 * Process replies that the worker has finished but not written (mailbox.h). The
 * last results of a measured job are processed only together with its usage.
 */
void fz_worker_peek(struct fz_worker *worker);

/*
 * Kill the worker and all its descendants. Its current job fails with `kind`
 * and `text`. `dead` is called in a later turn, after the worker was reaped.
 */
void fz_worker_kill(
    struct fz_worker *worker, enum fz_err_kind kind, const char *text);

/*
 * The owner does not want its jobs of this worker any more. Kill the worker,
 * now or later, if it runs one of them, but not while it runs a job of another
 * owner. Recall the jobs first. `why` must stay valid until the jobs end.
 */
void fz_worker_refuse(
    struct fz_worker *worker, const void *owner, const struct fz_err *why);

/*
 * After fz_worker_refuse(): return all jobs of the owner to it, although the
 * worker may run one of them. Their results are dropped. False if there is no
 * memory, if the worker is being killed, or if it has no jobs of other owners:
 * then end the worker.
 */
bool fz_worker_abandon(struct fz_worker *worker, const void *owner);

/* Send SIGTERM to the worker. Its running job fails as after a crash. */
void fz_worker_terminate(struct fz_worker *worker);

/* Kill the worker, wait until it is dead, and call `dead`. */
void fz_worker_end(
    struct fz_worker *worker, enum fz_err_kind kind, const char *text);

/* Let an idle worker end by itself: it reads end of file from its link. */
void fz_worker_dismiss(struct fz_worker *worker);

/*
 * The account of the tokens that the worker and its descendants hold, valid
 * until the worker is freed. NULL if the worker shares no account.
 */
struct fz_account *fz_worker_account(const struct fz_worker *worker);

/* Pass on an incomplete last line that the worker printed. */
void fz_worker_flush(struct fz_worker *worker);

/*
 * fz_worker_rest(): note whether the worker rests: it is idle in its pool, or
 * its job is to serve other processes. It then does nothing by itself, so no
 * wait of this process can end because of it.
 */
void fz_worker_rest(struct fz_worker *worker, bool rests);
bool fz_worker_rests(const struct fz_worker *worker);

/* Number of the watches and timers of all resting workers of the engine. */
unsigned fz_worker_nresting(const struct fz_engine *engine);

/* Whether `pid` is a resting worker of the engine. */
bool fz_worker_is_resting(const struct fz_engine *engine, pid_t pid);

/*
 * Free the worker; if it is alive, kill it and wait until it is dead. The
 * owners of its jobs are not notified. NULL is allowed.
 */
void fz_worker_free(struct fz_worker *worker);

#endif
