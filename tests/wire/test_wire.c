/*
 * Frames and parts: split anywhere, cut short, too long, or no frames at all.
 * wrap: realloc read
 */
/* pipe is POSIX, which -std=c11 hides. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/err.h"
#include "jobs.h"
#include "wire/blob.h"
#include "wire/wire.h"

void *__real_realloc(void *p, size_t n);
void *__wrap_realloc(void *p, size_t n);
ssize_t __real_read(int fd, void *bytes, size_t n);
ssize_t __wrap_read(int fd, void *bytes, size_t n);

static bool no_memory;
static size_t most_asked; /* the largest size passed to realloc() */
static int read_error;    /* errno of the next read; 0: it succeeds */
static size_t read_most;  /* maximum number of bytes of a read; 0: no limit */

void *
__wrap_realloc(void *p, size_t n)
{
	if (n > most_asked)
		most_asked = n;
	return no_memory ? NULL : __real_realloc(p, n);
}

ssize_t
__wrap_read(int fd, void *bytes, size_t n)
{
	if (read_error != 0) {
		errno = read_error;
		read_error = 0;
		return -1;
	}
	return __real_read(
	    fd, bytes, read_most != 0 && n > read_most ? read_most : n);
}

struct wire {
	struct fz_buf out;
	struct fz_wire_in in;
	int fd[2];
};

static int
setup(void **state)
{
	struct wire *w = calloc(1, sizeof(*w));

	fz_buf_init(&w->out);
	fz_wire_in_init(&w->in);
	if (pipe(w->fd) != 0)
		return -1;
	no_memory = false;
	read_error = 0;
	read_most = 0;
	most_asked = 0;
	*state = w;
	return 0;
}

static int
teardown(void **state)
{
	struct wire *w = *state;

	fz_buf_fini(&w->out);
	fz_wire_in_fini(&w->in);
	close(w->fd[0]);
	if (w->fd[1] != -1)
		close(w->fd[1]);
	free(w);
	return 0;
}

/* Three frames: with two parts, without parts, with a part in the arena. */
static void
put_frames(struct fz_buf *out)
{
	size_t start = fz_wire_begin(out, FZ_WIRE_JOB, FZ_WIRE_TIMED, 7);

	fz_wire_put_bytes(out, "hello", 5);
	fz_wire_put_bytes(out, "", 0);
	fz_wire_end(out, start);
	start = fz_wire_begin(out, FZ_WIRE_RESULT, 0, UINT32_MAX);
	fz_wire_end(out, start);
	start = fz_wire_begin(out, FZ_WIRE_ERROR, 0, 0);
	fz_wire_put_offset(out, UINT64_C(0x123456789abc), 1000);
	fz_wire_end(out, start);
}

static void
check_frame(const struct fz_frame *frame, int i)
{
	struct fz_reader body;
	struct fz_part part;

	fz_reader_init(&body, frame->body, frame->len);
	if (i == 0) {
		assert_int_equal(frame->type, FZ_WIRE_JOB);
		assert_int_equal(frame->flags, FZ_WIRE_TIMED);
		assert_int_equal(frame->seq, 7);
		assert_int_equal(fz_wire_part(&body, &part), 0);
		assert_int_equal(part.len, 5);
		assert_memory_equal(part.bytes, "hello", 5);
		assert_int_equal(fz_wire_part(&body, &part), 0);
		assert_int_equal(part.len, 0);
		assert_non_null(part.bytes);
	} else if (i == 1) {
		assert_int_equal(frame->type, FZ_WIRE_RESULT);
		assert_int_equal(frame->seq, UINT32_MAX);
		assert_int_equal(frame->len, 0);
	} else {
		assert_int_equal(frame->type, FZ_WIRE_ERROR);
		assert_int_equal(fz_wire_part(&body, &part), 0);
		assert_null(part.bytes);
		assert_int_equal(part.offset, UINT64_C(0x123456789abc));
		assert_int_equal(part.len, 1000);
	}
	assert_int_equal(fz_wire_part(&body, &part), -1);
}

static void
test_wire_a_frame_is_laid_out_as_written_down(void **state)
{
	static const unsigned char bytes[] = { 1, 1, 0x46, 0x5a, 7, 0, 0, 0, 13,
		0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 'h', 'e', 'l', 'l',
		'o' };
	struct wire *w = *state;
	size_t start = fz_wire_begin(&w->out, FZ_WIRE_JOB, FZ_WIRE_TIMED, 7);

	fz_wire_put_bytes(&w->out, "hello", 5);
	fz_wire_end(&w->out, start);
	assert_int_equal(w->out.len, sizeof(bytes));
	assert_memory_equal(w->out.data, bytes, sizeof(bytes));
}

