/* for sigaction, a POSIX function that -std=c11 hides */
#define _GNU_SOURCE
#include "cli/suspend.h"

#include <errno.h>
#include <signal.h>
#include <string.h>

#include "base/clock.h"
#include "cli/edit_tty.h"
#include "cli/print.h"
#include "proc/proctree.h"

/*
 * Workers lead process groups of their own, so the terminal does not signal
 * them. The default action of SIGTSTP then stops this process: the shell sees
 * the stop. In an orphaned group, which no shell could continue, the kernel
 * ignores the signal.
 */
static void
on_suspend(int sig)
{
	int keep = errno;
	int64_t began_ns = fz_clock_ns();
	struct sigaction action, before;
	sigset_t set, mask;

	fz_proctree_signal_workers(SIGSTOP);
	fz_edit_tty_suspend();
	memset(&action, 0, sizeof(action));
	action.sa_handler = SIG_DFL;
	sigaction(sig, &action, &before);
	raise(sig);
	sigemptyset(&set);
	sigaddset(&set, sig);
	pthread_sigmask(SIG_UNBLOCK, &set, &mask); /* the process stops here */
	pthread_sigmask(SIG_SETMASK, &mask, NULL);
	sigaction(sig, &before, NULL);
	fz_clock_skip(fz_clock_ns() - began_ns);
	fz_print_lost();
	fz_edit_tty_resume();
	fz_proctree_signal_workers(SIGCONT);
	errno = keep;
}

void
fz_suspend_catch(void)
{
	struct sigaction action;

	if (sigaction(SIGTSTP, NULL, &action) != 0 ||
	    action.sa_handler != SIG_DFL)
		return;
	fz_clock_share();
	memset(&action, 0, sizeof(action));
	action.sa_handler = on_suspend;
	action.sa_flags = SA_RESTART;
	sigaction(SIGTSTP, &action, NULL);
}
