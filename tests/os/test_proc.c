/*
 * Children: how they start, are ended and die; system calls fail on demand.
 * wrap: fork open openat read prctl setpgid sigaction dup2 fcntl waitid wait4
 * wrap: getrlimit setrlimit getdents64 readlink
 */
/* prctl, pipe2 and __fpurge are not in C11. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <fcntl.h>
#include <netdb.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "os/death.h"
#include "os/fd.h"
#include "os/proc.h"

#if defined(__SANITIZE_ADDRESS__)
#define UNDER_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define UNDER_ASAN 1
#endif
#endif
#ifndef UNDER_ASAN
#define UNDER_ASAN 0
#endif

pid_t __real_fork(void);
pid_t __wrap_fork(void);
int __real_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...);
int __real_openat(int dir, const char *path, int flags, ...);
int __wrap_openat(int dir, const char *path, int flags, ...);
ssize_t __real_read(int fd, void *bytes, size_t n);
ssize_t __wrap_read(int fd, void *bytes, size_t n);
int __real_prctl(int what, unsigned long arg);
int __wrap_prctl(int what, unsigned long arg);
int __real_setpgid(pid_t pid, pid_t group);
int __wrap_setpgid(pid_t pid, pid_t group);
int __real_sigaction(
    int sig, const struct sigaction *action, struct sigaction *before);
int __wrap_sigaction(
    int sig, const struct sigaction *action, struct sigaction *before);
int __real_dup2(int from, int to);
int __wrap_dup2(int from, int to);
int __real_fcntl(int fd, int cmd, ...);
int __wrap_fcntl(int fd, int cmd, ...);
int __real_waitid(idtype_t type, id_t id, siginfo_t *info, int options);
int __wrap_waitid(idtype_t type, id_t id, siginfo_t *info, int options);
pid_t __real_wait4(pid_t pid, int *status, int flags, struct rusage *usage);
pid_t __wrap_wait4(pid_t pid, int *status, int flags, struct rusage *usage);
int __real_getrlimit(int what, struct rlimit *limit);
int __wrap_getrlimit(int what, struct rlimit *limit);
int __real_setrlimit(int what, const struct rlimit *limit);
int __wrap_setrlimit(int what, const struct rlimit *limit);
ssize_t __real_getdents64(int fd, void *block, size_t n);
ssize_t __wrap_getdents64(int fd, void *block, size_t n);
ssize_t __real_readlink(const char *path, char *text, size_t n);
ssize_t __wrap_readlink(const char *path, char *text, size_t n);

enum call {
	NONE,
	FORK,
	OPEN_NULL,
	OPEN_PROC,
	OPENAT,
	READ,
	PDEATHSIG,
	SUBREAPER,
	SETPGID,
	SIGACTION,
	DUP2,
	FCNTL,
	GETRLIMIT,
	SETRLIMIT,
	GETDENTS,
	READLINK,
};

static enum call failing;
static int interruptions; /* EINTR so many times, of waitid and wait4 */

static bool
fails(enum call call)
{
	if (failing != call)
		return false;
	errno = EPERM;
	return true;
}

static bool
interrupted(void)
{
	if (interruptions == 0)
		return false;
	interruptions--;
	errno = EINTR;
	return true;
}

pid_t
__wrap_fork(void)
{
	return fails(FORK) ? -1 : __real_fork();
}

int
__wrap_open(const char *path, int flags, ...)
{
	bool null = strcmp(path, "/dev/null") == 0;

	return fails(null ? OPEN_NULL : OPEN_PROC) ? -1
						   : __real_open(path, flags);
}

int
__wrap_openat(int dir, const char *path, int flags, ...)
{
	return fails(OPENAT) ? -1 : __real_openat(dir, path, flags);
}

ssize_t
__wrap_read(int fd, void *bytes, size_t n)
{
	return fails(READ) ? -1 : __real_read(fd, bytes, n);
}

int
__wrap_prctl(int what, unsigned long arg)
{
	if (fails(what == PR_SET_PDEATHSIG ? PDEATHSIG : SUBREAPER))
		return -1;
	return __real_prctl(what, arg);
}

int
__wrap_setpgid(pid_t pid, pid_t group)
{
	return fails(SETPGID) ? -1 : __real_setpgid(pid, group);
}

int
__wrap_sigaction(
    int sig, const struct sigaction *action, struct sigaction *before)
{
	return fails(SIGACTION) ? -1 : __real_sigaction(sig, action, before);
}

int
__wrap_dup2(int from, int to)
{
	return fails(DUP2) ? -1 : __real_dup2(from, to);
}

int
__wrap_fcntl(int fd, int cmd, ...)
{
	va_list ap;
	int arg;

	va_start(ap, cmd);
	arg = va_arg(ap, int);
	va_end(ap);
	return fails(FCNTL) ? -1 : __real_fcntl(fd, cmd, arg);
}

int
__wrap_waitid(idtype_t type, id_t id, siginfo_t *info, int options)
{
	return interrupted() ? -1 : __real_waitid(type, id, info, options);
}

pid_t
__wrap_wait4(pid_t pid, int *status, int flags, struct rusage *usage)
{
	return interrupted() ? -1 : __real_wait4(pid, status, flags, usage);
}

int
__wrap_getrlimit(int what, struct rlimit *limit)
{
	return fails(GETRLIMIT) ? -1 : __real_getrlimit(what, limit);
}

