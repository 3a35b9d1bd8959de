/* trace_format.h - the lines of a trace in each format. */
#ifndef FZ_TRACE_FORMAT_H
#define FZ_TRACE_FORMAT_H

#include <stddef.h>
#include <stdint.h>

struct fz_buf;
struct fz_job_event;

/* What the lines of one trace share. */
struct fz_trace_file {
	int64_t wall_ns; /* what is added to a time of the clock: since 1970 */
	uint64_t nlines; /* attempts written so far */
	uint64_t nlost;  /* records that there was no memory for */
	uint64_t second; /* since 1970, of the newest time written */
	unsigned char digits[24]; /* of that second, and how many */
	size_t ndigits;
};

/* Append lines, each with its newline. Failures are sticky in the buffer. */
struct fz_trace_lines {
	void (*begin)(struct fz_buf *out, struct fz_trace_file *file);
	void (*event)(struct fz_buf *out, struct fz_trace_file *file,
	    const struct fz_job_event *event);
	void (*end)(struct fz_buf *out, struct fz_trace_file *file);
};

/* By enum fz_trace_format. */
extern const struct fz_trace_lines fz_trace_lines[];

/* The word for how the attempt ended: "done", "failed", "retry", "cancelled".
 */
const char *fz_trace_word(const struct fz_job_event *event);

/* When the attempt started, by the clock. */
int64_t fz_trace_started(const struct fz_job_event *event);

/* Append `text` as a string of JSON: U+FFFD for each byte that is no UTF-8. */
void fz_trace_put_string(struct fz_buf *out, const char *text);

#endif
