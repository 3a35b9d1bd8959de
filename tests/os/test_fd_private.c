/*
 * Private descriptors: a child that has many leaves them to a helper, which may
 * fail to start.
 * wrap: clone
 */
/* pipe2 and clone are Linux. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "os/fd.h"
#include "sanitized.h"

/* Numbers of the descriptors. A few of them are not private. */
enum { FIRST = 100, NMANY = 600, NFEW = 100, HIGH = FIRST + NMANY + 20 };
#define TIMEOUT_MS 60000

static bool clone_fails;
static int nhelpers;

int __real_clone(int (*entry)(void *), void *stack, int flags, void *arg, ...);
int __wrap_clone(int (*entry)(void *), void *stack, int flags, void *arg, ...);

int
__wrap_clone(int (*entry)(void *), void *stack, int flags, void *arg, ...)
{
	nhelpers++;
	if (!clone_fails)
		return __real_clone(entry, stack, flags, arg);
	errno = EAGAIN;
	return -1;
}

static bool
is_open(int fd)
{
	return fcntl(fd, F_GETFD) != -1;
}

static bool
is_other(int i)
{
	return i == 7 || i == 64 || i == 150;
}

/* Open `n` copies of `fd` from FIRST on; all but a few are private. */
static void
open_copies(int fd, int n)
{
	for (int i = 0; i < n; i++) {
		assert_int_equal(dup2(fd, FIRST + i), FIRST + i);
		if (!is_other(i))
			assert_int_equal(
			    fz_fd_make_private(FIRST + i, NULL), 0);
	}
	assert_int_equal(dup2(fd, HIGH), HIGH);
}

static void
close_copies(int n)
{
	for (int i = 0; i < n; i++) {
		int fd = FIRST + i;

		fz_fd_close(&fd);
	}
	close(HIGH);
}

/*
 * The number of descriptors that are open and should be closed, or are closed
 * and should be open.
 */
static int
count_wrong(int n, int kept)
{
	int wrong = !is_open(HIGH);

	for (int i = 0; i < n; i++)
		wrong +=
		    is_open(FIRST + i) != (is_other(i) || FIRST + i == kept);
	return wrong;
}

/* In a child: keep one of the last copies. Returns the failed checks. */
static int
leave_copies(int n)
{
	int kept = FIRST + n - 2, wrong;

	fz_fd_clear_private(kept);
	fz_fd_lower(&kept);
	wrong = kept != (n == NMANY ? FIRST : FIRST + n - 2);
	wrong += (fcntl(kept, F_GETFD) & FD_CLOEXEC) == 0 && n == NMANY;
	fz_fd_close_private(true);
	wrong += count_wrong(n, kept);
	wrong += nhelpers != (n == NMANY && !UNDER_ASAN && !UNDER_TSAN);
	for (int i = 0; i < n; i++)
		wrong += fz_fd_is_private(FIRST + i);
	return wrong;
}

static void
check_copies(int n)
{
	int ends[2], status;
	pid_t pid;

	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	open_copies(ends[0], n);
	pid = fork();
	if (pid == 0)
		_exit(leave_copies(n));
	assert_int_equal(waitpid(pid, &status, 0), pid);
	close_copies(n);
	close(ends[0]);
	close(ends[1]);
	assert_int_equal(status, 0);
}

static void
test_fd_private_many_are_closed_and_no_other(void **state)
{
	(void)state;
	check_copies(NMANY);
}

static void
test_fd_private_few_keep_the_numbers_of_others(void **state)
{
	(void)state;
	check_copies(NFEW);
}

static void
test_fd_private_are_closed_without_a_helper(void **state)
{
	(void)state;
	clone_fails = true;
	check_copies(NMANY);
	clone_fails = false;
}

/* In a child: report that all is closed, and end when the parent says so. */
static void
close_and_wait(int ready, int until[2])
{
	char byte = 0;

	close(until[1]);
	fz_fd_close_private(true);
	if (write(ready, &byte, 1) == 1)
		fz_fd_read(until[0], &byte, 1);
	_exit(0);
}

static void
wait_for(int fd, char *byte, ssize_t expected)
{
	struct pollfd pfd = { .fd = fd, .events = POLLIN };

	assert_int_equal(poll(&pfd, 1, TIMEOUT_MS), 1);
	assert_int_equal(read(fd, byte, 1), expected);
}

/* EOF comes while the child lives, so the child's helper has ended. */
static void
test_fd_private_many_leave_no_end_open(void **state)
{
	int ends[2], ready[2], until[2];
	char byte;
	pid_t pid;

	(void)state;
	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
	assert_int_equal(pipe2(until, O_CLOEXEC), 0);
	open_copies(ends[1], NMANY);
	for (int i = 0; i < NMANY; i++) {
		if (is_other(i))
			close(FIRST + i);
	}
	close(HIGH);
	assert_int_equal(fz_fd_make_private(ends[1], NULL), 0);
	pid = fork();
	if (pid == 0)
		close_and_wait(ready[1], until);
	close_copies(NMANY);
	fz_fd_close(&ends[1]);
	wait_for(ready[0], &byte, 1);
	wait_for(ends[0], &byte, 0);
	close(until[1]);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	close(ends[0]);
	close(until[0]);
	close(ready[0]);
	close(ready[1]);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_fd_private_many_are_closed_and_no_other),
		cmocka_unit_test(
		    test_fd_private_few_keep_the_numbers_of_others),
		cmocka_unit_test(test_fd_private_are_closed_without_a_helper),
		cmocka_unit_test(test_fd_private_many_leave_no_end_open),
	};

	return cmocka_run_group_tests_name("fd_private", tests, NULL, NULL);
}
