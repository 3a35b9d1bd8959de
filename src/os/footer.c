#include "os/footer.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "os/fd.h"

/*
 * Control sequences. If a sequence has a count, only its last letter is here.
 */
#define ERASE_ROW "\033[K" /* erases to the right of the cursor */
#define ERASE_BELOW "\033[J"
enum { UP = 'A', DOWN = 'B', INSERT_ROWS = 'L' };

static void
put(struct fz_footer *f, const char *text)
{
	fz_buf_put(&f->out, text, strlen(text));
}

/* Append a control sequence unless its count is 0. */
static void
put_count(struct fz_footer *f, int letter, unsigned count)
{
	char text[32];

	if (count == 0)
		return;
	snprintf(text, sizeof(text), "\033[%u%c", count, letter);
	put(f, text);
}

/* Write all bytes, even if a program has made the terminal nonblocking. */
static int
write_all(int fd, const unsigned char *bytes, size_t len)
{
	struct pollfd room = { .fd = fd, .events = POLLOUT };

	while (len > 0) {
		ssize_t put = fz_fd_write(fd, bytes, len);

		if (put == -1 && errno != EAGAIN)
			return errno;
		if (put == -1) {
			poll(&room, 1, -1);
			continue;
		}
		bytes += put;
		len -= (size_t)put;
	}
	return 0;
}

static void
draw_input(struct fz_footer *f)
{
	if (f->input == NULL)
		return;
	f->input->shown = true;
	f->input->draw(f->input);
}

static int
flush(struct fz_footer *f)
{
	int code = ENOMEM;

	if (!f->out.failed)
		code = write_all(f->fd, f->out.data, f->out.len);
	fz_buf_clear(&f->out);
	return code;
}

/* Write the bytes in `out`, then draw the input below the lines. */
static int
finish(struct fz_footer *f)
{
	int code = flush(f);

	draw_input(f);
	return code;
}

/* Erase the input: move to the row below the lines. */
static void
put_input_away(struct fz_footer *f, unsigned columns)
{
	struct fz_footer_input *input = f->input;

	if (input == NULL || !input->shown)
		return;
	input->shown = false;
	f->fresh = true;
	if (f->lost)
		return;
	put(f, "\r");
	put_count(f, UP, input->row(input, columns));
	put(f, ERASE_BELOW);
}

/*
 * Rows that the lines take now: a terminal that became narrower has wrapped
 * them.
 */
static unsigned
rows_shown(const struct fz_footer *f, unsigned columns)
{
	if (!f->shown)
		return 0;
	if (columns >= f->columns || f->widest <= columns)
		return f->nlines;
	return f->nlines * ((f->widest + columns - 1) / columns);
}

/* Move to the start of an empty row, whatever the cursor's column. */
static void
put_fresh_row(struct fz_footer *f, unsigned columns)
{
	if (f->fresh)
		return;
	/*
	 * `columns` spaces wrap into the next row, unless the cursor is at the
	 * start of a row.
	 */
	for (unsigned i = 0; i < columns; i++)
		put(f, " ");
	put(f, "\r");
}

/* Move to the first row of the lines, from below or from the end of output. */
static void
put_start(struct fz_footer *f, unsigned columns)
{
	if (f->lost) {
		f->lost = 0;
		f->shown = f->fresh = false;
	}
	if (f->shown) {
		put(f, "\r");
		put_count(f, UP, rows_shown(f, columns));
	}
}

static unsigned
columns_of(const struct fz_footer *f, unsigned *rows)
{
	struct fz_term_size size = { FZ_TERM_COLUMNS, FZ_TERM_ROWS };

	fz_term_get_size(f->fd, &size);
	if (rows != NULL)
		*rows = size.rows;
	return size.columns;
}

/*
 * Append text over rows that may have other text: erase the rest of each row.
 */
static void
put_over(struct fz_buf *out, const char *text, size_t len)
{
	const char *end, *newline;

	if (len == 0) /* `text` may be NULL */
		return;
	end = text + len;
	while ((newline = memchr(text, '\n', (size_t)(end - text))) != NULL) {
		fz_buf_put(out, text, (size_t)(newline - text));
		fz_buf_put(out, ERASE_ROW "\r\n", sizeof(ERASE_ROW "\r\n") - 1);
		text = newline + 1;
	}
	fz_buf_put(out, text, (size_t)(end - text));
}

static void
put_lines(struct fz_footer *f, unsigned columns)
{
	put_over(&f->out, (const char *)f->lines.data, f->lines.len);
	f->shown = f->nlines > 0;
	f->fresh = true;
	f->columns = columns;
	put(f, ERASE_BELOW);
}

void
fz_footer_init(struct fz_footer *f, int fd)
{
	*f = (struct fz_footer){ .fd = fd };
	fz_buf_init(&f->lines);
	fz_buf_init(&f->out);
}

void
fz_footer_fini(struct fz_footer *f)
{
	fz_buf_fini(&f->lines);
	fz_buf_fini(&f->out);
}

/* Whether the lines are on the terminal already. */
static bool
is_shown(
    const struct fz_footer *f, const char *text, size_t len, unsigned columns)
{
	return f->shown && !f->lost && f->columns == columns &&
	       f->lines.len == len && memcmp(f->lines.data, text, len) == 0;
}

