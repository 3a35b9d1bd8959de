/*
 * Descriptors; reads and writes are short, interrupted or fail on demand.
 * wrap: pipe2 read write fcntl pwritev2
 */
/* pipe2 and sigtimedwait are not in C11. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/err.h"
#include "os/fd.h"

int __real_pipe2(int fd[2], int flags);
int __wrap_pipe2(int fd[2], int flags);
ssize_t __real_read(int fd, void *bytes, size_t n);
ssize_t __wrap_read(int fd, void *bytes, size_t n);
ssize_t __real_write(int fd, const void *bytes, size_t n);
ssize_t __wrap_write(int fd, const void *bytes, size_t n);
int __real_fcntl(int fd, int cmd, ...);
int __wrap_fcntl(int fd, int cmd, ...);
ssize_t __real_pwritev2(
    int fd, const struct iovec *pieces, int n, off_t at, int flags);
ssize_t __wrap_pwritev2(
    int fd, const struct iovec *pieces, int n, off_t at, int flags);

/*
 * Whether the kernel can write without SIGPIPE. After it has refused once, the
 * library does not try again.
 */
static bool new_kernel = false;

ssize_t
__wrap_pwritev2(int fd, const struct iovec *pieces, int n, off_t at, int flags)
{
	if (new_kernel)
		return __real_pwritev2(fd, pieces, n, at, flags);
	errno = EOPNOTSUPP;
	return -1;
}

static int failing_cmd; /* the command of fcntl() that fails */
static bool pipes_fail;
static int interruptions;  /* number of calls that still fail with EINTR */
static size_t write_limit; /* maximum bytes of one write; 0: no limit */

int
__wrap_pipe2(int fd[2], int flags)
{
	if (!pipes_fail)
		return __real_pipe2(fd, flags);
	errno = EMFILE;
	return -1;
}

ssize_t
__wrap_read(int fd, void *bytes, size_t n)
{
	if (interruptions == 0)
		return __real_read(fd, bytes, n);
	interruptions--;
	errno = EINTR;
	return -1;
}

ssize_t
__wrap_write(int fd, const void *bytes, size_t n)
{
	if (interruptions > 0) {
		interruptions--;
		errno = EINTR;
		return -1;
	}
	if (write_limit != 0 && n > write_limit)
		n = write_limit;
	return __real_write(fd, bytes, n);
}

int
__wrap_fcntl(int fd, int cmd, ...)
{
	va_list ap;
	int arg;

	va_start(ap, cmd);
	arg = cmd == F_GETFD || cmd == F_GETFL ? 0 : va_arg(ap, int);
	va_end(ap);
	if (cmd != failing_cmd)
		return __real_fcntl(fd, cmd, arg);
	errno = EBADF;
	return -1;
}

static int ends[2];

static int
setup(void **state)
{
	(void)state;
	failing_cmd = -1;
	return fz_fd_pipe(ends, NULL);
}

static int
teardown(void **state)
{
	(void)state;
	fz_fd_close(&ends[0]);
	fz_fd_close(&ends[1]);
	return 0;
}

static void
test_fd_pipes_close_on_exec(void **state)
{
	(void)state;
	assert_int_equal(fcntl(ends[0], F_GETFD), FD_CLOEXEC);
	assert_int_equal(fcntl(ends[1], F_GETFD), FD_CLOEXEC);
}

static void
test_fd_pipe_failure_leaves_no_numbers(void **state)
{
	int fd[2] = { 7, 7 };
	struct fz_err err;

	(void)state;
	pipes_fail = true;
	assert_int_equal(fz_fd_pipe(fd, &err), -1);
	pipes_fail = false;
	assert_int_equal(err.code, EMFILE);
	assert_int_equal(fd[0], -1);
	assert_int_equal(fd[1], -1);
}

static void
test_fd_nonblock_reads_say_eagain(void **state)
{
	char c;

	(void)state;
	assert_int_equal(fz_fd_nonblock(ends[0], NULL), 0);
	assert_int_equal(fz_fd_read(ends[0], &c, 1), -1);
	assert_int_equal(errno, EAGAIN);
}

