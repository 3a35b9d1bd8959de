/* worker_main.h - the main functions of a worker and of a process. */
#ifndef FZ_WORKER_MAIN_H
#define FZ_WORKER_MAIN_H

#include <stdbool.h>
#include <stdint.h>

#include <lua.h>

struct fz_port;

/* Inherited by the workers of a pool. */
struct fz_serve_home {
	lua_State *L; /* a thread of fz_child_prepare() */
	bool serving; /* this process is a worker that uses it */
	bool aged;    /* all objects are old: see garbage.h */
};

/*
 * The main function of a worker: a fz_worker_main; `ctx` is its fz_serve_home.
 */
int fz_serve_main(void *ctx, struct fz_port *port);

/*
 * Inherited by a process: a thread with its name, a function to call after it
 * has returned, one to call before, its function and all arguments.
 */
enum { FZ_SERVE_NAME = 1, FZ_SERVE_LEAVE, FZ_SERVE_ENTER };

struct fz_serve_process {
	lua_State *L;
	uint64_t seed; /* seed of its random numbers */
	bool aged;     /* all objects of the state are old: see garbage.h */
};

/*
 * The main function of a process: a fz_worker_main; `ctx` is its
 * fz_serve_process. All results are one value of its reply. An error is also
 * written to standard error, and gives exit status 1.
 */
int fz_serve_process(void *ctx, struct fz_port *port);

#endif
