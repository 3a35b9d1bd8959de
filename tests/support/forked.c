/* prctl, pipe2 and __fpurge are not in C11. */
#define _GNU_SOURCE
#include "forked.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <netdb.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
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

#include "base/err.h"
#include "descriptors.h"
#include "os/fd.h"
#include "proc/death.h"
#include "proc/proc.h"

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

enum call failing;

int interruptions;
bool hangs_untied;
bool loses_parent;
bool kills_parent;
int slow_proc_ms;
int empty_environs;

static bool
call_fails(enum call call)
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
	return call_fails(FORK) ? -1 : __real_fork();
}

int
__wrap_open(const char *path, int flags, ...)
{
	bool null = strcmp(path, "/dev/null") == 0;

	return call_fails(null ? OPEN_NULL : OPEN_PROC)
		   ? -1
		   : __real_open(path, flags);
}

int
__wrap_openat(int dir, const char *path, int flags, ...)
{
	const char *file = strrchr(path, '/');

	if (call_fails(OPENAT))
		return -1;
	if (empty_environs > 0 && file != NULL &&
	    strcmp(file, "/environ") == 0) {
		empty_environs--;
		return __real_open("/dev/null", flags);
	}
	return __real_openat(dir, path, flags);
}

ssize_t
__wrap_read(int fd, void *bytes, size_t n)
{
	return call_fails(READ) ? -1 : __real_read(fd, bytes, n);
}

static void
kill_parent(void)
{
	pid_t parent = getppid();

	kill(parent, SIGKILL);
	while (getppid() == parent)
		forked_nap(1);
}

int
__wrap_prctl(int what, unsigned long arg)
{
	while (hangs_untied && what == PR_SET_PDEATHSIG)
		pause();
	if (kills_parent && what == PR_SET_CHILD_SUBREAPER)
		kill_parent();
	if (call_fails(what == PR_SET_PDEATHSIG ? PDEATHSIG : SUBREAPER))
		return -1;
	return __real_prctl(what, arg);
}

int
__wrap_setpgid(pid_t pid, pid_t group)
{
	return call_fails(SETPGID) ? -1 : __real_setpgid(pid, group);
}

int
__wrap_sigaction(
    int sig, const struct sigaction *action, struct sigaction *before)
{
	if (loses_parent && action != NULL) {
		loses_parent = false;
		forked_nap(20); /* time for the parent to end its work */
		kill_parent();
		forked_nap(20);
	}
	return call_fails(SIGACTION) ? -1
				     : __real_sigaction(sig, action, before);
}

int
__wrap_dup2(int from, int to)
{
	return call_fails(DUP2) ? -1 : __real_dup2(from, to);
}

int
__wrap_fcntl(int fd, int cmd, ...)
{
	va_list ap;
	int arg;

	va_start(ap, cmd);
	arg = va_arg(ap, int);
	va_end(ap);
	return call_fails(FCNTL) ? -1 : __real_fcntl(fd, cmd, arg);
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
	return call_fails(GETRLIMIT) ? -1 : __real_getrlimit(what, limit);
}

int
__wrap_setrlimit(int what, const struct rlimit *limit)
{
	return call_fails(SETRLIMIT) ? -1 : __real_setrlimit(what, limit);
}

ssize_t
__wrap_getdents64(int fd, void *block, size_t n)
{
	if (slow_proc_ms != 0)
		forked_nap(slow_proc_ms);
	return call_fails(GETDENTS) ? -1 : __real_getdents64(fd, block, n);
}

ssize_t
__wrap_readlink(const char *path, char *text, size_t n)
{
	return call_fails(READLINK) ? -1 : __real_readlink(path, text, n);
}

int
forked_setup(void **state)
{
	static struct forked forked;

	failing = NONE;
	interruptions = 0;
	forked.proc = (struct fz_proc){ .pidfd = -1 };
	forked.nfds = count_fds();
	*state = &forked;
	return fz_fd_pipe(forked.ends, NULL);
}

int
forked_teardown(void **state)
{
	struct forked *f = *state;
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

const struct fz_proc_opts as_parent = { .out = -1, .err = -1 };

void
forked_start(struct forked *f, fz_proc_main entry)
{
	struct fz_err err;

	assert_int_equal(fz_proc_fork(&f->proc, &as_parent, entry, f, &err), 0);
}

void
forked_hear(struct forked *f, char *text, size_t len)
{
	size_t n = 0;

	while (n < len - 1 && read(f->ends[0], text + n, 1) == 1 &&
	       text[n] != '\n')
		n++;
	text[n] = '\0';
}

void
forked_tell(struct forked *f, const char *text)
{
	if (fz_fd_write_all(f->ends[1], text, strlen(text)) == -1)
		_exit(99);
}

void
forked_tell_number(struct forked *f, long n)
{
	char text[32];

	snprintf(text, sizeof(text), "%ld\n", n);
	forked_tell(f, text);
}

void
forked_nap(long ms)
{
	const struct timespec t = { ms / 1000, ms % 1000 * 1000000 };

	nanosleep(&t, NULL);
}

int
return_seven(void *ctx, const struct fz_err *failed)
{
	(void)ctx;
	return failed == NULL ? 7 : 99;
}

int
wait_for_ever(void *ctx, const struct fz_err *failed)
{
	(void)failed;
	forked_tell(ctx, "here\n");
	while (pause() == -1)
		;
	return 0;
}

bool
forked_is_gone(pid_t pid)
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

pid_t
forked_hear_pid(struct forked *f)
{
	char text[32];

	forked_hear(f, text, sizeof(text));
	return (pid_t)strtol(text, NULL, 10);
}
