/* edit_rows.h - where libedit puts the characters of a prompt and its input. */
#ifndef FZ_EDIT_ROWS_H
#define FZ_EDIT_ROWS_H

#include <stddef.h>
#include <wchar.h>

struct fz_edit_place {
	unsigned row, column; /* the first row and the first column are 0 */
};

/*
 * Move past the `n` characters of `text` on a terminal that is `columns` wide.
 * The widths of characters are those of the current locale.
 */
void fz_edit_advance(struct fz_edit_place *place, const wchar_t *text, size_t n,
    unsigned columns);

#endif
