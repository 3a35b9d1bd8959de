/* pipe2, pwritev2, sigtimedwait and syscall are not in C11. */
#define _GNU_SOURCE
#include "os/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "base/err.h"
#include "base/vec.h"
#include "os/process.h"

/*
 * Maximum number of bytes that one call reads or writes. A pipe holds no more.
 * Valgrind checks all requested bytes even if few arrive, so a larger request
 * for a long frame would take quadratic time.
 */
#define TRANSFER_MAX ((size_t)1 << 20)
#define TEXT_STEP ((size_t)4096)

/* Move both descriptors above 2; on failure close both. */
static int
clear_both(int fd[2], struct fz_err *err)
{
	if (fz_fd_clear_standard(&fd[0], err) == 0 &&
	    fz_fd_clear_standard(&fd[1], err) == 0)
		return 0;
	fz_fd_close(&fd[0]);
	fz_fd_close(&fd[1]);
	return -1;
}

int
fz_fd_pipe(int fd[2], struct fz_err *err)
{
	if (pipe2(fd, O_CLOEXEC) == 0)
		return clear_both(fd, err);
	fd[0] = fd[1] = -1;
	return fz_err_sys(err, errno, "cannot make a pipe");
}

int
fz_fd_socket_pair(int fd[2], struct fz_err *err)
{
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd) == 0)
		return clear_both(fd, err);
	fd[0] = fd[1] = -1;
	return fz_err_sys(err, errno, "cannot make a pair of sockets");
}

int
fz_fd_nonblock(int fd, struct fz_err *err)
{
	int flags = fcntl(fd, F_GETFL);

	if (flags != -1 && fcntl(fd, F_SETFL, flags | O_NONBLOCK) != -1)
		return 0;
	return fz_err_sys(err, errno, "cannot make a descriptor non-blocking");
}

int
fz_fd_clear_standard(int *fd, struct fz_err *err)
{
	int other;

	if (*fd > STDERR_FILENO)
		return 0;
	other = fcntl(*fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
	if (other == -1)
		return fz_err_sys(err, errno, "cannot move a descriptor");
	fz_fd_close(fd);
	*fd = other;
	return 0;
}

void
fz_fd_close(int *fd)
{
	int keep = errno;

	if (*fd != -1)
		fz_fd_clear_private(*fd);
	/*
	 * close() is not retried on EINTR: Linux has closed the descriptor by
	 * then.
	 */
	if (*fd != -1)
		close(*fd);
	*fd = -1;
	errno = keep;
}

static int
close_between(int first, int last)
{
	if (first > last)
		return 0;
	return (int)syscall(
	    SYS_close_range, (unsigned)first, (unsigned)last, 0U);
}

static int
compare(const void *a, const void *b)
{
	return *(const int *)a - *(const int *)b;
}

int
fz_fd_close_others(int *keep, size_t n)
{
	int first = STDERR_FILENO + 1;

	qsort(keep, n, sizeof(*keep), compare);
	for (size_t i = 0; i < n; i++) {
		if (keep[i] < first)
			continue;
		if (close_between(first, keep[i] - 1) != 0)
			return -1;
		first = keep[i] + 1;
	}
	return close_between(first, INT_MAX);
}

void
fz_fd_raise_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
		return;
	fz_process.old_fd_limit = limit;
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
}

void
fz_fd_restore_limit(void)
{
	const struct rlimit *old = &fz_process.old_fd_limit;
	struct rlimit limit;

	if (old->rlim_max == 0 || getrlimit(RLIMIT_NOFILE, &limit) != 0)
		return;
	limit.rlim_cur =
	    old->rlim_cur < limit.rlim_max ? old->rlim_cur : limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
}

void
fz_fd_raise_limit_again(void)
{
	struct rlimit limit;

	if (fz_process.old_fd_limit.rlim_max == 0 ||
	    getrlimit(RLIMIT_NOFILE, &limit) != 0)
		return;
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
}

ssize_t
fz_fd_read(int fd, void *bytes, size_t n)
{
	ssize_t got;

	if (n > TRANSFER_MAX)
		n = TRANSFER_MAX;
	do
		got = read(fd, bytes, n);
	while (got == -1 && errno == EINTR);
	return got;
}

bool
fz_fd_read_file(const char *path, char *text, size_t len)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t len_read = 0;
	ssize_t n;

	if (fd == -1)
		return false;
	while ((n = fz_fd_read(fd, text + len_read, len - 1 - len_read)) > 0)
		len_read += (size_t)n;
	fz_fd_close(&fd);
	text[len_read] = '\0';
	return n == 0 && len_read > 0;
}

