/*
 * The bytes that a footer writes to a terminal; writes and memory fail on
 * demand.
 *
 * wrap: fz_fd_write malloc calloc realloc
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>

#include "footer_test.h"
#include "no_memory.h"

#define SPACES "          "

/* Show two lines on the empty terminal. */
static void
show_two(struct terminal *t)
{
	assert_int_equal(terminal_set(t, "one\ntwo\n", 2), 0);
	terminal_expect(t, SPACES "\rone\033[K\r\ntwo\033[K\r\n\033[J");
}

static void
test_lines_begin_in_a_row_of_their_own(void **state)
{
	show_two(*state);
}

static void
test_new_lines_replace_the_old_ones(void **state)
{
	struct terminal *t = *state;

	show_two(t);
	assert_int_equal(terminal_set(t, "new\n", 1), 0);
	terminal_expect(t, "\r\033[2Anew\033[K\r\n\033[J");
	assert_int_equal(terminal_set(t, "", 0), 0);
	terminal_expect(t, "\r\033[1A\033[J");
}

static void
test_same_lines_write_nothing(void **state)
{
	struct terminal *t = *state;

	show_two(t);
	assert_int_equal(terminal_set(t, "one\ntwo\n", 2), 0);
	terminal_expect(t, "");
}

static void
test_text_is_inserted_above_the_lines(void **state)
{
	struct terminal *t = *state;

	show_two(t);
	assert_int_equal(terminal_print(t, "text\n"), 0);
	terminal_expect(t, "\n\r\033[3A\033[1Ltext\033[K\r\n\033[2B");
	/* 21 characters take three rows; a tab moves to column 8. */
	assert_int_equal(terminal_print(t, "123456789012345678901\n"), 0);
	terminal_expect(
	    t, "\n\n\n\r\033[5A\033[3L123456789012345678901\033[K\r\n\033[2B");
	assert_int_equal(terminal_print(t, "\t1\t2\n"), 0);
	terminal_expect(t, "\n\r\033[3A\033[1L\t1\t2\033[K\r\n\033[2B");
	assert_int_equal(terminal_print(t, "\t123\n"), 0);
	terminal_expect(t, "\n\n\r\033[4A\033[2L\t123\033[K\r\n\033[2B");
}

static void
test_text_is_inserted_in_pieces_that_fit(void **state)
{
	struct terminal *t = *state;

	show_two(t);
	assert_int_equal(terminal_print(t, "a\nb\nc\nd\n"), 0);
	terminal_expect(t,
	    "\n\n\n\r\033[5A\033[3La\033[K\r\nb\033[K\r\nc\033[K\r\n"
	    "\033[2B"
	    "\n\r\033[3A\033[1Ld\033[K\r\n\033[2B");
}

static void
test_other_text_is_written_over_the_lines(void **state)
{
	struct terminal *t = *state;

	show_two(t);
	assert_int_equal(terminal_print(t, "\xc3\xa4\n"), 0);
	terminal_expect(t,
	    "\r\033[2A\xc3\xa4\033[K\r\none\033[K\r\ntwo\033[K\r\n"
	    "\033[J");
	/* No room for a row between the lines and the top. */
	terminal_resize(t, 10, 3);
	assert_int_equal(terminal_print(t, "text\n"), 0);
	terminal_expect(
	    t, "\r\033[2Atext\033[K\r\none\033[K\r\ntwo\033[K\r\n\033[J");
}

static void
test_part_of_a_line_hides_the_lines(void **state)
{
	struct terminal *t = *state;

	show_two(t);
	assert_int_equal(terminal_print(t, "be"), 0);
	terminal_expect(t, "\r\033[2Abe\033[J");
	assert_int_equal(terminal_print(t, "gun"), 0);
	terminal_expect(t, "gun\033[J");
	assert_int_equal(terminal_print(t, "!\n"), 0);
	terminal_expect(t, "!\033[K\r\none\033[K\r\ntwo\033[K\r\n\033[J");
	assert_int_equal(terminal_print(t, "be"), 0);
	terminal_expect(t, "\r\033[2Abe\033[J");
	show_two(t);
}

