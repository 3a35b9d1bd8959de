/*
 * arena.h - bulk bytes shared between a process and the workers it forks.
 *
 * An arena is one sparse memfd without a name; it is gone with the last process
 * that has it open. It is divided into slices of 1 TiB of offsets, one for each
 * process. Only the owner of a slice allocates in it and writes to it, except
 * for an extent that it has asked another process to fill
 * (fz_arena_map_room()). All other processes only read. Free extents stay warm
 * (they keep their memory), because the first touch of fresh memory is
 * expensive: up to FZ_ARENA_WARM bytes of them, until fz_arena_trim(). The
 * memory of further free extents is returned to the kernel.
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
 * A new arena; this process owns slice 0. NULL and `err` if the kernel or a
 * file size limit does not allow it: callers then work without an arena.
 */
struct fz_arena *fz_arena_new(struct fz_err *err);

/* Unmap and close; the memory lives while another process has it open. */
void fz_arena_free(struct fz_arena *arena);

/*
 * A slice number that was never used before, for the next child. After four
 * million numbers there are none left, and fz_arena_alloc() fails in the child.
 */
uint32_t fz_arena_next_slice(struct fz_arena *arena);

/* In a child: from now on this process owns `slice` and no other. */
void fz_arena_enter(struct fz_arena *arena, uint32_t slice);

/*
 * Allocate `len` bytes of the own slice, mapped and with their memory reserved,
 * so that a write cannot fault. `*offset` refers to them in every process, and
 * is not 0. The bytes are not zeroed. NULL and `err` if there is no memory.
 */
void *fz_arena_alloc(
    struct fz_arena *arena, size_t len, uint64_t *offset, struct fz_err *err);

/*
 * Free the extent at this offset of the own slice; does nothing for an offset
 * of another slice.
 */
void fz_arena_give_back(struct fz_arena *arena, uint64_t offset);

/*
 * A read-only view of bytes of any slice. NULL and `err` if they are not inside
 * one slice, or cannot be mapped. Unmap with the same arguments.
 */
const void *fz_arena_map(
    struct fz_arena *arena, uint64_t offset, size_t len, struct fz_err *err);
void fz_arena_unmap(struct fz_arena *arena, const void *at, size_t len);

/*
 * A writable view of an extent that its owner has asked this process to fill.
 */
void *fz_arena_map_room(
    struct fz_arena *arena, uint64_t offset, size_t len, struct fz_err *err);

/*
 * Return to the kernel the memory of the slice of a dead process. The slice has
 * no views.
 */
void fz_arena_drop_slice(struct fz_arena *arena, uint32_t slice);

/* Return the memory of all free extents to the kernel. */
void fz_arena_trim(struct fz_arena *arena);

/* Bytes of free extents that have memory. */
size_t fz_arena_warm(const struct fz_arena *arena);

/* A counter that changes whenever an extent is allocated or freed. */
unsigned long fz_arena_turnover(const struct fz_arena *arena);

/* Bytes of the own slice that have memory, used or free. */
size_t fz_arena_held(const struct fz_arena *arena);

/*
 * A buffer that moves into the arena when it needs more than `threshold` bytes,
 * and stays in malloc's memory if the arena has none. `arena` may be NULL. Ends
 * with fz_arena_buf_take() or fz_buf_fini().
 */
struct fz_arena_buf {
	struct fz_buf buf; /* first, because the store casts it */
	struct fz_arena *arena;
	size_t threshold;
	uint64_t offset; /* offset of the bytes in the arena, if in_arena */
	bool in_arena;
};

void fz_arena_buf_init(
    struct fz_arena_buf *ab, struct fz_arena *arena, size_t threshold);

/*
 * Move the extent with the bytes out of the buffer, which is empty then. The
 * caller frees the extent at the returned offset. Call it only if in_arena is
 * set.
 */
uint64_t fz_arena_buf_take(struct fz_arena_buf *ab);

#endif
