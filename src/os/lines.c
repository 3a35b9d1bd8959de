/* memrchr is a GNU function. */
#define _GNU_SOURCE
#include "os/lines.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"
#include "os/fd.h"

enum {
	READ_SIZE = 16 << 10,
	/* maximum number of reads in one call, so that other relays have their
	   turn */
	READS_MAX = 64,
};

struct fz_lines {
	int fd;
	bool ended; /* the pipe has no writer any more */
	fz_lines_out out;
	void *ctx;
	struct fz_buf held; /* the incomplete line */
};

struct fz_lines *
fz_lines_new(int fd, fz_lines_out out, void *ctx, struct fz_err *err)
{
	struct fz_lines *lines = malloc(sizeof(*lines));

	if (lines == NULL) {
		fz_err_nomem(err, "the relay of a worker's output");
		return NULL;
	}
	lines->fd = fd;
	lines->ended = fd == -1;
	lines->out = out;
	lines->ctx = ctx;
	fz_buf_init(&lines->held);
	return lines;
}

static void
pass_on(struct fz_lines *lines, size_t len)
{
	if (len == 0)
		return;
	lines->out(lines->ctx, (const char *)lines->held.data, len);
	fz_buf_consume(&lines->held, len);
}

/* Pass on the lines that the last `fresh` bytes complete. */
static void
pass_whole_lines(struct fz_lines *lines, size_t fresh)
{
	const struct fz_buf *held = &lines->held;
	const unsigned char *from = held->data + held->len - fresh;
	const unsigned char *end = memrchr(from, '\n', fresh);

	if (end != NULL)
		pass_on(lines, (size_t)(end - held->data) + 1);
	if (held->len >= FZ_LINES_MAX)
		pass_on(lines, held->len);
}

/* If there is no memory for the line, pass on the bytes that have come. */
void
fz_lines_add(struct fz_lines *lines, const char *bytes, size_t n)
{
	unsigned char *room = fz_buf_reserve(&lines->held, n);

	if (room == NULL) {
		fz_lines_flush(lines);
		lines->out(lines->ctx, bytes, n);
		return;
	}
	memcpy(room, bytes, n);
	lines->held.len += n;
	pass_whole_lines(lines, n);
}

int
fz_lines_pump(struct fz_lines *lines, struct fz_err *err)
{
	/* on the stack, because most workers print nothing */
	char bytes[READ_SIZE];
	int i;

	for (i = 0; i < READS_MAX && !lines->ended; i++) {
		ssize_t n = fz_fd_read(lines->fd, bytes, sizeof(bytes));

		if (n == -1 && (errno == EAGAIN || errno == EWOULDBLOCK))
			return 1;
		if (n == -1)
			return fz_err_sys(
			    err, errno, "cannot read a worker's output");
		if (n == 0) {
			fz_lines_flush(lines);
			lines->ended = true;
			break;
		}
		fz_lines_add(lines, bytes, (size_t)n);
	}
	return !lines->ended;
}

void
fz_lines_flush(struct fz_lines *lines)
{
	pass_on(lines, lines->held.len);
	fz_buf_clear(&lines->held);
}

void
fz_lines_free(struct fz_lines *lines)
{
	if (lines == NULL)
		return;
	fz_fd_close(&lines->fd);
	fz_buf_fini(&lines->held);
	free(lines);
}
