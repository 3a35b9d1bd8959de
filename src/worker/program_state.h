/* program_state.h - what program.c and the supervisor of a program share. */
#ifndef FZ_PROGRAM_STATE_H
#define FZ_PROGRAM_STATE_H

#include "base/err.h"

struct fz_program_opts;

/* The report of the supervisor, written by one write(). */
struct fz_program_report {
	struct fz_err err; /* why the program did not start, or FZ_ERR_NONE */
	int status;        /* status of the program, from waitpid() */
};

/* The pipes during the start; -1: not opened, closed, or handed over. */
struct fz_program_pipes {
	const struct fz_program_opts *opts;
	const char *name; /* name of the program, for error messages */
	int in[2], out[2], err[2], report[2];
};

/*
 * Run a program and report its end. `ctx` is the struct fz_program_pipes.
 * Returns the exit status of the supervisor.
 */
int fz_program_supervisor_main(void *ctx, const struct fz_err *failed);

#endif
