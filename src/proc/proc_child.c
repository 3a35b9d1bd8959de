/* sigaction, setpgid, on_exit and sigset_t are POSIX, Linux and GNU. */
#define _GNU_SOURCE
#include "proc/proc.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "os/cwd.h"
#include "os/fd.h"
#include "os/process.h"
#include "os/stdio.h"
#include "proc/children.h"
#include "proc/proc_state.h"
#include "proc/proctree.h"

/* Maximum time to wait for the deaths of killed descendants. */
#define ORPHANS_NS FZ_CLOCK_SECOND

#ifdef FZ_COVERAGE
void __gcov_dump(void);
#endif
#if __has_include(<valgrind/valgrind.h>)
#include <valgrind/valgrind.h>
#endif

bool
fz_proc_reap_killed(pid_t which, int64_t ns)
{
	const struct timespec nap = { 0, FZ_CLOCK_MS };
	int64_t deadline = fz_clock_ns() + ns;
	pid_t got;

	while ((got = waitpid(which, NULL, WNOHANG)) != -1 || errno == EINTR) {
		if (got == 0 && nanosleep(&nap, NULL) == 0 &&
		    fz_clock_ns() > deadline)
			return false;
	}
	return true;
}

/*
 * Whether this process has children. Dead children count, too, because waitid()
 * does not show whether others are alive.
 */
static bool
has_children(void)
{
	siginfo_t info;

	return waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT | __WALL) ==
		   0 ||
	       errno != ECHILD;
}

/*
 * End all descendants, which would otherwise become children of this process's
 * parent. Async-signal-safe.
 */
static void
end_children(void)
{
	if (!has_children())
		return;
	/* The search needs two descriptors, but all numbers may be in use. */
	close(STDIN_FILENO);
	close(STDOUT_FILENO);
	fz_proctree_kill(getpid());
	fz_proc_reap_killed(-1, ORPHANS_NS);
}

/* End all descendants, the group if this process leads it, and this process. */
static _Noreturn void
end_all(void)
{
	end_children();
	if (getpgrp() == getpid())
		kill(0, SIGKILL);
	kill(getpid(), SIGKILL);
	_exit(128 + SIGKILL);
}

/*
 * Handler of DEATH_SIGNAL, which the parent sends, and of SIGCONT, which the
 * kernel sends when the parent dies. Only SIGCONT wakes a stopped process and
 * discards a pending stop. The kernel also sends it if only the thread of the
 * parent ends that forked this process, so the handler checks whether the
 * parent has changed. The handler may interrupt the user's code anywhere, for
 * example in a loop or in system().
 */
static void
on_parent_death(int sig, siginfo_t *info, void *context)
{
	(void)sig;
	(void)context;
	if (getppid() != fz_process.parent ||
	    (info->si_code == SI_QUEUE && info->si_pid == fz_process.parent))
		end_all();
}

/*
 * If the parent dies while this process is stopped, the kernel sends SIGHUP
 * before SIGCONT, and wakes this process.
 */
static void
on_hangup(int sig)
{
	if (getppid() != fz_process.parent)
		end_all();
	signal(sig, SIG_DFL);
	raise(sig);
}

/*
 * End all descendants, then this process by the same signal. SIGPIPE is
 * handled, too, because the pipes of a killed parent close before the kernel
 * reports its death: a child that writes just then must still end its
 * descendants.
 */
static void
on_terminate(int sig)
{
	end_children();
	signal(sig, SIG_DFL);
	raise(sig);
}

const int fz_proc_ignored[FZ_PROC_NIGNORED] = { SIGINT, SIGTTIN, SIGTTOU };

