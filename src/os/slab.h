/*
 * slab.h - small blocks of memory for the Lua state of the command.
 *
 * A region is an aligned mapping of FZ_SLAB_REGION bytes, cut into spans. A
 * span holds blocks of one size class and has a free list of its own; blocks
 * have no headers. A class without spans first uses blocks of a larger one.
 *
 * In a forked child the inherited spans are full: the child allocates from new
 * regions, because each write to an inherited page copies it. A span from which
 * the child frees a block is in use again, for the blocks that the child freed.
 */
#ifndef FZ_SLAB_H
#define FZ_SLAB_H

#include <stddef.h>

/* Bytes of the largest block. */
#define FZ_SLAB_MAX ((size_t)1024)
/* Bytes and alignment of a region, which is one huge page. */
#define FZ_SLAB_REGION ((size_t)2 << 20)

/* Size classes: steps of 16 bytes to 256, then of 64 bytes to FZ_SLAB_MAX. */
enum { FZ_SLAB_UNIT = 16, FZ_SLAB_CLASSES = 28 };

struct fz_slab_block {
	struct fz_slab_block *next;
};

/* For fz_slab_class() only: the class for a size in units, rounded up. */
extern const unsigned char fz_slab_class_of[FZ_SLAB_MAX / FZ_SLAB_UNIT + 1];
/* For fz_slab_alloc() only: the free blocks of each class. */
extern struct fz_slab_block *fz_slab_lists[FZ_SLAB_CLASSES];

/* The size class of blocks of `size` bytes, 1 to FZ_SLAB_MAX. */
static inline unsigned
fz_slab_class(size_t size)
{
	return fz_slab_class_of[(size + FZ_SLAB_UNIT - 1) / FZ_SLAB_UNIT];
}

/*
 * Fill the empty free list of a class. Removes and returns the first block of
 * the list. NULL if there is no memory.
 */
void *fz_slab_refill(unsigned class);

/*
 * A block of `size` bytes, 1 to FZ_SLAB_MAX, aligned for any object. NULL if
 * there is no memory. Free with fz_slab_free(). Only one thread may use slabs.
 */
static inline void *
fz_slab_alloc(size_t size)
{
	unsigned class = fz_slab_class(size);
	struct fz_slab_block *block = fz_slab_lists[class];

	if (__builtin_expect(block == NULL, 0))
		return fz_slab_refill(class);
	fz_slab_lists[class] = block->next;
	return block;
}

void fz_slab_free(void *block);

/* Bytes allocated for a block of `size` bytes. */
size_t fz_slab_room(size_t size);

/* Return the memory of all empty spans to the system. */
void fz_slab_trim(void);

/* Bytes of empty spans that were not returned to the system. */
size_t fz_slab_idle(void);

#endif
