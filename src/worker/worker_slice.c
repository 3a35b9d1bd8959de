#include "worker/worker_slice.h"

#include <stdlib.h>

#include "base/err.h"
#include "shared/arena.h"
#include "wire/blob.h"
#include "worker/engine.h"

struct fz_worker_slice {
	struct fz_engine *engine;
	/* tells the worker of an unused extent; NULL: the worker is dead */
	void (*give_back)(void *ctx, uint64_t offset);
	void *ctx;
	uint32_t number;
	size_t nblobs; /* number of blobs of the slice that are not freed yet */
};

struct fz_worker_slice *
fz_worker_slice_new(struct fz_engine *engine,
    void (*give_back)(void *ctx, uint64_t offset), void *ctx,
    struct fz_err *err)
{
	struct fz_worker_slice *slice = calloc(1, sizeof(*slice));

	if (slice == NULL) {
		fz_err_nomem(err, "a worker");
		return NULL;
	}
	slice->engine = engine;
	slice->give_back = give_back;
	slice->ctx = ctx;
	if (engine->arena != NULL)
		slice->number = fz_arena_next_slice(engine->arena);
	return slice;
}

uint32_t
fz_worker_slice_number(const struct fz_worker_slice *slice)
{
	return slice->number;
}

static void
end_orphan(struct fz_worker_slice *slice)
{
	if (slice->give_back != NULL || slice->nblobs != 0)
		return;
	if (slice->engine->arena != NULL)
		fz_arena_drop_slice(slice->engine->arena, slice->number);
	free(slice);
}

static void
release(void *owner, uint64_t offset)
{
	struct fz_worker_slice *slice = owner;

	slice->nblobs--;
	if (slice->give_back != NULL)
		slice->give_back(slice->ctx, offset);
	end_orphan(slice);
}

struct fz_blob *
fz_worker_slice_blob(struct fz_worker_slice *slice, uint64_t offset, size_t len,
    struct fz_err *err)
{
	struct fz_blob *blob;

	if (offset >> FZ_ARENA_SLICE_BITS != slice->number ||
	    len > (UINT64_C(1) << FZ_ARENA_SLICE_BITS) -
		      (offset & ((UINT64_C(1) << FZ_ARENA_SLICE_BITS) - 1))) {
		fz_err_set(err, FZ_ERR_CRASH,
		    "a result is outside the memory of the worker");
		return NULL;
	}
	blob = fz_blob_in_arena(offset, len, release, slice, err);
	if (blob != NULL)
		slice->nblobs++;
	return blob;
}

void
fz_worker_slice_orphan(struct fz_worker_slice *slice)
{
	if (slice == NULL)
		return;
	slice->give_back = NULL;
	end_orphan(slice);
}
