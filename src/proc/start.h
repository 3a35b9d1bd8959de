/*
 * start.h - how workers start: as forks, or as programs of their own.
 *
 * A fork inherits the memory of its parent. A program inherits nothing, and
 * gets functions by value; its start is safe in a host with threads.
 */
#ifndef FZ_START_H
#define FZ_START_H

struct fz_err;

enum fz_start { FZ_START_FORK, FZ_START_SPAWN };

/* The method with this name, or -1. */
int fz_start_find(const char *name);

/*
 * Get the method that the environment variable FZLUA_START names; a fork if it
 * is not set. 0, or -1 and `err` if it has another value.
 */
int fz_start_from_environment(enum fz_start *start, struct fz_err *err);

/*
 * The program of workers: `option` if it is not NULL, else the one that the
 * environment variable FZLUA_WORKER_COMMAND names, else the program of this
 * process if that is the fzlua command, else the installed command, else
 * "fzlua", which is searched in PATH. Valid until the environment changes.
 */
const char *fz_start_program(const char *option);

#endif
