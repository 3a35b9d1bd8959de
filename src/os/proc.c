/* Nearly all of this is Linux and GNU: prctl, wait4, sigabbrev_np, __fpurge. */
#define _GNU_SOURCE
#include "os/proc.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/single_threaded.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "os/cwd.h"
#include "os/fd.h"
#include "os/proctree.h"
#include "os/streams.h"

#define DEATH_SIGNAL (SIGRTMAX - 2)
/* What was killed is given this long to be gone. */
#define ORPHANS_NS FZ_CLOCK_SECOND
#define SHOW_PEAK_FROM (UINT64_C(64) << 20)

#ifdef FZ_COVERAGE
void __gcov_dump(void);
#endif
#ifdef FZ_VALGRIND
#include <valgrind/valgrind.h>
#endif

/*
 * The variable FZ_PROC_MARK itself, part of the environment of a process that
 * adopts orphans and of its children: a child writes its number over its
 * parent's. setenv() would cost it as much as the fork.
 */
static char own_mark[40];

/* The process is a subreaper while it has children that are not reaped. */
static bool adopts;
static size_t nunreaped;

/* For the signal handler: the process that forked us, 0 in one of our own. */
static pid_t parent_pid;

/* Reap children that were killed, as waitpid() has them, until none is left. */
static void
reap_killed(pid_t which)
{
	const struct timespec nap = { 0, 1000000 };
	int64_t deadline = fz_clock_ns() + ORPHANS_NS;
	pid_t got;

	while ((got = waitpid(which, NULL, WNOHANG)) != -1 || errno == EINTR) {
		if (got == 0 && nanosleep(&nap, NULL) == 0 &&
		    fz_clock_ns() > deadline)
			break;
	}
}

/* Dead ones count: there may be live ones beside them. */
static bool
has_children(void)
{
	siginfo_t info;

	return waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT | __WALL) ==
		   0 ||
	       errno != ECHILD;
}

/* All descendants, which would be our parent's zombies. Async-signal-safe. */
static void
end_children(void)
{
	if (!has_children())
		return;
	/* Looking for them takes two descriptors: there may be none left. */
	close(STDIN_FILENO);
	close(STDOUT_FILENO);
	fz_proctree_kill(getpid());
	reap_killed(-1);
}

/* Ends all descendants and the group, where we lead it, or else just us. */
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
 * Handles DEATH_SIGNAL, which the parent sends, and SIGCONT, which the kernel
 * sends when the parent dies. SIGCONT also discards a stop that is pending and
 * wakes a stopped process; no other signal does. The kernel sends it when just
 * the thread that forked us ends, too. It interrupts the user's code wherever
 * that is, in a loop or in system().
 */
static void
on_parent_death(int sig, siginfo_t *info, void *context)
{
	(void)sig;
	(void)context;
	if (getppid() != parent_pid ||
	    (info->si_code == SI_QUEUE && info->si_pid == parent_pid))
		end_all();
}

/*
 * A process that was stopped when its parent died is sent this by the kernel,
 * and woken, before it sees the other signal.
 */
static void
on_hangup(int sig)
{
	if (getppid() != parent_pid)
		end_all();
	signal(sig, SIG_DFL);
	raise(sig);
}

/*
 * Ends all descendants, then this process by the same signal. SIGPIPE is
 * handled because the pipes of a parent that is killed close before the kernel
 * reports its death: a child that writes just then must not leave its
 * descendants running.
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
	/* Refused for SIGKILL, SIGSTOP and libc's own: they are no matter. */
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

static int
tie_to_parent(pid_t parent, struct fz_err *err)
{
	parent_pid = parent;
	if (prctl(PR_SET_PDEATHSIG, SIGCONT) == -1)
		return fz_err_sys(err, errno, "cannot watch the parent");
	if (getppid() != parent) /* it died before we could ask */
		end_all();
	if (prctl(PR_SET_CHILD_SUBREAPER, 1) == -1)
		return fz_err_sys(err, errno, "cannot adopt orphans");
	if (setpgid(0, 0) == -1)
		return fz_err_sys(err, errno, "cannot lead a process group");
	return 0;
}

/* Make `fd` the descriptor `as`, open across exec. */
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
	/* Where our caller has standard ones closed, a pipe may be one. */
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

/* "FZLUA_WORKER=4711": what a worker starts inherits it. */
static void
format_mark(char *mark, size_t len, pid_t pid)
{
	snprintf(mark, len, FZ_PROC_MARK "=%ld", (long)pid);
}

