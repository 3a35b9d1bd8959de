/* process.h - the process of a lease on a node: `fzlua --worker VERSION`. */
#ifndef FZ_GATEWAY_PROCESS_H
#define FZ_GATEWAY_PROCESS_H

#include <sys/types.h>

struct fz_err;

struct process_opts {
	const char *command;  /* the program */
	const char *identity; /* the version of the submitter */
	/* the file with the functions that it may run; "": all */
	const char *allow;
};

struct process {
	pid_t pid;
	int in, out; /* its input and output, which do not block */
	int slot;    /* the gateway's end of a slot_line */
};

/* Start the process. 0, or -1 and `err`. */
int process_start(const struct process_opts *opts, struct process *process,
    struct fz_err *err);

#endif
