/*
 * alloc.h - the allocator for the Lua state of the command.
 *
 * Small blocks come from slabs (slab.h). Medium ones come from malloc, whose
 * heap grows in huge pages when it is long. Each big block, as for the array of
 * a long table or a long string, is a mapping of its own. Some freed big blocks
 * are kept for reuse, because the first touch of fresh memory costs more than
 * most uses of a block. No child inherits the kept blocks, because a write to
 * shared memory copies a page, which costs as much as fresh memory.
 */
#ifndef FZ_ALLOC_H
#define FZ_ALLOC_H

#include <stddef.h>

/* Size in bytes from which a block is a mapping. */
#define FZ_ALLOC_BIG ((size_t)256 << 10)

/*
 * A lua_Alloc: like realloc(), but with the old size; size 0 frees. Returns
 * NULL if there is no memory; then `block` is unchanged. `ud` is ignored.
 * `block` must come from this function. Only one thread may call it.
 */
void *fz_alloc_alloc(void *ud, void *block, size_t old_size, size_t size);

/* Bytes that are kept for reuse: freed big blocks, and empty spans of slabs. */
size_t fz_alloc_kept(void);

/* A counter that changes whenever a big block is reused or kept. */
unsigned long fz_alloc_turnover(void);

/* Return the kept memory to the system. */
void fz_alloc_trim(void);

#endif
