/* process_main.h - the main function of a process that makes one call. */
#ifndef FZ_PROCESS_MAIN_H
#define FZ_PROCESS_MAIN_H

#include <stdbool.h>
#include <stdint.h>

#include <lua.h>

struct fz_port;

/*
 * The values on the thread that a process inherits: its name, a function that
 * is called last, a function that is called first, the function of the process,
 * all arguments.
 */
enum { FZ_PROCESS_NAME = 1, FZ_PROCESS_LEAVE, FZ_PROCESS_ENTER };

struct fz_process_home {
	lua_State *L;
	uint64_t seed; /* seed of the process's random numbers */
	bool aged;     /* all objects of the state are old: see garbage.h */
};

/*
 * The main function of a process: a fz_worker_main; `ctx` is its
 * fz_process_home. All results are one value of its reply. An error is also
 * written to standard error, and gives exit status 1.
 */
int fz_process_main(void *ctx, struct fz_port *port);

#endif