static void
test_wire_frames_may_be_split_at_every_byte(void **state)
{
	struct wire *w = *state;
	struct fz_frame frame;

	put_frames(&w->out);
	for (size_t cut = 0; cut <= w->out.len; cut++) {
		int i = 0;
		size_t sent = 0;

		while (i < 3) {
			size_t n =
			    sent == 0 && cut != 0 ? cut : w->out.len - sent;

			assert_int_equal(
			    write(w->fd[1], w->out.data + sent, n), n);
			sent += n;
			assert_int_equal(fz_wire_fill(&w->in, w->fd[0]), n);
			while (fz_wire_next(&w->in, &frame, NULL) == 1)
				check_frame(&frame, i++);
		}
		assert_int_equal(i, 3);
		assert_int_equal(fz_wire_next(&w->in, &frame, NULL), 0);
	}
}

static void
test_wire_short_and_interrupted_reads_lose_nothing(void **state)
{
	struct wire *w = *state;
	struct fz_frame frame;
	int i = 0;

	put_frames(&w->out);
	assert_int_equal(write(w->fd[1], w->out.data, w->out.len), w->out.len);
	read_most = 1;
	while (i < 3) {
		read_error = EINTR;
		assert_int_equal(fz_wire_fill(&w->in, w->fd[0]), 1);
		if (fz_wire_next(&w->in, &frame, NULL) == 1)
			check_frame(&frame, i++);
	}
	close(w->fd[1]);
	w->fd[1] = -1;
	assert_int_equal(fz_wire_fill(&w->in, w->fd[0]), 0);
}

static void
test_wire_scan_stops_before_a_frame_not_whole(void **state)
{
	struct wire *w = *state;

	put_frames(&w->out);
	for (size_t len = 0; len <= w->out.len; len++) {
		const unsigned char *p = w->out.data;
		struct fz_frame frame;
		int n = 0, rc;

		while ((rc = fz_wire_scan(
			    &p, w->out.data + len, &frame, NULL)) == 1)
			check_frame(&frame, n++);
		assert_int_equal(rc, 0);
		assert_true(p <= w->out.data + len);
		assert_int_equal(n == 3, len == w->out.len);
	}
}

/* Append a header with the length `len`. */
static void
put_header(struct wire *w, uint64_t len)
{
	fz_wire_begin(&w->out, FZ_WIRE_RESULT, 0, 1);
	fz_le64_store(w->out.data + 8, len);
	assert_int_equal(write(w->fd[1], w->out.data, w->out.len), w->out.len);
	assert_int_equal(fz_wire_fill(&w->in, w->fd[0]), w->out.len);
}

static void
test_wire_a_length_over_the_limit_allocates_nothing(void **state)
{
	static const uint64_t lens[] = { FZ_WIRE_MAX + 1, UINT64_MAX,
		UINT64_MAX - 15, (uint64_t)1 << 63 };
	struct wire *w = *state;

	for (size_t i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
		struct fz_frame frame;
		struct fz_err err = { 0 };

		put_header(w, lens[i]);
		most_asked = 0;
		assert_int_equal(fz_wire_next(&w->in, &frame, &err), -1);
		assert_int_equal(err.kind, FZ_ERR_CRASH);
		assert_int_equal(write(w->fd[1], "x", 1), 1);
		assert_int_equal(fz_wire_fill(&w->in, w->fd[0]), 1);
		assert_true(most_asked < 1 << 20);
		fz_wire_in_fini(&w->in);
		fz_buf_clear(&w->out);
	}
}

static void
test_wire_a_length_beyond_memory_is_an_error(void **state)
{
	struct wire *w = *state;
	struct fz_frame frame;

	put_header(w, FZ_WIRE_MAX);
	assert_int_equal(fz_wire_next(&w->in, &frame, NULL), 0);
	no_memory = true;
	errno = 0;
	assert_int_equal(fz_wire_fill(&w->in, w->fd[0]), -1);
	assert_int_equal(errno, ENOMEM);
	no_memory = false;
}

static void
test_wire_a_failed_read_says_why(void **state)
{
	struct wire *w = *state;

	read_error = EAGAIN;
	assert_int_equal(fz_wire_fill(&w->in, w->fd[0]), -1);
	assert_int_equal(errno, EAGAIN);
}

static void
test_wire_garbage_is_no_frame(void **state)
{
	struct wire *w = *state;
	uint32_t x = 1;
	int nbad = 0;

	for (int round = 0; round < 20000; round++) {
		unsigned char bytes[FZ_WIRE_HEADER + 8];
		const unsigned char *p = bytes;
		struct fz_frame frame;
		struct fz_err err = { 0 };
		int rc;

		for (size_t i = 0; i < sizeof(bytes); i++) {
			x = x * 1664525 + 1013904223;
			bytes[i] = (unsigned char)(x >> 24);
		}
		if (round % 2 == 0) { /* only the magic number is right */
			bytes[2] = 0x46;
			bytes[3] = 0x5a;
		}
		rc = fz_wire_scan(&p, bytes + sizeof(bytes), &frame, &err);
		nbad += rc == -1;
		if (rc == -1)
			assert_int_equal(err.kind, FZ_ERR_CRASH);
		if (rc == 1)
			assert_true(frame.len <= 8);
	}
	assert_true(nbad > 10000);
	(void)w;
}

