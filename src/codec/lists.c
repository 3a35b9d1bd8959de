#include "codec/lists.h"

#include <string.h>

#include "base/buf.h"
#include "codec/format.h"
#include "codec/items.h"
#include "codec/scalar.h"
#include "value/rawarray.h"

/* Bytes of a message before its first value, if it has only one value. */
enum { MESSAGE_HEAD = 3 };

bool
fz_lists_length(const unsigned char *bytes, size_t len, uint64_t *n)
{
	struct fz_reader r;
	unsigned version, tag;
	uint64_t nvalues;

	fz_reader_init(&r, bytes, len);
	version = fz_reader_u8(&r);
	(void)fz_reader_u8(&r); /* skip the flags */
	nvalues = fz_reader_varint(&r);
	tag = fz_reader_u8(&r);
	*n = fz_reader_varint(&r);
	if (r.failed || version != FZ_FORMAT_VERSION || nvalues != 1)
		return false;
	if (tag == FZ_FORMAT_TABLE)
		return fz_reader_u8(&r) == 0 && !r.failed;
	/* Only fz_lists_begin() uses this tag for a single pair. */
	return tag == FZ_FORMAT_TABLE_WIDE && fz_reader_u32(&r) == 1 &&
	       !r.failed;
}

static void
put_u8(struct fz_buf *out, unsigned v)
{
	unsigned char byte = (unsigned char)v;

	fz_buf_put(out, &byte, 1);
}

static void
put_varint(struct fz_buf *out, uint64_t v)
{
	for (; v >= 0x80; v >>= 7)
		put_u8(out, (unsigned)(v & 0x7f) | 0x80);
	put_u8(out, (unsigned)v);
}

static void
put_integer(struct fz_buf *out, lua_Integer v)
{
	unsigned char bytes[FZ_SCALAR_NUMBER_MAX];

	fz_buf_put(
	    out, bytes, (size_t)(fz_scalar_store_integer(bytes, v) - bytes));
}

void
fz_lists_begin(struct fz_buf *out, uint64_t n)
{
	put_u8(out, FZ_FORMAT_VERSION);
	put_u8(out, 0); /* no flags */
	put_varint(out, 1);
	put_u8(out, FZ_FORMAT_TABLE_WIDE);
	put_varint(out, n);
	fz_buf_put_u32(out, 1);
}

void
fz_lists_end(struct fz_buf *out, uint64_t n)
{
	put_u8(out, FZ_FORMAT_STR6 + 1);
	put_u8(out, 'n');
	put_integer(out, (lua_Integer)n);
}

void
fz_lists_put_nils(struct fz_buf *out, uint64_t n)
{
	unsigned char *p = fz_buf_reserve(out, n);

	if (p == NULL)
		return;
	memset(p, FZ_FORMAT_NIL, n);
	out->len += n;
}

/*
 * Note an element that is a message of its own. The list has the flag for
 * functions if one of these messages has it, so that a receiver need not check
 * each message.
 */
static void
note_message(struct fz_buf *out, const unsigned char *bytes, size_t len)
{
	if (!out->failed && len > 1)
		out->data[1] |= bytes[1] & FZ_FORMAT_HAS_FUNCTIONS;
}

int
fz_lists_put_message(struct fz_buf *out, const unsigned char *bytes, size_t len)
{
	unsigned char head[FZ_ITEMS_HEAD];

	/*
	 * A value without references and without numbered strings has the same
	 * bytes in any message.
	 */
	if (len > MESSAGE_HEAD && bytes[1] == 0 && bytes[2] == 1) {
		fz_buf_put(out, bytes + MESSAGE_HEAD, len - MESSAGE_HEAD);
		return 0;
	}
	if (len > UINT32_MAX)
		return -1;
	fz_items_store_head(head, (uint32_t)len);
	fz_buf_put(out, head, sizeof(head));
	fz_buf_put(out, bytes, len);
	note_message(out, bytes, len);
	return 0;
}

