/*
 * Relayed output; reads and malloc fail on demand.
 * wrap: read malloc calloc realloc
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "no_memory.h"
#include "os/fd.h"
#include "os/lines.h"
#include "reads.h"

/* The text that was passed on, with '|' after each piece. */
struct relay {
	struct fz_lines *lines;
	int in;
	char got[256];
	size_t pieces, bytes;
};

static void
collect(void *ctx, const char *bytes, size_t len)
{
	struct relay *relay = ctx;

	relay->pieces++;
	relay->bytes += len;
	if (strlen(relay->got) + len + 2 > sizeof(relay->got))
		return;
	strncat(relay->got, bytes, len);
	strcat(relay->got, "|");
}

static int
setup(void **state)
{
	struct relay *relay = calloc(1, sizeof(*relay));
	int fd[2];

	if (relay == NULL || fz_fd_pipe(fd, NULL) == -1 ||
	    fz_fd_nonblock(fd[0], NULL) == -1 ||
	    fz_fd_nonblock(fd[1], NULL) == -1)
		return -1;
	relay->in = fd[1];
	relay->lines = fz_lines_new(fd[0], collect, relay, NULL);
	*state = relay;
	return relay->lines != NULL ? 0 : -1;
}

static int
teardown(void **state)
{
	struct relay *relay = *state;

	reads.error = 0;
	reads.most = 0;
	fz_lines_free(relay->lines);
	fz_fd_close(&relay->in);
	free(relay);
	return 0;
}

static void
put(struct relay *relay, const char *text)
{
	assert_int_equal(fz_fd_write_all(relay->in, text, strlen(text)), 0);
}

static void
test_lines_come_whole(void **state)
{
	struct relay *relay = *state;

	assert_int_equal(fz_lines_pump(relay->lines, NULL), 1);
	put(relay, "one\ntw");
	assert_int_equal(fz_lines_pump(relay->lines, NULL), 1);
	assert_string_equal(relay->got, "one\n|");
	put(relay, "o\nthree");
	assert_int_equal(fz_lines_pump(relay->lines, NULL), 1);
	assert_string_equal(relay->got, "one\n|two\n|");
	fz_lines_flush(relay->lines);
	fz_lines_flush(relay->lines);
	assert_string_equal(relay->got, "one\n|two\n|three|");
}

static void
test_lines_end_passes_the_last_piece_on(void **state)
{
	struct relay *relay = *state;

	put(relay, "one\ntwo");
	fz_fd_close(&relay->in);
	assert_int_equal(fz_lines_pump(relay->lines, NULL), 0);
	assert_string_equal(relay->got, "one\n|two|");
	assert_int_equal(fz_lines_pump(relay->lines, NULL), 0);
}

static void
test_lines_short_and_interrupted_reads_change_nothing(void **state)
{
	struct relay *relay = *state;

	reads.most = 2;
	reads.error = EINTR;
	put(relay, "one\ntwo\n\nx");
	assert_int_equal(fz_lines_pump(relay->lines, NULL), 1);
	assert_string_equal(relay->got, "one\n|two\n|\n|");
}

static void
test_lines_too_long_come_in_pieces(void **state)
{
	struct relay *relay = *state;
	char block[4096];
	size_t put_bytes = 0;

	memset(block, 'x', sizeof(block));
	while (put_bytes < 3 * FZ_LINES_MAX) {
		assert_int_equal(
		    fz_fd_write_all(relay->in, block, sizeof(block)), 0);
		put_bytes += sizeof(block);
		assert_int_equal(fz_lines_pump(relay->lines, NULL), 1);
	}
	assert_int_equal(relay->bytes, put_bytes);
	assert_int_equal(relay->pieces, 3);
}

static void
test_lines_memory_short_passes_pieces_on(void **state)
{
	struct relay *relay = *state;
	char block[10000];

	memset(block, 'x', sizeof(block));
	assert_int_equal(fz_fd_write_all(relay->in, block, sizeof(block)), 0);
	assert_int_equal(fz_lines_pump(relay->lines, NULL), 1);
	assert_int_equal(fz_fd_write_all(relay->in, block, sizeof(block)), 0);
	no_memory = true;
	assert_int_equal(fz_lines_pump(relay->lines, NULL), 1);
	no_memory = false;
	fz_lines_flush(relay->lines);
	assert_int_equal(relay->bytes, 2 * sizeof(block));
}

static void
test_lines_failures_are_reported(void **state)
{
	struct relay *relay = *state;
	struct fz_err err;

	no_memory = true;
	assert_null(fz_lines_new(0, collect, NULL, &err));
	assert_int_equal(err.code, ENOMEM);
	no_memory = false;
	reads.error = EIO;
	assert_int_equal(fz_lines_pump(relay->lines, &err), -1);
	assert_int_equal(err.code, EIO);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_lines_come_whole),
		TEST(test_lines_end_passes_the_last_piece_on),
		TEST(test_lines_short_and_interrupted_reads_change_nothing),
		TEST(test_lines_too_long_come_in_pieces),
		TEST(test_lines_memory_short_passes_pieces_on),
		TEST(test_lines_failures_are_reported),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
