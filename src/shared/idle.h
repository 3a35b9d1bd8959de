/*
 * idle.h - after a second of idleness, returns memory that is kept for reuse.
 *
 * That memory is in the free blocks of the allocator (alloc.h) and in the free
 * extents of the own slice of an arena (arena.h). A process waits until
 * fz_idle_until() at most, and calls fz_idle_trim() if nothing has happened by
 * then.
 */
#ifndef FZ_IDLE_H
#define FZ_IDLE_H

#include <stdint.h>

struct fz_arena;

struct fz_idle {
	unsigned long turnover; /* sum of both turnover counters at since_ns */
	/* time since which `turnover` is unchanged; 0: unknown */
	int64_t since_ns;
};

/*
 * The time until which the kept memory may stay: a second after it was last
 * used. FZ_CLOCK_NEVER if little is kept. `arena` may be NULL.
 */
int64_t fz_idle_until(struct fz_idle *idle, const struct fz_arena *arena);

/*
 * Return the kept memory to the system if the time of fz_idle_until() has come.
 */
void fz_idle_trim(struct fz_idle *idle, struct fz_arena *arena);

#endif
