/* process.h - the process of a lease on a node: `fzlua --worker VERSION`. */
#ifndef FZ_GATEWAY_PROCESS_H
#define FZ_GATEWAY_PROCESS_H

#include <sys/types.h>

struct fz_err;

struct process_opts {
	const char *command;  /* the program */
	const char *identity; /* the version of the submitter */
	const char *allow;    /* what it may run is in this file; "": all */
};

/*
 * Start the process. Sets the
 * descriptors of its input and output, which do not block, and `*pid`. 0, or -1
 * and `err`.
 */
int process_start(const struct process_opts *opts, int *in, int *out,
    pid_t *pid, struct fz_err *err);

#endif
