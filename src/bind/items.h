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

struct fz_reader;

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

#endif