int
fz_footer_set(struct fz_footer *f, const char *text, size_t len, unsigned n,
    unsigned widest)
{
	unsigned columns = columns_of(f, NULL);

	if (is_shown(f, text, len, columns))
		return 0;
	put_input_away(f, columns);
	put_start(f, columns);
	if (!f->shown && (n > 0 || f->input != NULL))
		put_fresh_row(f, columns);
	fz_buf_clear(&f->lines);
	fz_buf_put(&f->lines, text, len);
	f->nlines = f->lines.failed ? 0 : n;
	f->widest = widest;
	put_lines(f, columns);
	if (n == 0)
		f->fresh = false;
	return finish(f);
}

/* The position of the next character of a line on a terminal. */
struct position {
	unsigned row, column; /* both from 0 */
};

/*
 * Move the position past a character. False if its width depends on the
 * terminal.
 */
static bool
advance(struct position *at, char c, unsigned columns)
{
	if (c == '\t') {
		unsigned stop = (at->column | 7) + 1;

		at->column = stop < columns ? stop : columns - 1;
		return true;
	}
	if (at->column == columns) {
		at->row++;
		at->column = 0;
	}
	at->column++;
	return c >= ' ' && c <= '~';
}

/*
 * The number of bytes of the first whole lines of `text` that take at most
 * `room` rows; `*rows` is set to the number of these rows. Stops at the first
 * line that has anything but tabs and printable ASCII, because the number of
 * rows of such a line depends on the terminal.
 */
static size_t
plain_lines(const char *text, size_t len, unsigned columns, unsigned room,
    unsigned *rows)
{
	struct position at = { 0, 0 };
	size_t taken = 0;

	*rows = 0;
	for (size_t i = 0; i < len && at.row < room; i++) {
		if (text[i] != '\n' && !advance(&at, text[i], columns))
			break;
		if (text[i] != '\n')
			continue;
		at.row++;
		at.column = 0;
		taken = i + 1;
		*rows = at.row;
	}
	return taken;
}

/* Append text of `rows` rows above the lines, which move down as a whole. */
static void
put_between(struct fz_footer *f, const char *text, size_t len, unsigned rows)
{
	for (unsigned i = 0; i < rows; i++)
		/* the terminal scrolls if the lines are at its bottom */
		put(f, "\n");
	put(f, "\r");
	put_count(f, UP, rows + f->nlines);
	put_count(f, INSERT_ROWS, rows);
	put_over(&f->out, text, len);
	put_count(f, DOWN, f->nlines);
}

/* Overwrite the lines with the text, and append the lines below the text. */
static void
put_instead(struct fz_footer *f, const char *text, size_t len, unsigned columns)
{
	put_start(f, columns);
	put_over(&f->out, text, len);
	if (text[len - 1] == '\n') {
		put_lines(f, columns);
		return;
	}
	put(f, ERASE_BELOW);
	f->shown = f->fresh = false;
	if (f->input != NULL) {
		put(f, "\r\n");
		put_lines(f, columns);
	}
}

int
fz_footer_print(struct fz_footer *f, const char *text, size_t len)
{
	unsigned rows, screen, columns = columns_of(f, &screen);
	unsigned room = screen > f->nlines + 1 ? screen - f->nlines - 1 : 0;

	put_input_away(f, columns);
	while (len > 0 && f->shown && !f->lost && columns == f->columns) {
		size_t n = plain_lines(text, len, columns, room, &rows);

		if (n == 0)
			break;
		put_between(f, text, n, rows);
		text += n;
		len -= n;
	}
	if (len > 0)
		put_instead(f, text, len, columns);
	return finish(f);
}

/* Erase the lines and the input, and move to the row where the lines began. */
static void
put_all_away(struct fz_footer *f)
{
	unsigned columns = columns_of(f, NULL);

	put_input_away(f, columns);
	put_start(f, columns);
	if (f->shown)
		put(f, ERASE_BELOW);
	f->shown = false;
}

void
fz_footer_hide(struct fz_footer *f)
{
	put_all_away(f);
	f->fresh = false;
	flush(f);
}

/* Append the lines, in rows of their own. */
static void
put_below_output(struct fz_footer *f, unsigned columns)
{
	put_start(f, columns);
	if (!f->shown)
		put_fresh_row(f, columns);
	put_lines(f, columns);
}

void
fz_footer_begin_input(struct fz_footer *f, struct fz_footer_input *input)
{
	unsigned columns = columns_of(f, NULL);

	put_below_output(f, columns);
	flush(f);
	f->input = input;
	input->shown = true; /* the editor draws the input next */
}

void
fz_footer_redraw(struct fz_footer *f)
{
	unsigned columns = columns_of(f, NULL);

	if (f->input == NULL)
		return;
	put_input_away(f, columns);
	put_below_output(f, columns);
	finish(f);
}

void
fz_footer_end_input(struct fz_footer *f)
{
	if (f->input != NULL && (f->shown || !f->input->shown)) {
		put_all_away(f);
		finish(f);
	}
	f->input = NULL;
	f->fresh = true; /* the editor moves to the start of a row next */
}

void
fz_footer_in_child(struct fz_footer *f)
{
	if (!fz_footer_is_active(f)) /* avoid a write: it copies a page */
		return;
	f->input = NULL;
	f->nlines = 0;
	f->shown = false;
	fz_footer_fini(f);
}
