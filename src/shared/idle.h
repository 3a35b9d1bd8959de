/*
 * idle.h - returns memory that is kept for reuse after a second of idleness.
 *
 * That is free memory of malloc (alloc.h) and of the own slice of an arena
 * (arena.h). A process that is about to wait does so until fz_idle_until() at
 * most, and calls fz_idle_trim() if nothing has happened by then.
 */
#ifndef FZ_IDLE_H
#define FZ_IDLE_H

#include <stdint.h>

struct fz_arena;

struct fz_idle {
	unsigned long turnover; /* of both at since_ns */
	int64_t since_ns;       /* unchanged since then; 0: not known */
};

/*
 * The time until which the kept memory may stay: a second after it was last
 * used. FZ_CLOCK_NEVER if next to nothing is kept. `arena` may be NULL.
 */
int64_t fz_idle_until(struct fz_idle *idle, const struct fz_arena *arena);

/* Return the kept memory to the system if that time has come. */
void fz_idle_trim(struct fz_idle *idle, struct fz_arena *arena);

#endif
