/*
 * Blocks of records; reads and malloc fail on demand.
 *
 * wrap: read malloc calloc realloc
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "no_memory.h"
#include "os/blocks.h"
#include "os/fd.h"
#include "reads.h"

/* A reader of blocks from a pipe, and the write end of the pipe. */
struct input {
	struct fz_blocks blocks;
	int out;
};

static int
setup(void **state)
{
	struct input *input = calloc(1, sizeof(*input));
	char path[64];
	int fd[2];

	if (input == NULL || fz_fd_pipe(fd, NULL) == -1)
		return -1;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd[0]);
	if (fz_blocks_open(&input->blocks, path, '\n', NULL) != 0)
		return -1;
	fz_fd_close(&fd[0]);
	input->out = fd[1];
	*state = input;
	return 0;
}

static int
teardown(void **state)
{
	struct input *input = *state;

	reads.error = 0;
	reads.most = 0;
	fz_blocks_close(&input->blocks);
	fz_blocks_close(&input->blocks);
	fz_fd_close(&input->out);
	free(input);
	return 0;
}

static void
put(struct input *input, const char *text)
{
	assert_int_equal(fz_fd_write_all(input->out, text, strlen(text)), 0);
}

/* The next block must be `text`, with `n` records. */
static void
expect(struct input *input, size_t bytes, uint64_t records, const char *text,
    uint64_t n)
{
	struct fz_blocks *b = &input->blocks;

	assert_int_equal(
	    fz_blocks_read(b, bytes, records, NULL), FZ_BLOCKS_BLOCK);
	assert_int_equal(b->cut - b->start, strlen(text));
	assert_memory_equal(b->buf.data + b->start, text, strlen(text));
	assert_int_equal(b->n, n);
}

static void
expect_result(struct input *input, enum fz_blocks_result result)
{
	assert_int_equal(
	    fz_blocks_read(&input->blocks, 100, 100, NULL), result);
}

static void
test_blocks_are_passed_on_before_a_wait(void **state)
{
	struct input *input = *state;

	expect_result(input, FZ_BLOCKS_WAIT);
	put(input, "one\ntwo\nth");
	expect(input, 100, 100, "one\ntwo\n", 2);
	expect_result(input, FZ_BLOCKS_WAIT);
	put(input, "ree\n");
	expect(input, 100, 100, "three\n", 1);
	fz_fd_close(&input->out);
	expect_result(input, FZ_BLOCKS_END);
	expect_result(input, FZ_BLOCKS_END);
}

static void
test_blocks_have_so_many_records(void **state)
{
	struct input *input = *state;

	put(input, "\n\na\nb\nc\n");
	expect(input, 100, 1, "\n", 1);
	expect(input, 100, 2, "\na\n", 2);
	expect(input, 1, 100, "b\n", 1);
	expect(input, 100, 100, "c\n", 1);
}

static void
test_blocks_end_with_a_record_without_separator(void **state)
{
	struct input *input = *state;

	put(input, "a\nb");
	fz_fd_close(&input->out);
	expect(input, 100, 100, "a\nb", 2);
	expect_result(input, FZ_BLOCKS_END);
}

static void
test_blocks_of_short_reads_are_the_same(void **state)
{
	struct input *input = *state;

	reads.most = 1;
	put(input, "first\nsecond\nthird");
	fz_fd_close(&input->out);
	expect(input, 6, 100, "first\n", 1);
	expect(input, 7, 100, "second\n", 1);
	expect(input, 100, 100, "third", 1);
	expect_result(input, FZ_BLOCKS_END);
}

static void
test_blocks_before_a_failed_read_are_passed_on(void **state)
{
	struct input *input = *state;
	struct fz_err err = { 0 };

	put(input, "a\nb");
	reads.most = 3;
	expect(input, 100, 100, "a\n", 1);
	put(input, "c\nd");
	expect(input, 2, 1, "bc\n", 1);
	reads.error = EIO;
	put(input, "more");
	assert_int_equal(
	    fz_blocks_read(&input->blocks, 100, 100, &err), FZ_BLOCKS_FAILED);
	assert_int_equal(err.code, EIO);
}

static void
test_blocks_records_before_the_failure_come_first(void **state)
{
	struct input *input = *state;

	put(input, "a\nb\n");
	expect(input, 100, 1, "a\n", 1);
	reads.error = EIO;
	put(input, "c\n");
	expect(input, 100, 100, "b\n", 1);
	expect_result(input, FZ_BLOCKS_FAILED);
}

static void
test_blocks_without_memory_fail(void **state)
{
	struct input *input = *state;
	struct fz_err err = { 0 };

	put(input, "a\n");
	fz_buf_fini(&input->blocks.buf);
	no_memory = true;
	assert_int_equal(
	    fz_blocks_read(&input->blocks, 100, 100, &err), FZ_BLOCKS_FAILED);
	no_memory = false;
	assert_int_equal(err.kind, FZ_ERR_MEMORY);
}

static void
test_blocks_of_no_file_cannot_be_opened(void **state)
{
	struct fz_blocks b;
	struct fz_err err = { 0 };

	(void)state;
	assert_int_equal(fz_blocks_open(&b, "/nonexistent", '\n', &err), -1);
	assert_int_equal(err.code, ENOENT);
	assert_int_equal(fz_blocks_open(&b, "/", '\n', &err), 0);
	assert_int_equal(fz_blocks_read(&b, 100, 100, &err), FZ_BLOCKS_FAILED);
	assert_int_equal(err.code, EISDIR);
	fz_blocks_close(&b);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_blocks_are_passed_on_before_a_wait),
		TEST(test_blocks_have_so_many_records),
		TEST(test_blocks_end_with_a_record_without_separator),
		TEST(test_blocks_of_short_reads_are_the_same),
		TEST(test_blocks_before_a_failed_read_are_passed_on),
		TEST(test_blocks_records_before_the_failure_come_first),
		TEST(test_blocks_without_memory_fail),
		TEST(test_blocks_of_no_file_cannot_be_opened),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
