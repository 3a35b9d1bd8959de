/*
 * items.h - the results of many calls in a row.
 *
 * item = a nil, boolean, number or short string as in a message
 *      | FZ_FORMAT_ITEM, u32 length, a message of one value
 *
 * Unlike the values of one message, items share no references.
 */
#ifndef FZ_ITEMS_H
#define FZ_ITEMS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <lua.h>

#include "base/buf.h"
#include "codec/scalar.h"

enum { FZ_ITEMS_SMALL = 64, FZ_ITEMS_HEAD = 5 };

/*
 * Store the value at `idx` at `p`, with FZ_ITEMS_SMALL bytes of room. Returns
 * the number of bytes stored; 0 if the value needs a message.
 */
size_t fz_items_store(lua_State *L, int idx, unsigned char *p);

/* Store the header of a message of `len` bytes. */
void fz_items_store_head(unsigned char *p, uint32_t len);

/* Skip the next item. 0, or -1 if it is incomplete. */
int fz_items_skip(struct fz_reader *items);

/* Push the next item, or raise: see fz_codec_decode(). [-0, +1, e] */
void fz_items_push(lua_State *L, struct fz_reader *items);

/*
 * Push all values of the next item, a message of any number of values. Returns
 * their number. Raises as fz_items_push() does. [-0, +n, e]
 */
int fz_items_push_message(lua_State *L, struct fz_reader *items);

/*
 * Push the next item if it is a number of 2 bytes or more. False if it is not.
 * Inline, because most items are such numbers.
 */
static inline bool
fz_items_push_number(lua_State *L, struct fz_reader *items)
{
	unsigned tag;

	if (fz_reader_left(items) < FZ_SCALAR_NUMBER_MAX)
		return false;
	tag = *items->p;
	if (tag < FZ_FORMAT_INT16 || tag > FZ_FORMAT_FLOAT)
		return false;
	fz_scalar_push(L, tag, items->p + 1);
	items->p += 1 + fz_scalar_payload(tag);
	return true;
}

#endif