int
__wrap_setrlimit(int what, const struct rlimit *limit)
{
	return fails(SETRLIMIT) ? -1 : __real_setrlimit(what, limit);
}

ssize_t
__wrap_getdents64(int fd, void *block, size_t n)
{
	return fails(GETDENTS) ? -1 : __real_getdents64(fd, block, n);
}

ssize_t
__wrap_readlink(const char *path, char *text, size_t n)
{
	return fails(READLINK) ? -1 : __real_readlink(path, text, n);
}

/* A pipe by which the child tells things, and the descriptors there were. */
struct fixture {
	int ends[2];
	struct fz_proc proc;
	int nfds;
};

static int
count_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	int n = 0;

	while (readdir(dir) != NULL)
		n++;
	closedir(dir);
	return n;
}

static int
setup(void **state)
{
	static struct fixture fixture;

	failing = NONE;
	interruptions = 0;
	fixture.proc = (struct fz_proc){ .pidfd = -1 };
	fixture.nfds = count_fds();
	*state = &fixture;
	return fz_fd_pipe(fixture.ends, NULL);
}

static int
teardown(void **state)
{
	struct fixture *f = *state;
	struct fz_death death;

	failing = NONE;
	fz_proc_kill(&f->proc);
	fz_proc_reap(&f->proc, true, &death);
	fz_fd_close(&f->ends[0]);
	fz_fd_close(&f->ends[1]);
	if (waitpid(-1, NULL, WNOHANG) != -1 || errno != ECHILD)
		return -1;
	return count_fds() == f->nfds ? 0 : -1;
}

static const struct fz_proc_opts as_parent = { -1, -1 };

static void
start(struct fixture *f, fz_proc_main entry)
{
	struct fz_err err;

	assert_int_equal(fz_proc_fork(&f->proc, &as_parent, entry, f, &err), 0);
}

/* What the child has told, as a string, up to a newline or the end. */
static void
hear(struct fixture *f, char *text, size_t len)
{
	size_t n = 0;

	while (n < len - 1 && read(f->ends[0], text + n, 1) == 1 &&
	       text[n] != '\n')
		n++;
	text[n] = '\0';
}

static void
tell(struct fixture *f, const char *text)
{
	if (fz_fd_write_all(f->ends[1], text, strlen(text)) == -1)
		_exit(99);
}

static void
tell_number(struct fixture *f, long n)
{
	char text[32];

	snprintf(text, sizeof(text), "%ld\n", n);
	tell(f, text);
}

static void
nap(long ms)
{
	const struct timespec t = { ms / 1000, ms % 1000 * 1000000 };

	nanosleep(&t, NULL);
}

/* Not there, or only as a zombie that its new parent has yet to reap. */
static bool
is_gone(pid_t pid)
{
	char path[64], text[256] = "";
	const char *p;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	file = fopen(path, "r");
	if (file == NULL)
		return true;
	if (fgets(text, sizeof(text), file) == NULL)
		text[0] = '\0';
	fclose(file);
	p = strrchr(text, ')');
	return p == NULL || p[2] == 'Z' || p[2] == 'X';
}

static void
assert_gone_within_a_second(pid_t pid)
{
	int64_t deadline = fz_clock_ns() + FZ_CLOCK_SECOND;

	assert_true(pid > 0);
	while (!is_gone(pid)) {
		assert_true(fz_clock_ns() < deadline);
		nap(1);
	}
}

static pid_t
hear_pid(struct fixture *f)
{
	char text[32];

	hear(f, text, sizeof(text));
	return (pid_t)strtol(text, NULL, 10);
}

static int
return_seven(void *ctx, const struct fz_err *failed)
{
	(void)ctx;
	return failed == NULL ? 7 : 99;
}

static int
wait_for_ever(void *ctx, const struct fz_err *failed)
{
	(void)failed;
	tell(ctx, "here\n");
	while (pause() == -1)
		;
	return 0;
}

static void
test_proc_exit_status_is_what_the_entry_returns(void **state)
{
	struct fixture *f = *state;
	struct fz_death death;
	char text[128];

	start(f, return_seven);
	interruptions = 2;
	assert_int_equal(fz_proc_reap(&f->proc, true, &death), 1);
	assert_int_equal(death.signal, 0);
	assert_int_equal(death.exitcode, 7);
	assert_true(death.peak_rss > 0);
	assert_string_equal(
	    fz_death_text(&death, text, sizeof(text)), "exited with code 7");
	assert_int_equal(f->proc.pid, 0);
	assert_int_equal(f->proc.pidfd, -1);
}

static void
test_proc_reap_without_waiting_says_alive(void **state)
{
	struct fixture *f = *state;
	struct fz_death death;
	char text[128];

	start(f, wait_for_ever);
	hear(f, text, sizeof(text));
	assert_int_equal(fz_proc_reap(&f->proc, false, &death), 0);
	fz_proc_kill(&f->proc);
	fz_proc_kill(&f->proc);
	interruptions = 3;
	assert_int_equal(fz_proc_reap(&f->proc, true, &death), 1);
	assert_int_equal(death.signal, SIGKILL);
	death.peak_rss = UINT64_C(3900000000);
	assert_string_equal(fz_death_text(&death, text, sizeof(text)),
	    "killed by signal 9 (SIGKILL), perhaps out of memory; "
	    "peak memory 3.9 GB");
	fz_proc_kill(&f->proc);
	assert_int_equal(fz_proc_reap(&f->proc, true, &death), 1);
}

