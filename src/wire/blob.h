/*
 * blob.h - one encoded value: reference-counted bytes, in memory or in the
 * arena.
 *
 * A blob goes from worker to worker without being decoded. Bytes in the arena
 * stay where the writer put them until the last reference is dropped.
 */
#ifndef FZ_BLOB_H
#define FZ_BLOB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct fz_err;
struct fz_arena;

struct fz_blob {
	size_t len;
	uint32_t refs;
	bool in_arena;
	uint64_t offset; /* offset of the bytes in the arena, if in_arena */
	/* Called once, to free the bytes in the arena. */
	void (*release)(void *owner, uint64_t offset);
	void *owner;
	unsigned char bytes[]; /* empty if in_arena */
};

/*
 * A copy of `len` bytes with one reference. If `bytes` is NULL, the caller
 * fills the blob. NULL and `err` on failure.
 */
struct fz_blob *fz_blob_new(const void *bytes, size_t len, struct fz_err *err);

/*
 * A blob of the `len` bytes at `offset` of the arena. NULL and `err` on
 * failure; then the caller still owns the bytes.
 */
struct fz_blob *fz_blob_in_arena(uint64_t offset, size_t len,
    void (*release)(void *owner, uint64_t offset), void *owner,
    struct fz_err *err);

static inline struct fz_blob *
fz_blob_ref(struct fz_blob *blob)
{
	blob->refs++;
	return blob;
}

/* Drop a reference. NULL is allowed. */
void fz_blob_unref(struct fz_blob *blob);

/* Drop a reference to each of `n` values; return the sum of their bytes. */
void fz_blob_unref_all(struct fz_blob *const *values, uint32_t n);
size_t fz_blob_sum(struct fz_blob *const *values, uint32_t n);

/* Map the bytes until fz_blob_unmap(). NULL and `err` on failure. */
const void *fz_blob_map(
    struct fz_blob *blob, struct fz_arena *arena, struct fz_err *err);
void fz_blob_unmap(
    struct fz_blob *blob, struct fz_arena *arena, const void *at);

#endif