static void
test_fd_nonblock_reports_failures(void **state)
{
	struct fz_err err;

	(void)state;
	failing_cmd = F_GETFL;
	assert_int_equal(fz_fd_nonblock(ends[0], &err), -1);
	failing_cmd = F_SETFL;
	assert_int_equal(fz_fd_nonblock(ends[0], &err), -1);
	assert_int_equal(err.code, EBADF);
}

static void
test_fd_a_standard_number_is_left_for_another(void **state)
{
	int keep = dup(STDIN_FILENO), fd = STDIN_FILENO, other = ends[0];
	struct fz_err err;

	(void)state;
	assert_int_equal(fz_fd_clear_standard(&other, &err), 0);
	assert_int_equal(other, ends[0]);
	failing_cmd = F_DUPFD_CLOEXEC;
	assert_int_equal(fz_fd_clear_standard(&fd, &err), -1);
	assert_int_equal(fd, STDIN_FILENO);
	assert_int_equal(err.code, EBADF);
	failing_cmd = -1;
	assert_int_equal(fz_fd_clear_standard(&fd, &err), 0);
	assert_true(fd > STDERR_FILENO);
	assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
	assert_int_equal(fcntl(STDIN_FILENO, F_GETFD), -1);
	dup2(keep, STDIN_FILENO);
	close(keep);
	close(fd);
}

static bool
is_open(int fd)
{
	return __real_fcntl(fd, F_GETFD) != -1;
}

static void
test_fd_pipes_have_no_standard_numbers(void **state)
{
	int keep = dup(STDIN_FILENO), fd[2];

	(void)state;
	close(STDIN_FILENO);
	assert_int_equal(fz_fd_pipe(fd, NULL), 0);
	assert_false(is_open(STDIN_FILENO));
	assert_true(fd[0] > STDERR_FILENO && fd[1] > STDERR_FILENO);
	fz_fd_close(&fd[0]);
	fz_fd_close(&fd[1]);
	failing_cmd = F_DUPFD_CLOEXEC;
	assert_int_equal(fz_fd_pipe(fd, NULL), -1);
	failing_cmd = -1;
	assert_int_equal(fd[0], -1);
	assert_int_equal(fd[1], -1);
	assert_false(is_open(STDIN_FILENO));
	dup2(keep, STDIN_FILENO);
	close(keep);
}

/*
 * The copies get the descriptors FIRST to FIRST + NFD - 1, whose bits are in
 * several words of the bitmap.
 */
enum { FIRST = 100, NFD = 100 };

static void
open_many(void)
{
	for (int i = 0; i < NFD; i++)
		assert_int_equal(dup2(ends[0], FIRST + i), FIRST + i);
}

static void
test_fd_close_private_closes_no_other(void **state)
{
	int fd = FIRST + 5;

	(void)state;
	open_many();
	for (int i = 0; i < NFD; i++) {
		if (i % 3 != 0)
			assert_int_equal(
			    fz_fd_make_private(FIRST + i, NULL), 0);
	}
	assert_true(fz_fd_is_private(fd));
	fz_fd_close(&fd); /* the next call reuses the number of `fd` */
	assert_int_equal(dup2(ends[0], FIRST + 5), FIRST + 5);
	assert_false(fz_fd_is_private(FIRST + 5));
	fz_fd_close_private(false);
	for (int i = 0; i < NFD; i++) {
		fd = FIRST + i;
		assert_int_equal(is_open(fd), i % 3 == 0 || i == 5);
		assert_false(fz_fd_is_private(fd));
		if (is_open(fd))
			fz_fd_close(&fd);
	}
	assert_true(is_open(ends[0]) && is_open(ends[1]));
	fz_fd_close_private(false);
}

