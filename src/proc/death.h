/* death.h - how a child ended, as numbers and as text. */
#ifndef FZ_DEATH_H
#define FZ_DEATH_H

#include <stddef.h>
#include <stdint.h>

/* How a child ended. */
struct fz_death {
	int signal;        /* the signal that killed the child, else 0 */
	int exitcode;      /* exit status if signal is 0; -1: unknown */
	uint64_t peak_rss; /* peak memory in bytes; 0: unknown */
	uint64_t cpu_ns;   /* processor time of the child; 0: unknown */
	/* limit of CPU time in seconds, if it may be the cause, else 0 */
	uint64_t cpu_limit;
};

/*
 * Describe a death in `text`, for example "exited with code 3", "killed by
 * signal 9 (SIGKILL), perhaps out of memory; peak memory 3.9 GB" or "killed by
 * signal 9 (SIGKILL), perhaps at its CPU time limit of 10 s". Returns `text`.
 */
const char *fz_death_text(const struct fz_death *death, char *text, size_t len);

#endif
