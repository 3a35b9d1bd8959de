/* sched_getaffinity and the CPU_ macros are GNU extensions. */
#define _GNU_SOURCE
#include "os/cpus.h"

#include <errno.h>
#include <limits.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "os/cgroup.h"
#include "os/fd.h"

enum {
	CPUS_FIRST = 1024,
	CPUS_MAX = 1 << 20,
	SMALL_FILE = 256,
	PATH_LEN = 1024,
};

struct cpus {
	cpu_set_t *set; /* NULL if the kernel does not tell the set */
	size_t size;    /* bytes of `set` */
	int max;        /* processor numbers that fit in `set` */
};

static void
cpus_get(struct cpus *cpus)
{
	for (cpus->max = CPUS_FIRST; cpus->max <= CPUS_MAX; cpus->max *= 2) {
		cpus->set = CPU_ALLOC((size_t)cpus->max);
		cpus->size = CPU_ALLOC_SIZE((size_t)cpus->max);
		if (cpus->set == NULL)
			return;
		if (sched_getaffinity(0, cpus->size, cpus->set) == 0)
			return;
		CPU_FREE(cpus->set);
		cpus->set = NULL;
		if (errno != EINVAL)
			return;
	}
}

static bool
cpus_has(const struct cpus *cpus, int cpu)
{
	return CPU_ISSET_S((size_t)cpu, cpus->size, cpus->set) != 0;
}

static int
cpus_count(const struct cpus *cpus)
{
	long n;

	if (cpus->set != NULL)
		return CPU_COUNT_S(cpus->size, cpus->set);
	n = sysconf(_SC_NPROCESSORS_ONLN);
	return n > 0 && n < INT_MAX ? (int)n : 1;
}

int
fz_cpus_parse_max(const char *text)
{
	char *end;
	long long quota, period;

	quota = strtoll(text, &end, 10);
	if (end == text || (*end != ' ' && *end != '\t'))
		return 0;
	text = end;
	period = strtoll(text, &end, 10);
	if (end == text || quota <= 0 || period <= 0)
		return 0;
	quota = (quota - 1) / period + 1;
	return quota > INT_MAX ? INT_MAX : (int)quota;
}

static bool
read_file_in(const char *dir, const char *name, char *text, size_t len)
{
	char path[2 * PATH_LEN + 32];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	return fz_fd_read_file(path, text, len);
}

static int
quota_v2(const char *dir)
{
	char text[SMALL_FILE];

	if (!read_file_in(dir, "cpu.max", text, sizeof(text)))
		return 0;
	return fz_cpus_parse_max(text);
}

static int
quota_v1(const char *dir)
{
	char quota[64], period[64], text[SMALL_FILE];

	if (!read_file_in(dir, "cpu.cfs_quota_us", quota, sizeof(quota)) ||
	    !read_file_in(dir, "cpu.cfs_period_us", period, sizeof(period)))
		return 0;
	quota[strcspn(quota, "\n")] = '\0';
	snprintf(text, sizeof(text), "%s %s", quota, period);
	return fz_cpus_parse_max(text);
}

static int
lower(int limit, int other)
{
	return other > 0 && (limit == 0 || other < limit) ? other : limit;
}

static void
visit_group(void *limit, const char *dir, bool v2)
{
	*(int *)limit =
	    lower(*(int *)limit, v2 ? quota_v2(dir) : quota_v1(dir));
}

/* The limit of the cgroup as a number of processors; 0 if there is none. */
static int
cgroup_quota(void)
{
	int limit = 0;

	fz_cgroup_each("cpu", visit_group, &limit);
	return limit;
}

static int
wished_jobs(void)
{
	const char *text = getenv("FZLUA_JOBS");
	char *end;
	long n;

	if (text == NULL)
		return 0;
	n = strtol(text, &end, 10);
	return end != text && *end == '\0' && n > 0 && n < INT_MAX ? (int)n : 0;
}

static int
cut(int n)
{
	n = lower(n, cgroup_quota());
	n = lower(n, wished_jobs());
	return n > 0 ? n : 1;
}

/*
 * Whether the core of `cpu` has another thread with a lower number that this
 * process may use.
 */
static bool
has_lower_sibling(const struct cpus *cpus, int cpu)
{
	char path[128], text[SMALL_FILE];
	char *p = text;

	snprintf(path, sizeof(path),
	    "/sys/devices/system/cpu/cpu%d/topology/thread_siblings_list", cpu);
	if (!fz_fd_read_file(path, text, sizeof(text)))
		return false;
	while (*p >= '0' && *p <= '9') {
		long from = strtol(p, &p, 10);
		long to = *p == '-' ? strtol(p + 1, &p, 10) : from;

		for (; from <= to && from < cpu; from++)
			if (cpus_has(cpus, (int)from))
				return true;
		p += *p == ',';
	}
	return false;
}

int
fz_cpus_count(void)
{
	struct cpus cpus;
	int n;

	cpus_get(&cpus);
	n = cpus_count(&cpus);
	CPU_FREE(cpus.set);
	return cut(n);
}

int
fz_cpus_count_cores(void)
{
	struct cpus cpus;
	int n, cpu;

	cpus_get(&cpus);
	n = cpus_count(&cpus);
	for (cpu = 0; cpus.set != NULL && cpu < cpus.max; cpu++)
		if (cpus_has(&cpus, cpu) && has_lower_sibling(&cpus, cpu))
			n--;
	CPU_FREE(cpus.set);
	return cut(n);
}

/*
 * Start after `cpu`, skip `n` processors of `set`, and return the next one of
 * `set`. After the last processor the first one follows.
 */
static int
nth_after(const cpu_set_t *set, int cpu, unsigned n)
{
	unsigned left = n % (unsigned)CPU_COUNT(set) + 1;

	while (left != 0) {
		cpu = (cpu + 1) % CPU_SETSIZE;
		left -= CPU_ISSET((size_t)cpu, set) != 0;
	}
	return cpu;
}

int
fz_cpus_current(void)
{
	return sched_getcpu();
}

void
fz_cpus_spread(pid_t pid, unsigned n)
{
	int here = sched_getcpu();
	cpu_set_t all, one;

	if (here == -1 || sched_getaffinity(0, sizeof(all), &all) == -1)
		return;
	CPU_ZERO(&one);
	CPU_SET((size_t)nth_after(&all, here, n), &one);
	sched_setaffinity(pid, sizeof(one), &one);
	sched_setaffinity(pid, sizeof(all), &all);
}
