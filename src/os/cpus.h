/* cpus.h - the processors that this process may use. */
#ifndef FZ_CPUS_H
#define FZ_CPUS_H

#include <sys/types.h>

/*
 * Number of processors that this process may use at once: the affinity mask,
 * limited by the cgroup (v1 or v2) quota, rounded up, and by FZLUA_JOBS if that
 * is a positive number. At least 1.
 */
int fz_cpus_count(void);

/* As fz_cpus_count(), but counting one thread per physical core. */
int fz_cpus_count_cores(void);

/*
 * The number of the processor that the calling thread runs on, from 0; -1 if it
 * is unknown.
 */
int fz_cpus_current(void);

/*
 * The quota of a cgroup v2 "cpu.max" text ("250000 100000", "max 100000") in
 * processors, rounded up; 0 if there is no quota or the text is malformed.
 */
int fz_cpus_parse_max(const char *text);

/*
 * Move `pid`, a child that was just forked, `n` + 1 processors further than the
 * caller. Later the kernel may move it again. Without this, the kernel puts two
 * children that are forked within a millisecond on one processor, and moves one
 * of them only much later. Failure is ignored.
 */
void fz_cpus_spread(pid_t pid, unsigned n);

#endif
