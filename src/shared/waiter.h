/*
 * waiter.h - a process that waits until another process decides how the wait
 * ends.
 *
 * A waiter is at the place of its member in the shared heap; or on a seat, if
 * several tasks of the process wait. Other processes find the waiter by the
 * name of the object for which it waits. They decide by a compare-and-swap of
 * one word. A decision therefore cannot reach a later waiter at the same place:
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
 * An unused waiter of this instance: that of the member, or a seat if the
 * member is waiting already. 0 if too many tasks wait.
 */
uint32_t fz_waiter_take(struct fz_membership *own);

/* Return a waiter after fz_waiter_end(), when it is not needed any more. */
void fz_waiter_give_back(struct fz_membership *own, uint32_t waiter);

/*
 * Begin to wait for the object `name`. `number` counts the waits for this
 * object: a lower number means that the wait began earlier. Returns false if
 * the waiter is waiting for an object already.
 */
bool fz_waiter_begin(uint32_t waiter, uint32_t name, uint32_t number);

/* The state of a waiter of this process. */
enum fz_waiter_state fz_waiter_state(uint32_t waiter);

/* The eventcount on which this process sleeps until the waiter is notified. */
struct fz_eventcount *fz_waiter_wakeup(uint32_t waiter);

/* Stop waiting. Returns false if the waiter was notified before. */
bool fz_waiter_cancel(uint32_t waiter);

/* End the wait. Returns its last state. */
enum fz_waiter_state fz_waiter_end(uint32_t waiter);

/* A waiter in the state in which it was found. */
struct fz_waiter {
	uint64_t word;
	uint32_t place; /* number of the place or seat */
	uint32_t member;
};

/*
 * Find the next waiter for the object `name` in the state `state`, after the
 * place or seat of `w`. If `w->member` is 0, find the first one. Its process
 * may be dead. Returns false if there is none.
 */
bool fz_waiter_next(
    struct fz_waiter *w, uint32_t name, enum fz_waiter_state state);

/* Whether `a` began to wait before `b`. */
bool fz_waiter_is_before(const struct fz_waiter *a, const struct fz_waiter *b);

/*
 * Set the state of a waiter, and wake it. Returns false if its state has
 * changed since it was found.
 */
bool fz_waiter_notify(const struct fz_waiter *w, enum fz_waiter_state state);

#endif
