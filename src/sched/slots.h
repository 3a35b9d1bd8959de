/*
 * slots.h - how many jobs run at once in a tree of processes: a jobserver.
 *
 * Of N slots one is that of the process that made them, the others are tokens
 * in a pipe (see os/jobserver.h), which all below it share. A worker that is
 * busy has one slot of its own, which its parent has allotted to it. While it
 * waits for jobs of its own pools nobody uses that slot, so one of these may
 * run in it at any time: nobody waits for ever. For each further one that runs
 * at the same time the worker needs a token. Whatever of its pools and runs a
 * process has, they share one of these.
 *
 *	root          own slot + tokens
 *	 +- worker    own slot (of the root) + tokens
 *	 |   +- worker ...
 *	 |   +- make  its own slot is the one of the function that started it
 *	 +- worker
 *
 * A process that is killed holds tokens, and so do those below it. Each counts
 * them in memory that it shares with its parent, in an account, and so does
 * everyone above it, so that its parent can write them back. Killed between
 * two steps, it leaves one token too few and never one too many.
 */
#ifndef FZ_SLOTS_H
#define FZ_SLOTS_H

#include <stdbool.h>

struct fz_account;
struct fz_engine;
struct fz_err;
struct fz_slots;

/* Who was told that there is no slot. Zeroed it waits for none. */
struct fz_slots_waiter {
	/* There may be one now. */
	void (*freed)(struct fz_slots_waiter *waiter);
	struct fz_slots_waiter *next, **prev;
};

/*
 * Slots without a number: they limit nothing before fz_slots_resize(). NULL
 * and `err` on failure. The caller has a reference.
 */
struct fz_slots *fz_slots_new(struct fz_engine *engine, struct fz_err *err);

/*
 * Those of the make that has started this process, `fd` from
 * fz_jobserver_find(). From now on all of `engine` works for them. Takes the
 * descriptors, on failure too.
 */
struct fz_slots *fz_slots_of_make(
    struct fz_engine *engine, const int fd[2], struct fz_err *err);

void fz_slots_ref(struct fz_slots *slots);
/* The last reference writes back what is held. NULL is allowed. */
void fz_slots_unref(struct fz_slots *slots);

/*
 * Let there be `n` slots; while some are in use their number only grows. Where
 * the process works for others nothing changes. 0, or -1 and `err`.
 */
int fz_slots_resize(struct fz_slots *slots, unsigned n, struct fz_err *err);

/*
 * Those that hold for a pool with `own` (or NULL): the ones its process works
 * for, or `own`. NULL: there is no limit.
 */
struct fz_slots *fz_slots_for(
    const struct fz_engine *engine, struct fz_slots *own);

/* Take a slot, or wait: `waiter` is told once, when there may be one. */
bool fz_slots_take(struct fz_slots *slots, struct fz_slots_waiter *waiter);

/* Whether fz_slots_take() may succeed. */
bool fz_slots_has_free(const struct fz_slots *slots);

/* Give one back. Tokens are written back at the end of the loop's step. */
void fz_slots_give(struct fz_slots *slots);

/* Write back the tokens that nobody uses now: the loop may not turn for long.
 */
void fz_slots_trim(struct fz_slots *slots);

void fz_slots_forget(struct fz_slots_waiter *waiter);

/* A worker is dead: write back what it and those below it have held. */
void fz_slots_died(struct fz_slots *slots, struct fz_account *account);

/* Before a worker is forked. 0, or -1 and `err`. */
int fz_slots_prepare(struct fz_slots *slots, struct fz_err *err);

/*
 * In a new worker: work for them from now on. The programs that it starts can
 * take part, as their environment tells them.
 */
void fz_slots_enter(struct fz_slots *slots, struct fz_account *account);

/*
 * Write back what this process and those below it hold: they end. Safe in a
 * signal handler.
 */
void fz_slots_leave(struct fz_slots *slots);

#endif
