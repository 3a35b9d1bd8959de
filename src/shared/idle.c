#include "shared/idle.h"

#include <stddef.h>

#include "base/clock.h"
#include "os/alloc.h"
#include "shared/arena.h"

/* A process keeps less than this number of bytes however long it is idle. */
#define IDLE_LEAST ((size_t)4 << 20)

int64_t
fz_idle_until(struct fz_idle *idle, const struct fz_arena *arena)
{
	size_t kept =
	    fz_alloc_kept() + (arena != NULL ? fz_arena_warm(arena) : 0);
	unsigned long turnover = fz_alloc_turnover() +
				 (arena != NULL ? fz_arena_turnover(arena) : 0);

	if (kept < IDLE_LEAST)
		return FZ_CLOCK_NEVER;
	if (idle->since_ns == 0 || idle->turnover != turnover)
		*idle = (struct fz_idle){ turnover, fz_clock_ns() };
	return fz_clock_after(idle->since_ns, FZ_CLOCK_SECOND);
}

void
fz_idle_trim(struct fz_idle *idle, struct fz_arena *arena)
{
	if (fz_clock_ns() < fz_idle_until(idle, arena))
		return;
	fz_alloc_trim();
	if (arena != NULL)
		fz_arena_trim(arena);
}
