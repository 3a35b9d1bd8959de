/*
 * jobserver.h - the job slots that make shares: a pipe of tokens, MAKEFLAGS.
 *
 * For N slots there are N - 1 tokens, which are bytes in a pipe. A process may
 * run one job without a token, and one more for each token that it has read; it
 * writes the token back at the end of that job.
 */
#ifndef FZ_JOBSERVER_H
#define FZ_JOBSERVER_H

#include <stdbool.h>

struct fz_err;

/*
 * Open the pipe that MAKEFLAGS names. The new descriptors are independent of
 * those of make: a read from fd[0] never blocks, and the flags of make's
 * descriptors stay. False if there is no pipe, or if MAKEFLAGS names something
 * else. Call it before the process opens other descriptors, whose numbers
 * MAKEFLAGS might name.
 */
bool fz_jobserver_find(int fd[2]);

/*
 * The two open descriptors of a pipe that MAKEFLAGS names by number. If
 * MAKEFLAGS names a file or no pipe, returns false and sets both to -1.
 */
bool fz_jobserver_named(int fd[2]);

/*
 * Open the read end of the pipe at `fd` again, with O_NONBLOCK. Another process
 * cannot clear that flag, because the new descriptor does not share its flags
 * with `fd`. -1 on failure.
 */
int fz_jobserver_reader(int fd);

/*
 * Number of tokens that always fit in the pipe, whatever was read and written
 * before.
 */
unsigned fz_jobserver_room(int fd);

/* Number of tokens that are in the pipe now. */
unsigned fz_jobserver_count(int fd);

/*
 * A copy of `env` for workers and the programs they start. MAKEFLAGS names the
 * pipe `shared` and `njobs`, or stays as it is if shared[0] is -1. Numerical
 * libraries are set to one thread, unless `env` sets a number. The strings
 * belong to `env`. NULL if there is no memory. Release with free().
 */
char **fz_jobserver_environ(
    char *const *env, unsigned njobs, const int shared[2]);

#endif
