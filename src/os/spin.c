#include "os/spin.h"

#include <sched.h>
#include <stdatomic.h>

#include "base/clock.h"
#include "os/cpus.h"

/* The length of a spin: longer than the wake-up of another processor takes. */
#define SPIN_NS (FZ_CLOCK_MS / 20)

enum { SPIN_LOST_MAX = 6 };

/* The number of processors, counted at the first call. */
static int
count_cpus(void)
{
	/* threads that count at once store the same number */
	static _Atomic int known;
	int n = atomic_load_explicit(&known, memory_order_relaxed);

	if (n == 0) {
		n = fz_cpus_count();
		atomic_store_explicit(&known, n, memory_order_relaxed);
	}
	return n;
}

/* Begin to spin, if a processor is free for it. */
static bool
begin(struct fz_spin *spin, int64_t now)
{
	int ncpus = count_cpus();

	if (ncpus == 1 || spin->nbusy >= (unsigned)ncpus)
		return false;
	if (spin->nskip != 0) {
		spin->nskip--;
		return false;
	}
	spin->end_ns = now + SPIN_NS;
	return true;
}

bool
fz_spin_again(struct fz_spin *spin)
{
	int64_t now = fz_clock_ns();

	if (spin->end_ns == 0 && !begin(spin, now))
		return false;
	if (now >= spin->end_ns) {
		spin->end_ns = 0;
		if (spin->nlost < SPIN_LOST_MAX)
			spin->nlost++;
		spin->nskip = (1U << spin->nlost) / 4;
		return false;
	}
	if (now >= spin->hold_ns)
		sched_yield();
	return true;
}

void
fz_spin_hold(struct fz_spin *spin, int64_t until_ns)
{
	spin->hold_ns = until_ns;
	if (spin->end_ns != 0 && spin->end_ns < until_ns)
		spin->end_ns = until_ns;
}

void
fz_spin_paid(struct fz_spin *spin)
{
	*spin = (struct fz_spin){ .nbusy = spin->nbusy };
}
