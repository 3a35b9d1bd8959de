/* process_main.h - the main function of a process that makes one call. */
#ifndef FZ_PROCESS_MAIN_H
#define FZ_PROCESS_MAIN_H

#include <stdbool.h>
#include <stdint.h>

#include <lua.h>

struct fz_port;

/*
 * Indexes on the thread that a process inherits. On it are: a name, a function
 * that is called last, one that is called first, the function of the process,
 * its arguments.
 */
enum { FZ_PROCESS_NAME = 1, FZ_PROCESS_LEAVE, FZ_PROCESS_ENTER };

struct fz_process_home {
	lua_State *L;
	uint64_t seed; /* seed of the random numbers of the process */
	bool aged;     /* nearly all objects were old: see garbage.h */
};

/*
 * The fz_worker_main of a process; `ctx` is its fz_process_home. The reply has
 * all results in one value. An error is also written to standard error, and
 * gives exit status 1.
 */
int fz_process_main(void *ctx, struct fz_port *port);

#endif
