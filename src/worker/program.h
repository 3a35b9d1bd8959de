/*
 * program.h - another program: its three pipes, its time, and how it ended.
 *
 *   this process --fork--> supervisor --spawn--> program --> whatever it starts
 *
 * The supervisor is a child as proc.h describes it: it ends with us, and ends
 * all below it when the program has ended. Its report comes through a pipe that
 * nobody else has, so that the end of that pipe is the supervisor's.
 */
#ifndef FZ_PROGRAM_H
#define FZ_PROGRAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

struct fz_engine;
struct fz_program;

struct fz_program_opts {
	struct fz_engine *engine;
	const char
	    *file; /* what to run; without "/" it is looked for in PATH */
	char *const *argv; /* ends with NULL; there is a first one */
	char *const *env; /* "NAME=value" sets, "NAME" removes; NULL: as ours */
	const char *cwd;  /* NULL: as ours */
	const void *input;  /* kept by the caller as long as the object lives */
	size_t ninput;      /* bytes of it */
	int64_t timeout_ns; /* FZ_CLOCK_NEVER: none */
};

/* How it ended; the object owns the bytes. */
struct fz_program_end {
	struct fz_err err; /* kind NONE, or it could not be run to its end */
	int signal;        /* that killed it, else 0 */
	int exitcode;      /* where `signal` is 0 */
	bool timed_out;    /* and was killed for it */
	struct fz_buf out, errors;
};

/*
 * Start it. `engine->wake_count` moves when it is done. NULL and `err` where
 * not even the supervisor could be started; what else fails is told at the end.
 */
struct fz_program *fz_program_new(
    const struct fz_program_opts *opts, struct fz_err *err);

/* NULL while it runs. In a forked child it has ended as far as that knows. */
struct fz_program_end *fz_program_end(struct fz_program *exec);

/* Ends it and all that it started, if it runs. NULL is allowed. */
void fz_program_free(struct fz_program *exec);

#endif
