/* for wcwidth, a POSIX function that -std=c11 hides */
#define _GNU_SOURCE
#include "cli/edit_rows.h"

#include <wctype.h>

static void
next_row(struct fz_edit_place *at)
{
	at->row++;
	at->column = 0;
}

/*
 * Move past a character that is `width` columns wide. A character never crosses
 * the end of a row.
 */
static void
advance(struct fz_edit_place *at, unsigned width, unsigned columns)
{
	if (at->column + width > columns)
		next_row(at);
	at->column += width;
	if (at->column >= columns)
		next_row(at);
}

static void
advance_to_tab_stop(struct fz_edit_place *at, unsigned columns)
{
	do
		advance(at, 1, columns);
	while (at->column % 8 != 0);
}

/* libedit shows a control character as ^X, others as \U+200b or \U+10ffff. */
static unsigned
visible_width(wchar_t c)
{
	if (c < 0x100 && iswcntrl((wint_t)c))
		return 2;
	return c > 0xffff ? 8 : 7;
}

static void
advance_over(struct fz_edit_place *at, wchar_t c, unsigned columns)
{
	int width = wcwidth(c);

	if (c == L'\n')
		next_row(at);
	else if (c == L'\t')
		advance_to_tab_stop(at, columns);
	else if (iswprint((wint_t)c))
		advance(at, width > 0 ? (unsigned)width : 0, columns);
	else
		for (unsigned n = visible_width(c); n > 0; n--)
			advance(at, 1, columns);
}

void
fz_edit_advance(struct fz_edit_place *place, const wchar_t *text, size_t n,
    unsigned columns)
{
	for (size_t i = 0; i < n; i++)
		advance_over(place, text[i], columns);
}
