/*
 * slots.h - limits the jobs that run at once in a tree of processes: a
 * jobserver.
 *
 * One of N slots belongs to the process that created them. The others are
 * tokens in a pipe (see os/jobserver.h) that this process and its descendants
 * share. A busy worker has a slot from its parent. While the worker waits for
 * jobs of its own pools it does not use that slot. So one of these jobs can
 * always run in that slot, and no process waits forever. The worker needs a
 * token for each further job that runs at the same time. All pools and runs of
 * a process share one fz_slots.
 *
 * 	root          own slot + tokens
 * 	 +- worker    own slot (of the root) + tokens
 * 	 |   +- worker ...
 * 	 |   +- make  own slot (of the function that started make) + tokens
 * 	 +- worker
 *
 * A process that is killed holds tokens, and so do its descendants. So each
 * process counts its tokens in an account, in memory that it shares with its
 * parent, and in the accounts of its ancestors. When it dies, its parent writes
 * the tokens back. A kill while a token is counted loses at most that token and
 * never adds one.
 */
#ifndef FZ_SLOTS_H
#define FZ_SLOTS_H

#include <stdbool.h>

struct fz_account;
struct fz_engine;
struct fz_err;
struct fz_lineage;
struct fz_slots;
struct fz_worker_slots;

/* A waiter for a slot; all zero if it does not wait. */
struct fz_slots_waiter {
	/* Called when a slot may be free. */
	void (*freed)(struct fz_slots_waiter *waiter);
	struct fz_slots_waiter *next, **prev;
};

/*
 * Make slots, without a limit until fz_slots_resize(). The caller owns a
 * reference. NULL and `err` on failure.
 */
struct fz_slots *fz_slots_new(struct fz_engine *engine, struct fz_err *err);

/*
 * The slots of the make that started this process; `fd` is from
 * fz_jobserver_find(). All pools of `engine` use them from now on. Owns the
 * descriptors, even on failure.
 */
struct fz_slots *fz_slots_of_make(
    struct fz_engine *engine, const int fd[2], struct fz_err *err);

void fz_slots_ref(struct fz_slots *slots);
/*
 * Drop a reference; the last one writes the held tokens back. NULL is allowed.
 */
void fz_slots_unref(struct fz_slots *slots);

/*
 * Set the number of slots to `n`. While slots are in use, the number can only
 * grow. Does nothing if the engine uses the slots of make or of a parent. 0, or
 * -1 and `err`.
 */
int fz_slots_resize(struct fz_slots *slots, unsigned n, struct fz_err *err);

/*
 * The slots that limit a pool: the slots of its engine or, if the engine has
 * none, `own`, the slots of the pool itself. NULL: there is no limit.
 */
struct fz_slots *fz_slots_for(
    const struct fz_engine *engine, struct fz_slots *own);

/* Acquire a slot. False: `waiter` is notified once, when a slot may be free. */
bool fz_slots_take(struct fz_slots *slots, struct fz_slots_waiter *waiter);

/* Whether fz_slots_take() may succeed. */
bool fz_slots_has_free(const struct fz_slots *slots);

/* Release a slot. Tokens are written back at the end of the loop's turn. */
void fz_slots_give(struct fz_slots *slots);

/* Write back unused tokens now, because the next turn may be much later. */
void fz_slots_trim(struct fz_slots *slots);

/* Stop waiting. */
void fz_slots_forget(struct fz_slots_waiter *waiter);

/* A worker died: write back the tokens that it and its descendants held. */
void fz_slots_died(struct fz_slots *slots, struct fz_account *account);

/*
 * Before the start of a worker or process: prepare its environment, and the
 * account that programs below it need (fz_account_share()). 0, or -1 and `err`.
 */
int fz_slots_prepare(struct fz_slots *slots, struct fz_err *err);

/*
 * In a new worker: use these slots from now on. The programs that it starts
 * find them in their environment. `lineage` has the account of the worker, and
 * must stay valid until its process ends.
 */
void fz_slots_enter(struct fz_slots *slots, struct fz_lineage *lineage);

/*
 * As fz_slots_enter(), for a process that is no worker: its environment is not
 * changed.
 */
void fz_slots_count_in(struct fz_slots *slots, struct fz_lineage *lineage);

/*
 * How a worker that is a program gets its slots. Call it after
 * fz_slots_prepare().
 */
void fz_slots_lend(const struct fz_slots *slots, struct fz_worker_slots *lent);

/*
 * In a worker that is a program: use the `n` slots of its parent, with the pipe
 * `fd`, for all pools of `engine`. If `n` is 0, use the slots of make, with
 * descriptors of fz_jobserver_find(). `lineage` must stay valid until the
 * process ends; NULL: tokens are not counted. Owns the descriptors, even on
 * failure.
 */
struct fz_slots *fz_slots_of_parent(struct fz_engine *engine, unsigned n,
    const int fd[2], const struct fz_lineage *lineage, struct fz_err *err);

/*
 * Write back the tokens of this process and its descendants, because these
 * processes are about to end. Safe in a signal handler.
 */
void fz_slots_leave(struct fz_slots *slots);

#endif
