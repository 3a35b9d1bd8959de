/* prctl, wait4 and pidfds are extensions of Linux and GNU. */
#define _GNU_SOURCE
#include "proc/proc.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
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
#include "os/fd.h"
#include "os/process.h"
#include "os/stdio.h"
#include "os/usage.h"
#include "proc/children.h"
#include "proc/death.h"
#include "proc/proc_state.h"
#include "proc/proctree.h"

/*
 * Whether this process ignores SIGCHLD, as a host may do. The kernel then reaps
 * children at once, and only a pidfd that was opened before a child's death can
 * tell how the child ended.
 */
static bool
reaps_itself(void)
{
	struct sigaction action;

	return sigaction(SIGCHLD, NULL, &action) == 0 &&
	       (action.sa_handler == SIG_IGN ||
		   (action.sa_flags & SA_NOCLDWAIT) != 0);
}

static void
open_pidfd(struct fz_proc *proc)
{
	proc->pidfd = (int)syscall(SYS_pidfd_open, proc->pid, 0);
	if (proc->pidfd != -1 &&
	    (fz_fd_clear_standard(&proc->pidfd, NULL) != 0 ||
		fz_fd_make_private(proc->pidfd, NULL) != 0))
		fz_fd_close(&proc->pidfd);
}

void
fz_proc_watch(struct fz_proc *proc, pid_t pid, struct fz_children *children)
{
	proc->pid = pid;
	open_pidfd(proc);
	proc->children = children;
	fz_proc_forget_late(pid);
}

void
fz_proc_begin_adoption(void)
{
	fz_process_lock();
	if (fz_process.nunreaped++ == 0 && fz_process.adopts)
		prctl(PR_SET_CHILD_SUBREAPER, 1L);
	fz_process_unlock();
}

void
fz_proc_end_adoption(void)
{
	fz_process_lock();
	/* the count is 0 if a forked process drops a child of its parent */
	if (fz_process.nunreaped > 0)
		fz_process.nunreaped--;
	if (fz_process.nunreaped == 0 && fz_process.adopts)
		prctl(PR_SET_CHILD_SUBREAPER, 0L);
	fz_process_unlock();
}

void
fz_proc_forget_children(void)
{
	fz_process.nunreaped = 0;  /* it counted the parent's children */
	fz_process.adopts = false; /* a child stays a subreaper until it ends */
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
	fz_stdio_flush();
	if (opts->children != NULL)
		fz_children_forking(opts->children);
	fz_proc_begin_adoption();
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	fz_process_begin_fork();
	pid = fork();
	code = errno;
	fz_process_end_fork();
	/*
	 * The child itself leaves this process's group, after it has set its
	 * name. If this process is killed before that, the process that adopts
	 * the child finds it by the group; after that, by its name.
	 */
	if (pid == 0)
		fz_proc_run_child(&birth, opts, entry, ctx);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (pid > 0)
		fz_proc_watch(proc, pid, opts->children);
	else
		fz_proc_end_adoption();
	if (opts->children != NULL && pid > 0)
		fz_children_add(opts->children, pid);
	if (opts->children != NULL)
		fz_children_resumed(opts->children);
	fz_fd_close(&birth.watched[0]);
	fz_fd_close(&birth.watched[1]);
	return pid > 0 ? 0 : fz_err_sys(err, code, "cannot start a process");
}

/* 1: dead and not reaped; 0: alive; -1: not a child of this process. */
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

/* Whether the child blocks DEATH_SIGNAL, and would therefore not handle it. */
static bool
blocks_death_signal(pid_t pid)
{
	char path[40];
	uint64_t blocked;

	snprintf(path, sizeof(path), "/proc/%ld/status", (long)pid);
	blocked = fz_fd_read_number(path, "SigBlk:", 16);
	return blocked != UINT64_MAX && (blocked >> (DEATH_SIGNAL - 1) & 1);
}

bool
fz_proc_ask(struct fz_proc *proc)
{
	union sigval none = { 0 };

	if (proc->pid <= 0 || is_dead(proc->pid, WNOHANG) != 0 ||
	    blocks_death_signal(proc->pid) ||
	    sigqueue(proc->pid, DEATH_SIGNAL, none) == -1)
		return false;
	kill(proc->pid, SIGCONT); /* a stopped child handles no other signal */
	proc->force_ns = fz_clock_after(fz_clock_ns(), FZ_PROC_ASKED_NS);
	return true;
}

/*
 * Wait for the death of a child that was asked to end itself. Returns false if
 * the child is still alive at `force_ns`.
 */
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

/*
 * Whether the child's name shows that tie_to_parent() has run in it. The child
 * then adopts its descendants, and ends when this process dies, even if the
 * child is stopped. Without that name the child has no descendants yet, or it
 * has executed another program.
 */
static bool
is_tied(pid_t pid)
{
	char path[40], expected[32], name[17];
	size_t len;

	snprintf(path, sizeof(path), "/proc/%ld/comm", (long)pid);
	fz_proc_format_name(expected, sizeof(expected), getpid());
	len = strlen(expected);
	return fz_fd_read_file(path, name, sizeof(name)) &&
	       strncmp(name, expected, len) == 0 && name[len] == '\n';
}

void
fz_proc_kill(struct fz_proc *proc)
{
	int dead = proc->pid > 0 ? is_dead(proc->pid, WNOHANG) : -1;
	bool asked;

	if (dead == -1)
		return;
	asked = proc->force_ns != 0 || fz_proc_ask(proc);
	if (dead == 0 && !(asked && ends_itself(proc)) && is_tied(proc->pid)) {
		/*
		 * The child is stopped before the search, because it must stay
		 * the parent of its descendants until all are dead.
		 */
		kill(proc->pid, SIGSTOP);
		fz_proctree_kill(proc->pid);
	}
	kill(-proc->pid, SIGKILL);
	kill(proc->pid, SIGKILL);
}

