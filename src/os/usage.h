/* usage.h - the processor time and the memory that this process has used. */
#ifndef FZ_USAGE_H
#define FZ_USAGE_H

#include <stdint.h>

struct rusage;

struct fz_usage {
	/* processor time of all threads, in user and kernel mode */
	uint64_t cpu_ns;
	uint64_t peak_rss; /* peak of the resident memory, in bytes */
};

/* The usage of this process and of the descendants that it has waited for. */
void fz_usage_self(struct fz_usage *usage);

/* Processor time of this process alone, in nanoseconds. */
uint64_t fz_usage_process_ns(void);

/* Processor time in a `struct rusage`, in nanoseconds. */
uint64_t fz_usage_cpu_ns(const struct rusage *rusage);

#endif
