/* lines.h - relays what a worker prints, whole lines at a time. */
#ifndef FZ_LINES_H
#define FZ_LINES_H

#include <stddef.h>

struct fz_err;
struct fz_lines; /* one pipe: its read end, and the line not yet whole */

/* Told whole lines (or a piece) as they come; must not free the relay. */
typedef void (*fz_lines_out)(void *ctx, const char *bytes, size_t len);

/* A line longer than this is passed on in pieces. */
#define FZ_LINES_MAX ((size_t)64 << 20)

/*
 * Relay from `fd`, the non-blocking read end of a pipe; owns it from now on.
 * NULL and `err` on failure, then `fd` is still the caller's.
 */
struct fz_lines *fz_lines_new(
    int fd, fz_lines_out out, void *ctx, struct fz_err *err);

/*
 * Read what is there now, 1 MiB at most so that others have their turn, and
 * pass whole lines on. Returns 1 while the pipe is open, 0 when nobody can
 * write to it any more (then the last piece is passed on too), or -1 and
 * `err`.
 */
int fz_lines_pump(struct fz_lines *lines, struct fz_err *err);

/*
 * Pass on a piece of a line that is still held: for a worker that is dead
 * while something it started keeps the pipe open.
 */
void fz_lines_flush(struct fz_lines *lines);

/* Close the pipe, forget what is held. NULL is allowed. */
void fz_lines_free(struct fz_lines *lines);

#endif
