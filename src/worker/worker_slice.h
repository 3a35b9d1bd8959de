/*
 * worker_slice.h - the values that a worker has written into its slice of the
 * arena.
 *
 * A blob may outlive the worker. The slice is freed after the worker's death
 * and after its last blob is freed.
 */
#ifndef FZ_WORKER_SLICE_H
#define FZ_WORKER_SLICE_H

#include <stddef.h>
#include <stdint.h>

struct fz_blob;
struct fz_engine;
struct fz_err;
struct fz_worker_slice;

/*
 * Create a slice. While the worker lives, `give_back` is called when the last
 * reference to the bytes at `offset` is dropped. NULL and `err` on failure.
 */
struct fz_worker_slice *fz_worker_slice_new(struct fz_engine *engine,
    void (*give_back)(void *ctx, uint64_t offset), void *ctx,
    struct fz_err *err);

/* The number of the slice in the arena. */
uint32_t fz_worker_slice_number(const struct fz_worker_slice *slice);

/* A blob of bytes that the worker has written. NULL and `err` on failure. */
struct fz_blob *fz_worker_slice_blob(struct fz_worker_slice *slice,
    uint64_t offset, size_t len, struct fz_err *err);

/* Called when the worker is dead: the slice is freed with its last blob. */
void fz_worker_slice_orphan(struct fz_worker_slice *slice);

#endif