static void
test_proc_a_child_reaped_by_others_is_never_waited_for(void **state)
{
	struct fixture *f = *state;
	struct fz_death death;
	char text[128];

	start(f, return_seven);
	assert_int_equal(waitpid(f->proc.pid, NULL, 0), f->proc.pid);
	fz_proc_kill(&f->proc);
	assert_int_equal(fz_proc_reap(&f->proc, true, &death), 1);
	assert_int_equal(death.signal, 0);
	/* Linux 6.15 and newer tell the code of a process that is reaped. */
	if (death.exitcode != 7)
		assert_int_equal(death.exitcode, -1);
	death.exitcode = -1;
	fz_death_text(&death, text, sizeof(text));
	assert_non_null(strstr(text, "exit status"));
}

static void
test_proc_death_texts(void **state)
{
	struct fz_death death = { .signal = SIGSEGV,
		.peak_rss = UINT64_C(420000000) };
	char text[128];

	(void)state;
	assert_string_equal(fz_death_text(&death, text, sizeof(text)),
	    "killed by signal 11 (SIGSEGV); peak memory 420 MB");
	death.peak_rss = 1 << 20;
	assert_string_equal(fz_death_text(&death, text, sizeof(text)),
	    "killed by signal 11 (SIGSEGV)");
	death.signal = SIGRTMAX - 5;
	snprintf(text, sizeof(text), "killed by signal %d", SIGRTMAX - 5);
	assert_string_equal(fz_death_text(&death, text + 64, 64), text);
	death.signal = SIGKILL;
	assert_string_equal(
	    fz_death_text(&death, text, 17), "killed by signal");
}

static int
abort_now(void *ctx, const struct fz_err *failed)
{
	(void)ctx;
	(void)failed;
	abort();
}

static void
test_proc_death_by_a_signal_is_told(void **state)
{
	struct fixture *f = *state;
	struct fz_death death;
	char text[128];

	start(f, abort_now);
	assert_int_equal(fz_proc_reap(&f->proc, true, &death), 1);
	death.peak_rss = 0;
	assert_string_equal(fz_death_text(&death, text, sizeof(text)),
	    "killed by signal 6 (SIGABRT)");
}

static int
use_cpu_time(void *ctx, const struct fz_err *failed)
{
	(void)ctx;
	(void)failed;
	for (volatile unsigned n = 0; n != UINT_MAX; n = n % 1000 + 1)
		continue;
	return 0;
}

/* At the soft limit; the hard one says the same of SIGKILL. */
static void
test_proc_death_by_the_cpu_limit_is_told(void **state)
{
	struct fixture *f = *state;
	struct rlimit before, limit;
	struct fz_death death;
	struct rusage usage;
	char text[128];

	getrlimit(RLIMIT_CPU, &before);
	getrusage(RUSAGE_SELF, &usage);
	limit.rlim_cur = (rlim_t)usage.ru_utime.tv_sec + 3; /* ours as well */
	limit.rlim_max = before.rlim_max;
	assert_int_equal(setrlimit(RLIMIT_CPU, &limit), 0);
	start(f, use_cpu_time);
	assert_int_equal(fz_proc_reap(&f->proc, true, &death), 1);
	setrlimit(RLIMIT_CPU, &before);
	assert_int_equal(death.signal, SIGXCPU);
	assert_int_equal(death.cpu_limit, limit.rlim_cur);
	death.peak_rss = 0;
	fz_death_text(&death, text, sizeof(text));
	assert_non_null(strstr(text, "(SIGXCPU), at its CPU time limit of "));
	death.signal = SIGKILL;
	fz_death_text(&death, text, sizeof(text));
	assert_null(strstr(text, "memory"));
	assert_non_null(strstr(text, "perhaps at its CPU time limit of "));
}

static int
tell_setting(void *ctx, const struct fz_err *failed)
{
	struct sigaction action;
	sigset_t mask;
	char c;

	(void)failed;
	tell_number(ctx, getpgrp() == getpid());
	tell_number(ctx, read(STDIN_FILENO, &c, 1));
	sigaction(SIGUSR1, NULL, &action);
	tell_number(ctx, action.sa_handler == SIG_DFL);
	sigaction(SIGCHLD, NULL, &action);
	tell_number(ctx, action.sa_handler == SIG_DFL);
	for (size_t i = 0; i < FZ_PROC_NIGNORED; i++) {
		sigaction(fz_proc_ignored[i], NULL, &action);
		tell_number(ctx, action.sa_handler == SIG_IGN);
	}
	sigprocmask(SIG_BLOCK, NULL, &mask);
	tell_number(ctx, sigismember(&mask, SIGUSR2));
	tell_number(ctx, sigismember(&mask, SIGTERM));
	tell_number(ctx, getchar());
	return 0;
}

static void
test_proc_child_starts_in_a_known_state(void **state)
{
	static const char *const told[] = { "1", "0", "1", "1", "1", "1", "1",
		"0", "0", "-1" };
	struct fixture *f = *state;
	sigset_t set, before;
	char text[32];
	size_t i;

	signal(SIGUSR1, SIG_IGN);
	signal(SIGCHLD, SIG_IGN);
	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	sigaddset(&set, SIGTERM);
	sigprocmask(SIG_BLOCK, &set, &before);
	start(f, tell_setting);
	for (i = 0; i < sizeof(told) / sizeof(*told); i++) {
		hear(f, text, sizeof(text));
		assert_string_equal(text, told[i]);
	}
	sigprocmask(SIG_BLOCK, NULL, &set);
	assert_int_equal(sigismember(&set, SIGTERM), 1);
	sigprocmask(SIG_SETMASK, &before, NULL);
	signal(SIGUSR1, SIG_DFL);
	signal(SIGCHLD, SIG_DFL);
}

