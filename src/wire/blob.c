#include "wire/blob.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "shared/arena.h"

static struct fz_blob *
make(size_t inline_len, size_t len, struct fz_err *err)
{
	struct fz_blob *blob = NULL;

	if (inline_len <= SIZE_MAX - sizeof(*blob))
		blob = malloc(sizeof(*blob) + inline_len);
	if (blob == NULL) {
		fz_err_nomem(err, "a value in transit");
		return NULL;
	}
	blob->len = len;
	blob->refs = 1;
	blob->in_arena = false;
	return blob;
}

struct fz_blob *
fz_blob_new(const void *bytes, size_t len, struct fz_err *err)
{
	struct fz_blob *blob = make(len, len, err);

	if (blob != NULL && bytes != NULL && len != 0)
		memcpy(blob->bytes, bytes, len);
	return blob;
}

struct fz_blob *
fz_blob_in_arena(uint64_t offset, size_t len,
    void (*release)(void *owner, uint64_t offset), void *owner,
    struct fz_err *err)
{
	struct fz_blob *blob = make(0, len, err);

	if (blob == NULL)
		return NULL;
	blob->in_arena = true;
	blob->offset = offset;
	blob->release = release;
	blob->owner = owner;
	return blob;
}

void
fz_blob_unref(struct fz_blob *blob)
{
	if (blob == NULL || --blob->refs != 0)
		return;
	if (blob->in_arena)
		blob->release(blob->owner, blob->offset);
	free(blob);
}

void
fz_blob_unref_all(struct fz_blob *const *values, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		fz_blob_unref(values[i]);
}

size_t
fz_blob_sum(struct fz_blob *const *values, uint32_t n)
{
	size_t sum = 0;

	for (uint32_t i = 0; i < n; i++)
		sum += values[i]->len;
	return sum;
}

const void *
fz_blob_map(struct fz_blob *blob, struct fz_arena *arena, struct fz_err *err)
{
	if (!blob->in_arena)
		return blob->bytes;
	return fz_arena_map(arena, blob->offset, blob->len, err);
}

void
fz_blob_unmap(struct fz_blob *blob, struct fz_arena *arena, const void *at)
{
	if (blob->in_arena)
		fz_arena_unmap(arena, at, blob->len);
}
