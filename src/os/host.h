/* host.h - what this machine and its container let us use. */
#ifndef FZ_HOST_H
#define FZ_HOST_H

#include <stdint.h>
#include <sys/types.h>

/*
 * Processors this process may use at once: the affinity mask, cut to the
 * cgroup (v1 or v2) quota rounded up, cut to FZLUA_JOBS where that is a
 * positive number. At least 1.
 */
int fz_host_cpus(void);

/* The same, counting one thread a physical core. */
int fz_host_cores(void);

/*
 * The quota of a cgroup v2 "cpu.max" text ("250000 100000", "max 100000") in
 * processors rounded up; 0 where there is none or the text is not one.
 */
int fz_host_parse_cpu_max(const char *text);

/*
 * Bytes of memory that can be had before something is swapped out or killed,
 * about; UINT64_MAX where the machine does not say.
 */
uint64_t fz_host_free_memory(void);

/*
 * Have `pid`, a child just forked, begin on the processor that comes `n` + 1
 * behind ours; from there the kernel may move it as ever. Left alone it gives
 * two children that are born within a millisecond the same processor, and
 * takes a while to see that. Only a wish.
 */
void fz_host_place(pid_t pid, unsigned n);

#endif
