/* arena_state.h - what the files of an arena share. */
#ifndef FZ_ARENA_STATE_H
#define FZ_ARENA_STATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <unistd.h>

#include "shared/arena.h"
#include "shared/extent.h"

/*
 *   offset  63     40 39                            0
 *           | slice  | position: small | big            |
 *
 * The lower half of a slice is for small extents, in pages; the upper half is
 * for big ones, in huge pages if the machine has any.
 */
#define FZ_ARENA_SLICE_SIZE (UINT64_C(1) << FZ_ARENA_SLICE_BITS)
#define FZ_ARENA_SLICES (UINT32_C(1) << 22)
#define FZ_ARENA_HUGE ((size_t)2 << 20) /* size of a huge page in bytes */

enum { FZ_ARENA_MAPPINGS = 256 };

/* A mapping of a part of one slice. */
struct fz_arena_mapping {
	unsigned char *base; /* address of the mapping; NULL: none */
	uint64_t offset;     /* offset of its first byte in the arena */
	uint64_t size;
};

/* the head of an arena, in a page that all its processes share */
struct fz_arena_head;

struct fz_arena {
	int fd;
	/* identity of the file: a script may close `fd` and reuse it */
	dev_t dev;
	ino_t ino;
	struct fz_arena_head *head;
	uint32_t slice; /* number of the slice that this process owns */
	/* this process's slice, for writing; base NULL: not mapped yet */
	struct fz_arena_mapping own;
	/* extents of the two halves of this process's slice */
	struct fz_extents small, big;
	/* mappings of other slices, for reading */
	struct fz_arena_mapping seen[FZ_ARENA_MAPPINGS];
	unsigned nseen;
	unsigned long turnover;
};

static inline size_t
fz_arena_page(void)
{
	return (size_t)sysconf(_SC_PAGESIZE);
}

static inline uint64_t
fz_arena_offset(uint32_t slice, uint64_t position)
{
	return (uint64_t)slice << FZ_ARENA_SLICE_BITS | position;
}

static inline uint64_t
fz_arena_position(uint64_t offset)
{
	return offset & (FZ_ARENA_SLICE_SIZE - 1);
}

static inline uint32_t
fz_arena_slice(uint64_t offset)
{
	return (uint32_t)(offset >> FZ_ARENA_SLICE_BITS);
}

/* Whether `fd` still refers to the file of the arena. If not, sets errno. */
bool fz_arena_has_file(const struct fz_arena *arena);

/* Map this process's slice, all free, unless it is mapped. 0, or -1. */
int fz_arena_open_own(struct fz_arena *arena);

/* Stop owning a slice. If possible, it stays mapped for reading. */
void fz_arena_leave_own(struct fz_arena *arena);

/* Remove all mappings of slices. */
void fz_arena_unmap_all(struct fz_arena *arena);

/* The extents of the half of this process's slice with this position. */
struct fz_extents *fz_arena_extents(struct fz_arena *arena, uint64_t position);

/* As fz_arena_alloc(), but returns the error in errno. */
void *fz_arena_try_alloc(struct fz_arena *arena, size_t len, uint64_t *offset);

/*
 * Extend a used extent in place. Returns its new length; 0 if the space after
 * it is in use.
 */
size_t fz_arena_extend(struct fz_arena *arena, uint64_t offset, size_t len);

/* Make free extents cold until at most `most` bytes are warm. */
void fz_arena_cool(struct fz_arena *arena, uint64_t most);

#endif
