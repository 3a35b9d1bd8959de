/*
 * The file of --allow; memory runs out on demand.
 * wrap: malloc calloc realloc
 */
#define _POSIX_C_SOURCE 200809L /* for mkstemp */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "no_memory.h"
#include "node/allow.h"

#define ZEROS "0000000000000000000000000000000000000000000000000000000000000000"
#define ONE "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static char path[] = "/tmp/fzlua-allow-XXXXXX";

static struct fz_allow *
read_text(const char *text, struct fz_err *err)
{
	FILE *file = fopen(path, "w");

	assert_non_null(file);
	fputs(text, file);
	fclose(file);
	return fz_allow_read(path, err);
}

static int
setup(void **state)
{
	int fd = mkstemp(path);

	(void)state;
	return fd == -1 ? -1 : close(fd);
}

static int
teardown(void **state)
{
	(void)state;
	return unlink(path);
}

static void
test_allow_has_its_digests_and_names(void **state)
{
	static const unsigned char zeros[FZ_ALLOW_DIGEST] = { 0 };
	unsigned char one[FZ_ALLOW_DIGEST];
	struct fz_allow *allow;

	(void)state;
	for (unsigned i = 0; i < sizeof(one); i++)
		one[i] = (unsigned char)(0x01 + i % 8 * 0x22);
	allow = read_text("# comment\n\n  " ONE " script.lua:3\r\n"
			  "os.time # clock\nsocket.core\nlfs",
	    NULL);
	assert_non_null(allow);
	assert_true(fz_allow_has(allow, one));
	assert_false(fz_allow_has(allow, zeros));
	assert_int_equal(fz_allow_add(allow, zeros), 0);
	assert_true(fz_allow_has(allow, zeros));
	assert_true(fz_allow_has_name(allow, "os", "time"));
	assert_false(fz_allow_has_name(allow, "os", "exit"));
	assert_false(fz_allow_has_name(allow, "os", "timer"));
	assert_false(fz_allow_has_name(allow, "os", NULL));
	assert_true(fz_allow_has_name(allow, "lfs", NULL));
	assert_true(fz_allow_has_name(allow, "lfs", "dir"));
	assert_false(fz_allow_has_name(allow, "lf", NULL));
	assert_true(fz_allow_has_name(allow, "socket.core", NULL));
	assert_true(fz_allow_has_name(allow, "math", "floor"));
	assert_true(fz_allow_has_name(allow, "_G", "type"));
	assert_false(fz_allow_has_name(allow, "_G", "load"));
	assert_false(fz_allow_has_name(allow, "_G", NULL));
	assert_false(fz_allow_has_name(allow, "fzlua", NULL));
	fz_allow_free(allow);
}

static void
test_allow_refuses_wrong_lines_with_their_number(void **state)
{
	static const char *const wrong[] = { "\n" ONE "0\n", "\nos time\n",
		"\n" ONE ONE " x\n", "\na/b\n", "\n0123 x\n" };
	struct fz_err err;

	(void)state;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		assert_null(read_text(wrong[i], &err));
		assert_non_null(strstr(err.text, ":2: neither"));
	}
	assert_null(fz_allow_read("/nowhere/at/all", &err));
	assert_non_null(strstr(err.text, "/nowhere/at/all: No such file"));
	assert_null(fz_allow_read("/", &err));
	fz_allow_free(NULL);
}

static void
test_allow_without_memory(void **state)
{
	struct fz_allow *allow = NULL;
	struct fz_err err;
	int n;

	(void)state;
	allow = read_text(ZEROS "\nos\n" ONE "\nio\n", &err);
	assert_non_null(allow);
	fz_allow_free(allow);
	for (n = 0, allow = NULL; allow == NULL && n < 100; n++) {
		good_mallocs = n;
		allow = fz_allow_read(path, &err);
		good_mallocs = -1;
	}
	assert_non_null(allow);
	assert_in_range(n, 4, 99);
	fz_allow_free(allow);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_allow_has_its_digests_and_names),
		cmocka_unit_test(
		    test_allow_refuses_wrong_lines_with_their_number),
		cmocka_unit_test(test_allow_without_memory),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
