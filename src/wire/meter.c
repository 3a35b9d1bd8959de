#include "wire/meter.h"

#include "base/clock.h"
#include "os/usage.h"
#include "wire/wire.h"

/*
 * Minimum time between two questions to the kernel. Each question costs two
 * system calls, about 1 us.
 */
#define METER_ASK_NS (FZ_CLOCK_MS / 5)

static void
ask(struct fz_meter *m, int64_t now_ns)
{
	struct fz_usage usage;

	fz_usage_self(&usage);
	m->asked_ns = now_ns;
	m->total_ns = usage.cpu_ns;
	m->peak_rss = usage.peak_rss;
}

void
fz_meter_start(struct fz_meter *m)
{
	if (m->now_ns != 0)
		return;
	m->init_ns = 0; /* of a call that was not measured */
	m->now_ns = fz_clock_ns();
	if (m->now_ns - m->asked_ns < METER_ASK_NS)
		return;
	ask(m, m->now_ns); /* the time between two calls belongs to no call */
	m->counted_ns = m->total_ns;
}

/* Measure the processor time that no call was charged with yet. */
static uint64_t
measure(struct fz_meter *m, int64_t now_ns)
{
	uint64_t before_ns = m->total_ns;
	int64_t since_ns = now_ns - m->asked_ns;
	double share;

	ask(m, now_ns);
	share = (double)(m->total_ns - before_ns) / (double)since_ns;
	m->idle = share < 1 ? 1 - share : 0;
	return m->total_ns > m->counted_ns ? m->total_ns - m->counted_ns : 0;
}

void
fz_meter_end(struct fz_meter *m, struct fz_used *used)
{
	int64_t now_ns = fz_clock_ns();

	used->started_ns = m->now_ns;
	used->took_ns = now_ns - m->now_ns;
	if (now_ns - m->asked_ns >= METER_ASK_NS)
		used->cpu_ns = measure(m, now_ns);
	else
		used->cpu_ns =
		    (uint64_t)((double)used->took_ns * (1 - m->idle));
	m->counted_ns += used->cpu_ns;
	used->peak_rss = m->peak_rss;
	used->init_ns = m->init_ns;
	used->launch_ns = 0;
	m->init_ns = 0;
	m->now_ns = now_ns;
}

void
fz_meter_split(struct fz_meter *m, struct fz_used *used, uint32_t n)
{
	int64_t took_ns = used->took_ns / n;
	uint64_t cpu_ns = used->cpu_ns / n;

	used->took_ns -= took_ns;
	used->cpu_ns -= cpu_ns;
	m->now_ns -= took_ns;
	m->counted_ns -= cpu_ns;
}
