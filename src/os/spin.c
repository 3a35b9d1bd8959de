#include "os/spin.h"

#include <sched.h>

#include "base/clock.h"
#include "os/host.h"

/* About what a sleep takes. */
#define SPIN_NS (10 * FZ_CLOCK_MS / 1000)

bool
fz_spin_again(struct fz_spin *spin)
{
	static int ncpus;
	int64_t now;

	if (ncpus == 0)
		ncpus = fz_host_cpus();
	if (ncpus == 1)
		return false;
	now = fz_clock_ns();
	if (spin->end_ns == 0)
		spin->end_ns = now + SPIN_NS;
	if (now >= spin->end_ns)
		return false;
	sched_yield();
	return true;
}