/* Linux 6.15 and newer tell how a process ended that nobody could wait for. */
static bool
tells_exit_of_reaped(void)
{
	struct utsname name;
	int major = 0, minor = 0;

	return uname(&name) == 0 &&
	       sscanf(name.release, "%d.%d", &major, &minor) == 2 &&
	       (major > 6 || (major == 6 && minor >= 15));
}

static void
test_proc_exit_status_is_exact_where_the_host_ignores_sigchld(void **state)
{
	struct fixture *f = *state;
	struct fz_death death;
	bool exact = tells_exit_of_reaped();

	signal(SIGCHLD, SIG_IGN);
	start(f, return_seven);
	assert_int_equal(fz_proc_reap(&f->proc, true, &death), 1);
	assert_int_equal(death.exitcode, exact ? 7 : -1);
	start(f, abort_now);
	assert_int_equal(fz_proc_reap(&f->proc, true, &death), 1);
	assert_int_equal(death.signal, exact ? SIGABRT : 0);
	signal(SIGCHLD, SIG_DFL);
}

/* The parent registers it; it must not run in a child. */
static int at_exit_fd = -1;

static void
tell_at_exit(void)
{
	if (at_exit_fd != -1 && write(at_exit_fd, "ran\n", 4) != 4)
		_exit(99);
}

static int
exit_eight(void *ctx, const struct fz_err *failed)
{
	(void)ctx;
	(void)failed;
	exit(8);
}

static void
test_proc_exit_in_a_child_runs_no_handler_of_the_parent(void **state)
{
	struct fixture *f = *state;
	struct fz_death death;
	char text[32];

	assert_int_equal(atexit(tell_at_exit), 0);
	at_exit_fd = f->ends[1];
	start(f, exit_eight);
	at_exit_fd = -1;
	fz_proc_reap(&f->proc, true, &death);
	assert_int_equal(death.exitcode, 8);
	fz_fd_close(&f->ends[1]);
	hear(f, text, sizeof(text));
	assert_string_equal(text, "");
}

/* Reads and writes the terminal, which is in the foreground elsewhere. */
static int
use_terminal(void *ctx, const struct fz_err *failed)
{
	int tty = open("/dev/tty", O_RDWR | O_CLOEXEC);
	char c;

	(void)failed;
	tell_number(ctx, tty != -1);
	tell_number(ctx, read(tty, &c, 1));
	tell_number(ctx, write(tty, "x", 1));
	return 0;
}

/* In a session of its own, whose terminal is `name`: 0 where all is well. */
static int
session_main(struct fixture *f, const char *name)
{
	static const char *const told[] = { "1", "-1", "1" };
	struct termios settings;
	char text[32];
	int tty;

	alarm(30);
	if (setsid() == -1)
		return 1;
	tty = open(name, O_RDWR); /* becomes the terminal of the session */
	if (tty == -1 || tcgetattr(tty, &settings) != 0)
		return 2;
	settings.c_lflag |= TOSTOP;
	if (tcsetattr(tty, TCSANOW, &settings) != 0)
		return 3;
	if (fz_proc_fork(&f->proc, &as_parent, use_terminal, f, NULL) != 0)
		return 4;
	for (size_t i = 0; i < sizeof(told) / sizeof(*told); i++) {
		hear(f, text, sizeof(text));
		if (strcmp(text, told[i]) != 0)
			return 5 + (int)i;
	}
	return 0;
}

static void
test_proc_a_child_is_never_stopped_for_the_terminal(void **state)
{
	struct fixture *f = *state;
	int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC), status;
	pid_t pid;

	assert_true(master != -1);
	assert_int_equal(grantpt(master), 0);
	assert_int_equal(unlockpt(master), 0);
	pid = __real_fork();
	if (pid == 0)
		_exit(session_main(f, ptsname(master)));
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	close(master);
}

static int
print_both(void *ctx, const struct fz_err *failed)
{
	(void)ctx;
	(void)failed;
	printf("out");
	fprintf(stderr, " err\n");
	return 0;
}

/* With numbers crossed, and with some of the three closed in the parent. */
static void
test_proc_output_goes_where_it_should(void **state)
{
	struct fixture *f = *state;
	int saved[3], i, way;
	struct fz_death death;
	char text[64];

	for (way = 0; way < 3; way++) {
		struct fz_proc_opts opts = { f->ends[1], f->ends[1] };

		fflush(NULL);
		for (i = 0; i < 3; i++)
			saved[i] = fcntl(i, F_DUPFD_CLOEXEC, 10);
		if (way == 1) {
			opts.out = dup2(f->ends[1], 2);
			opts.err = dup2(f->ends[1], 1);
		} else if (way == 2) {
			opts.out = opts.err = dup2(f->ends[1], 0);
			close(1);
			close(2);
		}
		i = fz_proc_fork(&f->proc, &opts, print_both, f, NULL);
		if (f->proc.pidfd <= 2) /* is written over now */
			f->proc.pidfd = -1;
		dup2(saved[0], 0);
		dup2(saved[1], 1);
		dup2(saved[2], 2);
		close(saved[0]);
		close(saved[1]);
		close(saved[2]);
		assert_int_equal(i, 0);
		hear(f, text, sizeof(text));
		assert_string_equal(text, "out err"); /* nothing waits */
		assert_int_equal(fz_proc_reap(&f->proc, true, &death), 1);
	}
}

