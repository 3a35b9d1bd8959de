/* cli/suspend.h - Ctrl-Z stops the workers together with the command. */
#ifndef FZ_SUSPEND_H
#define FZ_SUSPEND_H

/*
 * Make SIGTSTP stop this process, its workers and their descendants, and make
 * SIGCONT continue them. The time during which they are stopped does not count
 * for timeouts. Does nothing if SIGTSTP is ignored or has a handler.
 */
void fz_suspend_catch(void);

#endif
