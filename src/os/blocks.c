/* O_CLOEXEC is POSIX, which -std=c11 hides. */
#define _GNU_SOURCE
#include "os/blocks.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "os/fd.h"

/* minimum number of bytes of a read: as many as a pipe holds */
enum { READ_MIN = 64 << 10 };

int
fz_blocks_open(
    struct fz_blocks *b, const char *path, char separator, struct fz_err *err)
{
	struct stat st;

	*b = (struct fz_blocks){ .separator = separator,
		.borrowed = path == NULL };
	fz_buf_init(&b->buf);
	b->fd = path != NULL ? open(path, O_RDONLY | O_CLOEXEC) : STDIN_FILENO;
	if (b->fd == -1)
		return fz_err_sys(err, errno, "cannot be opened");
	b->waits = fstat(b->fd, &st) != 0 || !S_ISREG(st.st_mode);
	return 0;
}

/*
 * Extend the block by records that are in the buffer. Returns whether the block
 * is complete.
 */
static bool
extend(struct fz_blocks *b, size_t bytes, uint64_t records)
{
	const unsigned char *data = b->buf.data, *end;

	while (b->n < records && b->cut - b->start < bytes) {
		if (b->scanned == b->buf.len)
			return false;
		end = memchr(data + b->scanned, (unsigned char)b->separator,
		    b->buf.len - b->scanned);
		if (end == NULL) {
			b->scanned = b->buf.len;
			return false;
		}
		b->cut = b->scanned = (size_t)(end - data) + 1;
		b->n++;
	}
	return true;
}

/* Remove the bytes before the block from the buffer. */
static void
drop_old(struct fz_blocks *b)
{
	if (b->start == 0)
		return;
	fz_buf_consume(&b->buf, b->start);
	b->cut -= b->start;
	b->scanned -= b->start;
	b->start = 0;
}

/* Read more bytes. False at the end of the input or on an error. */
static bool
fill(struct fz_blocks *b, size_t bytes)
{
	size_t want = bytes > READ_MIN ? bytes : READ_MIN;
	unsigned char *room;
	ssize_t n;

	drop_old(b);
	room = fz_buf_reserve(&b->buf, want);
	if (room == NULL) {
		b->failed = ENOMEM;
		return false;
	}
	n = fz_fd_read(b->fd, room, want);
	if (n == -1)
		b->failed = errno;
	if (n > 0)
		b->buf.len += (size_t)n;
	return n > 0;
}

static bool
would_wait(const struct fz_blocks *b)
{
	struct pollfd p = { .fd = b->fd, .events = POLLIN };

	return b->waits && poll(&p, 1, 0) == 0;
}

/* The rest of the input as the last block; FZ_BLOCKS_END if none is left. */
static enum fz_blocks_result
finish(struct fz_blocks *b, struct fz_err *err)
{
	b->ended = true;
	if (b->failed == 0 && b->cut < b->buf.len) {
		b->cut = b->scanned = b->buf.len;
		b->n++;
	}
	if (b->n > 0)
		return FZ_BLOCKS_BLOCK;
	if (b->failed != 0)
		return fz_err_sys(err, b->failed, "cannot be read");
	return FZ_BLOCKS_END;
}

enum fz_blocks_result
fz_blocks_read(
    struct fz_blocks *b, size_t bytes, uint64_t records, struct fz_err *err)
{
	b->start = b->cut;
	b->n = 0;
	while (!extend(b, bytes, records)) {
		if (b->ended)
			return finish(b, err);
		if (would_wait(b))
			return b->n > 0 ? FZ_BLOCKS_BLOCK : FZ_BLOCKS_WAIT;
		if (!fill(b, bytes))
			return finish(b, err);
	}
	return FZ_BLOCKS_BLOCK;
}

void
fz_blocks_close(struct fz_blocks *b)
{
	if (!b->borrowed)
		fz_fd_close(&b->fd);
	b->fd = -1;
	b->ended = true;
	fz_buf_fini(&b->buf);
	b->start = b->cut = b->scanned = 0;
}
