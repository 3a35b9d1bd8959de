/* program_state.h - what program.c shares with the supervisor. */
#ifndef FZ_PROGRAM_STATE_H
#define FZ_PROGRAM_STATE_H

#include "base/err.h"

struct fz_program_opts;

/* The report of the supervisor, in one write. */
struct fz_program_report {
	struct fz_err err; /* why the program did not start, or kind NONE */
	int status;        /* status of waitpid() */
};

/* The pipes of a program while it is started; -1: another owner has the end. */
struct fz_program_pipes {
	const struct fz_program_opts *opts;
	const char *name; /* name of the program, for error messages */
	int in[2], out[2], err[2], report[2];
};

/*
 * Run the program and write its report: the entry of the supervisor's process.
 * `ctx` is its struct fz_program_pipes. Returns the exit status.
 */
int fz_program_supervisor_main(void *ctx, const struct fz_err *failed);

#endif
