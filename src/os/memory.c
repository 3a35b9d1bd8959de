#include "os/memory.h"

#include <stdlib.h>
#include <string.h>

#include "os/fd.h"

/*
 * The number after `name` ("": the first) in the file `path`; UINT64_MAX if
 * there is none.
 */
static uint64_t
number_in(const char *path, const char *name)
{
	char text[8192], *end;
	const char *at;
	unsigned long long n;

	if (!fz_fd_read_file(path, text, sizeof(text)))
		return UINT64_MAX;
	at = strstr(text, name);
	if (at == NULL)
		return UINT64_MAX;
	at += strlen(name);
	n = strtoull(at, &end, 10);
	return end != at ? n : UINT64_MAX;
}

/*
 * Bytes that the container's cgroup may still use, its reclaimable cache
 * included.
 */
static uint64_t
group_memory(void)
{
	uint64_t max = number_in("/sys/fs/cgroup/memory.max", "");
	uint64_t now = number_in("/sys/fs/cgroup/memory.current", "");
	uint64_t cache =
	    number_in("/sys/fs/cgroup/memory.stat", "\ninactive_file ");

	if (max == UINT64_MAX || now == UINT64_MAX)
		return UINT64_MAX;
	return (max > now ? max - now : 0) + (cache < now ? cache : 0);
}

uint64_t
fz_memory_available(void)
{
	uint64_t kib = number_in("/proc/meminfo", "\nMemAvailable:");
	uint64_t machine = kib < UINT64_MAX >> 10 ? kib << 10 : UINT64_MAX;
	uint64_t group = group_memory();

	return group < machine ? group : machine;
}
