#include "wire/wire.h"

#include <errno.h>

#include "base/err.h"
#include "os/fd.h"
#include "wire/blob.h"

enum { WIRE_MAGIC = 0x5a46, WIRE_READ_FIRST = 256, WIRE_READ = 64 << 10 };
#define PART_IN_SHM ((uint64_t)1 << 63)

size_t
fz_wire_begin(
    struct fz_buf *out, enum fz_wire_type type, unsigned flags, uint32_t seq)
{
	size_t start = out->len;
	unsigned char *p = fz_buf_reserve(out, FZ_WIRE_HEADER);

	if (p == NULL)
		return start;
	fz_le32_store(
	    p, (uint32_t)type | flags << 8 | (uint32_t)WIRE_MAGIC << 16);
	fz_le32_store(p + 4, seq);
	fz_le64_store(p + 8, 0);
	out->len += FZ_WIRE_HEADER;
	return start;
}

void
fz_wire_end(struct fz_buf *out, size_t start)
{
	if (!out->failed)
		fz_le64_store(
		    out->data + start + 8, out->len - start - FZ_WIRE_HEADER);
	else if (out->len > start)
		out->len = start; /* on failure the whole frame is removed */
}

void
fz_wire_put_bytes(struct fz_buf *out, const void *bytes, size_t len)
{
	fz_buf_put_u64(out, len);
	fz_buf_put(out, bytes, len);
}

void
fz_wire_put_offset(struct fz_buf *out, uint64_t offset, size_t len)
{
	fz_buf_put_u64(out, len | PART_IN_SHM);
	fz_buf_put_u64(out, offset);
}

void
fz_wire_put_blob(struct fz_buf *out, const struct fz_blob *blob)
{
	if (blob->in_arena)
		fz_wire_put_offset(out, blob->offset, blob->len);
	else
		fz_wire_put_bytes(out, blob->bytes, blob->len);
}

int
fz_wire_part(struct fz_reader *body, struct fz_part *part)
{
	uint64_t len = fz_reader_u64(body);

	if (len & PART_IN_SHM) {
		part->len = len & ~PART_IN_SHM;
		part->offset = fz_reader_u64(body);
		part->bytes = NULL;
	} else {
		part->len = len;
		part->bytes = fz_reader_take(body, len);
	}
	return body->failed ? -1 : 0;
}

void
fz_wire_store_used(unsigned char *p, const struct fz_used *used)
{
	fz_le64_store(p, (uint64_t)used->started_ns);
	fz_le64_store(p + 8, (uint64_t)used->took_ns);
	fz_le64_store(p + 16, used->cpu_ns);
	fz_le64_store(p + 24, used->peak_rss);
	fz_le64_store(p + 32, (uint64_t)used->init_ns);
}

void
fz_wire_load_used(const unsigned char *p, struct fz_used *used)
{
	used->started_ns = (int64_t)fz_le64_load(p);
	used->took_ns = (int64_t)fz_le64_load(p + 8);
	used->cpu_ns = fz_le64_load(p + 16);
	used->peak_rss = fz_le64_load(p + 24);
	used->init_ns = (int64_t)fz_le64_load(p + 32);
	used->launch_ns = 0;
}

int
fz_wire_cut_used(const struct fz_frame *frame, struct fz_reader *body,
    const unsigned char **at)
{
	*at = NULL;
	if (!(frame->flags & FZ_WIRE_MEASURED) || frame->type == FZ_WIRE_VALUES)
		return 0;
	if (fz_reader_left(body) < FZ_WIRE_USED)
		return -1;
	body->end -= FZ_WIRE_USED;
	*at = body->end;
	return 0;
}

void
fz_wire_in_init(struct fz_wire_in *in)
{
	fz_buf_init(&in->buf);
	in->at = 0;
	/* a small buffer first, because most workers send little */
	in->room = WIRE_READ_FIRST;
}

