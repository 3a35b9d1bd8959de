/*
 * footer.h - lines that stay at the bottom of a terminal while output scrolls
 * above them.
 *
 * The cursor is at the start of the row below the lines, and is never hidden.
 * So if the process is killed, the lines are whole and the shell continues
 * below them. Each change is one write.
 *
 * The user may edit input below the lines, which an editor draws. The footer
 * then erases the input before each change, and calls the editor after it to
 * draw the input again.
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

/* The input that the user edits; embedded in the editor. */
struct fz_footer_input {
	/* Row of the cursor; 0 is the first row of the input. */
	unsigned (*row)(struct fz_footer_input *input, unsigned columns);
	/* Draw all of the input. The cursor is at the start of an empty row. */
	void (*draw)(struct fz_footer_input *input);
	bool shown; /* the input is on the terminal, with the cursor in it */
};

struct fz_footer {
	int fd;          /* the terminal */
	unsigned nlines; /* number of lines; 0: there are none */
	bool shown;      /* the lines are on the terminal */
	bool fresh;      /* while hidden: the cursor is at the start of a row */
	unsigned widest; /* columns of the widest line */
	/* columns of the terminal when the lines were drawn */
	unsigned columns;
	struct fz_buf lines; /* the text of the lines, a newline after each */
	struct fz_buf out;   /* the bytes of the next write */
	/* the input below the lines; NULL: none */
	struct fz_footer_input *input;
	/* Set by signal handlers: another program has used the terminal. */
	volatile sig_atomic_t lost;
};

void fz_footer_init(struct fz_footer *footer, int fd);
void fz_footer_fini(struct fz_footer *footer);

/*
 * Replace the lines by the `n` lines of `text`. Each ends with a newline, and
 * is at most `widest` columns wide. `n` 0 ends the footer. 0, or the errno of
 * the write.
 */
int fz_footer_set(struct fz_footer *footer, const char *text, size_t len,
    unsigned n, unsigned widest);

/*
 * Write output above the lines. 0, or the errno of the write. If there is input
 * and the output ends within a line, a newline follows.
 */
int fz_footer_print(struct fz_footer *footer, const char *text, size_t len);

/*
 * Another program will write to the terminal: remove the lines until the next
 * fz_footer_set(), and the input until the next change or fz_footer_redraw().
 */
void fz_footer_hide(struct fz_footer *footer);

/*
 * Begin input. The cursor moves to a row without text, below the lines, where
 * the editor draws.
 */
void fz_footer_begin_input(
    struct fz_footer *footer, struct fz_footer_input *input);

/* Draw the input again, if there is some. */
void fz_footer_redraw(struct fz_footer *footer);

/*
 * End input: the editor will move the cursor below the input. The lines are
 * hidden, so that later output does not follow them.
 */
void fz_footer_end_input(struct fz_footer *footer);

/* Whether there are lines or input, over which no output may be written. */
static inline bool
fz_footer_is_active(const struct fz_footer *footer)
{
	return footer->nlines > 0 || footer->input != NULL;
}

/* In a forked child: forget the lines, which belong to the parent. */
void fz_footer_in_child(struct fz_footer *footer);

#endif
