/*
 * Shared memory: its extents, their readers, and what is refused.
 *
 * wrap: memfd_create ftruncate mmap madvise fallocate getrlimit open read
 * wrap: malloc calloc realloc
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "arena_test.h"
#include "base/err.h"
#include "no_memory.h"
#include "shared/arena.h"

static void
test_arena_extents_are_writable_and_apart(void **state)
{
	struct fz_arena *arena = *state;
	uint64_t a_at, b_at, c_at;
	char *a = fz_arena_alloc(arena, 100, &a_at, NULL);
	char *b = fz_arena_alloc(arena, 64 * KIB, &b_at, NULL);
	char *c = fz_arena_alloc(arena, 3 * MIB, &c_at, NULL);

	assert_true(a_at != 0 && b_at != 0 && c_at != 0);
	memset(a, 'a', 100);
	memset(b, 'b', 64 * KIB);
	memset(c, 'c', 3 * MIB);
	assert_int_equal(a[99], 'a');
	assert_int_equal(b[64 * KIB - 1], 'b');
	assert_int_equal(
	    *(const char *)fz_arena_map(arena, a_at, 100, NULL), 'a');
	assert_true(fz_arena_held(arena) >= 3 * MIB + 65 * KIB);
	assert_true(fz_arena_held(arena) <= 4 * MIB + 128 * KIB);
}

static void
test_arena_given_back_memory_is_used_again(void **state)
{
	struct fz_arena *arena = *state;
	uint64_t at, again;
	char *p = fz_arena_alloc(arena, 5 * MIB, &at, NULL);
	size_t held = fz_arena_held(arena);

	p[0] = 'x';
	fz_arena_give_back(arena, at);
	fz_arena_give_back(arena, at);
	assert_int_equal(fz_arena_held(arena), held);
	assert_ptr_equal(fz_arena_alloc(arena, 5 * MIB, &again, NULL), p);
	assert_int_equal(again, at);
	assert_int_equal(p[0], 'x');
	assert_int_equal(fz_arena_held(arena), held);
}

static void
test_arena_gives_surplus_memory_back_to_the_kernel(void **state)
{
	struct fz_arena *arena = *state;
	uint64_t a, b, c;
	char *p;

	assert_non_null(fz_arena_alloc(arena, FZ_ARENA_WARM / 2, &a, NULL));
	p = fz_arena_alloc(arena, FZ_ARENA_WARM / 2, &b, NULL);
	assert_non_null(p);
	p[FZ_ARENA_WARM / 2 - 1] = 'x';
	assert_non_null(fz_arena_alloc(arena, 64 * KIB, &c, NULL));
	fz_arena_give_back(arena, a);
	fz_arena_give_back(arena, b);
	assert_true(fz_arena_held(arena) > FZ_ARENA_WARM);
	fz_arena_give_back(arena, c);
	assert_true(fz_arena_held(arena) <= FZ_ARENA_WARM);
	assert_int_equal(p[FZ_ARENA_WARM / 2 - 1], 0);
}

static int
read_byte(struct fz_arena *arena, uint64_t offset)
{
	const unsigned char *p = fz_arena_map(arena, offset, 1, NULL);

	return p == NULL ? 255 : *p;
}

static int
write_own(struct fz_arena *arena, uint64_t offset)
{
	uint64_t at;
	char *p = fz_arena_alloc(arena, 10000, &at, NULL);

	if (p == NULL || fz_arena_held(arena) > 20000)
		return 255;
	fz_arena_give_back(arena, offset); /* it is the parent's: no effect */
	memset(p, 'w', 10000);
	/* The offset is that of the parent's extent, but in another slice. */
	return (at & 0xffffffff) == (offset & 0xffffffff) && at != offset;
}

static int
grandchild(struct fz_arena *arena, uint64_t offset)
{
	return in_arena_child(
	    arena, fz_arena_next_slice(arena), read_byte, offset);
}

static void
test_arena_child_reads_what_the_parent_wrote(void **state)
{
	struct fz_arena *arena = *state;
	uint64_t at, later;
	char *p = fz_arena_alloc(arena, 100, &at, NULL);
	uint32_t slice = fz_arena_next_slice(arena);

	*p = 42;
	assert_int_equal(in_arena_child(arena, slice, read_byte, at), 42);
	p = fz_arena_alloc(arena, 2 * MIB, &later, NULL);
	*p = 43;
	assert_int_equal(in_arena_child(arena, slice, read_byte, later), 43);
	assert_int_equal(in_arena_child(arena, slice, grandchild, later), 43);
	assert_int_equal(fz_arena_next_slice(arena), slice + 2);
}

static void
test_arena_parent_reads_what_a_child_wrote(void **state)
{
	size_t lens[] = { (size_t)1 << 34, (size_t)1 << 32 };
	struct fz_arena *arena = *state;
	const char *view;
	uint64_t at;
	size_t i;

	assert_non_null(fz_arena_alloc(arena, 100, &at, NULL));
	for (i = 0; i < 2; i++) {
		uint32_t slice = fz_arena_next_slice(arena);
		uint64_t there = at | (uint64_t)slice << FZ_ARENA_SLICE_BITS;

		assert_int_equal(
		    in_arena_child(arena, slice, write_own, at), 1);
		/* The slice stays mapped, or this call maps only the extent. */
		arena_faults.mmap_max = lens[i];
		view = fz_arena_map(arena, there + 5000, 5000, NULL);
		assert_non_null(view);
		assert_int_equal(view[0], 'w');
		assert_int_equal(view[4999], 'w');
		fz_arena_unmap(arena, view, 5000);
		fz_arena_drop_slice(arena, slice);
		arena_faults.mmap_max = (size_t)1 << 32;
		view = fz_arena_map(arena, there, 1, NULL);
		assert_int_equal(view[0], 0);
		fz_arena_unmap(arena, view, 1);
	}
}

