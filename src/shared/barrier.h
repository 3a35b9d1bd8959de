/*
 * barrier.h - processes wait until a number of them has arrived.
 *
 *   OPEN ----- the last arrives -----> RUNNING --- its action ends --> OPEN
 *   OPEN, RUNNING -- a wait times out, a process dies, abort --> BROKEN
 *   any -- reset --> OPEN
 *
 * Each waiter gets its outcome at its own place, so that it is unaffected if
 * the barrier is reset or used again before it wakes. One store of the state
 * decides each change. If the process is killed before it has notified the
 * waiters, the next process that locks the barrier does so.
 */
#ifndef FZ_BARRIER_H
#define FZ_BARRIER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "shared/eventcount.h"
#include "shared/lock.h"
#include "shared/waiter.h"

/* In shared memory, all zero but what the creator sets. */
struct fz_barrier {
	struct fz_lock lock; /* held for short checks and changes */
	_Atomic uint32_t state;
	_Atomic uint32_t runner; /* member that runs the action; 0: none yet */
	uint32_t task;           /* for the caller: that of the runner */
	uint32_t count;          /* arrived processes of this round */
	uint32_t parties;        /* set by the creator */
	uint32_t name;   /* of the object it is in; set by the creator */
	bool has_action; /* set by the creator */
	struct fz_eventcount opening; /* of those that wait for OPEN */
};

enum fz_barrier_arrival {
	FZ_BARRIER_LATER, /* not open: wait at `opening`, arrive again */
	FZ_BARRIER_WAITS, /* wait until notified, then fz_barrier_leave() */
	FZ_BARRIER_LAST,  /* run the action, if any, fz_barrier_finish() */
	FZ_BARRIER_BROKEN,
	FZ_BARRIER_TWICE, /* the waiter waits for an object already */
	FZ_BARRIER_INSIDE /* this member runs the action */
};

/*
 * `*index`: how many arrived before. `self` is the member that does it,
 * `waiter` its waiter, see waiter.h.
 */
enum fz_barrier_arrival fz_barrier_arrive(
    struct fz_barrier *b, uint32_t self, uint32_t waiter, uint32_t *index);

/*
 * End the action, which has succeeded or not. Returns whether the waiters
 * continue.
 */
bool fz_barrier_finish(struct fz_barrier *b, uint32_t self, bool well);

/* Check whether a process has died; nothing if the lock is held. */
void fz_barrier_check(struct fz_barrier *b, uint32_t self);

/* The end of a wait: breaks the barrier unless the waiter was notified. */
enum fz_waiter_state fz_barrier_leave(
    struct fz_barrier *b, uint32_t self, uint32_t waiter);

/* Let all waits fail; the barrier is broken afterwards, or as new. */
void fz_barrier_abort(struct fz_barrier *b, uint32_t self);
void fz_barrier_reset(struct fz_barrier *b, uint32_t self);

/* How many wait; whether it is broken. */
uint32_t fz_barrier_nwaiting(struct fz_barrier *b, uint32_t self);
bool fz_barrier_is_broken(struct fz_barrier *b, uint32_t self);

#endif