/*
 * "fzlua/4711": whose child a worker is, for people, and for whoever adopts it
 * when its parent has died.
 */
static void
format_name(char *name, size_t len, pid_t parent)
{
	snprintf(name, len, "fzlua/%ld", (long)parent);
}

static int
set_up(const struct fz_proc_opts *opts, pid_t parent, struct fz_err *err)
{
	char name[32];

	format_name(name, sizeof(name), parent);
	prctl(PR_SET_NAME, name);
	fz_streams_in_child();
	if (own_mark[0] != '\0')
		format_mark(own_mark, sizeof(own_mark), getpid());
	if (default_signals(err) == -1 || tie_to_parent(parent, err) == -1)
		return -1;
	return redirect(opts, err);
}

/* The children that are not reaped, in the order of their forks. */
static struct child {
	pid_t pid;
	uint64_t number;
} * children;
static size_t nchildren, children_room;
static uint64_t nforks;
static uint64_t nuncounted; /* the last one that found no room there, 0: none */

static void
add_child(pid_t pid)
{
	nforks++;
	if (nchildren == children_room) {
		size_t room = 2 * children_room + 8;
		struct child *more = realloc(children, room * sizeof(*more));

		if (more == NULL) {
			nuncounted = nforks;
			return;
		}
		children = more;
		children_room = room;
	}
	children[nchildren++] = (struct child){ pid, nforks };
}

static void
drop_child(pid_t pid)
{
	size_t i = nchildren;

	while (i > 0 && children[i - 1].pid != pid)
		i--;
	if (i == 0)
		return;
	nchildren--;
	memmove(&children[i - 1], &children[i],
	    (nchildren - i + 1) * sizeof(*children));
}

static unsigned depth;
static struct fz_proc_hook *hooks;

unsigned
fz_proc_depth(void)
{
	return depth;
}

bool
fz_proc_is_child(void)
{
	return depth != 0;
}

uint64_t
fz_proc_forks(void)
{
	return nforks;
}

uint64_t
fz_proc_newest(void)
{
	uint64_t newest = nchildren != 0 ? children[nchildren - 1].number : 0;

	return newest > nuncounted ? newest : nuncounted;
}

/* How a child is forked. */
struct birth {
	pid_t parent;
	bool alone;     /* the thread that forks is the only one */
	int watched[2]; /* a pipe that ends once the pidfd is open, or -1 */
};

/*
 * Whether the kernel reaps children of this process at once, because a host
 * ignores SIGCHLD: only a pidfd that was opened before knows how they ended.
 */
static bool
reaps_itself(void)
{
	struct sigaction action;

	return sigaction(SIGCHLD, NULL, &action) == 0 &&
	       (action.sa_handler == SIG_IGN ||
		   (action.sa_flags & SA_NOCLDWAIT) != 0);
}

/* In the child: it may die once its parent could see how. */
static void
wait_until_watched(struct birth *birth)
{
	char byte;

	fz_fd_close(&birth->watched[1]);
	if (birth->watched[0] != -1)
		fz_fd_read(birth->watched[0], &byte, 1);
	fz_fd_close(&birth->watched[0]);
}

static void
watch_child(struct fz_proc *proc, pid_t pid)
{
	add_child(pid);
	nunreaped++;
	proc->pid = pid;
	proc->pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (proc->pidfd != -1 &&
	    (fz_fd_clear_standard(&proc->pidfd, NULL) != 0 ||
		fz_fd_make_private(proc->pidfd, NULL) != 0))
		fz_fd_close(&proc->pidfd);
}

/* A handler of exit(), called before those that the parent has registered. */
static void
leave_on_exit(int status, void *ctx)
{
	(void)ctx;
	fz_proc_exit(status);
}

/*
 * Have exit() leave the child as fz_proc_exit() does. Not in a fork of one
 * among several threads: another one may have held the lock of the handlers.
 */
static void
catch_exit(bool alone)
{
	static bool caught;

	if (!caught && alone)
		caught = on_exit(leave_on_exit, NULL) == 0;
}

/* Before a fork: adopt orphans from the first child on. */
static void
begin_adoption(void)
{
	if (adopts && nunreaped == 0)
		prctl(PR_SET_CHILD_SUBREAPER, 1L);
}

/* Stop adopting if no child is left. */
static void
end_adoption(void)
{
	if (adopts && nunreaped == 0)
		prctl(PR_SET_CHILD_SUBREAPER, 0L);
}

