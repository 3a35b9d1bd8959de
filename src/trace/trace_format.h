/* trace_format.h - the lines of a trace in each format. */
#ifndef FZ_TRACE_FORMAT_H
#define FZ_TRACE_FORMAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct fz_buf;
struct fz_job_event;

/* The digits of a number that an earlier line had. */
struct fz_trace_digits {
	uint64_t of;
	size_t n;                /* number of digits; 0: none are kept */
	unsigned char bytes[24]; /* the digits; larger than any number needs */
};

/*
 * Size of the arrays of digits that are kept for workers. The index is pid
 * modulo FZ_TRACE_WORKERS.
 */
enum { FZ_TRACE_WORKERS = 4 };

/* What lines of a trace need of the lines before them. */
struct fz_trace_file {
	/* difference between the time since 1970 and fz_clock_ns() */
	int64_t wall_ns;
	pid_t pid;       /* pid of this process, which writes the file */
	uint64_t nlines; /* number of attempts that were written */
	/* number of records that were lost because memory ran out */
	uint64_t nlost;
	/* Digits of some numbers are kept, because most lines repeat them. */
	/* a time in whole seconds, as nanoseconds since 1970 */
	uint64_t second_ns;
	struct fz_trace_digits second; /* digits of `second_ns` in seconds */
	/* digits of the end of the attempt that was written last */
	struct fz_trace_digits ended;
	struct fz_trace_digits pids[FZ_TRACE_WORKERS], peaks[FZ_TRACE_WORKERS];
};

/*
 * The functions of a format. They append lines, each with its newline. Failures
 * are sticky in the buffer.
 */
struct fz_trace_lines {
	void (*begin)(struct fz_buf *out, struct fz_trace_file *file);
	void (*event)(struct fz_buf *out, struct fz_trace_file *file,
	    const struct fz_job_event *event);
	void (*end)(struct fz_buf *out, struct fz_trace_file *file);
};

/* The functions of each format, indexed by enum fz_trace_format. */
extern const struct fz_trace_lines fz_trace_lines[];

/* How the attempt ended: "done", "failed", "retry", "cached" or "cancelled". */
const char *fz_trace_word(const struct fz_job_event *event);

/* Whether the attempt was cancelled before it started. */
bool fz_trace_is_cancelled(const struct fz_job_event *event);

/* The time of fz_clock_ns() at which the attempt started. */
int64_t fz_trace_started(const struct fz_job_event *event);

/* Whether `text` is the same inside a JSON string, without escapes. */
bool fz_trace_is_plain(const char *text, size_t len);

/*
 * Append the `len` bytes of `text` as a JSON string. U+FFFD replaces each byte
 * that is not UTF-8.
 */
void fz_trace_put_string(struct fz_buf *out, const char *text, size_t len);

#endif
