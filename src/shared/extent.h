/*
 * extent.h - which parts of a range of offsets are used, warm or cold.
 *
 * Book-keeping alone: warm parts have memory behind them, cold ones have
 * none; the owner does what that means.
 */
#ifndef FZ_EXTENT_H
#define FZ_EXTENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum fz_extent_state { FZ_EXTENT_COLD, FZ_EXTENT_WARM, FZ_EXTENT_USED };

struct fz_extent {
	uint64_t at;
	uint64_t len;
	enum fz_extent_state state;
};

struct fz_extents {
	uint64_t grain;         /* every place and length is a multiple */
	struct fz_extent *list; /* by place, without gaps; no two free alike
				   side by side */
	size_t n, room;
	uint64_t used, warm; /* bytes of these */
};

/* One cold extent. 0, or -1 for memory. Release with fz_extents_fini(). */
int fz_extents_init(
    struct fz_extents *ex, uint64_t at, uint64_t len, uint64_t grain);
void fz_extents_fini(struct fz_extents *ex);

/*
 * Use `len` bytes, rounded up: the smallest warm extent that has them, else
 * the first free ones in a row. `*cold` says whether some are cold. Returns
 * 0, or -1 where there is no room or no memory for the book.
 */
int fz_extents_take(
    struct fz_extents *ex, uint64_t len, uint64_t *at, bool *cold);

/* The used extent that begins at `at`, NULL where none does. */
const struct fz_extent *fz_extents_find(
    const struct fz_extents *ex, uint64_t at);

/*
 * Make a used extent `len` long, into free ones behind it. 0, or -1 where
 * they are not there. `*cold` as above.
 */
int fz_extents_extend(
    struct fz_extents *ex, uint64_t at, uint64_t len, bool *cold);

/*
 * Make a used extent `len` long and what is behind it warm or cold. 0, or -1
 * for memory.
 */
int fz_extents_shrink(struct fz_extents *ex, uint64_t at, uint64_t len,
    enum fz_extent_state tail);

/*
 * A used extent becomes warm or cold. Returns its length, 0 where none
 * begins at `at`.
 */
uint64_t fz_extents_give(
    struct fz_extents *ex, uint64_t at, enum fz_extent_state state);

/*
 * The last warm extent, or the last `len` bytes of it, become cold. Returns
 * where and how many, 0 when nothing is warm.
 */
uint64_t fz_extents_cool(struct fz_extents *ex, uint64_t len, uint64_t *at);

#endif