static _Noreturn void
run_child(struct birth *birth, const struct fz_proc_opts *opts,
    fz_proc_main entry, void *ctx)
{
	struct fz_err err = { 0 };
	int rc = set_up(opts, birth->parent, &err);
	sigset_t none;

	catch_exit(birth->alone);
	wait_until_watched(birth);
	depth++;
	fz_cwd_in_child();
	fz_clock_in_child();
	for (const struct fz_proc_hook *h = hooks; h != NULL; h = h->next) {
		if (h->born != NULL)
			h->born();
	}
	nchildren = 0; /* its parent's */
	nuncounted = 0;
	nunreaped = 0;
	adopts = false; /* a child is a subreaper for all its life */
#ifdef FZ_VALGRIND
	/* Looking for leaks it would touch every page of the arena. */
	VALGRIND_CLO_CHANGE("--leak-check=no");
#endif
	sigemptyset(&none);
	pthread_sigmask(SIG_SETMASK, &none, NULL);
	fz_proc_exit(entry(ctx, rc == 0 ? NULL : &err));
}

static void
call_forked(void)
{
	for (const struct fz_proc_hook *h = hooks; h != NULL; h = h->next) {
		if (h->forked != NULL)
			h->forked();
	}
}

void
fz_proc_hook(struct fz_proc_hook *hook)
{
	if (hook->hooked)
		return;
	hook->hooked = true;
	hook->next = hooks;
	hooks = hook;
}

int
fz_proc_fork(struct fz_proc *proc, const struct fz_proc_opts *opts,
    fz_proc_main entry, void *ctx, struct fz_err *err)
{
	struct birth birth = { .parent = getpid(),
		.alone = __libc_single_threaded,
		.watched = { -1, -1 } };
	sigset_t all, before;
	pid_t pid;
	int code;

	*proc = (struct fz_proc){ .pidfd = -1 };
	if (reaps_itself() && fz_fd_pipe(birth.watched, err) != 0)
		return -1;
	fz_streams_flush();
	begin_adoption();
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	pid = fork();
	code = errno;
	if (pid == 0)
		run_child(&birth, opts, entry, ctx);
	if (pid > 0) {
		/* Also done by the child: the first of both counts. */
		setpgid(pid, pid);
		call_forked();
	}
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (pid > 0)
		watch_child(proc, pid);
	else
		end_adoption();
	fz_fd_close(&birth.watched[0]);
	fz_fd_close(&birth.watched[1]);
	return pid > 0 ? 0 : fz_err_sys(err, code, "cannot start a process");
}

/* 1 it is dead and not yet reaped, 0 alive, -1 no child of ours. */
static int
is_dead(pid_t pid, int flags)
{
	siginfo_t info;
	int rc;

	do {
		info.si_pid = 0;
		rc = waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT | flags);
	} while (rc == -1 && errno == EINTR);
	if (rc == -1)
		return -1;
	return info.si_pid == pid;
}

/* Whether the child blocks DEATH_SIGNAL, so that asking it is in vain. */
static bool
blocks_death_signal(pid_t pid)
{
	char path[40], text[4096];
	const char *field;
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/proc/%ld/status", (long)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd == -1)
		return false;
	n = fz_fd_read(fd, text, sizeof(text) - 1);
	fz_fd_close(&fd);
	text[n > 0 ? n : 0] = '\0';
	field = strstr(text, "\nSigBlk:");
	if (field == NULL)
		return false;
	return strtoull(field + sizeof("\nSigBlk:") - 1, NULL, 16) >>
		   (DEATH_SIGNAL - 1) &
	       1;
}

bool
fz_proc_ask(struct fz_proc *proc)
{
	union sigval none = { 0 };

	if (proc->pid <= 0 || is_dead(proc->pid, WNOHANG) != 0 ||
	    blocks_death_signal(proc->pid) ||
	    sigqueue(proc->pid, DEATH_SIGNAL, none) == -1)
		return false;
	kill(proc->pid, SIGCONT); /* it may have been stopped */
	proc->force_ns = fz_clock_after(fz_clock_ns(), FZ_PROC_ASKED_NS);
	return true;
}

/* Whether the child, which was asked to, has ended itself in time. */
static bool
ends_itself(const struct fz_proc *proc)
{
	const struct timespec nap = { 0, 500000 };

	while (is_dead(proc->pid, WNOHANG) == 0) {
		if (fz_clock_ns() >= proc->force_ns)
			return false;
		nanosleep(&nap, NULL);
	}
	return true;
}

