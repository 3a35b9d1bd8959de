/* worker_main.h - the main function of a worker. */
#ifndef FZ_WORKER_MAIN_H
#define FZ_WORKER_MAIN_H

#include <stdbool.h>

#include <lua.h>

struct fz_port;

/* Inherited by the workers of a pool. */
struct fz_serve_home {
	lua_State *L; /* a thread of fz_child_prepare() */
	bool serving; /* this process is a worker that uses the thread */
	bool aged;    /* all objects of the state are old: see garbage.h */
};

/* The fz_worker_main of a worker; `ctx` is its fz_serve_home. */
int fz_serve_main(void *ctx, struct fz_port *port);

/* worker_number() -> number of this worker in its pool, from 1; or nothing */
int fz_serve_number(lua_State *L);

#endif
