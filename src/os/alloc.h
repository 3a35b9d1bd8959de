/*
 * alloc.h - memory for the Lua state of the command.
 *
 * Small blocks come from slabs (slab.h). Medium ones come from malloc, whose
 * heap grows in huge pages once it is long. Big ones, the arrays of long tables
 * and long strings, are mappings of their own. Some that were freed are kept
 * warm, and no child shares them: the first touch of fresh memory, and a write
 * to memory that a child shares, cost more than most of what is done with it.
 */
#ifndef FZ_ALLOC_H
#define FZ_ALLOC_H

#include <stddef.h>

/* Bytes from which a block is a mapping. */
#define FZ_ALLOC_BIG ((size_t)256 << 10)

/*
 * A lua_Alloc: as realloc(), with the old size told; size 0 frees. NULL where
 * there is no memory, then the block is as it was. `ud` is not used. `block`
 * must have come from here. For one thread.
 */
void *fz_alloc_alloc(void *ud, void *block, size_t old_size, size_t size);

/* Bytes that are kept and not in use, those of empty spans included. */
size_t fz_alloc_kept(void);

/* Moves whenever a big block is taken or kept. */
unsigned long fz_alloc_turnover(void);

/* Return what is kept to the system. */
void fz_alloc_trim(void);

#endif
