/*
 * Programs that were built with an older header rely on the layout of the
 * public structs, on the numbers of the statuses, and on a smaller `size`.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include <lauxlib.h>

#include "api/fzlua.h"
#include "host_test.h"

/*
 * The offset of a member, in words: each member has the size of one word in
 * each supported ABI.
 */
#define WORD(type, member) (offsetof(type, member) / sizeof(void *))

static void
test_layouts_stay(void **state)
{
	(void)state;
	assert_int_equal(WORD(struct fzlua_options, size), 0);
	assert_int_equal(WORD(struct fzlua_options, alloc), 1);
	assert_int_equal(WORD(struct fzlua_options, alloc_ctx), 2);
	assert_int_equal(WORD(struct fzlua_options, output), 3);
	assert_int_equal(WORD(struct fzlua_options, output_ctx), 4);
	assert_int_equal(WORD(struct fzlua_options, log), 5);
	assert_int_equal(WORD(struct fzlua_options, log_ctx), 6);
	assert_int_equal(WORD(struct fzlua_options, forks), 7);
	assert_int_equal(WORD(struct fzlua_options, forks_ctx), 8);
	assert_int_equal(WORD(struct fzlua_options, start), 9);
	assert_int_equal(WORD(struct fzlua_options, worker_command), 10);
	assert_true(sizeof(struct fzlua_options) >= 11 * sizeof(void *));
	assert_int_equal(offsetof(struct fzlua_limits, size), 0);
#if UINTPTR_MAX == UINT64_MAX
	assert_int_equal(offsetof(struct fzlua_limits, seconds), 8);
	assert_int_equal(offsetof(struct fzlua_limits, instructions), 16);
	assert_int_equal(offsetof(struct fzlua_limits, memory), 24);
	assert_true(sizeof(struct fzlua_limits) >= 32);
#endif
}

static void
test_statuses_keep_their_numbers(void **state)
{
	static const int statuses[] = { FZLUA_OK, FZLUA_ERROR, FZLUA_CRASH,
		FZLUA_TIMEOUT, FZLUA_MEMORY, FZLUA_CANCELLED, FZLUA_INTERRUPTED,
		FZLUA_UNSENDABLE, FZLUA_CLOSED, FZLUA_GRAPH };

	(void)state;
	for (int i = 0; i < 10; i++)
		assert_int_equal(statuses[i], i);
	assert_int_equal(FZLUA_NONE, -1);
	assert_int_equal(FZLUA_IN_USE, -2);
	assert_int_equal(FZLUA_FORK_BEFORE, 0);
	assert_int_equal(FZLUA_FORK_PARENT, 1);
	assert_int_equal(FZLUA_FORK_CHILD, 2);
}

static void
test_the_version_is_that_of_the_header(void **state)
{
	char *rest;
	long major = strtol(fzlua_version(), &rest, 10);
	long minor = strtol(rest + 1, &rest, 10);
	long patch = strtol(rest + 1, &rest, 10);

	(void)state;
	assert_int_equal(
	    major * 10000 + minor * 100 + patch, FZLUA_VERSION_NUM);
	assert_string_equal(rest, "");
}

static void *
count_alloc(void *ctx, void *block, size_t old_size, size_t size)
{
	(void)old_size;
	++*(int *)ctx;
	if (size != 0)
		return realloc(block, size);
	free(block);
	return NULL;
}

static int
fail_output(void *ctx, int fd, const char *bytes, size_t len)
{
	(void)ctx;
	(void)fd;
	(void)bytes;
	(void)len;
	return 5;
}

/* The struct ends after the allocator; the library reads no later member. */
static void
test_smaller_options_are_accepted(void **state)
{
	int nallocs = 0;
	const struct fzlua_options options = {
		.size = offsetof(struct fzlua_options, output),
		.alloc = count_alloc,
		.alloc_ctx = &nallocs,
		.output = fail_output,
	};
	lua_State *L;

	(void)state;
	assert_int_equal(fzlua_new(&L, &options), FZLUA_OK);
	assert_true(nallocs > 0);
	host_assert_status(L,
	    "local p <close> = fz.pool(1) p:apply(print, 'printed')", FZLUA_OK);
	fzlua_close(L);
}

static void
test_smaller_limits_are_accepted(void **state)
{
	struct fzlua_limits limits = {
		.size = offsetof(struct fzlua_limits, instructions),
		.instructions = 1,
		.memory = 1,
	};
	lua_State *L = *state;

	fzlua_limit(L, &limits);
	host_assert_status(L, "for i = 1, 1e5 do x = {} end", FZLUA_OK);
	limits.size = offsetof(struct fzlua_limits, memory);
	fzlua_limit(L, &limits);
	host_assert_status(L, "for i = 1, 1e5 do end", FZLUA_TIMEOUT);
}

/* A newer header may have members that this library does not know. */
static void
test_larger_structs_are_accepted(void **state)
{
	struct {
		struct fzlua_options known;
		void *unknown[4];
	} options = { .known.size = sizeof(options),
		.unknown = { &options, &options, &options, &options } };
	lua_State *L;

	(void)state;
	assert_int_equal(fzlua_new(&L, &options.known), FZLUA_OK);
	fzlua_close(L);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_layouts_stay),
		cmocka_unit_test(test_statuses_keep_their_numbers),
		cmocka_unit_test(test_the_version_is_that_of_the_header),
		cmocka_unit_test(test_smaller_options_are_accepted),
		HOST_TEST(test_smaller_limits_are_accepted),
		cmocka_unit_test(test_larger_structs_are_accepted),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
