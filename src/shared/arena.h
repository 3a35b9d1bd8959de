/*
 * arena.h - memory for big values, shared between a process and the workers
 * that it forks.
 *
 * An arena is one sparse memfd without a name. It exists as long as a process
 * has it open. It is divided into slices of 1 TiB of offsets, one for each
 * process. Only the owner of a slice allocates in it and writes to it, but it
 * may ask another process to fill an extent (fz_arena_map_room()). All others
 * only read.
 *
 * Up to FZ_ARENA_WARM bytes of free extents stay warm, that is, keep their
 * memory, until fz_arena_trim(), because the first write to fresh memory is
 * expensive. The memory of further free extents is returned to the kernel.
 */
#ifndef FZ_ARENA_H
#define FZ_ARENA_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

struct fz_err;
struct fz_arena;

#define FZ_ARENA_WARM ((size_t)256 << 20)
#define FZ_ARENA_SLICE_BITS 40

/*
 * Create an arena. This process owns slice 0. NULL and `err` if the kernel or a
 * limit of file sizes does not allow it; callers then work without an arena.
 */
struct fz_arena *fz_arena_new(struct fz_err *err);

/* Unmap and close the arena in this process. */
void fz_arena_free(struct fz_arena *arena);

/*
 * A slice number for the next child, which was never used before. When none of
 * about four million is left, fz_arena_alloc() fails in the child.
 */
uint32_t fz_arena_next_slice(struct fz_arena *arena);

/* In a child: from now on this process owns `slice` and no other. */
void fz_arena_enter(struct fz_arena *arena, uint32_t slice);

/*
 * Allocate `len` bytes in this process's slice, mapped and with reserved
 * memory, so that a write cannot fault. `*offset` refers to them in every
 * process, and is not 0. They are not zeroed. NULL and `err` on failure.
 */
void *fz_arena_alloc(
    struct fz_arena *arena, size_t len, uint64_t *offset, struct fz_err *err);

/*
 * Free the extent at `offset`. Does nothing if it is in another process's
 * slice.
 */
void fz_arena_give_back(struct fz_arena *arena, uint64_t offset);

/*
 * Map bytes of any slice for reading. NULL and `err` if they are not inside one
 * slice, or cannot be mapped. Unmap them with the same arguments.
 */
const void *fz_arena_map(
    struct fz_arena *arena, uint64_t offset, size_t len, struct fz_err *err);
void fz_arena_unmap(struct fz_arena *arena, const void *at, size_t len);

/* Map an extent to fill it, at its owner's request. NULL and `err`: failed. */
void *fz_arena_map_room(
    struct fz_arena *arena, uint64_t offset, size_t len, struct fz_err *err);

/*
 * Return the memory of the slice of a dead process to the kernel. No bytes of
 * the slice may be mapped.
 */
void fz_arena_drop_slice(struct fz_arena *arena, uint32_t slice);

/* Return the memory of all free extents to the kernel. */
void fz_arena_trim(struct fz_arena *arena);

/* Number of bytes of free extents that have memory. */
size_t fz_arena_warm(const struct fz_arena *arena);

/* A number that changes whenever an extent is allocated or freed. */
unsigned long fz_arena_turnover(const struct fz_arena *arena);

/* Bytes of this process's slice that have memory, used or free. */
size_t fz_arena_held(const struct fz_arena *arena);

/*
 * A buffer that is moved into the arena when it needs more than `threshold`
 * bytes. It stays in malloc's memory if `arena` is NULL, or has no memory. End
 * with fz_arena_buf_take() or fz_buf_fini().
 */
struct fz_arena_buf {
	struct fz_buf buf; /* first, as the store casts its address */
	struct fz_arena *arena;
	size_t threshold;
	uint64_t offset; /* if `in_arena`: offset of the bytes in the arena */
	bool in_arena;
};

void fz_arena_buf_init(
    struct fz_arena_buf *ab, struct fz_arena *arena, size_t threshold);

/*
 * Take the extent with the bytes out of the buffer, which is empty afterwards.
 * Returns the offset of the extent, which the caller must free. Call this only
 * if `in_arena` is set.
 */
uint64_t fz_arena_buf_take(struct fz_arena_buf *ab);

#endif