void
fz_proc_terminate(const struct fz_proc *proc)
{
	/*
	 * The child keeps its pid until it is reaped, so the signals cannot
	 * reach another process.
	 */
	if (proc->pid <= 0 || is_dead(proc->pid, WNOHANG) == -1)
		return;
	kill(proc->pid, SIGTERM);
	kill(proc->pid, SIGCONT);
}

static int64_t
cpu_ns(const struct rusage *usage)
{
	return (usage->ru_utime.tv_sec + usage->ru_stime.tv_sec) *
		   FZ_CLOCK_SECOND +
	       (usage->ru_utime.tv_usec + usage->ru_stime.tv_usec) * 1000;
}

/*
 * The limit of CPU time in seconds that may have ended a child, or 0. The child
 * usually has this process's limits. The kernel sends SIGXCPU at the soft
 * limit, SIGKILL at the hard one. It counts whole ticks, which on a busy
 * machine may be far more than the reported usage, so half of the limit
 * suffices.
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

	/* before the child is reaped: its number may be used again then */
	kill(-pid, SIGKILL);
	do
		got = wait4(pid, &status, WNOHANG, &usage);
	while (got == -1 && errno == EINTR);
	if (got != pid)
		return;
	note_death(death, status);
	death->peak_rss = (uint64_t)usage.ru_maxrss * 1024;
	death->cpu_ns = fz_usage_cpu_ns(&usage);
	death->cpu_limit = cpu_limit_of(death->signal, &usage);
	fz_proc_end_orphans(pid, status != 0);
}

/* The struct of <linux/pidfd.h> since Linux 6.15. Older headers lack it. */
struct pidfd_exit {
	uint64_t mask, cgroup;
	uint32_t ids[11];
	int32_t status;
};
#define PIDFD_EXIT_MASK UINT64_C(8)
#define PIDFD_EXIT_GET _IOWR(0xff, 11, struct pidfd_exit)
#define PIDFD_GROUP 4U /* signal the whole process group; since Linux 6.9 */

static bool
has_exited(int pidfd)
{
	struct pollfd pfd = { .fd = pidfd, .events = POLLIN };

	return poll(&pfd, 1, 0) == 1;
}

/*
 * Get the exit status of a process from its pidfd. The kernel may provide it
 * only a moment after waitid() has failed with ECHILD, so wait. Returns false
 * if the process is alive, or if the kernel is too old.
 */
static bool
ask_exit(int pidfd, int *status)
{
	const struct timespec nap = { 0, 100000 };
	int64_t until_ns = fz_clock_after(fz_clock_ns(), FZ_CLOCK_SECOND);
	struct pidfd_exit info = { .mask = PIDFD_EXIT_MASK };

	while (ioctl(pidfd, PIDFD_EXIT_GET, &info) == 0) {
		*status = info.status;
		if ((info.mask & PIDFD_EXIT_MASK) != 0)
			return true;
		if (!has_exited(pidfd) || fz_clock_ns() >= until_ns)
			return false;
		nanosleep(&nap, NULL);
		info = (struct pidfd_exit){ .mask = PIDFD_EXIT_MASK };
	}
	return false;
}

/*
 * For a child that waitpid() does not know: get the exit status from its pidfd,
 * and kill its group. Does nothing if the child is alive, because this process
 * is then a fork of the child's parent.
 */
static void
ask_pidfd(const struct fz_proc *proc, struct fz_death *death)
{
	int status;

	if (proc->pidfd == -1 || !ask_exit(proc->pidfd, &status))
		return;
	syscall(SYS_pidfd_send_signal, proc->pidfd, SIGKILL, NULL, PIDFD_GROUP);
	note_death(death, status);
	fz_proc_end_orphans(proc->pid, status != 0);
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
	death->cpu_ns = 0;
	death->cpu_limit = 0;
	if (dead == 1)
		reap_dead(proc->pid, death);
	else
		ask_pidfd(proc, death);
	if (proc->children != NULL)
		fz_children_drop(proc->children, proc->pid);
	fz_proc_end_adoption();
	proc->pid = 0;
	fz_fd_close(&proc->pidfd);
	return 1;
}

void
fz_proc_adopt(void)
{
	fz_process.adopts = true;
	fz_proc_export_mark();
}

/* Number of bytes that count for RLIMIT_DATA; 0 if /proc does not say. */
static uint64_t
private_memory(void)
{
	uint64_t kib = fz_fd_read_number("/proc/self/status", "VmData:", 10);

	return kib != UINT64_MAX ? kib * 1024 : 0;
}

int
fz_proc_limit_memory(uint64_t bytes, struct fz_err *err)
{
	struct rlimit limit;
	uint64_t now = private_memory();

	if (getrlimit(RLIMIT_DATA, &limit) == -1)
		return fz_err_sys(err, errno, "cannot read the memory limit");
	if (bytes != 0 && now == 0)
		return fz_err_sys(err, 0, "cannot read the memory usage");
	if (bytes == 0 || bytes > limit.rlim_max ||
	    now > limit.rlim_max - bytes)
		limit.rlim_cur = limit.rlim_max;
	else
		limit.rlim_cur = now + bytes;
	if (setrlimit(RLIMIT_DATA, &limit) == -1)
		return fz_err_sys(err, errno, "cannot limit memory");
	return 0;
}
