/*
 * faulty.c - one call to the system or to libnats that fails in a program.
 *
 * The programs in $(BUILD)/tests/faulty are those of $(BUILD) with this file:
 * the calls of our own code are wrapped, those of libraries are not.
 *
 * 	FZLUA_FAULT="ROLE N FILE"
 *
 * fails the N-th wrapped call of a process that has the word ROLE in its
 * command line; with a + after ROLE, the N-th call of a process that it has
 * forked. The first process that comes so far writes the name of the call to
 * FILE, with the addresses of its callers for addr2line. In the others, and if
 * FILE exists, nothing fails.
 *
 * wrap: malloc calloc realloc strdup strndup mmap poll epoll_create1
 * wrap: epoll_ctl epoll_pwait fork pipe2 socketpair socket bind listen
 * wrap: connect accept4 getsockopt shutdown eventfd signalfd dup dup2 dup3
 * wrap: memfd_create ftruncate timerfd_create getrandom read write pwritev2
 * wrap: send recv sendmsg recvmsg posix_spawnp
 * wrap: posix_spawn_file_actions_adddup2 fcntl open ioctl syscall
 * wrap: natsConnection_GetMaxPayload natsConnection_Buffered
 * wrap: natsOptions_Create natsOptions_SetURL natsOptions_SetName
 * wrap: natsOptions_SetUserInfo natsOptions_SetEventLoop
 * wrap: natsConnection_Connect natsConnection_Subscribe
 * wrap: natsConnection_SubscribeSync natsSubscription_SetPendingLimits
 * wrap: natsSubscription_NextMsg natsConnection_Publish
 * wrap: natsConnection_PublishRequest
 */
#define _GNU_SOURCE
#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#ifdef FAULTY_NATS
#include <nats/nats.h>
#endif

extern char __executable_start[];

static struct faulty {
	unsigned long fail_at; /* call that fails; 0: another role */
	atomic_ulong ncalls;
	pid_t owner;  /* pid of the program; its forks have others */
	bool is_fork; /* the forks of the owner have the role */
	char file[256];
} faulty;

static bool
has_word(int argc, char **argv, const char *word)
{
	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], word) == 0)
			return true;
	}
	return false;
}

__attribute__((constructor)) static void
faulty_start(int argc, char **argv)
{
	const char *text = getenv("FZLUA_FAULT");
	char role[256];
	size_t len;

	faulty.owner = getpid();
	if (text == NULL || sscanf(text, "%255s %lu %255s", role,
				&faulty.fail_at, faulty.file) != 3) {
		faulty.fail_at = 0;
		return;
	}
	len = strlen(role);
	faulty.is_fork = role[len - 1] == '+';
	role[len - faulty.is_fork] = '\0';
	if (!has_word(argc, argv, role))
		faulty.fail_at = 0;
}

/* Write the name of the call and the addresses of its callers. */
static void
note(int fd, const char *call)
{
	void *callers[8];
	char text[256];
	int n = backtrace(callers, 8);
	size_t len = (size_t)snprintf(text, sizeof(text), "%s", call);

	for (int i = 2; i < n && len < sizeof(text) - 24; i++)
		len += (size_t)snprintf(text + len, sizeof(text) - len,
		    " 0x%lx",
		    (unsigned long)((char *)callers[i] - __executable_start));
	text[len++] = '\n';
	syscall(SYS_write, fd, text, len);
}

/* Whether this call is to fail. If it is, sets errno to `code`. */
static __attribute__((noinline)) bool
fails(const char *call, int code)
{
	int fd;

	if (faulty.fail_at == 0 ||
	    (getpid() != faulty.owner) != faulty.is_fork ||
	    atomic_fetch_add(&faulty.ncalls, 1) + 1 != faulty.fail_at)
		return false;
	fd = (int)syscall(SYS_openat, AT_FDCWD, faulty.file,
	    O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);
	if (fd == -1)
		return false;
	note(fd, call);
	syscall(SYS_close, fd);
	errno = code;
	return true;
}

