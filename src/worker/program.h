/*
 * program.h - another program: its three pipes, its time, and how it ended.
 *
 *   this process --fork--> supervisor --spawn--> program --> whatever it starts
 *
 * The supervisor is a child as proc.h describes it: it ends with this process,
 * and ends all its descendants when the program has ended. No other process has
 * the pipe of its report, so the end of that pipe means that the supervisor
 * ended.
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
	const char *file;  /* what to run; searched in PATH if it has no "/" */
	char *const *argv; /* at least one string; ends with NULL */
	char *const *env; /* "NAME=value" sets, "NAME" removes; NULL: inherit */
	const char *cwd;  /* NULL: inherit */
	/*
	 * Names of the files that are its standard input, output and error;
	 * NULL: a pipe. The script's directory, not `cwd`, is where they are.
	 */
	const char *files[3];
	const void
	    *input;    /* owned by the caller, as long as the object lives */
	size_t ninput; /* bytes of it */
	bool feed;     /* more input follows: fz_program_feed() */
	/* the caller consumes standard output, error while it runs */
	bool follow[2];
	int64_t timeout_ns; /* FZ_CLOCK_NEVER: none */
};

/* How it ended; the object owns the bytes. */
struct fz_program_end {
	struct fz_err err; /* why it could not run to its end; or kind NONE */
	int signal;        /* that killed it; 0: none */
	int exitcode;      /* valid if `signal` is 0 */
	bool timed_out;    /* it was killed because of its timeout */
	struct fz_buf out, errors;
};

/*
 * Start it. `engine->wake_count` is incremented when it is done. NULL and `err`
 * if the supervisor could not be started; any other failure is in the outcome.
 */
struct fz_program *fz_program_new(
    const struct fz_program_opts *opts, struct fz_err *err);

/* The id of its changes (change.h). */
uint64_t fz_program_id(const struct fz_program *program);

/* NULL while it runs. In a forked child it counts as ended. */
struct fz_program_end *fz_program_end(struct fz_program *program);

/* Whether it has read all input so far: see fz_program_feed(). */
bool fz_program_hungry(const struct fz_program *program);

/* Whether it is done, hungry, or has written to an output that is followed. */
bool fz_program_ready(const struct fz_program *program);

/*
 * Write these bytes next, which stay valid until it is hungry again or freed.
 * No bytes: the input is at its end. Only while it is hungry.
 */
void fz_program_feed(
    struct fz_program *program, const void *bytes, size_t nbytes);

/*
 * The bytes of its standard output (0) or error (1) so far. If it is followed,
 * the caller may consume some.
 */
struct fz_buf *fz_program_output(struct fz_program *program, int which);

/* Kill it and its descendants if it runs, and free it. NULL is allowed. */
void fz_program_free(struct fz_program *program);

#endif
