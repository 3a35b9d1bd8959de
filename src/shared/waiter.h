/*
 * waiter.h - a process that waits until another one tells it how to go on.
 *
 * It stands at its place in the shared heap, where others find it by what it
 * waits for. All that they decide about is in one word, so that nobody is told
 * what was meant for the one that had the place before:
 *
 *   ticket of fz_heap_wait   name 30 bits | number 32 bits | state 2 bits
 */
#ifndef FZ_WAITER_H
#define FZ_WAITER_H

#include <stdbool.h>
#include <stdint.h>

struct fz_eventcount;

enum fz_waiter_state {
	FZ_WAITER_NONE,
	FZ_WAITER_WAITS,
	FZ_WAITER_GO,   /* what it waits for has come */
	FZ_WAITER_FAILS /* it will not come */
};

/* ---- the own place ----------------------------------------------------- */

/*
 * Begin to wait for the object `name`; lower numbers came earlier. `self` is
 * fz_heap_self(). False where this process waits for something already.
 */
bool fz_waiter_begin(uint32_t self, uint32_t name, uint32_t number);

enum fz_waiter_state fz_waiter_state(uint32_t self);

/* Where to sleep. */
struct fz_eventcount *fz_waiter_gate(uint32_t self);

/* Wait no more, unless one was told something: then false. */
bool fz_waiter_cancel(uint32_t self);

/* The end of it; returns the state it was in. */
enum fz_waiter_state fz_waiter_end(uint32_t self);

/* ---- others ------------------------------------------------------------ */

/* As it was when it was found. */
struct fz_waiter {
	uint64_t word;
	uint32_t place;
	uint32_t member;
};

/*
 * Find the next in `state` that waits for `name`, at a place behind that of
 * `w`; from the first one on where its member is 0. It may be dead.
 */
bool fz_waiter_next(
    struct fz_waiter *w, uint32_t name, enum fz_waiter_state state);

/* Whether `a` came before `b`. */
bool fz_waiter_is_before(const struct fz_waiter *a, const struct fz_waiter *b);

/* Tell it; false where it is not as it was found any more. */
bool fz_waiter_tell(const struct fz_waiter *w, enum fz_waiter_state state);

#endif
