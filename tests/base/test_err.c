#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "base/err.h"

static void
test_err_set_fills_kind_and_text(void **state)
{
	struct fz_err err;

	(void)state;
	assert_int_equal(fz_err_set(&err, FZ_ERR_TIMEOUT, "after %d s", 3), -1);
	assert_int_equal(err.kind, FZ_ERR_TIMEOUT);
	assert_int_equal(err.code, 0);
	assert_string_equal(err.text, "after 3 s");
}

static void
test_err_sys_adds_the_text_of_errno(void **state)
{
	struct fz_err err;

	(void)state;
	assert_int_equal(fz_err_sys(&err, ENOENT, "cannot open %s", "x"), -1);
	assert_int_equal(err.kind, FZ_ERR_ERROR);
	assert_int_equal(err.code, ENOENT);
	assert_string_equal(
	    err.text, "cannot open x: No such file or directory");
}

static void
test_err_nomem_names_what(void **state)
{
	struct fz_err err;

	(void)state;
	assert_int_equal(fz_err_nomem(&err, "a thing"), -1);
	assert_int_equal(err.code, ENOMEM);
	assert_int_equal(err.kind, FZ_ERR_MEMORY);
	assert_non_null(strstr(err.text, "a thing: "));
}

static void
test_err_long_text_is_cut(void **state)
{
	char text[2 * FZ_ERR_TEXT_MAX];
	struct fz_err err;

	(void)state;
	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	fz_err_sys(&err, ENOENT, "%s", text);
	assert_int_equal(strlen(err.text), FZ_ERR_TEXT_MAX - 1);
	text[FZ_ERR_TEXT_MAX - 4] = '\0';
	fz_err_sys(&err, ENOENT, "%s", text);
	assert_int_equal(strlen(err.text), FZ_ERR_TEXT_MAX - 1);
	assert_string_equal(err.text + FZ_ERR_TEXT_MAX - 4, ": N");
}

static void
test_err_null_is_allowed(void **state)
{
	(void)state;
	assert_int_equal(fz_err_set(NULL, FZ_ERR_ERROR, "x"), -1);
	assert_int_equal(fz_err_sys(NULL, EINVAL, "x"), -1);
	assert_int_equal(fz_err_nomem(NULL, "x"), -1);
}

static void
test_err_every_kind_has_its_own_name(void **state)
{
	int i, j;

	(void)state;
	for (i = 0; i < FZ_ERR_NKINDS; i++)
		for (j = 0; j < i; j++)
			assert_string_not_equal(
			    fz_err_kind_name((enum fz_err_kind)i),
			    fz_err_kind_name((enum fz_err_kind)j));
	assert_string_equal(fz_err_kind_name(FZ_ERR_GRAPH), "graph");
	assert_string_equal(fz_err_kind_name(FZ_ERR_NKINDS), "error");
	assert_string_equal(fz_err_kind_name((enum fz_err_kind) - 1), "error");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_err_set_fills_kind_and_text),
		cmocka_unit_test(test_err_sys_adds_the_text_of_errno),
		cmocka_unit_test(test_err_nomem_names_what),
		cmocka_unit_test(test_err_long_text_is_cut),
		cmocka_unit_test(test_err_null_is_allowed),
		cmocka_unit_test(test_err_every_kind_has_its_own_name),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
