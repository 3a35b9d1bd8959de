/* node_process.h - the process of a lease: `fzlua --worker VERSION`. */
#ifndef FZ_NODE_PROCESS_H
#define FZ_NODE_PROCESS_H

#include <sys/types.h>

struct fz_err;

struct fz_node_process_opts {
	const char *command;  /* the program */
	const char *identity; /* the version of the submitter */
	/* the file with the functions that the process may run; "": all */
	const char *allow;
};

struct fz_node_process {
	pid_t pid;
	int in, out; /* input and output of the process, which do not block */
	int slot;    /* the gateway's end of a slot_line */
};

/* Start the process. 0, or -1 and `err`. */
int fz_node_process_start(const struct fz_node_process_opts *opts,
    struct fz_node_process *process, struct fz_err *err);

#endif
