/*
 * start.h - how workers start: as forks, which inherit the memory of their
 * parent, or as programs, which inherit nothing and get functions by value. A
 * program can be started safely in a host with threads.
 */
#ifndef FZ_START_H
#define FZ_START_H

struct fz_err;

enum fz_start { FZ_START_FORK, FZ_START_SPAWN };

/* The start method with this name; -1 if there is none. */
int fz_start_find(const char *name);

/*
 * Get the start method that the environment variable FZLUA_START names; a fork
 * if it is not set. 0, or -1 and `err` if its value is no method.
 */
int fz_start_from_environment(enum fz_start *start, struct fz_err *err);

/*
 * The program of workers: `option` if it is not NULL; else the value of the
 * environment variable FZLUA_WORKER_COMMAND; else the program of this process
 * if it is the fzlua command; else the installed command if it exists; else
 * "fzlua", for a search in PATH. Valid until the environment changes.
 */
const char *fz_start_program(const char *option);

#endif