static void
test_arena_refuses_to_map_a_wrong_extent(void **state)
{
	struct fz_arena *arena = *state;
	uint64_t slice_end = UINT64_C(1) << FZ_ARENA_SLICE_BITS;
	struct fz_err err = { 0 };

	assert_null(fz_arena_map(arena, 4096, 0, &err));
	assert_null(fz_arena_map(arena, slice_end - 10, 11, &err));
	assert_null(fz_arena_map(arena, 1, SIZE_MAX, &err));
	assert_null(fz_arena_map(arena, UINT64_MAX, 1, &err));
	assert_null(fz_arena_map(arena, UINT64_MAX - 4096, 8192, &err));
	assert_string_equal(err.text, "outside of shared memory");
	arena_faults.mmap_max = 0;
	assert_null(fz_arena_map(arena, slice_end, 10, &err));
	assert_int_equal(err.code, ENOMEM);
}

static void
test_arena_refuses_more_than_the_machine_has(void **state)
{
	struct fz_arena *arena = *state;
	struct fz_err err = { 0 };
	uint64_t at;

	assert_null(fz_arena_alloc(arena, (size_t)300 << 30, &at, &err));
	assert_int_equal(err.code, ENOMEM);
	assert_null(fz_arena_alloc(arena, SIZE_MAX, &at, &err));
	arena_faults.meminfo = "MemTotal: 1 kB\nMemAvailable: 20000 kB\n";
	assert_null(fz_arena_alloc(arena, 64 * MIB, &at, &err));
	assert_int_equal(fz_arena_held(arena), 0);
	arena_faults.meminfo = "nothing";
	assert_non_null(fz_arena_alloc(arena, 16 * MIB, &at, &err));
	arena_faults.meminfo = NULL;
	arena_faults.meminfo_fails = true;
	assert_non_null(fz_arena_alloc(arena, 16 * MIB, &at, &err));
}

static void
test_arena_unreservable_memory_is_refused(void **state)
{
	struct fz_arena *arena = *state;
	struct fz_err err = { 0 };
	uint64_t at;

	arena_faults.populate_error = ENOMEM;
	assert_null(fz_arena_alloc(arena, MIB, &at, &err));
	assert_int_equal(err.code, ENOMEM);
	arena_faults.populate_error = EINVAL;
	arena_faults.allocate_error = ENOSPC;
	assert_null(fz_arena_alloc(arena, MIB, &at, &err));
	assert_int_equal(err.code, ENOSPC);
	assert_int_equal(fz_arena_held(arena), 0);
	arena_faults.allocate_error = 0;
	arena_faults.interruptions = 3;
	assert_non_null(fz_arena_alloc(arena, MIB, &at, &err));
	arena_faults.populate_error = 0;
	arena_faults.interruptions = 3;
	assert_non_null(fz_arena_alloc(arena, MIB, &at, &err));
}

static void
test_arena_small_address_space_is_enough(void **state)
{
	struct fz_arena *arena = *state;
	uint64_t at;

	arena_faults.mmap_max = (size_t)1 << 31;
	assert_non_null(fz_arena_alloc(arena, MIB, &at, NULL));
	assert_null(
	    fz_arena_alloc(arena, arena_faults.mmap_max / 2, &at, NULL));
}

static void
test_arena_lack_of_address_space_is_reported(void **state)
{
	struct fz_arena *arena = *state;
	struct fz_err err = { 0 };
	uint64_t at;
	int i;

	arena_faults.mmap_max = 4096;
	assert_null(fz_arena_alloc(arena, MIB, &at, &err));
	assert_int_equal(err.code, ENOMEM);
	arena_faults_end();
	for (i = 0; i < 2; i++) {
		good_mallocs = i;
		assert_null(fz_arena_alloc(arena, MIB, &at, &err));
	}
	good_mallocs = -1;
	fz_arena_enter(arena, UINT32_MAX);
	assert_null(fz_arena_alloc(arena, MIB, &at, &err));
}

static void
test_arena_failures_of_new_are_reported(void **state)
{
	struct fz_err err = { 0 };

	(void)state;
	arena_faults.memfd_fails = true;
	assert_null(fz_arena_new(&err));
	assert_int_equal(err.code, ENOSYS);
	arena_faults_end();
	arena_faults.ftruncate_fails = true;
	assert_null(fz_arena_new(&err));
	assert_int_equal(err.code, EFBIG);
	arena_faults_end();
	arena_faults.file_size_limited = true;
	assert_null(fz_arena_new(&err));
	assert_non_null(strstr(err.text, "file size limit"));
	arena_faults_end();
	arena_faults.mmap_max = 0;
	assert_null(fz_arena_new(&err));
	assert_int_equal(err.code, ENOMEM);
	arena_faults_end();
	no_memory = true;
	assert_null(fz_arena_new(&err));
	fz_arena_free(NULL);
}

#define TEST(name)                       \
	cmocka_unit_test_setup_teardown( \
	    name, arena_test_setup, arena_test_teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_arena_extents_are_writable_and_apart),
		TEST(test_arena_given_back_memory_is_used_again),
		TEST(test_arena_gives_surplus_memory_back_to_the_kernel),
		TEST(test_arena_child_reads_what_the_parent_wrote),
		TEST(test_arena_parent_reads_what_a_child_wrote),
		TEST(test_arena_refuses_to_map_a_wrong_extent),
		TEST(test_arena_refuses_more_than_the_machine_has),
		TEST(test_arena_unreservable_memory_is_refused),
		TEST(test_arena_small_address_space_is_enough),
		TEST(test_arena_lack_of_address_space_is_reported),
		TEST(test_arena_failures_of_new_are_reported),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
