/*
 * worker_slice.h - what a worker has put into its slice of the arena.
 *
 * Its blobs may outlive it: the slice is dropped when the worker is dead and
 * the last of them is gone.
 */
#ifndef FZ_WORKER_SLICE_H
#define FZ_WORKER_SLICE_H

#include <stddef.h>
#include <stdint.h>

struct fz_blob;
struct fz_engine;
struct fz_err;
struct fz_worker_slice;
struct fz_worker;

/* NULL and `err` on failure. */
struct fz_worker_slice *fz_worker_slice_new(
    struct fz_engine *engine, struct fz_worker *worker, struct fz_err *err);

/* Its number in the arena. */
uint32_t fz_worker_slice_number(const struct fz_worker_slice *slice);

/* A blob for bytes the worker wrote. NULL and `err` where that fails. */
struct fz_blob *fz_worker_slice_blob(struct fz_worker_slice *slice,
    uint64_t offset, size_t len, struct fz_err *err);

/* The worker is dead. The slice frees itself after its last blob. */
void fz_worker_slice_orphan(struct fz_worker_slice *slice);

#endif