void
fz_proc_kill(struct fz_proc *proc)
{
	int dead = proc->pid > 0 ? is_dead(proc->pid, WNOHANG) : -1;
	bool asked;

	if (dead == -1)
		return;
	asked = proc->force_ns != 0 || fz_proc_ask(proc);
	if (dead == 0 && !(asked && ends_itself(proc))) {
		/* It stays their parent until they are gone. */
		kill(proc->pid, SIGSTOP);
		fz_proctree_kill(proc->pid);
	}
	kill(-proc->pid, SIGKILL);
	kill(proc->pid, SIGKILL);
}

void
fz_proc_terminate(const struct fz_proc *proc)
{
	/* A zombie of ours keeps its number: the signals reach no other. */
	if (proc->pid <= 0 || is_dead(proc->pid, WNOHANG) == -1)
		return;
	kill(proc->pid, SIGTERM);
	kill(proc->pid, SIGCONT);
}

/*
 * In a subreaper, as the command is, what a dead child had started is a child
 * of ours now: those in its group are dying, others have left it.
 */
static void
end_orphans(pid_t pid, bool died)
{
	int subreaper = 0;
	char mark[40], name[32];

	if (prctl(PR_GET_CHILD_SUBREAPER, &subreaper) == -1 || subreaper == 0)
		return;
	reap_killed(-pid);
	format_mark(mark, sizeof(mark), pid);
	format_name(name, sizeof(name), pid);
	if (died)
		fz_proctree_kill_orphans(mark, name);
}

static int64_t
cpu_ns(const struct rusage *usage)
{
	return (usage->ru_utime.tv_sec + usage->ru_stime.tv_sec) *
		   FZ_CLOCK_SECOND +
	       (usage->ru_utime.tv_usec + usage->ru_stime.tv_usec) * 1000;
}

/*
 * The limit of CPU time that may have ended a child, in seconds; 0: another
 * cause. The child has this process's limits, unless it has set its own. The
 * kernel sends SIGXCPU at the soft limit and SIGKILL at the hard one. It counts
 * whole ticks for them, which on a busy machine may be far more than the usage
 * that it reports.
 */
static uint64_t
cpu_limit_of(int sig, const struct rusage *usage)
{
	struct rlimit limit;
	rlim_t seconds;

	if ((sig != SIGXCPU && sig != SIGKILL) ||
	    getrlimit(RLIMIT_CPU, &limit) == -1)
		return 0;
	seconds = sig == SIGXCPU ? limit.rlim_cur : limit.rlim_max;
	if (seconds >= INT64_MAX / FZ_CLOCK_SECOND ||
	    (sig == SIGKILL &&
		cpu_ns(usage) < (int64_t)seconds * FZ_CLOCK_SECOND / 2))
		return 0;
	return seconds;
}

static void
note_death(struct fz_death *death, int status)
{
	death->signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
	death->exitcode = WIFSIGNALED(status) ? 0 : WEXITSTATUS(status);
}

static void
reap_dead(pid_t pid, struct fz_death *death)
{
	struct rusage usage = { 0 };
	int status;
	pid_t got;

	/* Its zombie keeps the group's number from being used again. */
	kill(-pid, SIGKILL);
	do
		got = wait4(pid, &status, WNOHANG, &usage);
	while (got == -1 && errno == EINTR);
	if (got != pid)
		return;
	note_death(death, status);
	death->peak_rss = (uint64_t)usage.ru_maxrss * 1024;
	death->cpu_limit = cpu_limit_of(death->signal, &usage);
	end_orphans(pid, status != 0);
}

/* As <linux/pidfd.h> of Linux 6.15 has it; older ones of the header do not. */
struct pidfd_exit {
	uint64_t mask, cgroup;
	uint32_t ids[11];
	int32_t status;
};
#define PIDFD_EXIT_MASK UINT64_C(8)
#define PIDFD_EXIT_GET _IOWR(0xff, 11, struct pidfd_exit)
#define PIDFD_GROUP 4U /* of Linux 6.9 */

/*
 * How a child ended that was reaped, but not by us; its group is killed. Does
 * nothing where it lives: then it is the child of another process.
 */
static void
ask_pidfd(const struct fz_proc *proc, struct fz_death *death)
{
	struct pidfd_exit info = { .mask = PIDFD_EXIT_MASK };

	if (proc->pidfd == -1 ||
	    ioctl(proc->pidfd, PIDFD_EXIT_GET, &info) == -1 ||
	    (info.mask & PIDFD_EXIT_MASK) == 0)
		return;
	syscall(SYS_pidfd_send_signal, proc->pidfd, SIGKILL, NULL, PIDFD_GROUP);
	note_death(death, info.status);
	end_orphans(proc->pid, info.status != 0);
}

