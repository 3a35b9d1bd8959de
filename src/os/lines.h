/* lines.h - relays the output of a worker in whole lines. */
#ifndef FZ_LINES_H
#define FZ_LINES_H

#include <stddef.h>

struct fz_err;
struct fz_lines; /* one pipe: its read end, and the incomplete line */

/*
 * Called with whole lines, or with a piece of a line; must not free the relay.
 */
typedef void (*fz_lines_out)(void *ctx, const char *bytes, size_t len);

/* A line longer than this is passed on in pieces. */
#define FZ_LINES_MAX ((size_t)64 << 20)

/*
 * Relay from `fd`, the non-blocking read end of a pipe, which the relay then
 * owns. -1: the relay passes on only what fz_lines_add() adds. NULL and `err`
 * on failure; then `fd` is still the caller's.
 */
struct fz_lines *fz_lines_new(
    int fd, fz_lines_out out, void *ctx, struct fz_err *err);

/*
 * Read what is in the pipe now and pass on whole lines. Reads 1 MiB at most, so
 * that other relays have their turn. Returns 1 while the pipe is open, 0 if no
 * writer is left (then the incomplete line is passed on, too), or -1 and `err`.
 */
int fz_lines_pump(struct fz_lines *lines, struct fz_err *err);

/* Relay bytes that did not come through the pipe. */
void fz_lines_add(struct fz_lines *lines, const char *bytes, size_t n);

/* Pass on the incomplete line: a descendant may never close the pipe. */
void fz_lines_flush(struct fz_lines *lines);

/* Close the pipe and drop the incomplete line. NULL is allowed. */
void fz_lines_free(struct fz_lines *lines);

#endif
