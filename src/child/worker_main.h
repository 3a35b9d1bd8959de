/* worker_main.h - the life of a worker, and of a process, on its own side. */
#ifndef FZ_WORKER_MAIN_H
#define FZ_WORKER_MAIN_H

#include <stdbool.h>
#include <stdint.h>

#include <lua.h>

struct fz_port;

/* What the workers of a pool inherit. */
struct fz_serve_home {
	lua_State *L; /* a thread of fz_child_prepare() */
	bool serving; /* this process is a worker that runs on it */
	bool aged;    /* its objects are old: see garbage.h */
};

/* The life of a worker: a fz_worker_main, `ctx` is its fz_serve_home. */
int fz_serve_main(void *ctx, struct fz_port *port);

/*
 * What a process inherits: a thread with its name, a function called when it
 * has returned, one called before, its function and all the arguments.
 */
enum { FZ_SERVE_NAME = 1, FZ_SERVE_LEAVE, FZ_SERVE_ENTER };

struct fz_serve_process {
	lua_State *L;
	uint64_t seed; /* of its random numbers */
	bool aged;     /* the objects of its state are old: see garbage.h */
};

/*
 * The life of a process: a fz_worker_main, `ctx` is its fz_serve_process. All
 * results are one value of its reply. Errors are told on standard error, too,
 * and are exit status 1.
 */
int fz_serve_process(void *ctx, struct fz_port *port);

#endif
