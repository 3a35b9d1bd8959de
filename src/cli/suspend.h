/* cli/suspend.h - Ctrl-Z: the workers stop and go on with the command. */
#ifndef FZ_SUSPEND_H
#define FZ_SUSPEND_H

/*
 * From now on SIGTSTP stops this process and its workers, with all that they
 * have started, and SIGCONT continues them. The time between does not count
 * for any timeout. Does nothing if SIGTSTP is ignored or handled.
 */
void fz_suspend_catch(void);

#endif
