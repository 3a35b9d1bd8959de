/*
 * idle.h - returns memory that is kept for reuse, after an idle second.
 *
 * That memory is in free blocks of the allocator (alloc.h), and in free extents
 * of this process's slice of an arena (arena.h). An idle process waits until
 * fz_idle_until(), and then calls fz_idle_trim().
 */
#ifndef FZ_IDLE_H
#define FZ_IDLE_H

#include <stdint.h>

struct fz_arena;

struct fz_idle {
	unsigned long turnover; /* that of allocator and arena at `since_ns` */
	/* time since which `turnover` is unchanged; 0: unknown */
	int64_t since_ns;
};

/*
 * The time until which memory may be kept: a second after it was last used.
 * FZ_CLOCK_NEVER if little memory is kept. `arena` may be NULL.
 */
int64_t fz_idle_until(struct fz_idle *idle, const struct fz_arena *arena);

/* Return kept memory to the kernel if the time of fz_idle_until() has come. */
void fz_idle_trim(struct fz_idle *idle, struct fz_arena *arena);

#endif
