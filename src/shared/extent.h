/*
 * extent.h - which parts of a range of offsets are used, warm or cold.
 *
 * A free part is warm if it has memory, and cold if not. This is only a list:
 * its owner reserves memory and returns it to the kernel.
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
	uint64_t grain; /* every offset and length is a multiple of it */
	/*
	 * The extents by offset, without gaps. Free neighbours differ in state.
	 */
	struct fz_extent *list;
	size_t n, room;
	uint64_t used; /* bytes of the used extents */
	uint64_t warm; /* bytes of the warm extents */
};

/*
 * Begin with one cold extent. 0, or -1 if there is no memory. End with
 * fz_extent_fini().
 */
int fz_extent_init(
    struct fz_extents *ex, uint64_t at, uint64_t len, uint64_t grain);
void fz_extent_fini(struct fz_extents *ex);

/*
 * Use `len` bytes, rounded up, of the smallest warm extent that is long enough,
 * else of the first adjacent free extents. `*cold` is set to whether some of
 * the bytes are cold. 0, or -1 if there are no such extents, or no memory for
 * the list.
 */
int fz_extent_take(
    struct fz_extents *ex, uint64_t len, uint64_t *at, bool *cold);

/* The used extent that begins at `at`; NULL if none does. */
const struct fz_extent *fz_extent_find(
    const struct fz_extents *ex, uint64_t at);

/*
 * Extend a used extent to `len` bytes, into the free extents after it. 0, or
 * -1 if these are too short. `*cold` is set as by fz_extent_take().
 */
int fz_extent_extend(
    struct fz_extents *ex, uint64_t at, uint64_t len, bool *cold);

/*
 * Shrink a used extent; its rest gets the state `tail`. 0, or -1 if there is no
 * memory.
 */
int fz_extent_shrink(struct fz_extents *ex, uint64_t at, uint64_t len,
    enum fz_extent_state tail);

/* Free the used extent at `at`. Returns its length; 0 if there is none. */
uint64_t fz_extent_give(
    struct fz_extents *ex, uint64_t at, enum fz_extent_state state);

/*
 * Make the last warm extent cold, or only its last `len` bytes. Returns the
 * number of bytes that became cold, from `*at` on; 0 if nothing is warm.
 */
uint64_t fz_extent_cool(struct fz_extents *ex, uint64_t len, uint64_t *at);

#endif