/* Wrap a function: a failing call returns `failed` and sets errno to `code`. */
#define WRAP(type, name, failed, code, params, args) \
	type __real_##name params;                   \
	type __wrap_##name params;                   \
	type __wrap_##name params                    \
	{                                            \
		if (fails(#name, code))              \
			return failed;               \
		return __real_##name args;           \
	}

WRAP(void *, malloc, NULL, ENOMEM, (size_t n), (n))
WRAP(void *, calloc, NULL, ENOMEM, (size_t n, size_t size), (n, size))
WRAP(void *, realloc, NULL, ENOMEM, (void *p, size_t n), (p, n))
WRAP(char *, strdup, NULL, ENOMEM, (const char *s), (s))
WRAP(char *, strndup, NULL, ENOMEM, (const char *s, size_t n), (s, n))
WRAP(void *, mmap, (void *)-1, ENOMEM,
    (void *at, size_t n, int prot, int flags, int fd, off_t off),
    (at, n, prot, flags, fd, off))
WRAP(int, poll, -1, ENOMEM, (struct pollfd * fds, nfds_t n, int ms),
    (fds, n, ms))
WRAP(int, epoll_create1, -1, EMFILE, (int flags), (flags))
WRAP(int, epoll_ctl, -1, ENOMEM,
    (int ep, int op, int fd, struct epoll_event *event), (ep, op, fd, event))
WRAP(int, epoll_pwait, -1, EINTR,
    (int ep, struct epoll_event *events, int n, int ms, const sigset_t *set),
    (ep, events, n, ms, set))
WRAP(pid_t, fork, -1, EAGAIN, (void), ())
WRAP(int, pipe2, -1, EMFILE, (int fd[2], int flags), (fd, flags))
WRAP(int, socketpair, -1, EMFILE, (int family, int type, int how, int fd[2]),
    (family, type, how, fd))
WRAP(int, socket, -1, EMFILE, (int family, int type, int how),
    (family, type, how))
WRAP(int, bind, -1, EADDRINUSE,
    (int fd, const struct sockaddr *address, socklen_t len), (fd, address, len))
WRAP(int, listen, -1, EADDRINUSE, (int fd, int n), (fd, n))
WRAP(int, connect, -1, ECONNREFUSED,
    (int fd, const struct sockaddr *address, socklen_t len), (fd, address, len))
WRAP(int, accept4, -1, EMFILE,
    (int fd, struct sockaddr *address, socklen_t *len, int flags),
    (fd, address, len, flags))
WRAP(int, getsockopt, -1, ENOBUFS,
    (int fd, int level, int name, void *value, socklen_t *len),
    (fd, level, name, value, len))
WRAP(int, shutdown, -1, ENOTCONN, (int fd, int how), (fd, how))
WRAP(int, eventfd, -1, EMFILE, (unsigned n, int flags), (n, flags))
WRAP(int, signalfd, -1, EMFILE, (int fd, const sigset_t *set, int flags),
    (fd, set, flags))
WRAP(int, dup, -1, EMFILE, (int fd), (fd))
WRAP(int, dup2, -1, EMFILE, (int fd, int other), (fd, other))
WRAP(int, dup3, -1, EMFILE, (int fd, int other, int flags), (fd, other, flags))
WRAP(int, memfd_create, -1, EMFILE, (const char *name, unsigned flags),
    (name, flags))
WRAP(int, ftruncate, -1, ENOSPC, (int fd, off_t len), (fd, len))
WRAP(int, timerfd_create, -1, EMFILE, (int clock, int flags), (clock, flags))
WRAP(ssize_t, getrandom, -1, ENOSYS, (void *bytes, size_t n, unsigned flags),
    (bytes, n, flags))
WRAP(ssize_t, read, -1, EIO, (int fd, void *bytes, size_t n), (fd, bytes, n))
WRAP(ssize_t, write, -1, EIO, (int fd, const void *bytes, size_t n),
    (fd, bytes, n))
WRAP(ssize_t, pwritev2, -1, EIO,
    (int fd, const struct iovec *list, int n, off_t at, int flags),
    (fd, list, n, at, flags))
WRAP(ssize_t, send, -1, ENOBUFS,
    (int fd, const void *bytes, size_t n, int flags), (fd, bytes, n, flags))
WRAP(ssize_t, recv, -1, ENOMEM, (int fd, void *bytes, size_t n, int flags),
    (fd, bytes, n, flags))
WRAP(ssize_t, sendmsg, -1, ENOBUFS,
    (int fd, const struct msghdr *message, int flags), (fd, message, flags))
WRAP(ssize_t, recvmsg, -1, ENOMEM, (int fd, struct msghdr *message, int flags),
    (fd, message, flags))
WRAP(int, posix_spawnp, EAGAIN, EAGAIN,
    (pid_t * pid, const char *file, const posix_spawn_file_actions_t *files,
	const posix_spawnattr_t *attributes, char *const argv[],
	char *const env[]),
    (pid, file, files, attributes, argv, env))
WRAP(int, posix_spawn_file_actions_adddup2, ENOMEM, ENOMEM,
    (posix_spawn_file_actions_t * files, int fd, int other), (files, fd, other))

int __real_fcntl(int fd, int cmd, ...);
int __wrap_fcntl(int fd, int cmd, ...);
int
__wrap_fcntl(int fd, int cmd, ...)
{
	va_list list;
	long arg;

	va_start(list, cmd);
	arg = va_arg(list, long);
	va_end(list);
	return fails("fcntl", EMFILE) ? -1 : __real_fcntl(fd, cmd, arg);
}

int __real_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...);
int
__wrap_open(const char *path, int flags, ...)
{
	va_list list;
	int mode;

	va_start(list, flags);
	mode = va_arg(list, int);
	va_end(list);
	return fails("open", EMFILE) ? -1 : __real_open(path, flags, mode);
}

int __real_ioctl(int fd, unsigned long cmd, ...);
int __wrap_ioctl(int fd, unsigned long cmd, ...);
int
__wrap_ioctl(int fd, unsigned long cmd, ...)
{
	va_list list;
	void *arg;

	va_start(list, cmd);
	arg = va_arg(list, void *);
	va_end(list);
	return fails("ioctl", EINVAL) ? -1 : __real_ioctl(fd, cmd, arg);
}

/* Only the call that opens a descriptor fails. */
long __real_syscall(long number, ...);
long __wrap_syscall(long number, ...);
long
__wrap_syscall(long number, ...)
{
	long args[6];
	va_list list;

	va_start(list, number);
	for (int i = 0; i < 6; i++)
		args[i] = va_arg(list, long);
	va_end(list);
	if (number == SYS_pidfd_open && fails("pidfd_open", EMFILE))
		return -1;
	return __real_syscall(
	    number, args[0], args[1], args[2], args[3], args[4], args[5]);
}

#ifdef FAULTY_NATS
#define WRAP_NATS(name, status, params, args) \
	WRAP(natsStatus, name, status, 0, params, args)

WRAP_NATS(
    natsOptions_Create, NATS_NO_MEMORY, (natsOptions * *options), (options))
WRAP_NATS(natsOptions_SetURL, NATS_NO_MEMORY,
    (natsOptions * options, const char *url), (options, url))
WRAP_NATS(natsOptions_SetName, NATS_NO_MEMORY,
    (natsOptions * options, const char *name), (options, name))
WRAP_NATS(natsOptions_SetUserInfo, NATS_NO_MEMORY,
    (natsOptions * options, const char *user, const char *password),
    (options, user, password))
WRAP_NATS(natsOptions_SetEventLoop, NATS_NO_MEMORY,
    (natsOptions * options, void *loop, natsEvLoop_Attach attach,
	natsEvLoop_ReadAddRemove reads, natsEvLoop_WriteAddRemove writes,
	natsEvLoop_Detach detach),
    (options, loop, attach, reads, writes, detach))
WRAP_NATS(natsConnection_Connect, NATS_NO_SERVER,
    (natsConnection * *nc, natsOptions *options), (nc, options))
WRAP_NATS(natsConnection_Subscribe, NATS_NO_MEMORY,
    (natsSubscription * *sub, natsConnection *nc, const char *subject,
	natsMsgHandler came, void *closure),
    (sub, nc, subject, came, closure))
WRAP_NATS(natsConnection_SubscribeSync, NATS_NO_MEMORY,
    (natsSubscription * *sub, natsConnection *nc, const char *subject),
    (sub, nc, subject))
WRAP_NATS(natsSubscription_SetPendingLimits, NATS_INVALID_SUBSCRIPTION,
    (natsSubscription * sub, int messages, int bytes), (sub, messages, bytes))
WRAP_NATS(natsSubscription_NextMsg, NATS_NO_MEMORY,
    (natsMsg * *msg, natsSubscription *sub, int64_t ms), (msg, sub, ms))
WRAP_NATS(natsConnection_Publish, NATS_NO_MEMORY,
    (natsConnection * nc, const char *subject, const void *bytes, int n),
    (nc, subject, bytes, n))
WRAP_NATS(natsConnection_PublishRequest, NATS_NO_MEMORY,
    (natsConnection * nc, const char *subject, const char *reply,
	const void *bytes, int n),
    (nc, subject, reply, bytes, n))
WRAP(int64_t, natsConnection_GetMaxPayload, 0, 0, (natsConnection * nc), (nc))
WRAP(int, natsConnection_Buffered, -1, 0, (natsConnection * nc), (nc))
#endif
