/*
 * jobserver.h - how make shares its job slots: a pipe of tokens, MAKEFLAGS.
 *
 * For N slots there are N - 1 tokens, bytes in a pipe. A process may run one
 * job as it is, and one more for each token that it has read; it writes each
 * back when that job has ended.
 */
#ifndef FZ_JOBSERVER_H
#define FZ_JOBSERVER_H

#include <stdbool.h>

struct fz_err;

/*
 * The pipe that MAKEFLAGS tells of, opened anew: reading from fd[0] never
 * waits, and the flags of make's own descriptors stay. False where there is
 * none, or what it names is no open pipe. Before the process opens others,
 * whose numbers it might name.
 */
bool fz_jobserver_find(int fd[2]);

/*
 * Open anew the end of a pipe that is read from, so that reading never waits
 * and nobody who has `fd` can change that. -1 on failure.
 */
int fz_jobserver_reader(int fd);

/* Tokens that the pipe has room for, whatever was read and written before. */
unsigned fz_jobserver_room(int fd);

/* Tokens that are in the pipe. */
unsigned fz_jobserver_count(int fd);

/*
 * A copy of `env` for workers and what they start: MAKEFLAGS tells of the pipe
 * `shared` (-1: it stays as it is) and of `njobs`, and libraries of numbers are
 * told to start no threads, unless `env` tells them how many. The strings are
 * those of `env`. NULL: no memory. To be freed.
 */
char **fz_jobserver_environ(
    char *const *env, unsigned njobs, const int shared[2]);

#endif
