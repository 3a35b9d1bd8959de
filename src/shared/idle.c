#include "shared/idle.h"

#include <stddef.h>

#include "base/clock.h"
#include "os/alloc.h"
#include "shared/arena.h"

/* Bytes that a process may keep for ever. */
#define IDLE_LEAST ((size_t)4 << 20)

int64_t
fz_idle_until(struct fz_idle *idle, const struct fz_arena *shm)
{
	size_t kept = fz_alloc_kept() + (shm != NULL ? fz_arena_warm(shm) : 0);
	unsigned long turnover =
	    fz_alloc_turnover() + (shm != NULL ? fz_arena_turnover(shm) : 0);

	if (kept < IDLE_LEAST)
		return FZ_CLOCK_NEVER;
	if (idle->since_ns == 0 || idle->turnover != turnover)
		*idle = (struct fz_idle){ turnover, fz_clock_ns() };
	return fz_clock_after(idle->since_ns, FZ_CLOCK_SECOND);
}

void
fz_idle_trim(struct fz_idle *idle, struct fz_arena *shm)
{
	if (fz_clock_ns() < fz_idle_until(idle, shm))
		return;
	fz_alloc_trim();
	if (shm != NULL)
		fz_arena_trim(shm);
}
