/*
 * Buffers that move into shared memory as they grow.
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

#include "arena_test.h"
#include "base/buf.h"
#include "no_memory.h"
#include "shared/arena.h"

static void
fill(struct fz_buf *buf, size_t len)
{
	size_t i;

	for (i = 0; i < len; i += 4)
		fz_buf_put_u32(buf, (uint32_t)i);
}

static void
assert_filled(const unsigned char *p, size_t len)
{
	size_t i;

	for (i = 0; i < len; i += 4)
		assert_int_equal(fz_le32_load(p + i), i);
}

static void
test_arena_buf_moves_in_beyond_the_threshold(void **state)
{
	struct fz_arena *arena = *state;
	struct fz_arena_buf sb;
	uint64_t at;
	size_t held;

	fz_arena_buf_init(&sb, arena, 64 * KIB);
	fill(&sb.buf, 64 * KIB);
	assert_false(sb.in_arena);
	fill(&sb.buf, 4);
	assert_true(sb.in_arena);
	fz_buf_clear(&sb.buf);
	fill(&sb.buf, 5 * MIB);
	assert_true(sb.in_arena && !sb.buf.failed);
	assert_filled(sb.buf.data, 5 * MIB);
	at = fz_arena_buf_take(&sb);
	assert_int_equal(sb.buf.len, 0);
	assert_filled(fz_arena_map(arena, at, 5 * MIB, NULL), 5 * MIB);
	held = fz_arena_held(arena);
	fz_arena_give_back(arena, at);
	assert_int_equal(fz_arena_held(arena), held);
	fill(&sb.buf, 3 * MIB);
	assert_true(sb.in_arena);
	fz_buf_fini(&sb.buf);
	assert_int_equal(fz_arena_held(arena), held);
	fill(&sb.buf, 100);
	fz_buf_fini(&sb.buf);
}

static void
test_arena_buf_falls_back_to_malloc(void **state)
{
	struct fz_arena *arena = *state;
	struct fz_arena_buf sb;

	fz_arena_buf_init(&sb, NULL, 0);
	fill(&sb.buf, MIB);
	assert_false(sb.in_arena || sb.buf.failed);
	fz_buf_fini(&sb.buf);

	fz_arena_buf_init(&sb, arena, 1024);
	fill(&sb.buf, 2 * MIB);
	assert_true(sb.in_arena);
	arena_faults.populate_error = ENOMEM;
	fill(&sb.buf, 4 * MIB);
	assert_false(sb.in_arena || sb.buf.failed);
	assert_filled(sb.buf.data, 2 * MIB);
	assert_filled(sb.buf.data + 2 * MIB, 4 * MIB);
	arena_faults.populate_error = 0;
	fz_buf_fini(&sb.buf);

	fill(&sb.buf, 2 * MIB);
	assert_true(sb.in_arena);
	arena_faults.populate_error = ENOMEM;
	no_memory = true;
	fill(&sb.buf, 8 * MIB);
	assert_true(sb.in_arena && sb.buf.failed);
	no_memory = false;
	fz_buf_fini(&sb.buf);
	no_memory = true;
	fill(&sb.buf, 100);
	assert_true(sb.buf.failed);
}

static void
test_arena_buf_moves_where_it_cannot_grow(void **state)
{
	struct fz_arena *arena = *state;
	struct fz_arena_buf sb;
	uint64_t wall;

	fz_arena_buf_init(&sb, arena, 1024);
	fill(&sb.buf, 2 * MIB);
	assert_non_null(fz_arena_alloc(arena, 2 * MIB, &wall, NULL));
	assert_true(wall > sb.offset);
	fz_buf_clear(&sb.buf);
	fill(&sb.buf, 12 * MIB);
	assert_true(sb.in_arena && sb.offset > wall);
	assert_filled(sb.buf.data, 12 * MIB);
	fz_buf_fini(&sb.buf);
}

#define TEST(name)                       \
	cmocka_unit_test_setup_teardown( \
	    name, arena_test_setup, arena_test_teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_arena_buf_moves_in_beyond_the_threshold),
		TEST(test_arena_buf_falls_back_to_malloc),
		TEST(test_arena_buf_moves_where_it_cannot_grow),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
