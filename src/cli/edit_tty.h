/*
 * edit_tty.h - the state of the terminal while input is edited, and the signals
 * for the terminal.
 *
 * Only one input is edited at a time.
 */
#ifndef FZ_EDIT_TTY_H
#define FZ_EDIT_TTY_H

#include <stdbool.h>

/*
 * Called before the editor sets its modes. From now on the old modes are
 * restored if a signal ends or stops this process, and the terminal marks
 * pasted text. Signal handlers write a byte to `wake_fd` if there is news.
 */
void fz_edit_tty_begin(int wake_fd);

/* Restore the old modes of the terminal. Does nothing if no input is edited. */
void fz_edit_tty_end(void);

/* Events since the last call of the function that returns them. */
struct fz_edit_news {
	bool resized;
	bool lost; /* whether another program has used the terminal */
};
struct fz_edit_news fz_edit_tty_take_news(void);

/* Whether fz_edit_tty_take_news() would return an event. */
bool fz_edit_tty_has_news(void);

/* For the handler of SIGTSTP: before this process stops, and after it. */
void fz_edit_tty_suspend(void);
void fz_edit_tty_resume(void);

#endif