static void
test_hidden_lines_begin_in_a_new_row(void **state)
{
	struct terminal *t = *state;

	show_two(t);
	fz_footer_hide(&t->footer);
	terminal_expect(t, "\r\033[2A\033[J");
	fz_footer_hide(&t->footer);
	terminal_expect(t, "");
	show_two(t);
}

static void
test_narrower_terminal_has_wrapped_the_lines(void **state)
{
	struct terminal *t = *state;

	show_two(t);
	terminal_resize(t, 4, 6);
	assert_int_equal(terminal_set(t, "1\n2\n", 2), 0);
	terminal_expect(t, "\r\033[6A1\033[K\r\n2\033[K\r\n\033[J");
	terminal_resize(t, 10, 6);
	assert_int_equal(terminal_set(t, "1\n2\n", 2), 0);
	terminal_expect(t, "\r\033[2A1\033[K\r\n2\033[K\r\n\033[J");
}

static void
test_lost_terminal_is_not_overwritten(void **state)
{
	struct terminal *t = *state;

	show_two(t);
	t->footer.lost = 1;
	show_two(t);
	t->footer.lost = 1;
	assert_int_equal(terminal_print(t, "text\n"), 0);
	terminal_expect(t, "text\033[K\r\none\033[K\r\ntwo\033[K\r\n\033[J");
}

static void
test_child_has_no_lines(void **state)
{
	struct terminal *t = *state;

	show_two(t);
	fz_footer_in_child(&t->footer);
	fz_footer_hide(&t->footer);
	assert_int_equal(terminal_set(t, "", 0), 0);
	terminal_expect(t, "\033[J");
}

static void
test_short_writes_are_continued(void **state)
{
	struct terminal *t = *state;

	write_limit = 3;
	show_two(t);
	write_error = EAGAIN;
	assert_int_equal(terminal_set(t, "", 0), 0);
	terminal_expect(t, "\r\033[2A\033[J");
}

static void
test_failed_write_is_reported(void **state)
{
	struct terminal *t = *state;

	show_two(t);
	write_error = EIO;
	assert_int_equal(terminal_print(t, "text\n"), EIO);
	assert_int_equal(terminal_set(t, "1\n", 1), EIO);
	write_error = 0;
	assert_int_equal(terminal_set(t, "2\n", 1), 0);
	terminal_expect(t, "\r\033[1A2\033[K\r\n\033[J");
}

static void
test_without_memory_nothing_is_written(void **state)
{
	struct terminal *t = *state;

	no_memory = true;
	assert_int_equal(terminal_set(t, "one\ntwo\n", 2), ENOMEM);
	terminal_expect(t, "");
	no_memory = false;
	assert_int_equal(terminal_print(t, "text\n"), 0);
	terminal_expect(t, "text\033[K\r\n\033[J");
}

#define T(f) \
	cmocka_unit_test_setup_teardown(f, terminal_setup, terminal_teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_lines_begin_in_a_row_of_their_own),
		T(test_new_lines_replace_the_old_ones),
		T(test_same_lines_write_nothing),
		T(test_text_is_inserted_above_the_lines),
		T(test_text_is_inserted_in_pieces_that_fit),
		T(test_other_text_is_written_over_the_lines),
		T(test_part_of_a_line_hides_the_lines),
		T(test_hidden_lines_begin_in_a_new_row),
		T(test_narrower_terminal_has_wrapped_the_lines),
		T(test_lost_terminal_is_not_overwritten),
		T(test_child_has_no_lines),
		T(test_short_writes_are_continued),
		T(test_failed_write_is_reported),
		T(test_without_memory_nothing_is_written),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