static void
test_proc_buffered_output_is_written_once(void **state)
{
	struct fixture *f = *state;
	FILE *file = fdopen(dup(f->ends[1]), "w");
	struct fz_death death;
	char text[64];

	fputs("once\n", file);
	start(f, return_seven);
	fz_proc_reap(&f->proc, true, &death);
	fclose(file);
	fz_fd_close(&f->ends[1]);
	hear(f, text, sizeof(text));
	assert_string_equal(text, "once");
	hear(f, text, sizeof(text));
	assert_string_equal(text, "");
}

static int
tell_failure(void *ctx, const struct fz_err *failed)
{
	tell(ctx, failed != NULL ? failed->text : "no failure");
	tell(ctx, "\n");
	return 1;
}

static void
test_proc_child_tells_what_failed_in_its_setup(void **state)
{
	static const struct {
		enum call call;
		const char *text;
	} cases[] = {
		{ NONE, "no failure" },
		{ OPEN_NULL, "/dev/null" },
		{ PDEATHSIG, "parent" },
		{ SUBREAPER, "orphans" },
		{ SETPGID, "process group" },
		{ SIGACTION, "signal" },
		{ DUP2, "redirect descriptor 0" },
	};
	struct fixture *f = *state;
	struct fz_death death;
	char text[128];
	size_t i;

	for (i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		failing = cases[i].call;
		start(f, tell_failure);
		failing = NONE;
		hear(f, text, sizeof(text));
		assert_non_null(strstr(text, cases[i].text));
		fz_proc_reap(&f->proc, true, &death);
	}
}

static void
test_proc_descriptors_that_cannot_move_are_told(void **state)
{
	const struct fz_proc_opts crossed[] = { { 0, -1 }, { -1, 1 },
		{ 1, -1 } };
	struct fixture *f = *state;
	struct fz_death death;
	char text[128];
	size_t i;

	for (i = 0; i < sizeof(crossed) / sizeof(*crossed); i++) {
		failing = FCNTL;
		assert_int_equal(
		    fz_proc_fork(&f->proc, &crossed[i], tell_failure, f, NULL),
		    0);
		failing = NONE;
		hear(f, text, sizeof(text));
		assert_non_null(strstr(text, "descriptor"));
		fz_proc_reap(&f->proc, true, &death);
	}
}

static void
test_proc_fork_failure_is_told(void **state)
{
	struct fixture *f = *state;
	struct fz_err err;
	sigset_t mask;

	failing = FORK;
	assert_int_equal(
	    fz_proc_fork(&f->proc, &as_parent, return_seven, f, &err), -1);
	assert_int_equal(err.code, EPERM);
	assert_int_equal(f->proc.pid, 0);
	sigprocmask(SIG_BLOCK, NULL, &mask);
	assert_int_equal(sigismember(&mask, SIGTERM), 0);
}

/* Tells the numbers of two sleepers, one in a session of its own. */
static void
start_sleepers(struct fixture *f)
{
	char command[160];

	snprintf(command, sizeof(command),
	    "(setsid sh -c 'echo $$ >&%d; exec sleep 77' &) ; "
	    "sh -c 'echo $$ >&%d; exec sleep 77'",
	    f->ends[1], f->ends[1]);
	if (__real_fcntl(f->ends[1], F_SETFD, 0) == 0 && system(command) == -1)
		_exit(99);
}

static int
run_sleepers(void *ctx, const struct fz_err *failed)
{
	(void)failed;
	start_sleepers(ctx);
	return 0;
}

static void
test_proc_kill_ends_all_descendants(void **state)
{
	struct fixture *f = *state;
	int64_t began;
	pid_t one, two;

	start(f, run_sleepers);
	one = hear_pid(f);
	two = hear_pid(f);
	began = fz_clock_ns();
	fz_proc_kill(&f->proc);
	assert_gone_within_a_second(one);
	assert_gone_within_a_second(two);
	assert_gone_within_a_second(f->proc.pid);
	assert_true(fz_clock_ns() - began < FZ_CLOCK_SECOND);
}

static void
test_proc_terminate_ends_all_descendants_by_sigterm(void **state)
{
	struct fixture *f = *state;
	struct fz_death death;
	pid_t one, two;

	start(f, run_sleepers);
	one = hear_pid(f);
	two = hear_pid(f);
	kill(f->proc.pid, SIGSTOP);
	fz_proc_terminate(&f->proc);
	assert_int_equal(fz_proc_reap(&f->proc, true, &death), 1);
	assert_int_equal(death.signal, SIGTERM);
	assert_gone_within_a_second(one);
	assert_gone_within_a_second(two);
	fz_proc_terminate(&f->proc); /* there is none any more */
}

/* Twice forked and with a session of its own, like a daemon. */
static int
run_daemon(void *ctx, const struct fz_err *failed)
{
	(void)failed;
	if (__real_fork() == 0) {
		setsid();
		if (__real_fork() == 0) {
			tell_number(ctx, getpid());
			for (;;)
				pause();
		}
		_exit(0);
	}
	while (pause() == -1)
		;
	return 0;
}

