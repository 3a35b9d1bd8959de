/*
 * The bytes that a footer with input writes to a terminal; writes and memory
 * fail on demand.
 *
 * wrap: fz_fd_write malloc calloc realloc
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <unistd.h>

#include "base/container.h"
#include "footer_test.h"
#include "no_memory.h"

#define SPACES "          "

/* An input that was wrapped into rows of the terminal's width. */
struct editor {
	struct fz_footer_input input;
	const struct terminal *terminal;
	unsigned columns; /* width of the text before the cursor */
};

static unsigned
row(struct fz_footer_input *input, unsigned columns)
{
	return FZ_CONTAINER_OF(input, struct editor, input)->columns / columns;
}

static void
draw(struct fz_footer_input *input)
{
	struct editor *e = FZ_CONTAINER_OF(input, struct editor, input);

	assert_int_equal(write(e->terminal->slave, "<input>", 7), 7);
}

/* Begin an input of two rows below one line; the cursor is in the second. */
static void
begin(struct terminal *t, struct editor *e)
{
	*e = (struct editor){ { row, draw, false }, t, 13 };
	assert_int_equal(terminal_set(t, "one\n", 1), 0);
	terminal_expect(t, SPACES "\rone\033[K\r\n\033[J");
	fz_footer_begin_input(&t->footer, &e->input);
	terminal_expect(t, "\r\033[1Aone\033[K\r\n\033[J");
}

static void
test_input_begins_in_a_row_of_its_own(void **state)
{
	struct terminal *t = *state;
	struct editor e = { { row, draw, false }, t, 0 };

	fz_footer_begin_input(&t->footer, &e.input);
	terminal_expect(t, SPACES "\r\033[J");
}

static void
test_output_is_above_lines_and_input(void **state)
{
	struct terminal *t = *state;
	struct editor e;

	begin(t, &e);
	assert_int_equal(terminal_print(t, "text\n"), 0);
	terminal_expect(t, "\r\033[1A\033[J"
			   "\n\r\033[2A\033[1Ltext\033[K\r\n\033[1B"
			   "<input>");
}

static void
test_output_of_unknown_width_draws_all_again(void **state)
{
	struct terminal *t = *state;
	struct editor e;

	begin(t, &e);
	assert_int_equal(terminal_print(t, "\xe6\x97\xa5\n"), 0);
	terminal_expect(t, "\r\033[1A\033[J"
			   "\r\033[1A\xe6\x97\xa5\033[K\r\none\033[K\r\n\033[J"
			   "<input>");
}

static void
test_output_within_a_line_ends_it(void **state)
{
	struct terminal *t = *state;
	struct editor e;

	begin(t, &e);
	assert_int_equal(terminal_print(t, "begun"), 0);
	terminal_expect(t, "\r\033[1A\033[J"
			   "\r\033[1Abegun\033[J\r\none\033[K\r\n\033[J"
			   "<input>");
}

static void
test_new_lines_move_the_input(void **state)
{
	struct terminal *t = *state;
	struct editor e;

	begin(t, &e);
	assert_int_equal(terminal_set(t, "1\n2\n", 2), 0);
	terminal_expect(t, "\r\033[1A\033[J"
			   "\r\033[1A1\033[K\r\n2\033[K\r\n\033[J<input>");
	assert_int_equal(terminal_set(t, "", 0), 0);
	terminal_expect(t, "\r\033[1A\033[J\r\033[2A\033[J<input>");
}

static void
test_narrower_terminal_has_more_rows_of_input(void **state)
{
	struct terminal *t = *state;
	struct editor e;

	begin(t, &e);
	terminal_resize(t, 4, 6);
	fz_footer_redraw(&t->footer);
	/* The line takes three rows; the cursor is in the input's fourth. */
	terminal_expect(
	    t, "\r\033[3A\033[J\r\033[3Aone\033[K\r\n\033[J<input>");
}

static void
test_hidden_input_is_drawn_by_the_next_change(void **state)
{
	struct terminal *t = *state;
	struct editor e;

	begin(t, &e);
	fz_footer_hide(&t->footer);
	terminal_expect(t, "\r\033[1A\033[J\r\033[1A\033[J");
	fz_footer_redraw(&t->footer);
	terminal_expect(t, SPACES "\rone\033[K\r\n\033[J<input>");
}

static void
test_lost_terminal_is_not_erased(void **state)
{
	struct terminal *t = *state;
	struct editor e;

	begin(t, &e);
	t->footer.lost = 1;
	fz_footer_redraw(&t->footer);
	terminal_expect(t, SPACES "\rone\033[K\r\n\033[J<input>");
}

static void
test_end_hides_the_lines_and_keeps_the_input(void **state)
{
	struct terminal *t = *state;
	struct editor e;

	begin(t, &e);
	fz_footer_end_input(&t->footer);
	terminal_expect(t, "\r\033[1A\033[J\r\033[1A\033[J<input>");
	fz_footer_redraw(&t->footer);
	terminal_expect(t, "");
	fz_footer_end_input(&t->footer);
	terminal_expect(t, "");
}

static void
test_failed_write_draws_the_input_nevertheless(void **state)
{
	struct terminal *t = *state;
	struct editor e;

	begin(t, &e);
	write_error = EIO;
	assert_int_equal(terminal_print(t, "text\n"), EIO);
	assert_int_equal(terminal_set(t, "1\n", 1), EIO);
	terminal_expect(t, "<input><input>");
	write_error = 0;
	assert_int_equal(terminal_set(t, "2\n", 1), 0);
	terminal_expect(t, "\r\033[1A\033[J\r\033[1A2\033[K\r\n\033[J<input>");
}

static void
test_without_memory_the_input_is_drawn(void **state)
{
	struct terminal *t = *state;
	struct editor e = { { row, draw, false }, t, 0 };

	no_memory = true;
	fz_footer_begin_input(&t->footer, &e.input);
	terminal_expect(t, "");
	assert_int_equal(terminal_print(t, "text\n"), ENOMEM);
	terminal_expect(t, "<input>");
	no_memory = false;
	assert_int_equal(terminal_print(t, "text\n"), 0);
	terminal_expect(t, "\r\033[Jtext\033[K\r\n\033[J<input>");
}

#define T(f) \
	cmocka_unit_test_setup_teardown(f, terminal_setup, terminal_teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_input_begins_in_a_row_of_its_own),
		T(test_output_is_above_lines_and_input),
		T(test_output_of_unknown_width_draws_all_again),
		T(test_output_within_a_line_ends_it),
		T(test_new_lines_move_the_input),
		T(test_narrower_terminal_has_more_rows_of_input),
		T(test_hidden_input_is_drawn_by_the_next_change),
		T(test_lost_terminal_is_not_erased),
		T(test_end_hides_the_lines_and_keeps_the_input),
		T(test_failed_write_draws_the_input_nevertheless),
		T(test_without_memory_the_input_is_drawn),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
