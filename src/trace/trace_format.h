/* trace_format.h - the lines of a trace in each format. */
#ifndef FZ_TRACE_FORMAT_H
#define FZ_TRACE_FORMAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct fz_buf;
struct fz_job_event;

/* The digits of a number that was written before. */
struct fz_trace_digits {
	uint64_t of;
	size_t n;                /* number of digits; 0: there are none */
	unsigned char bytes[24]; /* room for the largest number, and more */
};

/* number of workers whose digits are kept, at index pid modulo this */
enum { FZ_TRACE_WORKERS = 4 };

/* The state that the lines of one trace share. */
struct fz_trace_file {
	/* added to a time of fz_clock_ns() to get the time since 1970 */
	int64_t wall_ns;
	pid_t pid;       /* pid of the process that writes the file */
	uint64_t nlines; /* attempts written so far */
	uint64_t nlost;  /* records that were lost because memory ran out */
	/* Digits are kept, because most lines repeat earlier numbers. */
	uint64_t second_ns;            /* start of a second, since 1970 */
	struct fz_trace_digits second; /* digits of that second */
	struct fz_trace_digits ended;  /* end of the attempt written last */
	struct fz_trace_digits pids[FZ_TRACE_WORKERS], peaks[FZ_TRACE_WORKERS];
};

/*
 * The functions of a format, which append lines, each with its newline.
 * Failures are sticky in the buffer.
 */
struct fz_trace_lines {
	void (*begin)(struct fz_buf *out, struct fz_trace_file *file);
	void (*event)(struct fz_buf *out, struct fz_trace_file *file,
	    const struct fz_job_event *event);
	void (*end)(struct fz_buf *out, struct fz_trace_file *file);
};

/* The formats, by enum fz_trace_format. */
extern const struct fz_trace_lines fz_trace_lines[];

/* How the attempt ended: "done", "failed", "retry" or "cancelled". */
const char *fz_trace_word(const struct fz_job_event *event);

/* Whether the attempt was cancelled before it started. */
bool fz_trace_is_cancelled(const struct fz_job_event *event);

/* The fz_clock_ns() at which the attempt started. */
int64_t fz_trace_started(const struct fz_job_event *event);

/* Whether a JSON string has the `len` bytes of `text` unchanged. */
bool fz_trace_is_plain(const char *text, size_t len);

/*
 * Append the `len` bytes of `text` as a JSON string, with U+FFFD for each
 * byte that is not UTF-8.
 */
void fz_trace_put_string(struct fz_buf *out, const char *text, size_t len);

#endif
