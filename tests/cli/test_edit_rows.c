/*
 * The places of the prompt and its input on a terminal, by the width of each
 * character.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <locale.h>
#include <wchar.h>

#include "cli/edit_rows.h"

/* A text that begins in row 0, column 0 must end in this row and column. */
static void
expect(const wchar_t *text, unsigned columns, unsigned row, unsigned column)
{
	struct fz_edit_place place = { 0, 0 };

	fz_edit_advance(&place, text, wcslen(text), columns);
	assert_int_equal(place.row, row);
	assert_int_equal(place.column, column);
}

static void
test_a_full_row_ends_in_the_next_one(void **state)
{
	(void)state;
	expect(L"", 10, 0, 0);
	expect(L"123456789", 10, 0, 9);
	expect(L"1234567890", 10, 1, 0);
	expect(L"12345678901234567890123", 10, 2, 3);
}

static void
test_a_newline_begins_a_row(void **state)
{
	(void)state;
	expect(L"a\nbc", 10, 1, 2);
	expect(L"1234567890\n", 10, 2, 0);
	expect(L"\n\n", 10, 2, 0);
}

static void
test_a_wide_character_is_in_one_row(void **state)
{
	(void)state;
	expect(L"12345678\x65e5", 10, 1, 0);
	expect(L"123456789\x65e5", 10, 1, 2);
	expect(L"\x65e5\x672c\x8a9e", 5, 1, 2);
}

static void
test_a_combining_character_takes_no_column(void **state)
{
	(void)state;
	expect(L"e\x301", 10, 0, 1);
	expect(L"12345678e\x301", 10, 0, 9);
}

static void
test_a_tab_ends_at_a_multiple_of_eight_or_with_the_row(void **state)
{
	(void)state;
	expect(L"\t", 10, 0, 8);
	expect(L"1234567\tx", 10, 0, 9);
	expect(L"12345678\t", 10, 1, 0);
	expect(L"\t", 4, 1, 0);
}

static void
test_what_is_not_printable_takes_the_columns_of_its_escape(void **state)
{
	(void)state;
	expect(L"\x1", 10, 0, 2); /* ^A */
	expect(L"123456789\x1", 10, 1, 1);
	expect(L"\xfffe", 10, 0, 7);   /* \U+fffe */
	expect(L"\x10ffff", 10, 0, 8); /* \U+10ffff */
	expect(L"12345\x10ffff", 10, 1, 3);
}

static void
test_a_narrow_terminal(void **state)
{
	(void)state;
	expect(L"abc", 1, 3, 0);
	expect(L"\t", 1, 1, 0);
	expect(L"\x65e5\x672c", 2, 2, 0);
	expect(L"a\x65e5", 2, 2, 0);
}

static void
test_the_input_goes_on_behind_the_prompt(void **state)
{
	struct fz_edit_place place = { 0, 0 };

	(void)state;
	fz_edit_advance(&place, L"> ", 2, 10);
	fz_edit_advance(&place, L"12345678", 8, 10);
	assert_int_equal(place.row, 1);
	assert_int_equal(place.column, 0);
}

#define T(f) cmocka_unit_test(f)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_a_full_row_ends_in_the_next_one),
		T(test_a_newline_begins_a_row),
		T(test_a_wide_character_is_in_one_row),
		T(test_a_combining_character_takes_no_column),
		T(test_a_tab_ends_at_a_multiple_of_eight_or_with_the_row),
		T(test_what_is_not_printable_takes_the_columns_of_its_escape),
		T(test_a_narrow_terminal),
		T(test_the_input_goes_on_behind_the_prompt),
	};

	if (setlocale(LC_CTYPE, "C.UTF-8") == NULL)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
