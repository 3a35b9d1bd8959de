/*
 * footer.h - lines that stay at the bottom of a terminal while output scrolls
 * above them.
 *
 * The cursor is at the start of the row below the lines, and is never hidden.
 * So if the process is killed, the lines are whole and the shell continues
 * below them. Each change is one write.
 *
 *   hidden -> shown   fz_footer_set() with lines, and after output that ends
 *                     with a newline
 *   shown -> hidden   fz_footer_hide(), and output that ends within a line:
 *                     the rest of that line may follow
 */
#ifndef FZ_FOOTER_H
#define FZ_FOOTER_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "os/term.h"

struct fz_footer {
	int fd;          /* the terminal */
	unsigned nlines; /* 0: there is no footer, and nothing is drawn */
	bool shown;      /* the lines are on the terminal */
	bool fresh;      /* while hidden: the cursor is at the start of a row */
	unsigned widest; /* columns of the widest line */
	unsigned columns;    /* of the terminal when the lines were drawn */
	struct fz_buf lines; /* their text, a newline after each */
	struct fz_buf out;   /* bytes of the next write */
	/* Set by signal handlers: another program has used the terminal. */
	volatile sig_atomic_t lost;
};

void fz_footer_init(struct fz_footer *footer, int fd);
void fz_footer_fini(struct fz_footer *footer);

/*
 * Show the `n` lines of `text`, each with a newline, instead of the present
 * ones. None is wider than `widest` columns. With 0 lines the footer ends. 0,
 * or the errno of the write.
 */
int fz_footer_set(struct fz_footer *footer, const char *text, size_t len,
    unsigned n, unsigned widest);

/* Write output above the lines. 0, or the errno of the write. */
int fz_footer_print(struct fz_footer *footer, const char *text, size_t len);

/*
 * Remove the lines until the next fz_footer_set(), because another program
 * will write to the terminal.
 */
void fz_footer_hide(struct fz_footer *footer);

/* In a forked child: the lines are the parent's. */
void fz_footer_in_child(struct fz_footer *footer);

#endif
