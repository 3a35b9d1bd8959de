#include "os/memory.h"

#include <stdbool.h>
#include <stdio.h>

#include "os/cgroup.h"
#include "os/fd.h"

enum { PATH_LEN = 2048 + 32 };

/* The files of a group, and the line of its memory.stat for the file cache. */
static const struct names {
	const char *max, *now, *cache;
} names[] = {
	{ "memory.limit_in_bytes", "memory.usage_in_bytes",
	    "total_inactive_file" },
	{ "memory.max", "memory.current", "inactive_file" },
};

static uint64_t
number_in(const char *dir, const char *file, const char *field)
{
	char path[PATH_LEN];

	snprintf(path, sizeof(path), "%s/%s", dir, file);
	return fz_fd_read_number(path, field, 10);
}

/*
 * Lower `*least` to the number of bytes that a group may still allocate, if
 * that number is smaller. The group's file cache counts as free.
 */
static void
visit_group(void *least, const char *dir, bool v2)
{
	const struct names *n = &names[v2];
	uint64_t max = number_in(dir, n->max, "");
	uint64_t now = number_in(dir, n->now, ""), cache, more;

	if (max == UINT64_MAX || now == UINT64_MAX)
		return;
	cache = number_in(dir, "memory.stat", n->cache);
	more = (max > now ? max - now : 0) + (cache < now ? cache : 0);
	if (more < *(uint64_t *)least)
		*(uint64_t *)least = more;
}

uint64_t
fz_memory_available(void)
{
	uint64_t kib = fz_fd_read_number("/proc/meminfo", "MemAvailable:", 10);
	uint64_t least = kib < UINT64_MAX >> 10 ? kib << 10 : UINT64_MAX;

	fz_cgroup_each("memory", visit_group, &least);
	return least;
}
