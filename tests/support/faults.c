/* setenv and pwritev2 are not in C11. */
#define _GNU_SOURCE
#include "faults.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/uio.h>
#include <unistd.h>

#include "world.h"

struct faults faults;

/*
 * The library finds one processor only. It then does not poll, and makes the
 * same calls in each run.
 */
__attribute__((constructor)) static void
faults_one_processor(void)
{
	setenv("FZLUA_JOBS", "1", 1);
}

void
faults_at(unsigned long n)
{
	faults.pid = getpid();
	faults.calls = 0;
	faults.fail_at = n;
}

bool
faults_end(void)
{
	bool came = faults.fail_at != 0 && faults.calls >= faults.fail_at;

	faults.pid = 0;
	faults.fail_at = 0;
	faults.fork_error = faults.odd_error = 0;
	faults.odd_every = 0;
	faults.most = 0;
	return came;
}

int
faults_at_each(int (*scenario)(void *ctx), void *ctx)
{
	unsigned long n = 0;
	int rc, nfailed = 0;
	bool came;

	do {
		faults_at(++n);
		rc = scenario(ctx);
		came = faults_end();
		nfailed += rc != 0;
		assert_no_children();
	} while (came);
	assert_int_equal(rc, 0);
	print_message("%lu calls, %d failures\n", n, nfailed);
	return nfailed;
}

static bool
faults_now(int code)
{
	if (faults.pid == 0 || faults.fail_at == 0 || faults.pid != getpid() ||
	    ++faults.calls != faults.fail_at)
		return false;
	errno = code;
	return true;
}

/* A read or write: it may fail, or be shorter than asked. */
static bool
faults_odd(size_t *n)
{
	if (faults.pid == 0 || faults.pid != getpid())
		return false;
	if (faults.most != 0 && *n > faults.most)
		*n = faults.most;
	if (faults.odd_every == 0 || ++faults.nios % faults.odd_every != 0)
		return false;
	faults.nodd++;
	errno = faults.odd_error;
	return true;
}

void *__real_malloc(size_t n);
void *__wrap_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t n);
void *__wrap_realloc(void *p, size_t n);
void *__real_mmap(void *at, size_t n, int prot, int flags, int fd, off_t off);
void *__wrap_mmap(void *at, size_t n, int prot, int flags, int fd, off_t off);
int __real_epoll_create1(int flags);
int __wrap_epoll_create1(int flags);
int __real_epoll_ctl(int ep, int op, int fd, struct epoll_event *event);
int __wrap_epoll_ctl(int ep, int op, int fd, struct epoll_event *event);
int __real_epoll_pwait(
    int ep, struct epoll_event *events, int n, int ms, const sigset_t *signals);
int __wrap_epoll_pwait(
    int ep, struct epoll_event *events, int n, int ms, const sigset_t *signals);
pid_t __real_fork(void);
pid_t __wrap_fork(void);
int __real_pipe2(int fd[2], int flags);
int __wrap_pipe2(int fd[2], int flags);
ssize_t __real_read(int fd, void *bytes, size_t n);
ssize_t __wrap_read(int fd, void *bytes, size_t n);
ssize_t __wrap_write(int fd, const void *bytes, size_t n);

ssize_t __real_pwritev2(
    int fd, const struct iovec *list, int n, off_t at, int flags);
ssize_t __wrap_pwritev2(
    int fd, const struct iovec *list, int n, off_t at, int flags);

void *
__wrap_malloc(size_t n)
{
	return faults_now(ENOMEM) ? NULL : __real_malloc(n);
}

void *
__wrap_calloc(size_t n, size_t size)
{
	return faults_now(ENOMEM) ? NULL : __real_calloc(n, size);
}

void *
__wrap_realloc(void *p, size_t n)
{
	return faults_now(ENOMEM) ? NULL : __real_realloc(p, n);
}

void *
__wrap_mmap(void *at, size_t n, int prot, int flags, int fd, off_t off)
{
	if (faults_now(ENOMEM))
		return (void *)-1;
	return __real_mmap(at, n, prot, flags, fd, off);
}

int
__wrap_epoll_create1(int flags)
{
	return faults_now(EMFILE) ? -1 : __real_epoll_create1(flags);
}

int
__wrap_epoll_ctl(int ep, int op, int fd, struct epoll_event *event)
{
	return faults_now(ENOMEM) ? -1 : __real_epoll_ctl(ep, op, fd, event);
}

int
__wrap_epoll_pwait(
    int ep, struct epoll_event *events, int n, int ms, const sigset_t *signals)
{
	if (faults_now(EINTR))
		return -1;
	return __real_epoll_pwait(ep, events, n, ms, signals);
}

pid_t
__wrap_fork(void)
{
	if (faults.fork_error != 0) {
		errno = faults.fork_error;
		return -1;
	}
	return faults_now(EAGAIN) ? -1 : __real_fork();
}

int
__wrap_pipe2(int fd[2], int flags)
{
	return faults_now(EMFILE) ? -1 : __real_pipe2(fd, flags);
}

ssize_t
__wrap_read(int fd, void *bytes, size_t n)
{
	if (faults_odd(&n) || faults_now(EIO))
		return -1;
	return __real_read(fd, bytes, n);
}

ssize_t
__wrap_write(int fd, const void *bytes, size_t n)
{
	if (faults_odd(&n) || faults_now(EIO))
		return -1;
	return __real_write(fd, bytes, n);
}

ssize_t
__wrap_pwritev2(int fd, const struct iovec *list, int n, off_t at, int flags)
{
	struct iovec piece = *list;

	if (faults_odd(&piece.iov_len) || faults_now(EIO))
		return -1;
	return __real_pwritev2(fd, &piece, n, at, flags);
}
