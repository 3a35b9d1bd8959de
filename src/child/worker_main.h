/* worker_main.h - the main function of a worker. */
#ifndef FZ_WORKER_MAIN_H
#define FZ_WORKER_MAIN_H

#include <stdbool.h>

#include <lua.h>

struct fz_port;

/* What the workers of a pool inherit from their parent. */
struct fz_child_home {
	lua_State *L; /* a thread of fz_child_prepare() */
	bool serving; /* this process is a worker, which uses the thread `L` */
	bool aged;    /* nearly all objects were old: see garbage.h */
};

/* The fz_worker_main of a worker; `ctx` is its fz_child_home. */
int fz_child_main(void *ctx, struct fz_port *port);

/* worker_number() -> number of this worker in its pool, from 1; or nothing */
int fz_child_number(lua_State *L);

#endif
