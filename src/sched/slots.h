/*
 * slots.h - limit the number of jobs that run at once in a tree of processes,
 * as the jobserver of make does.
 *
 * One of N slots belongs to the process that created them. The others are
 * tokens in a pipe (os/jobserver.h), which this process and its descendants
 * share. A busy worker has the slot in which its parent runs it. While the
 * worker waits for jobs of its own pools, it does not use that slot, so one of
 * these jobs can always run in it. Therefore no process waits forever. For each
 * further job at the same time the worker needs a token. All pools and runs of
 * a process share one fz_slots.
 *
 * 	root          own slot + tokens
 * 	 +- worker    own slot (of the root) + tokens
 * 	 |   +- worker ...
 * 	 |   +- make  own slot (of the function that started make) + tokens
 * 	 +- worker
 *
 * A killed process may hold tokens, as may its descendants. Each process
 * therefore counts its tokens in an account, in memory that it shares with its
 * parent; and in the accounts of its ancestors. When a process dies, its parent
 * writes the tokens back. If a process is killed while it counts a token, at
 * most this token is lost; no token is ever added.
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

/* A waiter for a slot. Its links are NULL if it does not wait. */
struct fz_slots_waiter {
	/* Called when a slot may be free. */
	void (*freed)(struct fz_slots_waiter *waiter);
	struct fz_slots_waiter *next, **prev;
};

/*
 * Create slots, without a limit until fz_slots_resize(). The caller owns a
 * reference. NULL and `err` on failure.
 */
struct fz_slots *fz_slots_new(struct fz_engine *engine, struct fz_err *err);

/*
 * Use the slots of the make that has started this process, for all pools of
 * `engine`. `fd` is from fz_jobserver_find(). The result owns the descriptors;
 * on failure they are closed. NULL and `err` on failure.
 */
struct fz_slots *fz_slots_of_make(
    struct fz_engine *engine, const int fd[2], struct fz_err *err);

void fz_slots_ref(struct fz_slots *slots);
/* Drop a reference; the last one writes back all tokens. NULL is allowed. */
void fz_slots_unref(struct fz_slots *slots);

/*
 * Set the number of slots to `n`. While slots are in use, a smaller number has
 * no effect. Does nothing if the engine uses the slots of make or of a parent.
 * 0, or -1 and `err`.
 */
int fz_slots_resize(struct fz_slots *slots, unsigned n, struct fz_err *err);

/*
 * The slots that limit a pool: those of its engine; or `own`, those of the pool
 * itself, if the engine has none. NULL: there is no limit.
 */
struct fz_slots *fz_slots_for(
    const struct fz_engine *engine, struct fz_slots *own);

/* Acquire a slot. False: `waiter` is notified once, when one may be free. */
bool fz_slots_take(struct fz_slots *slots, struct fz_slots_waiter *waiter);

/* Whether fz_slots_take() may succeed. */
bool fz_slots_has_free(const struct fz_slots *slots);

/* Release a slot; its token is written back at the end of the loop's turn. */
void fz_slots_give(struct fz_slots *slots);

/* Write back unused tokens now, because the next turn may be much later. */
void fz_slots_trim(struct fz_slots *slots);

/* Remove the waiter: it waits no longer. */
void fz_slots_forget(struct fz_slots_waiter *waiter);

/* A worker has died: write back its and its descendants' tokens. */
void fz_slots_died(struct fz_slots *slots, struct fz_account *account);

/*
 * Before a worker or process is started: prepare its environment, and the
 * account for programs below it (fz_account_share()). 0, or -1 and `err`.
 */
int fz_slots_prepare(struct fz_slots *slots, struct fz_err *err);

/*
 * Called in a new worker: use the parent's slots from now on. Programs that the
 * worker starts find them through the environment. `lineage` has the account of
 * the worker; it must stay valid until the process ends.
 */
void fz_slots_enter(struct fz_slots *slots, struct fz_lineage *lineage);

/*
 * As fz_slots_enter(), for a process that is no worker. Does not change the
 * environment.
 */
void fz_slots_count_in(struct fz_slots *slots, struct fz_lineage *lineage);

/*
 * Set `*lent` to what a worker that is a program needs to share the slots. Call
 * this after fz_slots_prepare().
 */
void fz_slots_lend(const struct fz_slots *slots, struct fz_worker_slots *lent);

/*
 * Called in a worker that is a program: use the `n` slots of its parent, with
 * the pipe `fd`, for all pools of `engine`. If `n` is 0, these are the slots of
 * make, and `fd` is from fz_jobserver_find(). `lineage` must stay valid until
 * the process ends; NULL: the tokens of the worker are not counted. The result
 * owns the descriptors; on failure they are closed. NULL and `err` on failure.
 */
struct fz_slots *fz_slots_of_parent(struct fz_engine *engine, unsigned n,
    const int fd[2], const struct fz_lineage *lineage, struct fz_err *err);

/*
 * Write back the tokens of this process and its descendants, because all of
 * them are about to end. Safe in a signal handler.
 */
void fz_slots_leave(struct fz_slots *slots);

#endif