void
fz_wire_in_fini(struct fz_wire_in *in)
{
	fz_buf_fini(&in->buf);
	in->at = 0;
}

/* Bytes that the frame at `in->at` lacks; 0 if its header is incomplete. */
static size_t
missing(const struct fz_wire_in *in)
{
	size_t have = in->buf.len - in->at;
	uint64_t len;

	if (have < FZ_WIRE_HEADER)
		return 0;
	len = fz_le64_load(in->buf.data + in->at + 8);
	if (len > FZ_WIRE_MAX || len <= have - FZ_WIRE_HEADER)
		return 0;
	return (size_t)len - (have - FZ_WIRE_HEADER);
}

ptrdiff_t
fz_wire_fill(struct fz_wire_in *in, int fd)
{
	if (in->at != 0)
		fz_buf_consume(&in->buf, in->at);
	in->at = 0;
	return fz_wire_append(in, fd);
}

ptrdiff_t
fz_wire_append(struct fz_wire_in *in, int fd)
{
	size_t want = missing(in);
	unsigned char *p;
	ssize_t n;

	/*
	 * The length in the header may be wrong: allocate no more bytes for it
	 * than have come already.
	 */
	if (want > in->buf.len)
		want = in->buf.len;
	if (want < in->room)
		want = in->room;
	p = fz_buf_reserve(&in->buf, want);
	if (p == NULL) {
		in->buf.failed = false;
		errno = ENOMEM;
		return -1;
	}
	n = fz_fd_read(fd, p, want);
	if (n > 0)
		in->buf.len += (size_t)n;
	if (n >= (ptrdiff_t)in->room && in->room < WIRE_READ)
		in->room *= 4;
	return n;
}

int
fz_wire_head(
    const unsigned char *p, size_t have, size_t body, struct fz_frame *frame)
{
	uint32_t head;
	uint64_t len;

	if (have < FZ_WIRE_HEADER)
		return 0;
	head = fz_le32_load(p);
	len = fz_le64_load(p + 8);
	if (head >> 16 != WIRE_MAGIC || (head & 0xff) == 0 ||
	    (head & 0xff) >= FZ_WIRE_NTYPES || len > FZ_WIRE_MAX)
		return -1;
	frame->type = (enum fz_wire_type)(head & 0xff);
	frame->flags = head >> 8 & 0xff;
	frame->seq = fz_le32_load(p + 4);
	frame->body = p + FZ_WIRE_HEADER;
	frame->len = (size_t)len;
	return have - FZ_WIRE_HEADER >= (len < body ? len : body);
}

static int
refuse(const unsigned char *p, struct fz_err *err)
{
	uint64_t len = fz_le64_load(p + 8);

	if (fz_le32_load(p) >> 16 != WIRE_MAGIC || len <= FZ_WIRE_MAX)
		return fz_err_set(err, FZ_ERR_CRASH,
		    "the pipe carries bytes that are not a frame");
	return fz_err_set(err, FZ_ERR_CRASH,
	    "a frame on the pipe has a length of %llu bytes",
	    (unsigned long long)len);
}

int
fz_wire_scan(const unsigned char **p, const unsigned char *end,
    struct fz_frame *frame, struct fz_err *err)
{
	int rc = fz_wire_head(*p, (size_t)(end - *p), SIZE_MAX, frame);

	if (rc < 0)
		return refuse(*p, err);
	if (rc == 1)
		*p = frame->body + frame->len;
	return rc;
}

int
fz_wire_next(struct fz_wire_in *in, struct fz_frame *frame, struct fz_err *err)
{
	const unsigned char *p, *end;
	int rc;

	if (in->at == in->buf.len)
		return 0;
	p = in->buf.data + in->at;
	end = in->buf.data + in->buf.len;
	rc = fz_wire_scan(&p, end, frame, err);
	if (rc == 1)
		in->at = (size_t)(p - in->buf.data);
	return rc;
}