static void
test_wire_unknown_types_are_refused(void **state)
{
	struct wire *w = *state;

	put_frames(&w->out);
	for (int type = 0; type < 256; type++) {
		const unsigned char *p = w->out.data;
		struct fz_frame frame;
		int rc;

		w->out.data[0] = (unsigned char)type;
		rc = fz_wire_scan(&p, w->out.data + w->out.len, &frame, NULL);
		assert_int_equal(
		    rc, type > 0 && type < FZ_WIRE_NTYPES ? 1 : -1);
	}
}

static void
test_wire_a_part_never_goes_past_its_body(void **state)
{
	struct wire *w = *state;
	struct fz_reader body;
	struct fz_part part;

	fz_wire_put_bytes(&w->out, "0123456789", 10);
	for (size_t len = 0; len < w->out.len; len++) {
		fz_reader_init(&body, w->out.data, len);
		assert_int_equal(fz_wire_part(&body, &part), -1);
	}
	fz_le64_store(w->out.data, UINT64_MAX >> 1);
	fz_reader_init(&body, w->out.data, w->out.len);
	assert_int_equal(fz_wire_part(&body, &part), -1);
	fz_le64_store(w->out.data, UINT64_MAX);
	fz_reader_init(&body, w->out.data, 15);
	assert_int_equal(fz_wire_part(&body, &part), -1);
}

static void
released(void *owner, uint64_t offset)
{
	(void)owner;
	(void)offset;
}

static void
test_wire_a_blob_is_sent_inline_or_by_its_offset(void **state)
{
	struct wire *w = *state;
	struct fz_blob *here = fz_blob_new("abc", 3, NULL);
	struct fz_blob *there =
	    fz_blob_in_arena(4096, 77, released, NULL, NULL);
	struct fz_reader body;
	struct fz_part part;

	fz_wire_put_blob(&w->out, here);
	fz_wire_put_blob(&w->out, there);
	assert_int_equal(w->out.len, 8 + 3 + 16);
	fz_reader_init(&body, w->out.data, w->out.len);
	assert_int_equal(fz_wire_part(&body, &part), 0);
	assert_memory_equal(part.bytes, "abc", 3);
	assert_int_equal(fz_wire_part(&body, &part), 0);
	assert_null(part.bytes);
	assert_int_equal(part.offset, 4096);
	assert_int_equal(part.len, 77);
	fz_blob_unref(here);
	fz_blob_unref(there);
}

static void
test_wire_lack_of_memory_is_sticky(void **state)
{
	struct wire *w = *state;
	size_t start;

	no_memory = true;
	start = fz_wire_begin(&w->out, FZ_WIRE_JOB, 0, 1);
	no_memory = false;
	fz_wire_put_bytes(&w->out, "x", 1);
	fz_wire_put_offset(&w->out, 1, 1);
	fz_wire_end(&w->out, start);
	assert_true(w->out.failed);
	assert_int_equal(w->out.len, 0);
}

/* A read of a long frame must not move the bytes that were read before. */
static void
test_wire_a_long_frame_comes_in_linear_time(void **state)
{
	size_t len = bulk_size();
	struct wire *w = *state;
	unsigned char *piece = calloc(1, 1 << 16);
	struct fz_frame frame;
	size_t sent = 0, filled = 0;

	put_header(w, len);
	while (sent < len) {
		assert_int_equal(write(w->fd[1], piece, 1 << 16), 1 << 16);
		sent += 1 << 16;
		assert_int_equal(fz_wire_next(&w->in, &frame, NULL), 0);
		while (filled < sent) {
			ptrdiff_t n = fz_wire_fill(&w->in, w->fd[0]);

			filled += n > 0 ? (size_t)n : 0;
		}
	}
	assert_int_equal(fz_wire_next(&w->in, &frame, NULL), 1);
	assert_int_equal(frame.len, len);
	free(piece);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_wire_a_frame_is_laid_out_as_written_down),
		TEST(test_wire_frames_may_be_split_at_every_byte),
		TEST(test_wire_short_and_interrupted_reads_lose_nothing),
		TEST(test_wire_scan_stops_before_a_frame_not_whole),
		TEST(test_wire_a_length_over_the_limit_allocates_nothing),
		TEST(test_wire_a_length_beyond_memory_is_an_error),
		TEST(test_wire_a_failed_read_says_why),
		TEST(test_wire_garbage_is_no_frame),
		TEST(test_wire_unknown_types_are_refused),
		TEST(test_wire_a_part_never_goes_past_its_body),
		TEST(test_wire_a_blob_is_sent_inline_or_by_its_offset),
		TEST(test_wire_lack_of_memory_is_sticky),
		TEST(test_wire_a_long_frame_comes_in_linear_time),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
