/* term.h - what a terminal can show. */
#ifndef FZ_TERM_H
#define FZ_TERM_H

#include <stdbool.h>

/* The size that is assumed for a terminal that does not know its own. */
enum { FZ_TERM_COLUMNS = 80, FZ_TERM_ROWS = 24 };

struct fz_term_size {
	unsigned columns, rows; /* each at least 1 */
};

/* The present size of the terminal `fd`. False if `fd` is no terminal. */
bool fz_term_get_size(int fd, struct fz_term_size *size);

/* Whether `fd` is a terminal on which the cursor can move. */
bool fz_term_has_cursor(int fd);

/* Whether both descriptors are the same terminal. */
bool fz_term_is_same(int fd, int other);

/*
 * Whether this process is in the background of the terminal `fd`, because the
 * shell or another program uses it.
 */
bool fz_term_is_background(int fd);

#endif
