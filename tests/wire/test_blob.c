/*
 * Blobs: counted bytes, in memory and in the arena; memory fails on demand.
 * wrap: malloc calloc realloc
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "no_memory.h"
#include "shared/arena.h"
#include "wire/blob.h"

struct owner {
	int nreleased;
	uint64_t offset;
};

static void
released(void *ctx, uint64_t offset)
{
	struct owner *owner = ctx;

	owner->nreleased++;
	owner->offset = offset;
}

static void
test_blob_copies_its_bytes(void **state)
{
	char bytes[] = "value";
	struct fz_blob *blob = fz_blob_new(bytes, 5, NULL);
	const void *at;

	(void)state;
	assert_non_null(blob);
	memset(bytes, '-', 5);
	at = fz_blob_map(blob, NULL, NULL);
	assert_memory_equal(at, "value", 5);
	assert_int_equal(blob->len, 5);
	fz_blob_unmap(blob, NULL, at);
	fz_blob_unref(blob);
}

static void
test_blob_may_be_empty(void **state)
{
	struct fz_blob *blob = fz_blob_new(NULL, 0, NULL);

	(void)state;
	assert_int_equal(blob->len, 0);
	assert_non_null(fz_blob_map(blob, NULL, NULL));
	fz_blob_unref(blob);
	fz_blob_unref(NULL);
}

static void
test_blob_is_released_with_its_last_reference(void **state)
{
	struct owner owner = { 0 };
	struct fz_blob *blob =
	    fz_blob_in_arena(4096, 9, released, &owner, NULL);

	(void)state;
	assert_ptr_equal(fz_blob_ref(blob), blob);
	fz_blob_unref(blob);
	assert_int_equal(owner.nreleased, 0);
	fz_blob_unref(blob);
	assert_int_equal(owner.nreleased, 1);
	assert_int_equal(owner.offset, 4096);
}

static void
test_blob_shows_the_arena(void **state)
{
	struct fz_arena *arena = fz_arena_new(NULL);
	struct owner owner = { 0 };
	struct fz_blob *blob;
	const void *seen;
	uint64_t offset;
	char *at;

	(void)state;
	assert_non_null(arena);
	at = fz_arena_alloc(arena, 100000, &offset, NULL);
	memset(at, 'a', 100000);
	blob = fz_blob_in_arena(offset, 100000, released, &owner, NULL);
	seen = fz_blob_map(blob, arena, NULL);
	assert_memory_equal(seen, at, 100000);
	fz_blob_unmap(blob, arena, seen);
	fz_blob_unref(blob);
	fz_arena_free(arena);
}

static void
test_blob_outside_the_arena_cannot_be_mapped(void **state)
{
	struct fz_arena *arena = fz_arena_new(NULL);
	struct owner owner = { 0 };
	struct fz_err err = { 0 };
	struct fz_blob *blob =
	    fz_blob_in_arena(UINT64_MAX - 5, 100, released, &owner, NULL);

	(void)state;
	assert_null(fz_blob_map(blob, arena, &err));
	assert_int_not_equal(err.kind, FZ_ERR_NONE);
	fz_blob_unref(blob);
	fz_arena_free(arena);
}

static void
test_blob_without_memory_is_an_error(void **state)
{
	struct fz_err err = { 0 };
	struct owner owner = { 0 };

	(void)state;
	no_memory = true;
	assert_null(fz_blob_new("x", 1, &err));
	assert_int_not_equal(err.kind, FZ_ERR_NONE);
	assert_null(fz_blob_in_arena(1, 1, released, &owner, &err));
	no_memory = false;
	assert_int_equal(owner.nreleased, 0);
	err.kind = FZ_ERR_NONE;
	assert_null(fz_blob_new("x", SIZE_MAX - 1, &err));
	assert_int_not_equal(err.kind, FZ_ERR_NONE);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_blob_copies_its_bytes),
		cmocka_unit_test(test_blob_may_be_empty),
		cmocka_unit_test(test_blob_is_released_with_its_last_reference),
		cmocka_unit_test(test_blob_shows_the_arena),
		cmocka_unit_test(test_blob_outside_the_arena_cannot_be_mapped),
		cmocka_unit_test(test_blob_without_memory_is_an_error),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
