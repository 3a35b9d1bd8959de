/*
 * edit_tty.h - the terminal while input is edited, and the signals that concern
 * it.
 *
 * Only one input is edited at a time.
 */
#ifndef FZ_EDIT_TTY_H
#define FZ_EDIT_TTY_H

#include <stdbool.h>

/*
 * Called before the editor sets its modes. From now on the modes are restored
 * if a signal ends or stops this process, and the terminal marks pasted text.
 * Signal handlers write a byte to `wake_fd` if there is news.
 */
void fz_edit_tty_begin(int wake_fd);

/* Restore the modes. Does nothing if no input is edited. */
void fz_edit_tty_end(void);

/* The events since the last call. */
struct fz_edit_news {
	bool resized;
	bool lost; /* another program has used the terminal */
};
struct fz_edit_news fz_edit_tty_take_news(void);

/* Whether there is news. */
bool fz_edit_tty_has_news(void);

/* For the handler of SIGTSTP: before this process stops, and after it. */
void fz_edit_tty_suspend(void);
void fz_edit_tty_resume(void);

#endif
