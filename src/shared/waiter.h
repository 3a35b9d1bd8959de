/*
 * waiter.h - a process that waits until another process decides how the wait
 * ends.
 *
 * The waiter is at the place of its member in the shared heap, or on a seat if
 * several tasks of the process wait. Other processes find it by the name of the
 * object that it waits for. They decide by one compare-and-swap of one word, so
 * that a decision cannot reach a later process at the same place:
 *
 *   ticket of fz_heap_wait   name 30 bits | number 32 bits | state 2 bits
 */
#ifndef FZ_WAITER_H
#define FZ_WAITER_H

#include <stdbool.h>
#include <stdint.h>

struct fz_eventcount;
struct fz_membership;

enum fz_waiter_state {
	FZ_WAITER_NONE,
	FZ_WAITER_WAITS,
	FZ_WAITER_GO,   /* the wait has succeeded */
	FZ_WAITER_FAILS /* the wait has failed */
};

/*
 * A waiter of this instance that is not in use: the member itself, or a seat if
 * the member waits already. 0 if too many tasks wait.
 */
uint32_t fz_waiter_take(struct fz_membership *own);

/* Return a waiter that is not needed any more, after fz_waiter_end(). */
void fz_waiter_give_back(struct fz_membership *own, uint32_t waiter);

/*
 * Begin a wait for the object `name`. `number` counts the waits, so that a
 * waiter with a lower number began earlier. False if the waiter waits for an
 * object already.
 */
bool fz_waiter_begin(uint32_t waiter, uint32_t name, uint32_t number);

/* The state of a waiter of this process. */
enum fz_waiter_state fz_waiter_state(uint32_t waiter);

/* Return the eventcount on which this process sleeps until it is notified. */
struct fz_eventcount *fz_waiter_wakeup(uint32_t waiter);

/* Stop waiting; false if the waiter was notified already. */
bool fz_waiter_cancel(uint32_t waiter);

/* End the wait and return its state. */
enum fz_waiter_state fz_waiter_end(uint32_t waiter);

/* A waiter as it was when it was found. */
struct fz_waiter {
	uint64_t word;
	uint32_t place; /* place or seat */
	uint32_t member;
};

/*
 * Find the next waiter for `name` in `state`, at a place or seat after that of
 * `w`, or the first one if the member of `w` is 0. The process of the waiter
 * may be dead.
 */
bool fz_waiter_next(
    struct fz_waiter *w, uint32_t name, enum fz_waiter_state state);

/* Whether `a` began to wait before `b`. */
bool fz_waiter_is_before(const struct fz_waiter *a, const struct fz_waiter *b);

/*
 * Set the state of the waiter and wake it. False if its state has changed since
 * it was found.
 */
bool fz_waiter_notify(const struct fz_waiter *w, enum fz_waiter_state state);

#endif
