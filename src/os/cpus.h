/* cpus.h - the processors that this process may use. */
#ifndef FZ_CPUS_H
#define FZ_CPUS_H

#include <sys/types.h>

/*
 * Processors this process may use at once: the affinity mask, cut to the
 * cgroup (v1 or v2) quota rounded up, cut to FZLUA_JOBS where that is a
 * positive number. At least 1.
 */
int fz_cpus_count(void);

/* The same, counting one thread a physical core. */
int fz_cpus_count_cores(void);

/*
 * The quota of a cgroup v2 "cpu.max" text ("250000 100000", "max 100000") in
 * processors rounded up; 0 where there is none or the text is not one.
 */
int fz_cpus_parse_max(const char *text);

/*
 * Have `pid`, a child just forked, begin on the processor that comes `n` + 1
 * behind ours; from there the kernel may move it as ever. Left alone it gives
 * two children that are born within a millisecond the same processor, and
 * takes a while to see that. Only a wish.
 */
void fz_cpus_place(pid_t pid, unsigned n);

#endif
