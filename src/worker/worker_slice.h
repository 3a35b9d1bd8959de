/*
 * worker_slice.h - the values that a worker has put into its slice of the
 * arena.
 *
 * Blobs may outlive the worker: the slice is dropped when the worker is dead
 * and the last blob is freed.
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
 * `give_back` is called when the last reference to the bytes at `offset` is
 * dropped, while the worker lives. NULL and `err` on failure.
 */
struct fz_worker_slice *fz_worker_slice_new(struct fz_engine *engine,
    void (*give_back)(void *ctx, uint64_t offset), void *ctx,
    struct fz_err *err);

/* The number of the slice among those of the arena. */
uint32_t fz_worker_slice_number(const struct fz_worker_slice *slice);

/* A blob of bytes that the worker wrote. NULL and `err` on failure. */
struct fz_blob *fz_worker_slice_blob(struct fz_worker_slice *slice,
    uint64_t offset, size_t len, struct fz_err *err);

/* The worker is dead: free the slice with its last blob. */
void fz_worker_slice_orphan(struct fz_worker_slice *slice);

#endif
