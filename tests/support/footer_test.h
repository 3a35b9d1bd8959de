/*
 * footer_test.h - a footer on a terminal of 10 columns and 6 rows, for tests
 * that wrap fz_fd_write, malloc, calloc and realloc.
 */
#ifndef FZ_FOOTER_TEST_H
#define FZ_FOOTER_TEST_H

#include <stddef.h>

#include "os/footer.h"

struct terminal {
	struct fz_footer footer;
	int master, slave;
};

extern int write_error;    /* errno of writes; EAGAIN: of the next write only */
extern size_t write_limit; /* maximum bytes of one write; 0: no limit */

int terminal_setup(void **state);
int terminal_teardown(void **state);

void terminal_resize(const struct terminal *t, unsigned columns, unsigned rows);

/* The terminal must have received these bytes since the last call. */
void terminal_expect(const struct terminal *t, const char *bytes);

/* fz_footer_set() with lines of at most 9 columns, and fz_footer_print(). */
int terminal_set(struct terminal *t, const char *text, unsigned n);
int terminal_print(struct terminal *t, const char *text);

#endif
