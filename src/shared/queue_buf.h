/*
 * queue_buf.h - a buffer for an item of a queue. It begins in memory of the
 * caller, and moves to blocks of the shared heap if it grows. Ends with
 * fz_buf_fini().
 */
#ifndef FZ_QUEUE_BUF_H
#define FZ_QUEUE_BUF_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

struct fz_queue_buf {
	struct fz_buf buf; /* first, as the store casts its address */
	void *blocks;      /* the blocks; NULL: the bytes were not moved */
	uint32_t self;     /* the member that owns the blocks */
};

/* `bytes`: memory for the first `room` bytes; NULL: none. */
void fz_queue_buf_init(
    struct fz_queue_buf *qb, uint32_t self, unsigned char *bytes, size_t room);

/* Free the unneeded blocks; return the others, which the buffer still owns. */
void *fz_queue_buf_trim(struct fz_queue_buf *qb);

/* Forget the blocks: the caller owns them now. */
void fz_queue_buf_forget(struct fz_queue_buf *qb);

#endif
