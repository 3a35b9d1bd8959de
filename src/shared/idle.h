/*
 * idle.h - memory that is kept for reuse goes back after a second of idleness.
 *
 * The kept memory is the heap's (alloc.h) and the own slice's of an arena
 * (arena.h). A process that is about to wait asks fz_idle_until() for how long
 * it may, and calls fz_idle_trim() if nothing has come by then.
 */
#ifndef FZ_IDLE_H
#define FZ_IDLE_H

#include <stdint.h>

struct fz_arena;

struct fz_idle {
	unsigned long turnover; /* of the kept memory at since_ns */
	int64_t since_ns; /* nothing was taken or kept since; 0: not known */
};

/*
 * The time until which the kept memory may stay: a second after it was last
 * used. FZ_CLOCK_NEVER if next to nothing is kept. `shm` may be NULL.
 */
int64_t fz_idle_until(struct fz_idle *idle, const struct fz_arena *shm);

/* Return the kept memory to the system if that time has come. */
void fz_idle_trim(struct fz_idle *idle, struct fz_arena *shm);

#endif
