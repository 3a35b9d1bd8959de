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

struct process {
	pid_t pid;
	int in, out; /* its input and output; they do not block */
	int slot;    /* our end of a slot_line */
};

/* Start the process. 0, or -1 and `err`. */
int process_start(const struct process_opts *opts, struct process *process,
    struct fz_err *err);

#endif
