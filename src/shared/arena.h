/*
 * arena.h - bulk bytes shared between a process and the workers it forks.
 *
 * One sparse memfd is one arena; it has no name and dies with its last user.
 * It is cut into slices of 1 TiB of offsets, one a process: only the owner of
 * a slice allocates in it, and writes to it but for what it has asked another
 * to fill (fz_arena_map_room()); all others read. Given-back extents are kept
 * warm (touching fresh memory is the dearest thing there is) up to
 * FZ_ARENA_WARM bytes and until fz_arena_trim(); what is more goes back to the
 * kernel.
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
 * A new arena; this process owns slice 0. NULL and `err` where the kernel or
 * a file size limit does not allow it: callers then do without.
 */
struct fz_arena *fz_arena_new(struct fz_err *err);

/* Unmap and close; the memory lives while another process has it open. */
void fz_arena_free(struct fz_arena *shm);

/*
 * A slice number never used before, for the next child to enter. After four
 * million of them it is one that owns nothing: fz_arena_alloc() fails there.
 */
uint32_t fz_arena_next_slice(struct fz_arena *shm);

/* In a child: from now on this process owns `slice` and no other. */
void fz_arena_enter(struct fz_arena *shm, uint32_t slice);

/*
 * `len` bytes of the own slice, mapped, their pages reserved so that writing
 * cannot fault. `*offset` names them in every process. NULL and `err` when
 * the memory is not to be had. The bytes are not zeroed; no offset is 0.
 */
void *fz_arena_alloc(
    struct fz_arena *shm, size_t len, uint64_t *offset, struct fz_err *err);

/* Give back an extent of the own slice by its offset; others are ignored. */
void fz_arena_give_back(struct fz_arena *shm, uint64_t offset);

/*
 * A read-only view of bytes of any slice. NULL and `err` where they are not
 * inside one slice or mapping fails. Unmap with the same arguments.
 */
const void *fz_arena_map(
    struct fz_arena *shm, uint64_t offset, size_t len, struct fz_err *err);
void fz_arena_unmap(struct fz_arena *shm, const void *at, size_t len);

/*
 * A view of an extent to write to, for whom its owner has asked to. Unmap it
 * likewise.
 */
void *fz_arena_map_room(
    struct fz_arena *shm, uint64_t offset, size_t len, struct fz_err *err);

/*
 * Return all memory of a slice whose owner is dead to the kernel. No view of
 * it may be in use.
 */
void fz_arena_drop_slice(struct fz_arena *shm, uint32_t slice);

/* Return the memory of all given-back extents to the kernel. */
void fz_arena_trim(struct fz_arena *shm);

/* Bytes of given-back extents that have memory. */
size_t fz_arena_warm(const struct fz_arena *shm);

/* Moves whenever an extent is allocated or given back. */
unsigned long fz_arena_turnover(const struct fz_arena *shm);

/* Bytes the own slice holds now, in use and warm. For tests and limits. */
size_t fz_arena_held(const struct fz_arena *shm);

/*
 * A buffer that moves into the arena once it needs more than `threshold`
 * bytes, and stays in malloc where the arena cannot have them. `shm` may be
 * NULL. Ends with fz_arena_buf_take() or fz_buf_fini().
 */
struct fz_arena_buf {
	struct fz_buf buf; /* first: the store finds us by it */
	struct fz_arena *shm;
	size_t threshold;
	uint64_t offset; /* where the bytes are; valid while in_shm */
	bool in_shm;
};

void fz_arena_buf_init(
    struct fz_arena_buf *sb, struct fz_arena *shm, size_t threshold);

/*
 * Take the bytes out of the arena-backed buffer, which starts empty again:
 * the extent at the returned offset is the caller's to give back. Only while
 * in_shm is set.
 */
uint64_t fz_arena_buf_take(struct fz_arena_buf *sb);

#endif