static int
close_others_in_child(void)
{
	int keep[] = { FIRST + 70, -1, 1, FIRST + 7, FIRST + 8 };
	int bad;

	bad = fz_fd_close_others(keep, sizeof(keep) / sizeof(*keep));
	for (int i = 0; i < NFD; i++)
		bad |= is_open(FIRST + i) != (i == 70 || i == 7 || i == 8);
	return bad | is_open(ends[0]) | !is_open(STDIN_FILENO) |
	       !is_open(STDERR_FILENO);
}

static void
test_fd_close_others_keeps_named_and_standard_descriptors(void **state)
{
	pid_t pid;
	int status;

	(void)state;
	open_many();
	pid = fork();
	if (pid == 0)
		_exit(close_others_in_child() != 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	for (int i = 0; i < NFD; i++)
		close(FIRST + i);
	assert_int_equal(status, 0);
}

static void
test_fd_limit_is_raised_and_restored(void **state)
{
	struct rlimit before, limit;

	(void)state;
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	limit = before;
	limit.rlim_cur = 250;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	/* no effect: the limit was not raised */
	fz_fd_restore_limit();
	fz_fd_raise_limit_again();
	getrlimit(RLIMIT_NOFILE, &limit);
	assert_int_equal(limit.rlim_cur, 250);
	fz_fd_raise_limit();
	getrlimit(RLIMIT_NOFILE, &limit);
	assert_true(limit.rlim_cur == before.rlim_max);
	fz_fd_restore_limit();
	getrlimit(RLIMIT_NOFILE, &limit);
	assert_int_equal(limit.rlim_cur, 250);
	fz_fd_raise_limit_again();
	getrlimit(RLIMIT_NOFILE, &limit);
	assert_true(limit.rlim_cur == before.rlim_max);
	setrlimit(RLIMIT_NOFILE, &before);
}

static void
test_fd_close_keeps_errno(void **state)
{
	int fd = dup(ends[0]), copy = fd;

	(void)state;
	errno = ERANGE;
	fz_fd_close(&fd);
	fz_fd_close(&fd);
	assert_int_equal(fd, -1);
	assert_int_equal(errno, ERANGE);
	assert_int_equal(close(copy), -1);
}

static void
test_fd_interrupted_calls_are_retried(void **state)
{
	char bytes[8];

	(void)state;
	interruptions = 3;
	assert_int_equal(fz_fd_write(ends[1], "abc", 3), 3);
	interruptions = 3;
	assert_int_equal(fz_fd_read(ends[0], bytes, 8), 3);
	assert_memory_equal(bytes, "abc", 3);
}

static void
test_fd_write_all_goes_on_after_short_writes(void **state)
{
	char bytes[8];

	(void)state;
	write_limit = 3;
	assert_int_equal(fz_fd_write_all(ends[1], "abcdefgh", 8), 0);
	write_limit = 0;
	assert_int_equal(fz_fd_read(ends[0], bytes, 8), 8);
	assert_memory_equal(bytes, "abcdefgh", 8);
}

static bool
sigpipe_is(int (*ask)(sigset_t *set))
{
	sigset_t set;

	assert_int_equal(ask(&set), 0);
	return sigismember(&set, SIGPIPE) == 1;
}

static int
blocked(sigset_t *set)
{
	return pthread_sigmask(SIG_BLOCK, NULL, set);
}

/* This test comes first, because the library remembers a refusal. */
static void
test_fd_a_new_kernel_writes_without_a_signal(void **state)
{
	ssize_t put;

	(void)state;
	new_kernel = true;
	assert_int_equal(fz_fd_write(ends[1], "x", 1), 1);
	fz_fd_close(&ends[0]);
	put = fz_fd_write(ends[1], "x", 1);
	new_kernel = false;
	assert_int_equal(put, -1);
	assert_int_equal(errno, EPIPE);
}

static void
test_fd_broken_pipe_is_an_error_not_a_signal(void **state)
{
	(void)state;
	fz_fd_close(&ends[0]);
	assert_int_equal(fz_fd_write(ends[1], "x", 1), -1);
	assert_int_equal(errno, EPIPE);
	assert_false(sigpipe_is(blocked));
	assert_false(sigpipe_is(sigpending));
}

static void
test_fd_leaves_a_pending_sigpipe_alone(void **state)
{
	const struct timespec now = { 0, 0 };
	sigset_t set, before;

	(void)state;
	sigemptyset(&set);
	sigaddset(&set, SIGPIPE);
	pthread_sigmask(SIG_BLOCK, &set, &before);
	fz_fd_close(&ends[0]);
	assert_int_equal(fz_fd_write(ends[1], "x", 1), -1);
	assert_false(sigpipe_is(sigpending));
	raise(SIGPIPE);
	assert_int_equal(fz_fd_write(ends[1], "x", 1), -1);
	assert_true(sigpipe_is(sigpending));
	assert_true(sigpipe_is(blocked));
	assert_int_equal(sigtimedwait(&set, NULL, &now), SIGPIPE);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
}

/* Write a new file, whose name is `path`. */
static void
write_file(char *path, const char *text)
{
	int fd = mkstemp(path);

	assert_int_not_equal(fd, -1);
	assert_int_equal(fz_fd_write_all(fd, text, strlen(text)), 0);
	assert_int_equal(close(fd), 0);
}

static void
test_fd_read_number_finds_a_field_at_the_start_of_a_line(void **state)
{
	char path[] = "/tmp/fzlua-fd-XXXXXX";

	(void)state;
	write_file(path, "12 a\nMoreSize: 7\nSize:\t 34 kB\nMask: 00ff\nNo: x");
	assert_int_equal(fz_fd_read_number(path, "", 10), 12);
	assert_int_equal(fz_fd_read_number(path, "Size:", 10), 34);
	assert_int_equal(fz_fd_read_number(path, "Mask:", 16), 255);
	assert_true(fz_fd_read_number(path, "No:", 10) == UINT64_MAX);
	assert_true(fz_fd_read_number(path, "None:", 10) == UINT64_MAX);
	assert_int_equal(unlink(path), 0);
	assert_true(fz_fd_read_number(path, "", 10) == UINT64_MAX);
}

static void
test_fd_read_text_reads_files_of_any_length(void **state)
{
	char path[] = "/tmp/fzlua-fd-XXXXXX", other[] = "/tmp/fzlua-fd-XXXXXX";
	static char text[100001];
	char *got;

	(void)state;
	memset(text, 'x', sizeof(text) - 1);
	write_file(path, text);
	interruptions = 1;
	got = fz_fd_read_text(path);
	assert_string_equal(got, text);
	free(got);
	assert_int_equal(unlink(path), 0);
	assert_null(fz_fd_read_text(path));
	write_file(other, "");
	assert_null(fz_fd_read_text(other));
	assert_int_equal(unlink(other), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_fd_a_new_kernel_writes_without_a_signal),
		TEST(test_fd_pipes_close_on_exec),
		cmocka_unit_test(test_fd_pipe_failure_leaves_no_numbers),
		TEST(test_fd_nonblock_reads_say_eagain),
		TEST(test_fd_nonblock_reports_failures),
		TEST(test_fd_a_standard_number_is_left_for_another),
		TEST(test_fd_pipes_have_no_standard_numbers),
		TEST(test_fd_close_private_closes_no_other),
		TEST(test_fd_close_others_keeps_named_and_standard_descriptors),
		TEST(test_fd_limit_is_raised_and_restored),
		TEST(test_fd_close_keeps_errno),
		TEST(test_fd_interrupted_calls_are_retried),
		TEST(test_fd_write_all_goes_on_after_short_writes),
		TEST(test_fd_broken_pipe_is_an_error_not_a_signal),
		TEST(test_fd_leaves_a_pending_sigpipe_alone),
		TEST(test_fd_read_number_finds_a_field_at_the_start_of_a_line),
		TEST(test_fd_read_text_reads_files_of_any_length),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
