/*
 * barrier.h - processes that wait until a number of them has come.
 *
 *   OPEN ----- the last comes -----> RUNNING --- its action ends --> OPEN
 *   OPEN, RUNNING -- a wait runs out, somebody dies, abort --> BROKEN
 *   any -- reset --> OPEN
 *
 * Those that wait are told how it ended at their places, so that what becomes
 * of the barrier afterwards is no matter to them. Each change is decided by one
 * store of the state; what follows of it is done again by the next one to come
 * where the process is killed meanwhile.
 */
#ifndef FZ_BARRIER_H
#define FZ_BARRIER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "shared/eventcount.h"
#include "shared/lock.h"
#include "shared/waiter.h"

/* In shared memory; what is not said to be its maker's begins as zero. */
struct fz_barrier {
	struct fz_lock lock; /* for a moment, by who looks or changes */
	_Atomic uint32_t state;
	_Atomic uint32_t runner;   /* who runs the action */
	uint32_t count;            /* how many have come */
	uint32_t parties;          /* its maker's */
	uint32_t name;             /* its maker's: of the object it is in */
	bool has_action;           /* its maker's */
	struct fz_eventcount gate; /* of those who come while the action runs */
};

enum fz_barrier_step {
	FZ_BARRIER_LATER,  /* not yet: wait at the gate, come again */
	FZ_BARRIER_WAITS,  /* wait to be told, then fz_barrier_leave() */
	FZ_BARRIER_LAST,   /* run the action, if any, fz_barrier_finish() */
	FZ_BARRIER_BROKEN, /* it is */
	FZ_BARRIER_TWICE,  /* this process waits for something already */
	FZ_BARRIER_INSIDE  /* this process runs the action */
};

/* Come; `*index` says how many came before. `self` is fz_heap_self(). */
enum fz_barrier_step fz_barrier_arrive(
    struct fz_barrier *b, uint32_t self, uint32_t *index);

/* The action has ended, well or not. Returns whether all go on. */
bool fz_barrier_finish(struct fz_barrier *b, uint32_t self, bool well);

/* See whether somebody has died; does nothing where others look. */
void fz_barrier_look(struct fz_barrier *b, uint32_t self);

/* The end of a wait: breaks it unless one was told something. */
enum fz_waiter_state fz_barrier_leave(struct fz_barrier *b, uint32_t self);

/* Those that wait fail; then it is broken, or as new. */
void fz_barrier_abort(struct fz_barrier *b, uint32_t self);
void fz_barrier_reset(struct fz_barrier *b, uint32_t self);

/* How many wait; whether it is broken. */
uint32_t fz_barrier_nwaiting(struct fz_barrier *b, uint32_t self);
bool fz_barrier_is_broken(struct fz_barrier *b, uint32_t self);

#endif
