#include "codec/items.h"

#include <string.h>

#include <lauxlib.h>

#include "base/buf.h"
#include "base/err.h"
#include "codec/codec.h"
#include "codec/scalar.h"
#include "value/lerror.h"

size_t
fz_items_store(lua_State *L, int idx, unsigned char *p)
{
	int type = lua_type(L, idx);
	const char *s;
	size_t len;

	switch (type) {
	case LUA_TNIL:
		*p = FZ_FORMAT_NIL;
		return 1;
	case LUA_TSTRING:
		s = lua_tolstring(L, idx, &len);
		if (len > FZ_SCALAR_STRING_MAX)
			return 0;
		*p = (unsigned char)(FZ_FORMAT_STR6 + len);
		memcpy(p + 1, s, len);
		return 1 + len;
	default:
		return (size_t)(fz_scalar_store(L, idx, type, p) - p);
	}
}

void
fz_items_store_head(unsigned char *p, uint32_t len)
{
	*p = FZ_FORMAT_ITEM;
	fz_le32_store(p + 1, len);
}

/*
 * Read the next tag. Returns its payload of `*len` bytes, or NULL if the item
 * is incomplete.
 */
static const unsigned char *
read_item(struct fz_reader *items, unsigned *tag, size_t *len)
{
	int n;

	*tag = fz_reader_u8(items);
	n = fz_scalar_payload(*tag);
	if (n < 0 && *tag != FZ_FORMAT_ITEM)
		items->failed = true;
	*len = n >= 0 ? (size_t)n : fz_reader_u32(items);
	if (items->failed)
		return NULL;
	return fz_reader_take(items, *len);
}

int
fz_items_skip(struct fz_reader *items)
{
	unsigned tag;
	size_t len;

	return read_item(items, &tag, &len) != NULL ? 0 : -1;
}

/* Raise an error that only a faulty worker can cause. */
static int
refuse(lua_State *L, const char *why)
{
	return fz_lerror_fail(L, FZ_ERR_CRASH, "%s", why);
}

void
fz_items_push(lua_State *L, struct fz_reader *items)
{
	unsigned tag;
	size_t len;
	const unsigned char *p = read_item(items, &tag, &len);

	if (p == NULL)
		refuse(L, "the results are incomplete");
	if (tag != FZ_FORMAT_ITEM)
		fz_scalar_push(L, tag, p);
	else if (fz_codec_decode(L, p, len, FZ_CODEC_RUN) != 1)
		refuse(L, "a result does not decode to exactly one Lua value");
}

int
fz_items_push_message(lua_State *L, struct fz_reader *items)
{
	unsigned tag;
	size_t len;
	const unsigned char *p = read_item(items, &tag, &len);

	if (p == NULL || tag != FZ_FORMAT_ITEM)
		return refuse(L, "the results are incomplete");
	return fz_codec_decode(L, p, len, FZ_CODEC_RUN);
}
