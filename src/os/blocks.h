/*
 * blocks.h - reads a descriptor in blocks of whole records, such as lines.
 *
 * A record ends with a separator byte; the last record may have none. A block
 * ends where a record ends. If a read would wait, the whole records that were
 * read before are a block.
 */
#ifndef FZ_BLOCKS_H
#define FZ_BLOCKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

struct fz_err;

struct fz_blocks {
	int fd;        /* descriptor of the input; -1: closed */
	bool borrowed; /* do not close the descriptor: it is standard input */
	/* a read may wait, because the file is not a regular one */
	bool waits;
	bool ended;     /* nothing is left to read */
	char separator; /* the last byte of a record */
	int failed;     /* errno of the last read; 0: none has failed */
	size_t start;   /* offset of the block in the buffer */
	size_t cut;     /* offset of the end of the block */
	/* offset of the end of the bytes after `cut` that have no separator */
	size_t scanned;
	uint64_t n; /* number of records in the block */
	struct fz_buf buf;
};

enum fz_blocks_result {
	FZ_BLOCKS_FAILED = -1,
	FZ_BLOCKS_END,   /* no record is left */
	FZ_BLOCKS_WAIT,  /* no whole record is there: wait until fd is ready */
	FZ_BLOCKS_BLOCK, /* a block, from `start` to `cut` in the buffer */
};

/*
 * Open a file; NULL for standard input, which may be blocking. 0, or -1 and
 * `err`. Release with fz_blocks_close().
 */
int fz_blocks_open(struct fz_blocks *blocks, const char *path, char separator,
    struct fz_err *err);

/*
 * Read the next block. The block ends with the first record at or after
 * `bytes`, or after `records` records (at least 1), or where the next read
 * would wait. The block is valid until the next call.
 */
enum fz_blocks_result fz_blocks_read(struct fz_blocks *blocks, size_t bytes,
    uint64_t records, struct fz_err *err);

/* Close the file and free the buffer. Later calls do nothing. */
void fz_blocks_close(struct fz_blocks *blocks);

#endif