/* Read the rest of a file. 0, or -1. In both cases the caller frees `*text`. */
static int
read_rest(int fd, char **text, size_t *len)
{
	size_t cap = 0;
	char *more;
	ssize_t n;

	do {
		more = fz_vec_room(*text, &cap, *len + TEXT_STEP, 1);
		if (more == NULL)
			return -1;
		*text = more;
		n = fz_fd_read(fd, more + *len, cap - 1 - *len);
		if (n > 0)
			*len += (size_t)n;
	} while (n > 0);
	more[*len] = '\0';
	return n == 0 && *len > 0 ? 0 : -1;
}

char *
fz_fd_read_text(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	char *text = NULL;
	size_t len = 0;

	if (fd == -1)
		return NULL;
	if (read_rest(fd, &text, &len) == -1) {
		free(text);
		text = NULL;
	}
	fz_fd_close(&fd);
	return text;
}

uint64_t
fz_fd_read_number(const char *path, const char *field, int base)
{
	char text[8192], *end;
	const char *at = text;
	unsigned long long n;

	if (!fz_fd_read_file(path, text, sizeof(text)))
		return UINT64_MAX;
	while (at != NULL && strncmp(at, field, strlen(field)) != 0) {
		at = strchr(at, '\n');
		at = at != NULL ? at + 1 : NULL;
	}
	if (at == NULL)
		return UINT64_MAX;
	at += strlen(field);
	n = strtoull(at, &end, base);
	return end != at ? n : UINT64_MAX;
}

static ssize_t
write_retried(int fd, const void *bytes, size_t n)
{
	ssize_t put;

	do
		put = write(fd, bytes, n);
	while (put == -1 && errno == EINTR);
	return put;
}

/* Whether a SIGPIPE is pending that this thread blocked before the write. */
static bool
sigpipe_waits(const sigset_t *blocked)
{
	sigset_t waiting;

	return sigismember(blocked, SIGPIPE) == 1 &&
	       sigpending(&waiting) == 0 && sigismember(&waiting, SIGPIPE) == 1;
}

static void
consume_sigpipe(const sigset_t *sigpipe)
{
	const struct timespec now = { 0, 0 };

	while (sigtimedwait(sigpipe, NULL, &now) == -1 && errno == EINTR)
		;
}

/* Linux 6.18 and newer; older kernels refuse the flag. */
#ifndef RWF_NOSIGNAL
#define RWF_NOSIGNAL 0x00000100
#endif

/* Write without a signal. EOPNOTSUPP: the kernel has no flag for this. */
static ssize_t
write_nosignal(int fd, const void *bytes, size_t n)
{
	static atomic_bool refused;
	/* The cast is harmless, because a write only reads its iovec. */
	struct iovec piece = { (void *)(uintptr_t)bytes, n };
	ssize_t put = -1;

	if (atomic_load_explicit(&refused, memory_order_relaxed)) {
		errno = EOPNOTSUPP;
		return -1;
	}
	do
		put = pwritev2(fd, &piece, 1, -1, RWF_NOSIGNAL);
	while (put == -1 && errno == EINTR);
	if (put == -1 &&
	    (errno == EOPNOTSUPP || errno == EINVAL || errno == ENOSYS)) {
		atomic_store(&refused, true);
		errno = EOPNOTSUPP;
	}
	return put;
}

static ssize_t
write_masked(int fd, const void *bytes, size_t n)
{
	sigset_t sigpipe, before;
	bool foreign;
	ssize_t put;
	int keep;

	sigemptyset(&sigpipe);
	sigaddset(&sigpipe, SIGPIPE);
	pthread_sigmask(SIG_BLOCK, &sigpipe, &before);
	foreign = sigpipe_waits(&before);
	put = write_retried(fd, bytes, n);
	keep = errno;
	if (put == -1 && keep == EPIPE && !foreign)
		consume_sigpipe(&sigpipe);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	errno = keep;
	return put;
}

ssize_t
fz_fd_write(int fd, const void *bytes, size_t n)
{
	ssize_t put;

	if (n > TRANSFER_MAX)
		n = TRANSFER_MAX;
	put = write_nosignal(fd, bytes, n);
	if (put == -1 && errno == EOPNOTSUPP)
		put = write_masked(fd, bytes, n);
	return put;
}

int
fz_fd_write_all(int fd, const void *bytes, size_t n)
{
	const unsigned char *p = bytes;

	while (n > 0) {
		ssize_t put =
		    write_retried(fd, p, n < TRANSFER_MAX ? n : TRANSFER_MAX);

		if (put == -1)
			return -1;
		p += put;
		n -= (size_t)put;
	}
	return 0;
}

bool
fz_fd_peer_closed(void)
{
	return errno == EPIPE || errno == ECONNRESET;
}
