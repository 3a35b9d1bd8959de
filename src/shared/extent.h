/*
 * extent.h - a list of the parts of a range of offsets, with their states.
 *
 * A part is used, or free and warm (it has memory), or free and cold. The list
 * does not touch memory: its owner reserves memory and returns it.
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
	uint64_t grain; /* all offsets and lengths are multiples of this */
	/* Sorted by offset, without gaps. Free neighbours differ in state. */
	struct fz_extent *list;
	size_t n, room;
	uint64_t used; /* number of bytes in used extents */
	uint64_t warm; /* number of bytes in warm extents */
};

/*
 * Initialise the list with one cold extent. 0, or -1 if there is no memory. End
 * with fz_extent_fini().
 */
int fz_extent_init(
    struct fz_extents *ex, uint64_t at, uint64_t len, uint64_t grain);
void fz_extent_fini(struct fz_extents *ex);

/*
 * Take `len` bytes, rounded up: from the smallest warm extent that is long
 * enough; else from the first free extents that are adjacent and together long
 * enough. Sets `*at` to their offset, and `*cold` to whether some of them are
 * cold. 0, or -1 if there are no such extents, or no memory for the list.
 */
int fz_extent_take(
    struct fz_extents *ex, uint64_t len, uint64_t *at, bool *cold);

/* The used extent at the offset `at`; NULL if none begins there. */
const struct fz_extent *fz_extent_find(
    const struct fz_extents *ex, uint64_t at);

/*
 * Extend a used extent to `len` bytes, into the free extents after it. `*cold`:
 * whether some added bytes are cold. 0, or -1: there is no room.
 */
int fz_extent_extend(
    struct fz_extents *ex, uint64_t at, uint64_t len, bool *cold);

/*
 * Shrink a used extent to `len` bytes. The rest gets the state `tail`. 0, or -1
 * if there is no memory for the list.
 */
int fz_extent_shrink(struct fz_extents *ex, uint64_t at, uint64_t len,
    enum fz_extent_state tail);

/* Free the used extent at `at`. Returns its length; 0 if there is none. */
uint64_t fz_extent_give(
    struct fz_extents *ex, uint64_t at, enum fz_extent_state state);

/*
 * Make `len` bytes at the end of the last warm extent cold, or all. Returns how
 * many, and sets `*at` to their offset; 0 if none is warm.
 */
uint64_t fz_extent_cool(struct fz_extents *ex, uint64_t len, uint64_t *at);

#endif
