/*
 * lists.h - lists as messages of one table, read and made without Lua. The list
 * of the results of a map is joined from the bytes that workers sent. It is a
 * TABLE_WIDE whose only pair is the field n, see doc/format.md.
 */
#ifndef FZ_LISTS_H
#define FZ_LISTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct fz_buf;
struct fz_raw_value;
struct fz_rawarray;
struct fz_reader;

/*
 * The length of the list that a message contains. False if it is not a list, or
 * if only decoding would show its length.
 */
bool fz_lists_length(const unsigned char *bytes, size_t len, uint64_t *n);

/*
 * Begin a list of `n` elements in an empty buffer, append all of them, and end
 * it.
 */
void fz_lists_begin(struct fz_buf *out, uint64_t n);
void fz_lists_end(struct fz_buf *out, uint64_t n);

void fz_lists_put_nils(struct fz_buf *out, uint64_t n);

/* Append the value of a message. 0, or -1 if it is too long for an element. */
int fz_lists_put_message(
    struct fz_buf *out, const unsigned char *bytes, size_t len);

/* Append the next `n` items (items.h). 0, or -1 if there are fewer. */
int fz_lists_put_items(struct fz_buf *out, struct fz_reader *items, uint32_t n);

/* Append `n` plain values. 0, or -1 if one of them is not plain. */
int fz_lists_put_raw(struct fz_buf *out, const struct fz_rawarray *raw,
    const struct fz_raw_value *elements, size_t n);

#endif
