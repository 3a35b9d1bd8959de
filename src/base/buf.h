/*
 * buf.h - a growing byte buffer, and a reader that never goes past the end.
 *
 * Both carry a sticky failure: append or read freely, then check it once at the
 * end. Numbers are little-endian on every machine.
 */
#ifndef FZ_BUF_H
#define FZ_BUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Little-endian loads and stores; compilers make one instruction of each. */
static inline void
fz_le32_store(unsigned char *p, uint32_t v)
{
	p[0] = (unsigned char)v;
	p[1] = (unsigned char)(v >> 8);
	p[2] = (unsigned char)(v >> 16);
	p[3] = (unsigned char)(v >> 24);
}

static inline void
fz_le64_store(unsigned char *p, uint64_t v)
{
	fz_le32_store(p, (uint32_t)v);
	fz_le32_store(p + 4, (uint32_t)(v >> 32));
}

static inline uint32_t
fz_le32_load(const unsigned char *p)
{
	return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 |
	       (uint32_t)p[3] << 24;
}

static inline uint64_t
fz_le64_load(const unsigned char *p)
{
	return fz_le32_load(p) | (uint64_t)fz_le32_load(p + 4) << 32;
}

struct fz_buf;

/*
 * The memory of a buffer. `resize` provides room for at least `need` bytes in
 * total, keeps the first `len` bytes, sets `data` and `cap` and returns 0; on
 * failure it changes nothing and returns -1. `release` frees the memory.
 */
struct fz_buf_store {
	int (*resize)(struct fz_buf *buf, size_t need);
	void (*release)(struct fz_buf *buf);
};

struct fz_buf {
	unsigned char *data; /* NULL until the first put */
	size_t len;          /* bytes in use */
	size_t cap;          /* bytes allocated */
	bool failed;         /* out of memory: the contents are incomplete */
	/* functions that allocate `data`; NULL: malloc() and its family */
	const struct fz_buf_store *store;
};

#define FZ_BUF_INIT                     \
	{                               \
		NULL, 0, 0, false, NULL \
	}

/* Start empty; bytes come from malloc. Release with fz_buf_fini(). */
void fz_buf_init(struct fz_buf *buf);

/* Free the memory; the buffer is empty and usable again. */
void fz_buf_fini(struct fz_buf *buf);

/* Drop the bytes and reset `failed`, but keep the memory. */
void fz_buf_clear(struct fz_buf *buf);

/*
 * Make room for `n` more bytes. Returns the address for these bytes, or NULL
 * and marks the buffer failed. The caller adds the bytes it wrote to `len`.
 */
unsigned char *fz_buf_grow(struct fz_buf *buf, size_t n);

/*
 * The `resize` of a buffer whose memory is from malloc(): make room for `need`
 * bytes. 0, or -1 if there is no memory.
 */
int fz_buf_resize(struct fz_buf *buf, size_t need);

/* Drop the first `n` bytes, n <= len. */
void fz_buf_consume(struct fz_buf *buf, size_t n);

static inline unsigned char *
fz_buf_reserve(struct fz_buf *buf, size_t n)
{
	if (buf->cap - buf->len >= n && !buf->failed)
		return buf->data + buf->len;
	return fz_buf_grow(buf, n);
}

static inline void
fz_buf_put(struct fz_buf *buf, const void *bytes, size_t n)
{
	unsigned char *p = fz_buf_reserve(buf, n);

	if (p != NULL && n != 0) {
		memcpy(p, bytes, n);
		buf->len += n;
	}
}

static inline void
fz_buf_put_u32(struct fz_buf *buf, uint32_t v)
{
	unsigned char *p = fz_buf_reserve(buf, 4);

	if (p != NULL) {
		fz_le32_store(p, v);
		buf->len += 4;
	}
}

static inline void
fz_buf_put_u64(struct fz_buf *buf, uint64_t v)
{
	unsigned char *p = fz_buf_reserve(buf, 8);

	if (p != NULL) {
		fz_le64_store(p, v);
		buf->len += 8;
	}
}

struct fz_reader {
	const unsigned char *p;   /* the next byte */
	const unsigned char *end; /* one past the last byte */
	bool failed;              /* a read went past the end */
};

static inline void
fz_reader_init(struct fz_reader *r, const void *bytes, size_t len)
{
	r->p = bytes;
	r->end = r->p + len;
	r->failed = false;
}

static inline size_t
fz_reader_left(const struct fz_reader *r)
{
	return (size_t)(r->end - r->p);
}

/* The next `n` bytes, or NULL (and failed) if fewer are left. */
static inline const unsigned char *
fz_reader_take(struct fz_reader *r, size_t n)
{
	const unsigned char *p = r->p;

	if (n > fz_reader_left(r)) {
		r->failed = true;
		r->p = r->end;
		return NULL;
	}
	r->p += n;
	return p;
}

/* The following functions return 0 if the bytes are missing. */
static inline uint8_t
fz_reader_u8(struct fz_reader *r)
{
	const unsigned char *p = fz_reader_take(r, 1);

	return p != NULL ? *p : 0;
}

static inline uint32_t
fz_reader_u32(struct fz_reader *r)
{
	const unsigned char *p = fz_reader_take(r, 4);

	return p != NULL ? fz_le32_load(p) : 0;
}

static inline uint64_t
fz_reader_u64(struct fz_reader *r)
{
	const unsigned char *p = fz_reader_take(r, 8);

	return p != NULL ? fz_le64_load(p) : 0;
}

/*
 * A number of 64 bits in base 128, the low group first. Fails if the number has
 * more than ten bytes or more than 64 bits.
 */
uint64_t fz_reader_varint(struct fz_reader *r);

#endif
