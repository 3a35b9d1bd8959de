/*
 * Room in shared memory that another process writes to.
 *
 * wrap: memfd_create ftruncate mmap madvise fallocate getrlimit open read
 * wrap: malloc calloc realloc
 */
/* sysconf is not in C11. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "arena_test.h"
#include "base/err.h"
#include "no_memory.h"
#include "shared/arena.h"

/* A bit more than two pages; the bytes after it must not change. */
enum { ROOM = 10000 };

static int
fill_room(struct fz_arena *arena, uint64_t offset)
{
	unsigned char *p = fz_arena_map_room(arena, offset, ROOM, NULL);

	if (p == NULL || p[0] != 'o' || p[ROOM - 1] != 'o')
		return 255;
	memset(p, 'w', ROOM);
	fz_arena_unmap(arena, p, ROOM);
	return fz_arena_held(arena) == 0; /* the parent owns the extent */
}

static int
fill_room_below(struct fz_arena *arena, uint64_t offset)
{
	return in_arena_child(
	    arena, fz_arena_next_slice(arena), fill_room, offset);
}

static void
test_arena_room_that_a_child_writes_belongs_to_its_owner(void **state)
{
	struct fz_arena *arena = *state;
	uint64_t at, behind;
	unsigned char *p = fz_arena_alloc(arena, ROOM, &at, NULL);
	unsigned char *q = fz_arena_alloc(arena, ROOM, &behind, NULL);

	for (int i = 0; i < 2; i++) {
		uint32_t slice = fz_arena_next_slice(arena);

		memset(p, 'o', ROOM);
		memset(q, 'q', ROOM);
		assert_int_equal(in_arena_child(arena, slice,
				     i == 0 ? fill_room : fill_room_below, at),
		    1);
		for (size_t j = 0; j < ROOM; j++) {
			assert_int_equal(p[j], 'w');
			assert_int_equal(q[j], 'q');
		}
		/* the child used the extent of its parent, not this slice */
		fz_arena_drop_slice(arena, slice);
		assert_int_equal(p[0], 'w');
	}
	/* For its owner, the room is the extent itself. */
	q = fz_arena_map_room(arena, at, ROOM, NULL);
	memset(q, 'x', ROOM);
	assert_int_equal(p[ROOM - 1], 'x');
	fz_arena_unmap(arena, q, ROOM);
	assert_int_equal(p[ROOM - 1], 'x');
	fz_arena_give_back(arena, at);
}

static int
count_mappings(void)
{
	DIR *dir = opendir("/proc/self/map_files");
	int n = 0;

	while (dir != NULL && readdir(dir) != NULL)
		n++;
	if (dir != NULL)
		closedir(dir);
	return n;
}

static void
test_arena_room_is_unmapped(void **state)
{
	struct fz_arena *arena = *state;
	uint64_t at;
	int before;

	assert_non_null(fz_arena_alloc(arena, 1 << 20, &at, NULL));
	before = count_mappings();
	for (size_t len = 1; len <= 1 << 20; len += 9999) {
		char *p = fz_arena_map_room(arena, at, len, NULL);

		assert_non_null(p);
		p[len - 1] = 'x';
		fz_arena_unmap(arena, p, len);
	}
	assert_int_equal(count_mappings(), before);
}

static void
test_arena_room_with_wrong_numbers_cannot_be_mapped(void **state)
{
	struct fz_arena *arena = *state;
	uint64_t slice_end = UINT64_C(1) << FZ_ARENA_SLICE_BITS;
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE), at;
	struct {
		uint64_t offset;
		size_t len;
	} cases[] = { { 1, 1 }, { page + 1, 1 }, { page - 1, 1 },
		{ page + 16, page }, { page, 0 }, { 0, 0 }, { page, SIZE_MAX },
		{ slice_end - page, page + 1 }, { 0, slice_end + 1 },
		{ UINT64_MAX, 1 }, { UINT64_MAX - page + 1, page },
		{ UINT64_MAX - page + 1, 2 * page } };
	struct fz_err err;

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		err = (struct fz_err){ 0 };
		assert_null(fz_arena_map_room(
		    arena, cases[i].offset, cases[i].len, &err));
		assert_string_equal(err.text, "outside of shared memory");
		assert_null(fz_arena_map_room(
		    arena, cases[i].offset, cases[i].len, NULL));
	}
	assert_non_null(fz_arena_alloc(arena, ROOM, &at, NULL));
	arena_faults.mmap_max = 0;
	assert_null(fz_arena_map_room(arena, at, ROOM, &err));
	assert_int_equal(err.code, ENOMEM);
	assert_non_null(strstr(err.text, "cannot map shared memory"));
}

#define TEST(name)                       \
	cmocka_unit_test_setup_teardown( \
	    name, arena_test_setup, arena_test_teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_arena_room_that_a_child_writes_belongs_to_its_owner),
		TEST(test_arena_room_is_unmapped),
		TEST(test_arena_room_with_wrong_numbers_cannot_be_mapped),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
