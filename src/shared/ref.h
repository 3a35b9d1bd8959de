/*
 * ref.h - references from one object of the shared heap to another.
 *
 * Each process may map the heap at another address, so no object contains an
 * address. A reference is an offset from the start of the heap.
 */
#ifndef FZ_REF_H
#define FZ_REF_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "os/process.h"

/* The offset of the address `at` in the heap. */
static inline uint64_t
fz_ref_offset(const void *at)
{
	return (uint64_t)((const unsigned char *)at - fz_process.heap.base);
}

/* The address of `offset`; NULL for 0, where nothing is allocated. */
static inline void *
fz_ref_at(uint64_t offset)
{
	return offset != 0 ? fz_process.heap.base + offset : NULL;
}

/* A reference in shared memory. If all bytes are 0, it refers to nothing. */
struct fz_ref {
	_Atomic uint64_t offset;
};

/*
 * The address of the object, or NULL. This load and the store of fz_ref_set()
 * are sequentially consistent.
 */
static inline void *
fz_ref_get(const struct fz_ref *ref)
{
	return fz_ref_at(atomic_load(&ref->offset));
}

/* Make `ref` refer to `at`; NULL: to nothing. */
static inline void
fz_ref_set(struct fz_ref *ref, const void *at)
{
	atomic_store(&ref->offset, at != NULL ? fz_ref_offset(at) : 0);
}

#endif