static void
test_proc_kill_ends_daemons(void **state)
{
	struct fixture *f = *state;
	pid_t pid;

	start(f, run_daemon);
	pid = hear_pid(f);
	fz_proc_kill(&f->proc);
	assert_gone_within_a_second(pid);
	assert_gone_within_a_second(f->proc.pid);
}

static void
test_proc_kill_without_proc_ends_the_child(void **state)
{
	static const enum call calls[] = { OPEN_PROC, OPENAT, GETDENTS,
		READLINK };
	struct fixture *f = *state;
	struct fz_death death;
	char text[32];
	size_t i;

	for (i = 0; i < sizeof(calls) / sizeof(*calls); i++) {
		start(f, wait_for_ever);
		hear(f, text, sizeof(text));
		failing = calls[i];
		fz_proc_kill(&f->proc);
		failing = NONE;
		assert_int_equal(fz_proc_reap(&f->proc, true, &death), 1);
		assert_int_equal(death.signal, SIGKILL);
	}
}

static int
run_sleeper(void *ctx, const struct fz_err *failed)
{
	struct fixture *f = ctx;
	char command[80];

	(void)failed;
	snprintf(command, sizeof(command),
	    "sh -c 'echo $$ >&%d; exec sleep 77'", f->ends[1]);
	__real_fcntl(f->ends[1], F_SETFD, 0);
	return system(command) == -1;
}

static void
test_proc_reap_ends_what_a_dead_child_left(void **state)
{
	struct fixture *f = *state;
	struct fz_death death;
	pid_t pid;

	start(f, run_sleeper);
	pid = hear_pid(f);
	kill(f->proc.pid, SIGTERM);
	assert_int_equal(fz_proc_reap(&f->proc, true, &death), 1);
	assert_int_equal(death.signal, SIGTERM);
	assert_gone_within_a_second(pid);
}

static void
start_daemon(struct fixture *f)
{
	pid_t pid = __real_fork();

	if (pid == 0) {
		setsid();
		for (;;)
			pause();
	}
	while (getsid(pid) != pid)
		nap(1);
	tell_number(f, pid);
}

static int
leave_a_daemon(void *ctx, const struct fz_err *failed)
{
	(void)failed;
	start_daemon(ctx);
	return 5;
}

static void
test_proc_exit_ends_all_descendants(void **state)
{
	struct fixture *f = *state;
	struct fz_death death;

	start(f, leave_a_daemon);
	assert_gone_within_a_second(hear_pid(f));
	assert_int_equal(fz_proc_reap(&f->proc, true, &death), 1);
	assert_int_equal(death.exitcode, 5);
}

static int
write_to_no_reader(void *ctx, const struct fz_err *failed)
{
	int fd[2];

	(void)failed;
	start_daemon(ctx);
	if (fz_fd_pipe(fd, NULL) == -1)
		return 99;
	fz_fd_close(&fd[0]);
	return fz_fd_write_all(fd[1], "x", 1) == 0 ? 98 : 97;
}

static void
test_proc_sigpipe_ends_all_descendants(void **state)
{
	struct fixture *f = *state;
	struct fz_death death;

	start(f, write_to_no_reader);
	assert_gone_within_a_second(hear_pid(f));
	assert_int_equal(fz_proc_reap(&f->proc, true, &death), 1);
	assert_int_equal(death.signal, SIGPIPE);
}

/* A worker of a worker; all signals were blocked where it was started. */
static int
run_inner(void *ctx, const struct fz_err *failed)
{
	struct fixture *f = ctx;
	struct fz_proc inner;
	sigset_t all;

	(void)failed;
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	if (fz_proc_fork(&inner, &as_parent, run_sleepers, f, NULL) == -1)
		return 99;
	tell_number(f, inner.pid);
	while (pause() == -1)
		;
	return 0;
}

static void
test_proc_parent_killed_ends_worker_and_descendants(void **state)
{
	struct fixture *f = *state;
	pid_t pid[3];
	int i;

	start(f, run_inner);
	for (i = 0; i < 3; i++)
		pid[i] = hear_pid(f);
	kill(f->proc.pid, SIGKILL);
	for (i = 0; i < 3; i++)
		assert_gone_within_a_second(pid[i]);
}

/* No signal is handled while the child of a vfork() runs. */
static int
wait_in_vfork(void *ctx, const struct fz_err *failed)
{
	(void)failed;
	tell_number(ctx, getpid());
	if (vfork() == 0) {
		tell_number(ctx, getpid());
		for (;;)
			pause();
	}
	while (pause() == -1)
		;
	return 0;
}

static int
run_wait_in_vfork(void *ctx, const struct fz_err *failed)
{
	struct fz_proc inner;

	(void)failed;
	if (fz_proc_fork(&inner, &as_parent, wait_in_vfork, ctx, NULL) == -1)
		return 99;
	while (pause() == -1)
		;
	return 0;
}

static void
test_proc_parent_killed_ends_a_worker_whose_stop_is_pending(void **state)
{
	struct fixture *f = *state;
	pid_t worker, child;

	start(f, run_wait_in_vfork);
	worker = hear_pid(f);
	child = hear_pid(f);
	kill(worker, SIGSTOP);
	kill(f->proc.pid, SIGKILL);
	assert_gone_within_a_second(f->proc.pid);
	kill(child, SIGKILL);
	assert_gone_within_a_second(child);
	assert_gone_within_a_second(worker);
}

