/*
 * Buffers and readers; realloc fails on demand.
 * wrap: malloc calloc realloc
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "no_memory.h"

static void
test_buf_grows_and_keeps_its_bytes(void **state)
{
	struct fz_buf buf = FZ_BUF_INIT;
	size_t i;

	(void)state;
	for (i = 0; i < 10000; i++)
		fz_buf_put(&buf, &(uint8_t){ (uint8_t)i }, 1);
	assert_false(buf.failed);
	assert_int_equal(buf.len, 10000);
	for (i = 0; i < 10000; i++)
		assert_int_equal(buf.data[i], (uint8_t)i);
	fz_buf_consume(&buf, 9999);
	assert_int_equal(buf.len, 1);
	assert_int_equal(buf.data[0], (uint8_t)9999);
	fz_buf_consume(&buf, 1);
	assert_int_equal(buf.len, 0);
	fz_buf_fini(&buf);
	fz_buf_put(&buf, "again", 5);
	assert_memory_equal(buf.data, "again", 5);
	fz_buf_fini(&buf);
}

static void
test_buf_numbers_are_little_endian(void **state)
{
	static const unsigned char bytes[] = { 1, 5, 4, 3, 2, 13, 12, 11, 10, 9,
		8, 7, 6 };
	struct fz_buf buf;
	struct fz_reader r;

	(void)state;
	fz_buf_init(&buf);
	fz_buf_put(&buf, "\1", 1);
	fz_buf_put_u32(&buf, 0x02030405);
	fz_buf_put_u64(&buf, UINT64_C(0x060708090a0b0c0d));
	assert_int_equal(buf.len, sizeof(bytes));
	assert_memory_equal(buf.data, bytes, sizeof(bytes));
	fz_reader_init(&r, buf.data, buf.len);
	assert_int_equal(fz_reader_u8(&r), 1);
	assert_int_equal(fz_reader_u32(&r), 0x02030405);
	assert_int_equal(fz_reader_u64(&r), UINT64_C(0x060708090a0b0c0d));
	assert_int_equal(fz_reader_left(&r), 0);
	assert_false(r.failed);
	assert_int_equal(fz_reader_u32(&r), 0);
	assert_true(r.failed);
	fz_buf_fini(&buf);
}

static void
test_buf_varints_are_read(void **state)
{
	static const unsigned char bytes[] = "\0\1\x7f\x80\1\xac\2"
					     "\xff\xff\xff\xff\x0f"
					     "\xff\xff\xff\xff\xff"
					     "\xff\xff\xff\x7f"
					     "\xff\xff\xff\xff\xff"
					     "\xff\xff\xff\xff\1";
	static const uint64_t values[] = { 0, 1, 127, 128, 300, UINT32_MAX,
		UINT64_MAX / 2, UINT64_MAX };
	struct fz_reader r;

	(void)state;
	fz_reader_init(&r, bytes, sizeof(bytes) - 1);
	for (size_t i = 0; i < sizeof(values) / sizeof(*values); i++)
		assert_true(fz_reader_varint(&r) == values[i]);
	assert_int_equal(fz_reader_left(&r), 0);
	assert_false(r.failed);
}

static void
test_buf_varints_too_long_are_refused(void **state)
{
	unsigned char bytes[11];
	struct fz_reader r;

	(void)state;
	memset(bytes, 0xff, sizeof(bytes));
	fz_reader_init(&r, bytes, sizeof(bytes));
	assert_int_equal(fz_reader_varint(&r), 0);
	assert_true(r.failed);
	bytes[9] = 2;
	fz_reader_init(&r, bytes, sizeof(bytes));
	assert_int_equal(fz_reader_varint(&r), 0);
	assert_true(r.failed);
	fz_reader_init(&r, bytes, 3);
	assert_int_equal(fz_reader_varint(&r), 0);
	assert_true(r.failed);
}

static void
test_buf_reader_never_goes_past_the_end(void **state)
{
	struct fz_reader r;

	(void)state;
	fz_reader_init(&r, "abc", 3);
	assert_non_null(fz_reader_take(&r, 0));
	assert_null(fz_reader_take(&r, SIZE_MAX));
	assert_true(r.failed);
	assert_null(fz_reader_take(&r, 1));
	fz_reader_init(&r, "abc", 3);
	assert_int_equal(fz_reader_u64(&r), 0);
	assert_true(r.failed);
}

static void
test_buf_failure_is_sticky(void **state)
{
	struct fz_buf buf = FZ_BUF_INIT;
	char big[4096] = { 0 };

	(void)state;
	fz_buf_put(&buf, "abc", 3);
	no_memory = true;
	fz_buf_put(&buf, big, sizeof(big));
	no_memory = false;
	assert_true(buf.failed);
	assert_int_equal(buf.len, 3);
	fz_buf_put_u32(&buf, 1);
	fz_buf_put_u64(&buf, 1);
	assert_int_equal(buf.len, 3);
	fz_buf_clear(&buf);
	fz_buf_put(&buf, "a", 1);
	assert_false(buf.failed);
	assert_int_equal(buf.len, 1);
	assert_null(fz_buf_grow(&buf, SIZE_MAX - 1));
	assert_true(buf.failed);
	fz_buf_fini(&buf);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_buf_grows_and_keeps_its_bytes),
		cmocka_unit_test(test_buf_numbers_are_little_endian),
		cmocka_unit_test(test_buf_varints_are_read),
		cmocka_unit_test(test_buf_varints_too_long_are_refused),
		cmocka_unit_test(test_buf_reader_never_goes_past_the_end),
		cmocka_unit_test(test_buf_failure_is_sticky),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
