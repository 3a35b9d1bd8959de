/* plain.h - messages that any process can decode, recognized without Lua. */
#ifndef FZ_PLAIN_H
#define FZ_PLAIN_H

#include <stdbool.h>
#include <stddef.h>

/*
 * Whether the bytes are a message of one value that consists of nil, booleans,
 * numbers, strings and tables without a class. fz_codec_decode() can fail for
 * such a message only if there is no memory. False also if only decoding would
 * show it, as for postponed tables.
 */
bool fz_plain_is(const void *bytes, size_t len);

#endif
