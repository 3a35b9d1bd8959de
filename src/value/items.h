/*
 * items.h - the results of many calls, one behind the other.
 *
 * item = a nil, boolean, number or short string as in a message
 *      | FZ_FORMAT_ITEM, u32 length, a message of one value
 *
 * Unlike the values of one message, items share nothing with each other.
 */
#ifndef FZ_ITEMS_H
#define FZ_ITEMS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <lua.h>

#include "base/buf.h"
#include "value/format.h"

enum { FZ_ITEMS_SMALL = 64, FZ_ITEMS_HEAD = 5 };

/*
 * Store the value at `idx` at `p`, with FZ_ITEMS_SMALL bytes of room. Returns
 * how many it took, 0 where only a message can hold it.
 */
size_t fz_items_store(lua_State *L, int idx, unsigned char *p);

/* Store what comes before a message of `len` bytes. */
void fz_items_store_head(unsigned char *p, uint32_t len);

/* Go over the next item. 0, or -1 where there is no whole one. */
int fz_items_skip(struct fz_reader *items);

/*
 * Push the next item. Raises where there is none, and as fz_codec_decode()
 * does. [-0, +1, e]
 */
void fz_items_push(lua_State *L, struct fz_reader *items);

/*
 * Push all values of the next item, which is a message of any number of them;
 * returns how many. Raises likewise. [-0, +n, e]
 */
int fz_items_push_message(lua_State *L, struct fz_reader *items);

/*
 * Push the next item where it is a number of some size: most are, and this is
 * done for each. False: it is another one, or none.
 */
static inline bool
fz_items_push_number(lua_State *L, struct fz_reader *items)
{
	const unsigned char *p = items->p;
	uint64_t bits;
	double v;

	if (fz_reader_left(items) < 9)
		return false;
	bits = fz_le64_load(p + 1);
	switch (*p) {
	case FZ_FORMAT_INT16:
		lua_pushinteger(L, (int16_t)bits);
		items->p += 3;
		return true;
	case FZ_FORMAT_INT32:
		lua_pushinteger(L, (int32_t)bits);
		items->p += 5;
		return true;
	case FZ_FORMAT_INT64:
		lua_pushinteger(L, (lua_Integer)bits);
		items->p += 9;
		return true;
	case FZ_FORMAT_FLOAT:
		memcpy(&v, &bits, sizeof(v));
		lua_pushnumber(L, v);
		items->p += 9;
		return true;
	default:
		return false;
	}
}

#endif