static int
default_signals(struct fz_err *err)
{
	struct sigaction action;
	int sig;

	memset(&action, 0, sizeof(action));
	action.sa_handler = SIG_DFL;
	/*
	 * Ignore that the calls fail for SIGKILL, SIGSTOP and libc's own
	 * signals.
	 */
	for (sig = 1; sig <= SIGRTMAX; sig++)
		sigaction(sig, &action, NULL);
	action.sa_handler = SIG_IGN;
	for (size_t i = 0; i < FZ_PROC_NIGNORED; i++)
		sigaction(fz_proc_ignored[i], &action, NULL);
	sigfillset(&action.sa_mask);
	action.sa_handler = on_hangup;
	sigaction(SIGHUP, &action, NULL);
	action.sa_handler = on_terminate;
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGPIPE, &action, NULL);
	action.sa_sigaction = on_parent_death;
	action.sa_flags = SA_RESTART | SA_SIGINFO;
	if (sigaction(SIGCONT, &action, NULL) == -1 ||
	    sigaction(DEATH_SIGNAL, &action, NULL) == -1)
		return fz_err_sys(err, errno, "cannot handle a signal");
	return 0;
}

/*
 * Make this process end when its parent dies, and give it a name that shows
 * this: see is_tied(). If the parent dies early, another process adopts this
 * one, and searches for it by that name, or in the parent's group. Therefore
 * this process sets its name before it leaves that group.
 */
static int
tie_to_parent(pid_t parent, struct fz_err *err)
{
	char name[32];

	fz_process.parent = parent;
	if (prctl(PR_SET_PDEATHSIG, SIGCONT) == -1)
		return fz_err_sys(err, errno, "cannot watch the parent");
	if (getppid() != parent) /* the parent died before prctl() */
		end_all();
	fz_proc_format_name(name, sizeof(name), parent);
	prctl(PR_SET_NAME, name);
	if (prctl(PR_SET_CHILD_SUBREAPER, 1) == -1)
		return fz_err_sys(err, errno, "cannot adopt orphans");
	if (setpgid(0, 0) == -1)
		return fz_err_sys(err, errno, "cannot lead a process group");
	return 0;
}

/* Make `fd` available as descriptor `as`, which stays open across exec. */
static int
take_as(int fd, int as, struct fz_err *err)
{
	if (fd == as ? fcntl(fd, F_SETFD, 0) == -1 : dup2(fd, as) == -1)
		return fz_err_sys(
		    err, errno, "cannot redirect descriptor %d", as);
	return 0;
}

static int
redirect(const struct fz_proc_opts *opts, struct fz_err *err)
{
	int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
	int out = opts->out, errors = opts->err;

	if (null == -1)
		return fz_err_sys(err, errno, "cannot open /dev/null");
	/*
	 * If the caller has no standard descriptors, a pipe may have got one of
	 * their numbers; move the pipe first.
	 */
	if (errors >= 0 && errors < STDERR_FILENO &&
	    (errors = fcntl(errors, F_DUPFD_CLOEXEC, 3)) == -1)
		return fz_err_sys(err, errno, "cannot move a descriptor");
	if (out == STDIN_FILENO && (out = fcntl(out, F_DUPFD_CLOEXEC, 3)) == -1)
		return fz_err_sys(err, errno, "cannot move a descriptor");
	if (take_as(null, STDIN_FILENO, err) == -1 ||
	    (out != -1 && take_as(out, STDOUT_FILENO, err) == -1) ||
	    (errors != -1 && take_as(errors, STDERR_FILENO, err) == -1))
		return -1;
	if (null > STDERR_FILENO)
		close(null);
	return 0;
}

/* Write "FZLUA_WORKER=4711", which programs that a worker starts inherit. */
void
fz_proc_format_mark(char *mark, size_t len, pid_t pid)
{
	snprintf(mark, len, FZ_PROC_MARK "=%ld", (long)pid);
}

/*
 * The name of a worker, "fzlua/4711", shows its parent to users. If the parent
 * dies, the process that adopts the worker finds it by this name.
 */
