/*
 * program.h - another program: its three pipes, its time, and how it ended.
 *
 *   this process --fork--> supervisor --spawn--> program --> whatever it starts
 *
 * The supervisor is a child as proc.h describes it: it ends with this process,
 * and ends all its descendants when the program has ended. No other process has
 * the pipe of the supervisor's report, so end of file on this pipe means that
 * the supervisor has ended.
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
	/* the file to run; searched in PATH if it has no "/" */
	const char *file;
	char *const *argv; /* at least one string; ends with NULL */
	char *const *env; /* "NAME=value" sets, "NAME" removes; NULL: inherit */
	const char *cwd;  /* working directory; NULL: that of the script */
	/*
	 * Names of files for its standard input, output and error; NULL: a
	 * pipe. They are relative to the script's directory, not to `cwd`.
	 */
	const char *files[3];
	/* input, which the caller owns while the object exists */
	const void *input;
	size_t ninput; /* bytes of the input */
	bool feed;     /* more input follows: fz_program_feed() */
	/*
	 * whether the caller consumes standard output (0), and error (1), while
	 * the program runs
	 */
	bool follow[2];
	int64_t timeout_ns; /* time limit; FZ_CLOCK_NEVER: none */
};

/* How a program ended; the object owns the bytes. */
struct fz_program_end {
	/* why the program could not run until its end; or kind NONE */
	struct fz_err err;
	int signal;     /* the signal that killed the program; 0: none */
	int exitcode;   /* valid if `signal` is 0 */
	bool timed_out; /* the program was killed because of its timeout */
	struct fz_buf out, errors;
};

/*
 * Start the program. `engine->wake_count` is incremented when it has ended.
 * NULL and `err` if the supervisor could not be started; fz_program_end() has
 * any other failure.
 */
struct fz_program *fz_program_new(
    const struct fz_program_opts *opts, struct fz_err *err);

/* The id of the program's change (change.h). */
uint64_t fz_program_id(const struct fz_program *program);

/*
 * How the program ended; NULL while it runs. In a forked child it counts as
 * ended.
 */
struct fz_program_end *fz_program_end(struct fz_program *program);

/* Whether the program needs more input: all input so far is written. */
bool fz_program_hungry(const struct fz_program *program);

/*
 * Whether the program has ended, is hungry, or has written to an output that is
 * followed.
 */
bool fz_program_ready(const struct fz_program *program);

/*
 * Write these bytes next. They must stay valid until the program is hungry
 * again or freed. No bytes: the input ends. Call this only while the program is
 * hungry.
 */
void fz_program_feed(
    struct fz_program *program, const void *bytes, size_t nbytes);

/*
 * The bytes of the standard output (0) or error (1) so far. The caller may
 * consume some if that output is followed.
 */
struct fz_buf *fz_program_output(struct fz_program *program, int which);

/*
 * Kill the program and its descendants if it runs, and free it. NULL is
 * allowed.
 */
void fz_program_free(struct fz_program *program);

#endif