int
fz_lists_put_items(struct fz_buf *out, struct fz_reader *items, uint32_t n)
{
	const unsigned char *start = items->p;

	for (uint32_t i = 0; i < n; i++) {
		const unsigned char *item = items->p;

		if (fz_items_skip(items) != 0)
			return -1;
		if (*item == FZ_FORMAT_ITEM)
			note_message(out, item + FZ_ITEMS_HEAD,
			    (size_t)(items->p - item) - FZ_ITEMS_HEAD);
	}
	fz_buf_put(out, start, (size_t)(items->p - start));
	return 0;
}

static uint64_t
bits_of(const struct fz_raw_value *element)
{
	uint64_t bits;

	memcpy(&bits, element->value, sizeof(bits));
	return bits;
}

/* The number of elements at the front that are numbers of one type. */
static size_t
numbers(const struct fz_rawarray *raw, const struct fz_raw_value *elements,
    size_t n)
{
	size_t i = 0;

	if (!fz_rawarray_is_number(raw, elements))
		return 0;
	if (n > FZ_FORMAT_RUN_MAX)
		n = FZ_FORMAT_RUN_MAX;
	while (i < n && elements[i].tag == elements->tag)
		i++;
	return i;
}

/* The binary logarithm of the number of bytes that the widest integer needs. */
static unsigned
width_of(const struct fz_raw_value *elements, size_t n)
{
	uint64_t all = 0;

	for (size_t i = 0; i < n; i++) {
		uint64_t bits = bits_of(&elements[i]);

		all |= bits >> 63 ? ~bits : bits;
	}
	return all < 0x80 ? 0 : all < 0x8000 ? 1 : all < 0x80000000 ? 2 : 3;
}

static void
put_run(struct fz_buf *out, const struct fz_raw_value *elements, size_t n,
    bool integers)
{
	unsigned shift = integers ? width_of(elements, n) : 3;
	unsigned char *p;

	put_u8(out, integers ? FZ_FORMAT_RUN8 + shift : FZ_FORMAT_RUN_FLOAT);
	put_u8(out, (unsigned)(n - 1));
	put_u8(out, (unsigned)(n - 1) >> 8);
	/*
	 * Each number is stored as 8 bytes. The next number overwrites the
	 * bytes that are not needed.
	 */
	p = fz_buf_reserve(out, (n << shift) + 8);
	if (p == NULL)
		return;
	for (size_t i = 0; i < n; i++)
		fz_le64_store(p + (i << shift), bits_of(&elements[i]));
	out->len += n << shift;
}

/* Append a value that is in no run. */
static int
put_plain(struct fz_buf *out, const struct fz_rawarray *raw,
    const struct fz_raw_value *element)
{
	unsigned char bytes[FZ_SCALAR_NUMBER_MAX];

	if (element->tag == raw->integer) {
		put_integer(out, (lua_Integer)bits_of(element));
	} else if (element->tag == raw->number) {
		fz_scalar_store_float_bits(bytes, bits_of(element));
		fz_buf_put(out, bytes, sizeof(bytes));
	} else if (!fz_rawarray_is_plain(raw, element)) {
		return -1;
	} else {
		put_u8(out, element->tag == raw->nil   ? FZ_FORMAT_NIL
			    : element->tag == raw->yes ? FZ_FORMAT_TRUE
						       : FZ_FORMAT_FALSE);
	}
	return 0;
}

int
fz_lists_put_raw(struct fz_buf *out, const struct fz_rawarray *raw,
    const struct fz_raw_value *elements, size_t n)
{
	for (size_t i = 0; i < n;) {
		size_t k = numbers(raw, &elements[i], n - i);

		if (k >= FZ_FORMAT_RUN_MIN) {
			put_run(out, &elements[i], k,
			    elements[i].tag == raw->integer);
			i += k;
		} else if (put_plain(out, raw, &elements[i++]) != 0) {
			return -1;
		}
	}
	return 0;
}
