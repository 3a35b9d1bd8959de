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
	unsigned char bytes[24]; /* the digits; no number is longer */
};

/* size of arrays that are indexed by pid modulo FZ_TRACE_WORKERS */
enum { FZ_TRACE_WORKERS = 4 };

/* What is kept between the lines of a trace. */
struct fz_trace_file {
	/* difference between the time since 1970 and fz_clock_ns() */
	int64_t wall_ns;
	pid_t pid;       /* pid of this process, which writes the file */
	uint64_t nlines; /* number of attempts that were written */
	uint64_t nlost;  /* records lost because memory ran out */
	/* digits are kept, because most lines repeat them */
	uint64_t second_ns; /* a whole second since 1970, in nanoseconds */
	struct fz_trace_digits second; /* digits of `second_ns` in seconds */
	struct fz_trace_digits ended;  /* for the end of the last attempt */
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
