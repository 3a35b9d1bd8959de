#include "codec/plain.h"

#include <limits.h>
#include <stdint.h>

#include "base/buf.h"
#include "codec/format.h"
#include "codec/scalar.h"

struct walk {
	struct fz_reader in;
	unsigned flags;
	unsigned level; /* nesting of tables and messages */
	uint64_t nstrings;
	uint64_t nobjects;
};

static bool walk_other(struct walk *w, unsigned tag);

static bool
skip(struct walk *w, uint64_t n)
{
	return n <= SIZE_MAX && fz_reader_take(&w->in, (size_t)n) != NULL;
}

/* Inline, because most values of a large message are short. */
static inline bool
walk_value(struct walk *w)
{
	size_t left = fz_reader_left(&w->in);
	unsigned tag;
	int len;

	if (left == 0)
		return false;
	tag = *w->in.p++;
	if (tag >= FZ_FORMAT_SREF5)
		return tag - FZ_FORMAT_SREF5 < w->nstrings;
	len = fz_scalar_payload(tag);
	if (len < 0)
		return walk_other(w, tag);
	if ((size_t)len >= left)
		return false;
	w->in.p += len;
	return true;
}

/* Skip a string with tag `tag`. False if it is another tag. */
static bool
walk_string(struct walk *w, unsigned tag)
{
	switch (tag) {
	case FZ_FORMAT_STR8:
		return skip(w, fz_reader_u8(&w->in));
	case FZ_FORMAT_STR32:
		return skip(w, fz_reader_u32(&w->in));
	case FZ_FORMAT_STR64:
		return skip(w, fz_reader_u64(&w->in));
	default:
		return FZ_FORMAT_STR6 <= tag && tag < FZ_FORMAT_NIL &&
		       skip(w, tag - FZ_FORMAT_STR6);
	}
}

static bool
walk_definition(struct walk *w)
{
	w->nstrings++;
	return (w->flags & FZ_FORMAT_HAS_STRINGS) != 0 &&
	       walk_string(w, fz_reader_u8(&w->in));
}

static bool
walk_ref(struct walk *w)
{
	uint64_t number = fz_reader_varint(&w->in);

	return !w->in.failed && (w->flags & FZ_FORMAT_HAS_REFS) != 0 &&
	       number < w->nobjects;
}

static bool
is_run(const struct walk *w)
{
	return fz_reader_left(&w->in) > 3 && *w->in.p >= FZ_FORMAT_RUN8 &&
	       *w->in.p <= FZ_FORMAT_RUN_FLOAT;
}

/* Skip a run. Returns the number of its elements; 0 if it is cut short. */
static uint64_t
walk_run(struct walk *w)
{
	const unsigned char *p = w->in.p;
	unsigned shift = *p == FZ_FORMAT_RUN_FLOAT ? 3 : *p - FZ_FORMAT_RUN8;
	uint64_t n = (p[1] | (unsigned)p[2] << 8) + 1;

	w->in.p += 3;
	return skip(w, n << shift) ? n : 0;
}

static bool
is_nan(const unsigned char *p)
{
	return (fz_le64_load(p) & INT64_MAX) > UINT64_C(0x7ff) << 52;
}

/* Skip a key, which is not nil, NaN, or a message that may be one of them. */
static bool
walk_key(struct walk *w)
{
	const unsigned char *p = w->in.p;

	if (p == w->in.end || *p == FZ_FORMAT_NIL || *p == FZ_FORMAT_ITEM)
		return false;
	return walk_value(w) && !(*p == FZ_FORMAT_FLOAT && is_nan(p + 1));
}

static bool
walk_elements(struct walk *w, uint64_t n)
{
	for (uint64_t i = 0, k; i < n; i += k) {
		k = 1;
		if (is_run(w)) {
			k = walk_run(w);
			if (k == 0 || k > n - i)
				return false;
		} else if (!walk_value(w)) {
			return false;
		}
	}
	return true;
}

static bool
walk_table(struct walk *w, bool wide)
{
	uint64_t narr = fz_reader_varint(&w->in);
	uint32_t npairs = wide ? fz_reader_u32(&w->in) : fz_reader_u8(&w->in);

	w->nobjects++;
	if (w->in.failed || w->level++ > FZ_FORMAT_DEPTH ||
	    !walk_elements(w, narr))
		return false;
	for (; npairs > 0; npairs--) {
		if (!walk_key(w) || !walk_value(w))
			return false;
	}
	w->level--;
	return true;
}

static bool
walk_message(const unsigned char *bytes, size_t len, unsigned level)
{
	const unsigned known = FZ_FORMAT_HAS_REFS | FZ_FORMAT_HAS_STRINGS;
	struct walk w = { .level = level };

	fz_reader_init(&w.in, bytes, len);
	if (fz_reader_u8(&w.in) != FZ_FORMAT_VERSION)
		return false;
	w.flags = fz_reader_u8(&w.in);
	if ((w.flags & ~known) != 0 || fz_reader_varint(&w.in) != 1)
		return false;
	return walk_value(&w) && w.in.p == w.in.end && !w.in.failed;
}

/* Skip a value that is a message of its own. */
static bool
walk_item(struct walk *w)
{
	uint32_t len = fz_reader_u32(&w->in);
	const unsigned char *bytes = fz_reader_take(&w->in, len);

	return bytes != NULL && w->level <= FZ_FORMAT_DEPTH &&
	       walk_message(bytes, len, w->level + 2);
}

static bool
walk_other(struct walk *w, unsigned tag)
{
	switch (tag) {
	case FZ_FORMAT_TABLE:
	case FZ_FORMAT_TABLE_WIDE:
		return walk_table(w, tag == FZ_FORMAT_TABLE_WIDE);
	case FZ_FORMAT_DEF:
		return walk_definition(w);
	case FZ_FORMAT_SREF8:
		return fz_reader_u8(&w->in) < w->nstrings && !w->in.failed;
	case FZ_FORMAT_SREF32:
		return fz_reader_u32(&w->in) < w->nstrings && !w->in.failed;
	case FZ_FORMAT_REF:
		return walk_ref(w);
	case FZ_FORMAT_ITEM:
		return walk_item(w);
	default:
		return walk_string(w, tag);
	}
}

bool
fz_plain_is(const void *bytes, size_t len)
{
	/* The counts of a longer message may be too large for a table. */
	return len <= INT_MAX && walk_message(bytes, len, 0);
}