static int
leave_a_program(void *ctx, const struct fz_err *failed)
{
	static char sleep_[] = "sleep", seconds[] = "77";
	char *const argv[] = { sleep_, seconds, NULL };
	struct fixture *f = ctx;
	pid_t pid = __real_fork();

	(void)failed;
	if (pid == 0) {
		setsid();
		fcntl(f->ends[1], F_SETFD, FD_CLOEXEC);
		execvp(argv[0], argv);
		_exit(99);
	}
	tell_number(f, pid);
	while (pause() == -1)
		;
	return 0;
}

static bool
is_subreaper(void)
{
	int is = 0;

	return prctl(PR_GET_CHILD_SUBREAPER, &is) == 0 && is != 0;
}

static void
wait_for_program(pid_t pid, const char *name)
{
	char path[64], text[64] = "";
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/comm", (int)pid);
	while (strncmp(text, name, strlen(name)) != 0) {
		file = fopen(path, "r");
		if (file == NULL || fgets(text, sizeof(text), file) == NULL)
			_exit(98);
		fclose(file);
	}
}

/* Returns how many of the checks have failed. */
static int
crash_a_child(struct fixture *f)
{
	static char big[100 << 10];
	char name[16];
	struct fz_death death;
	int failures = 0;
	pid_t pid;

	memset(big, 'x', sizeof(big) - 1);
	for (int i = 0; i < 6; i++) {
		snprintf(name, sizeof(name), "BIG%d", i);
		setenv(name, big, 1);
	}
	fz_proc_adopt();
	failures += is_subreaper();
	start(f, leave_a_program);
	failures += !is_subreaper();
	pid = hear_pid(f);
	wait_for_program(pid, "sleep");
	kill(f->proc.pid, SIGKILL);
	failures += fz_proc_reap(&f->proc, true, &death) != 1;
	failures += !is_gone(pid);
	return failures + is_subreaper();
}

static void
test_proc_adopter_ends_what_a_crashed_child_left(void **state)
{
	struct fixture *f = *state;
	pid_t adopter = __real_fork();
	int status;

	if (adopter == 0)
		_exit(crash_a_child(f));
	assert_int_equal(waitpid(adopter, &status, 0), adopter);
	assert_int_equal(status, 0);
}

static void
test_proc_copy_of_a_handle_ends_nothing(void **state)
{
	struct fixture *f = *state;
	struct fz_death death;
	char text[32];
	pid_t other;

	start(f, wait_for_ever);
	hear(f, text, sizeof(text));
	other = __real_fork();
	if (other == 0) {
		fz_proc_kill(&f->proc);
		fz_proc_reap(&f->proc, false, &death);
		_exit(0);
	}
	assert_int_equal(waitpid(other, NULL, 0), other);
	assert_int_equal(fz_proc_reap(&f->proc, false, &death), 0);
}

static void *
fork_and_end(void *ctx)
{
	start(ctx, wait_for_ever);
	return NULL;
}

static void
test_proc_lives_on_when_the_thread_ends_that_forked_it(void **state)
{
	struct fixture *f = *state;
	struct fz_death death;
	pthread_t thread;
	char text[32];

	assert_int_equal(pthread_create(&thread, NULL, fork_and_end, f), 0);
	pthread_join(thread, NULL);
	hear(f, text, sizeof(text));
	nap(50);
	assert_int_equal(fz_proc_reap(&f->proc, false, &death), 0);
}

static atomic_bool over;

static void *
hammer(void *ctx)
{
	FILE *null = ctx;
	struct addrinfo *found;

	while (!atomic_load(&over)) {
		free(malloc(1 + (size_t)(random() & 0xfff)));
		fprintf(null, "%d\n", 1);
		fflush(null);
		printf("%s", "");
		if (getaddrinfo("localhost", NULL, NULL, &found) == 0)
			freeaddrinfo(found);
	}
	return NULL;
}

static int
use_malloc_and_stdio(void *ctx, const struct fz_err *failed)
{
	(void)ctx;
	(void)failed;
	free(malloc(100000));
	printf("%s", "");
	fflush(NULL);
	return 0;
}

static void
test_proc_forks_among_threads(void **state)
{
	struct fixture *f = *state;
	int n = getenv("FZ_SOAK") != NULL ? 2000 : 300;
	FILE *null = fopen("/dev/null", "w");
	pthread_t threads[8];
	struct fz_death death;
	int i;

	if (getenv("FZLUA_VALGRIND") != NULL) {
		n = 20; /* its threads take turns */
		print_message("under valgrind: %d forks\n", n);
	}
	atomic_store(&over, false);
	for (i = 0; i < 8; i++)
		assert_int_equal(
		    pthread_create(&threads[i], NULL, hammer, null), 0);
	while (n-- > 0) {
		start(f, use_malloc_and_stdio);
		assert_int_equal(fz_proc_reap(&f->proc, true, &death), 1);
		assert_int_equal(death.exitcode, 0);
	}
	atomic_store(&over, true);
	for (i = 0; i < 8; i++)
		pthread_join(threads[i], NULL);
	fclose(null);
}

static int
use_limited_memory(void *ctx, const struct fz_err *failed)
{
	size_t len = (size_t)256 << 20;
	void *volatile p; /* or compilers believe in it */

	(void)failed;
	if (fz_proc_limit_memory((uint64_t)64 << 20, NULL) == -1)
		return 1;
	p = malloc(len);
	tell(ctx, p == NULL ? "refused\n" : "given\n");
	free(p);
	p = malloc(len / 8);
	tell(ctx, p == NULL ? "refused\n" : "given\n");
	free(p);
	if (fz_proc_limit_memory(0, NULL) == -1)
		return 1;
	p = malloc(len);
	tell(ctx, p == NULL ? "refused\n" : "given\n");
	free(p);
	return fz_proc_limit_memory(UINT64_MAX, NULL) == -1;
}

