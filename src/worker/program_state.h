/* program_state.h - what program.c and the supervisor of a program share. */
#ifndef FZ_PROGRAM_STATE_H
#define FZ_PROGRAM_STATE_H

#include "base/err.h"

struct fz_program_opts;

/* The report of the supervisor, which it writes at once. */
struct fz_program_report {
	/* why the program did not start; its kind is FZ_ERR_NONE if it did */
	struct fz_err err;
	int status; /* status of the program, from waitpid() */
};

/*
 * The pipes during the start of a program; -1: not opened, closed, or owned by
 * another object.
 */
struct fz_program_pipes {
	const struct fz_program_opts *opts;
	const char *name; /* name of the program, for error messages */
	int in[2], out[2], err[2], report[2];
};

/*
 * The main function of the supervisor: run the program and write a report.
 * `ctx` is the struct fz_program_pipes. Returns the exit status of the
 * supervisor.
 */
int fz_program_supervisor_main(void *ctx, const struct fz_err *failed);

#endif
