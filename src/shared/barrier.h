/*
 * barrier.h - a number of processes wait for each other.
 *
 *   OPEN ----- the last arrives -----> RUNNING --- its action ends --> OPEN
 *   OPEN, RUNNING -- a wait times out, a process dies, abort --> BROKEN
 *   any -- reset --> OPEN
 *
 * Each waiter gets its outcome at its own place. The outcome therefore stays
 * valid if the barrier is reset or used again before the waiter wakes. One
 * store of the state makes each change. A process may be killed after this
 * store and before it has notified the waiters; the next process that locks the
 * barrier then notifies them.
 */
#ifndef FZ_BARRIER_H
#define FZ_BARRIER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "shared/eventcount.h"
#include "shared/lock.h"
#include "shared/waiter.h"

/* In shared memory, all 0 except the fields that the creator sets. */
struct fz_barrier {
	struct fz_lock lock; /* held for short checks and changes */
	_Atomic uint32_t state;
	_Atomic uint32_t runner; /* member that runs the action; 0: none yet */
	/* task of the runner; used only by callers */
	uint32_t task;
	/* number of processes that have arrived in this round */
	uint32_t count;
	/* number of processes in a round; set by the creator */
	uint32_t parties;
	/* name of the object that contains this barrier; set by the creator */
	uint32_t name;
	/* the last process to arrive runs an action; set by the creator */
	bool has_action;
	/* processes wait here until the barrier is in the state OPEN */
	struct fz_eventcount opening;
};

enum fz_barrier_arrival {
	/* the last round has not ended: wait at `opening`, then arrive again */
	FZ_BARRIER_LATER,
	FZ_BARRIER_WAITS, /* wait for a notification, then leave */
	/* run the action, if there is one, then fz_barrier_finish() */
	FZ_BARRIER_LAST,
	FZ_BARRIER_BROKEN,
	FZ_BARRIER_TWICE, /* the waiter is waiting for an object already */
	FZ_BARRIER_INSIDE /* this member is running the action */
};

/*
 * Let the member `self` arrive with its waiter (waiter.h). `*index` becomes the
 * number of processes that have arrived before in this round.
 */
enum fz_barrier_arrival fz_barrier_arrive(
    struct fz_barrier *b, uint32_t self, uint32_t waiter, uint32_t *index);

/*
 * Report that the action has succeeded (`well`) or failed. Returns whether the
 * waiters continue.
 */
bool fz_barrier_finish(struct fz_barrier *b, uint32_t self, bool well);

/*
 * Check whether a process of this round is dead. Does nothing if another
 * process holds the lock.
 */
void fz_barrier_check(struct fz_barrier *b, uint32_t self);

/* End a wait. If the waiter was not notified, the barrier breaks. */
enum fz_waiter_state fz_barrier_leave(
    struct fz_barrier *b, uint32_t self, uint32_t waiter);

/*
 * fz_barrier_abort(): make all waits fail, and break the barrier.
 * fz_barrier_reset(): make all waits fail; then the barrier is like a new one.
 */
void fz_barrier_abort(struct fz_barrier *b, uint32_t self);
void fz_barrier_reset(struct fz_barrier *b, uint32_t self);

/*
 * fz_barrier_nwaiting(): number of waiting processes. fz_barrier_is_broken():
 * whether the barrier is broken.
 */
uint32_t fz_barrier_nwaiting(struct fz_barrier *b, uint32_t self);
bool fz_barrier_is_broken(struct fz_barrier *b, uint32_t self);

#endif