static void
test_proc_memory_beyond_the_limit_is_refused(void **state)
{
	static const char *const told[] = { "refused", "given", "given" };
	struct fixture *f = *state;
	struct fz_death death;
	char text[32];
	size_t i;

	if (UNDER_ASAN || getenv("FZ_NO_LIMITS") != NULL)
		skip();
	if (getenv("FZLUA_VALGRIND") != NULL) {
		print_message("valgrind keeps limits from its malloc\n");
		skip();
	}
	start(f, use_limited_memory);
	for (i = 0; i < sizeof(told) / sizeof(*told); i++) {
		hear(f, text, sizeof(text));
		assert_string_equal(text, told[i]);
	}
	fz_proc_reap(&f->proc, true, &death);
	assert_int_equal(death.exitcode, 0);
}

static void
test_proc_memory_limit_failures_are_told(void **state)
{
	static const enum call calls[] = { GETRLIMIT, SETRLIMIT, OPEN_PROC,
		READ };
	struct fz_err err;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(calls) / sizeof(*calls); i++) {
		failing = calls[i];
		assert_int_equal(fz_proc_limit_memory(1 << 30, &err), -1);
		failing = NONE;
		assert_true(err.text[0] != '\0');
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
		    test_proc_exit_status_is_what_the_entry_returns, setup,
		    teardown),
		cmocka_unit_test_setup_teardown(
		    test_proc_reap_without_waiting_says_alive, setup, teardown),
		cmocka_unit_test_setup_teardown(
		    test_proc_a_child_reaped_by_others_is_never_waited_for,
		    setup, teardown),
		cmocka_unit_test_setup_teardown(
		    test_proc_death_texts, setup, teardown),
		cmocka_unit_test_setup_teardown(
		    test_proc_death_by_the_cpu_limit_is_told, setup, teardown),
		cmocka_unit_test_setup_teardown(
		    test_proc_death_by_a_signal_is_told, setup, teardown),
		cmocka_unit_test_setup_teardown(
		    test_proc_child_starts_in_a_known_state, setup, teardown),
		cmocka_unit_test_setup_teardown(
		    test_proc_exit_status_is_exact_where_the_host_ignores_sigchld,
		    setup, teardown),
		cmocka_unit_test_setup_teardown(
		    test_proc_exit_in_a_child_runs_no_handler_of_the_parent,
		    setup, teardown),
		cmocka_unit_test_setup_teardown(
		    test_proc_a_child_is_never_stopped_for_the_terminal, setup,
		    teardown),
		cmocka_unit_test_setup_teardown(
		    test_proc_output_goes_where_it_should, setup, teardown),
		cmocka_unit_test_setup_teardown(
		    test_proc_buffered_output_is_written_once, setup, teardown),
		cmocka_unit_test_setup_teardown(
		    test_proc_child_tells_what_failed_in_its_setup, setup,
		    teardown),
		cmocka_unit_test_setup_teardown(
		    test_proc_descriptors_that_cannot_move_are_told, setup,
		    teardown),
		cmocka_unit_test_setup_teardown(
		    test_proc_fork_failure_is_told, setup, teardown),
		cmocka_unit_test_setup_teardown(
		    test_proc_terminate_ends_all_descendants_by_sigterm, setup,
		    teardown),
		cmocka_unit_test_setup_teardown(
		    test_proc_sigpipe_ends_all_descendants, setup, teardown),
		cmocka_unit_test_setup_teardown(
		    test_proc_kill_ends_all_descendants, setup, teardown),
		cmocka_unit_test_setup_teardown(
		    test_proc_kill_ends_daemons, setup, teardown),
		cmocka_unit_test_setup_teardown(
		    test_proc_kill_without_proc_ends_the_child, setup,
		    teardown),
		cmocka_unit_test_setup_teardown(
		    test_proc_reap_ends_what_a_dead_child_left, setup,
		    teardown),
		cmocka_unit_test_setup_teardown(
		    test_proc_exit_ends_all_descendants, setup, teardown),
		cmocka_unit_test_setup_teardown(
		    test_proc_parent_killed_ends_worker_and_descendants, setup,
		    teardown),
		cmocka_unit_test_setup_teardown(
		    test_proc_parent_killed_ends_a_worker_whose_stop_is_pending,
		    setup, teardown),
		cmocka_unit_test_setup_teardown(
		    test_proc_adopter_ends_what_a_crashed_child_left, setup,
		    teardown),
		cmocka_unit_test_setup_teardown(
		    test_proc_copy_of_a_handle_ends_nothing, setup, teardown),
		cmocka_unit_test_setup_teardown(
		    test_proc_lives_on_when_the_thread_ends_that_forked_it,
		    setup, teardown),
		cmocka_unit_test_setup_teardown(
		    test_proc_forks_among_threads, setup, teardown),
		cmocka_unit_test_setup_teardown(
		    test_proc_memory_beyond_the_limit_is_refused, setup,
		    teardown),
		cmocka_unit_test_setup_teardown(
		    test_proc_memory_limit_failures_are_told, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
