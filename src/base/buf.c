#include "base/buf.h"

#include <stdlib.h>

#include "base/vec.h"

enum { BUF_FIRST = 256 };

int
fz_buf_resize(struct fz_buf *buf, size_t need)
{
	unsigned char *data = fz_vec_room(
	    buf->data, &buf->cap, need < BUF_FIRST ? BUF_FIRST : need, 1);

	if (data == NULL)
		return -1;
	buf->data = data;
	return 0;
}

void
fz_buf_init(struct fz_buf *buf)
{
	*buf = (struct fz_buf)FZ_BUF_INIT;
}

void
fz_buf_fini(struct fz_buf *buf)
{
	if (buf->store != NULL)
		buf->store->release(buf);
	else
		free(buf->data);
	buf->data = NULL;
	buf->len = buf->cap = 0;
	buf->failed = false;
}

void
fz_buf_clear(struct fz_buf *buf)
{
	buf->len = 0;
	buf->failed = false;
}

unsigned char *
fz_buf_grow(struct fz_buf *buf, size_t n)
{
	int rc;

	if (buf->failed || n > SIZE_MAX / 2 - buf->len)
		goto fail;
	if (buf->cap - buf->len >= n && buf->data != NULL)
		return buf->data + buf->len;
	rc = buf->store != NULL ? buf->store->resize(buf, buf->len + n)
				: fz_buf_resize(buf, buf->len + n);
	if (rc == 0)
		return buf->data + buf->len;
fail:
	buf->failed = true;
	return NULL;
}

void
fz_buf_consume(struct fz_buf *buf, size_t n)
{
	buf->len -= n;
	if (buf->len != 0)
		memmove(buf->data, buf->data + n, buf->len);
}

uint64_t
fz_reader_varint(struct fz_reader *r)
{
	uint64_t v = 0;
	unsigned shift;

	for (shift = 0; shift < 64; shift += 7) {
		uint8_t byte = fz_reader_u8(r);

		if (shift == 63 && byte > 1)
			break;
		v |= (uint64_t)(byte & 0x7f) << shift;
		if (byte < 0x80)
			return r->failed ? 0 : v;
	}
	r->failed = true;
	return 0;
}
