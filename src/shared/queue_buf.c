#include "shared/queue_buf.h"

#include <string.h>

#include "shared/heap.h"

static void
release_blocks(struct fz_buf *buf)
{
	struct fz_queue_buf *qb = (struct fz_queue_buf *)buf;

	if (qb->blocks != NULL)
		fz_heap_give_back(qb->blocks);
	qb->blocks = NULL;
}

static int
move_to_blocks(struct fz_buf *buf, size_t need)
{
	struct fz_queue_buf *qb = (struct fz_queue_buf *)buf;
	size_t want = need / 2 < buf->cap ? 2 * buf->cap : need;
	void *blocks = fz_heap_alloc(qb->self, want, NULL);

	if (blocks == NULL)
		return -1;
	if (buf->len != 0)
		memcpy(blocks, buf->data, buf->len);
	release_blocks(buf);
	qb->blocks = blocks;
	buf->data = blocks;
	buf->cap = fz_heap_capacity(blocks);
	return 0;
}

static const struct fz_buf_store store = { move_to_blocks, release_blocks };

void
fz_queue_buf_init(
    struct fz_queue_buf *qb, uint32_t self, unsigned char *bytes, size_t room)
{
	*qb = (struct fz_queue_buf){ .self = self };
	qb->buf.data = bytes;
	qb->buf.cap = bytes != NULL ? room : 0;
	qb->buf.store = &store;
}

void *
fz_queue_buf_trim(struct fz_queue_buf *qb)
{
	fz_heap_trim(qb->blocks, qb->buf.len);
	qb->buf.cap = fz_heap_capacity(qb->blocks);
	return qb->blocks;
}

void
fz_queue_buf_forget(struct fz_queue_buf *qb)
{
	qb->blocks = NULL;
}
