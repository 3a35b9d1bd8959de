#include "os/usage.h"

#include <sys/resource.h>

static uint64_t
ns_of(const struct timeval *time)
{
	return (uint64_t)time->tv_sec * 1000000000 +
	       (uint64_t)time->tv_usec * 1000;
}

uint64_t
fz_usage_cpu_ns(const struct rusage *rusage)
{
	return ns_of(&rusage->ru_utime) + ns_of(&rusage->ru_stime);
}

void
fz_usage_self(struct fz_usage *usage)
{
	struct rusage self = { 0 }, children = { 0 };

	getrusage(RUSAGE_SELF, &self);
	getrusage(RUSAGE_CHILDREN, &children);
	usage->cpu_ns = fz_usage_cpu_ns(&self) + fz_usage_cpu_ns(&children);
	usage->peak_rss = (uint64_t)self.ru_maxrss * 1024;
}

uint64_t
fz_usage_process_ns(void)
{
	struct rusage self = { 0 };

	getrusage(RUSAGE_SELF, &self);
	return fz_usage_cpu_ns(&self);
}
