/* process.h - the process of a lease on a node: `fzlua --worker VERSION`. */
#ifndef FZ_GATEWAY_PROCESS_H
#define FZ_GATEWAY_PROCESS_H

#include <sys/types.h>

struct fz_err;

/*
 * Start `command` for a submitter of the version `identity`. Sets the
 * descriptors of its input and output, which do not block, and `*pid`. 0, or -1
 * and `err`.
 */
int process_start(const char *command, const char *identity, int *in, int *out,
    pid_t *pid, struct fz_err *err);

#endif
