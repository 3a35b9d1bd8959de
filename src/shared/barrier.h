/*
 * barrier.h - processes wait until a number of them has arrived.
 *
 *   OPEN ----- the last arrives -----> RUNNING --- its action ends --> OPEN
 *   OPEN, RUNNING -- a wait times out, a process dies, abort --> BROKEN
 *   any -- reset --> OPEN
 *
 * Each waiter gets its outcome at its own place, so that the outcome is
 * unaffected if the barrier is reset or used again before the waiter wakes. One
 * store of the state decides each change. If a process is killed after that
 * store and before it has notified the waiters, the next process that locks the
 * barrier notifies them.
 */
#ifndef FZ_BARRIER_H
#define FZ_BARRIER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "shared/eventcount.h"
#include "shared/lock.h"
#include "shared/waiter.h"

/* In shared memory, all zero except the fields that the creator sets. */
struct fz_barrier {
	struct fz_lock lock; /* held for short checks and changes */
	_Atomic uint32_t state;
	_Atomic uint32_t runner; /* member that runs the action; 0: none yet */
	/* used by the caller: the task of the runner */
	uint32_t task;
	/* number of processes that have arrived in this round */
	uint32_t count;
	/* number of processes that a round waits for; set by the creator */
	uint32_t parties;
	/* name of the object that contains the barrier; set by the creator */
	uint32_t name;
	/* whether the last process runs an action; set by the creator */
	bool has_action;
	/* for processes that wait until the barrier is open */
	struct fz_eventcount opening;
};

enum fz_barrier_arrival {
	/* the barrier is not open: wait at `opening`, then arrive again */
	FZ_BARRIER_LATER,
	FZ_BARRIER_WAITS, /* wait until notified, then fz_barrier_leave() */
	/* run the action, if there is one, then fz_barrier_finish() */
	FZ_BARRIER_LAST,
	FZ_BARRIER_BROKEN,
	FZ_BARRIER_TWICE, /* the waiter waits for an object already */
	FZ_BARRIER_INSIDE /* this member runs the action */
};

/*
 * The member `self` arrives; `waiter` is its waiter (waiter.h). `*index` is set
 * to the number of processes that have arrived before.
 */
enum fz_barrier_arrival fz_barrier_arrive(
    struct fz_barrier *b, uint32_t self, uint32_t waiter, uint32_t *index);

/*
 * End the action, which has succeeded or failed. Returns whether the waiters
 * continue.
 */
bool fz_barrier_finish(struct fz_barrier *b, uint32_t self, bool well);

/*
 * Check whether a process of the round has died, unless another process holds
 * the lock.
 */
void fz_barrier_check(struct fz_barrier *b, uint32_t self);

/* End a wait. Breaks the barrier unless the waiter was notified. */
enum fz_waiter_state fz_barrier_leave(
    struct fz_barrier *b, uint32_t self, uint32_t waiter);

/*
 * Make all waits fail. After fz_barrier_abort() the barrier is broken, after
 * fz_barrier_reset() it is like a new one.
 */
void fz_barrier_abort(struct fz_barrier *b, uint32_t self);
void fz_barrier_reset(struct fz_barrier *b, uint32_t self);

/*
 * fz_barrier_nwaiting(): the number of waiting processes.
 * fz_barrier_is_broken(): whether the barrier is broken.
 */
uint32_t fz_barrier_nwaiting(struct fz_barrier *b, uint32_t self);
bool fz_barrier_is_broken(struct fz_barrier *b, uint32_t self);

#endif
