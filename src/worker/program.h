/*
 * program.h - run another program: its standard streams, its time limit, and
 * its end.
 *
 *   this process --fork--> supervisor --spawn--> program --> whatever it starts
 *
 * The supervisor is a child as proc.h describes it. It ends when this process
 * ends. When the program has ended, the supervisor ends all its other
 * descendants. No other process holds the pipe through which it reports, so end
 * of file there means that the supervisor has ended.
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
	/* file to run; a name without "/" is searched in PATH */
	const char *file;
	char *const *argv; /* at least one string; the array ends with NULL */
	char *const *env;  /* "NAME=value" sets, "NAME" removes a variable */
	const char *cwd;   /* working directory; NULL: that of the script */
	/*
	 * Names of files for standard input, output and error; NULL: a pipe.
	 * Relative names begin in the directory of the script, not in `cwd`.
	 */
	const char *files[3];
	/* input, which must stay valid as long as the object exists */
	const void *input;
	size_t ninput; /* number of bytes of `input` */
	bool feed;     /* more input will follow by fz_program_feed() */
	/*
	 * whether the caller consumes standard output (0), and error (1), while
	 * the program runs
	 */
	bool follow[2];
	int64_t timeout_ns; /* time limit; FZ_CLOCK_NEVER: none */
};

/* How a program ended. */
struct fz_program_end {
	/* why the program did not run to its end; FZ_ERR_NONE: it did */
	struct fz_err err;
	int signal;     /* the signal that killed the program; 0: none */
	int exitcode;   /* exit code; valid only if `signal` is 0 */
	bool timed_out; /* the program was killed at its time limit */
	struct fz_buf out, errors;
};

/*
 * Start the program. Its end is reported by its change (fz_program_id()).
 * Returns NULL and fills `err` if the supervisor could not be started. Other
 * failures are in the result of fz_program_end().
 */
struct fz_program *fz_program_new(
    const struct fz_program_opts *opts, struct fz_err *err);

/* The id of the program's change (change.h). */
uint64_t fz_program_id(const struct fz_program *program);

/*
 * How the program ended; NULL while it runs. In a forked child, the parent's
 * program counts as ended. The object owns the result.
 */
struct fz_program_end *fz_program_end(struct fz_program *program);

/* Whether all input is written and fz_program_feed() must follow. */
bool fz_program_hungry(const struct fz_program *program);

/*
 * Whether the program has ended, needs input, or has written to an output that
 * the caller follows.
 */
bool fz_program_ready(const struct fz_program *program);

/*
 * Add input. The bytes must stay valid until the program is hungry again or is
 * freed. If `nbytes` is 0, the input ends. Call this only while
 * fz_program_hungry() is true.
 */
void fz_program_feed(
    struct fz_program *program, const void *bytes, size_t nbytes);

/*
 * The bytes that were read from standard output (0) or error (1). The caller
 * may consume bytes if it follows that output.
 */
struct fz_buf *fz_program_output(struct fz_program *program, int which);

/*
 * Free the program. If it still runs, kill it and its descendants. NULL is
 * allowed.
 */
void fz_program_free(struct fz_program *program);

#endif