void
fz_proc_format_name(char *name, size_t len, pid_t parent)
{
	snprintf(name, len, FZ_PROCTREE_WORKER "%ld", (long)parent);
}

/*
 * The environment refers to the array fz_process.mark itself. A child can
 * therefore overwrite its parent's number there; setenv() would take as long as
 * the fork.
 */
void
fz_proc_export_mark(void)
{
	fz_proc_format_mark(fz_process.mark, sizeof(fz_process.mark), 0);
	putenv(fz_process.mark);
}

static int
set_up(const struct fz_proc_opts *opts, pid_t parent, struct fz_err *err)
{
	/*
	 * Handlers first: if the parent died before, SIG_DFL discards the
	 * kernel's SIGCONT, and tie_to_parent() notices the death.
	 */
	int rc = default_signals(err);

	if (tie_to_parent(parent, err) == -1)
		rc = -1;
	fz_stdio_in_child();
	if (fz_process.mark[0] != '\0')
		fz_proc_format_mark(
		    fz_process.mark, sizeof(fz_process.mark), getpid());
	return rc == 0 ? redirect(opts, err) : -1;
}

bool
fz_proc_is_child(void)
{
	return fz_process.depth != 0;
}

/* Wait until the parent has opened a pidfd of this child. */
static void
wait_until_watched(struct birth *birth)
{
	char byte;

	fz_fd_close(&birth->watched[1]);
	if (birth->watched[0] != -1)
		fz_fd_read(birth->watched[0], &byte, 1);
	fz_fd_close(&birth->watched[0]);
}

/* A handler of exit(), which runs before those of the parent. */
static void
leave_on_exit(int status, void *ctx)
{
	(void)ctx;
	fz_proc_exit(status);
}

/*
 * Make exit() leave the child as fz_proc_exit() does. Does nothing if the
 * parent has other threads: one of them may have held the lock of the exit
 * handlers at the fork, and on_exit() would wait forever.
 */
static void
catch_exit(bool alone)
{
	if (!fz_process.catches_exit && alone)
		fz_process.catches_exit = on_exit(leave_on_exit, NULL) == 0;
}

_Noreturn void
fz_proc_run_child(struct birth *birth, const struct fz_proc_opts *opts,
    fz_proc_main entry, void *ctx)
{
	struct fz_err err = { 0 };
	int rc = set_up(opts, birth->parent, &err);
	sigset_t none;

	catch_exit(birth->alone);
	wait_until_watched(birth);
	fz_process.depth++;
	fz_cwd_in_child();
	fz_clock_in_child();
	if (opts->children != NULL)
		fz_children_in_child(opts->children);
	fz_proc_forget_children();
#ifdef VALGRIND_CLO_CHANGE
	/*
	 * A host may run under valgrind. Its search for leaks at the end of the
	 * child would touch every page of the heap and of the arena.
	 */
	VALGRIND_CLO_CHANGE("--leak-check=no");
#endif
	sigemptyset(&none);
	pthread_sigmask(SIG_SETMASK, &none, NULL);
	fz_proc_exit(entry(ctx, rc == 0 ? NULL : &err));
}

int
fz_proc_enter(pid_t parent, int *keep, size_t nkeep, struct fz_err *err)
{
	const struct fz_proc_opts opts = { .out = -1, .err = -1 };
	sigset_t none;

	fz_fd_close_others(keep, nkeep);
	fz_proc_export_mark();
	if (set_up(&opts, parent, err) == -1)
		return -1;
	catch_exit(true);
	fz_process.depth++;
	sigemptyset(&none);
	pthread_sigmask(SIG_SETMASK, &none, NULL);
	return 0;
}

_Noreturn void
fz_proc_exit(int status)
{
	/* SIGPIPE must not end this process before its descendants */
	signal(SIGPIPE, SIG_IGN);
	fflush(NULL);
	end_children();
#ifdef FZ_COVERAGE
	__gcov_dump();
#endif
	_exit(status);
}