int
fz_proc_reap(struct fz_proc *proc, bool wait, struct fz_death *death)
{
	int dead = proc->pid > 0 ? is_dead(proc->pid, wait ? 0 : WNOHANG) : -1;

	if (dead == 0)
		return 0;
	death->signal = 0;
	death->exitcode = -1;
	death->peak_rss = 0;
	death->cpu_limit = 0;
	if (dead == 1)
		reap_dead(proc->pid, death);
	else
		ask_pidfd(proc, death);
	drop_child(proc->pid);
	if (nunreaped > 0) /* else it is the parent's child */
		nunreaped--;
	end_adoption();
	proc->pid = 0;
	fz_fd_close(&proc->pidfd);
	return 1;
}

static void
describe_signal(const struct fz_death *death, char *text, size_t len)
{
	const char *name = sigabbrev_np(death->signal);
	char peak[64] = "";
	char known[32] = "";
	char cause[64] = "";

	if (name != NULL)
		snprintf(known, sizeof(known), " (SIG%s)", name);
	if (death->peak_rss >= UINT64_C(1000000000))
		snprintf(peak, sizeof(peak), "; peak memory %.1f GB",
		    (double)death->peak_rss / 1e9);
	else if (death->peak_rss >= SHOW_PEAK_FROM)
		snprintf(peak, sizeof(peak), "; peak memory %" PRIu64 " MB",
		    death->peak_rss / 1000000);
	if (death->cpu_limit != 0)
		snprintf(cause, sizeof(cause),
		    ", %sat its CPU time limit of %" PRIu64 " s",
		    death->signal == SIGKILL ? "perhaps " : "",
		    death->cpu_limit);
	else if (death->signal == SIGXCPU)
		snprintf(cause, sizeof(cause), ", at its CPU time limit");
	else if (death->signal == SIGKILL)
		snprintf(cause, sizeof(cause), ", perhaps out of memory");
	snprintf(text, len, "killed by signal %d%s%s%s", death->signal, known,
	    cause, peak);
}

const char *
fz_death_text(const struct fz_death *death, char *text, size_t len)
{
	if (death->signal != 0)
		describe_signal(death, text, len);
	else if (death->exitcode >= 0)
		snprintf(text, len, "exited with code %d", death->exitcode);
	else
		snprintf(text, len,
		    "ended, and something else in this program "
		    "took its exit status");
	return text;
}

_Noreturn void
fz_proc_exit(int status)
{
	/* A reader that is gone must not end us before our descendants. */
	signal(SIGPIPE, SIG_IGN);
	fflush(NULL);
	end_children();
#ifdef FZ_COVERAGE
	__gcov_dump();
#endif
	_exit(status);
}

void
fz_proc_adopt(void)
{
	adopts = true;
	format_mark(own_mark, sizeof(own_mark), 0);
	putenv(own_mark);
}

/* What RLIMIT_DATA counts, in bytes; 0 where /proc does not say. */
static uint64_t
private_memory(void)
{
	char text[4096];
	const char *field;
	int fd = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
	ssize_t n;

	if (fd == -1)
		return 0;
	n = fz_fd_read(fd, text, sizeof(text) - 1);
	fz_fd_close(&fd);
	if (n <= 0)
		return 0;
	text[n] = '\0';
	field = strstr(text, "\nVmData:");
	if (field == NULL)
		return 0;
	return strtoull(field + sizeof("\nVmData:") - 1, NULL, 10) * 1024;
}

int
fz_proc_limit_memory(uint64_t bytes, struct fz_err *err)
{
	struct rlimit limit;
	uint64_t now = private_memory();

	if (getrlimit(RLIMIT_DATA, &limit) == -1)
		return fz_err_sys(err, errno, "cannot read the memory limit");
	if (bytes != 0 && now == 0)
		return fz_err_sys(err, 0, "cannot see how much memory is used");
	if (bytes == 0 || bytes > limit.rlim_max ||
	    now > limit.rlim_max - bytes)
		limit.rlim_cur = limit.rlim_max;
	else
		limit.rlim_cur = now + bytes;
	if (setrlimit(RLIMIT_DATA, &limit) == -1)
		return fz_err_sys(err, errno, "cannot limit memory");
	return 0;
}
