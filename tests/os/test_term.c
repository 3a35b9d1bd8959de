/* Properties of a terminal: its size, its cursor, its foreground process. */
#define _GNU_SOURCE /* for posix_openpt */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "os/term.h"

struct pty {
	int master, slave;
};

static int
setup(void **state)
{
	static struct pty pty;

	pty.master = posix_openpt(O_RDWR | O_NOCTTY);
	assert_int_not_equal(pty.master, -1);
	assert_int_equal(grantpt(pty.master), 0);
	assert_int_equal(unlockpt(pty.master), 0);
	pty.slave = open(ptsname(pty.master), O_RDWR | O_NOCTTY);
	assert_int_not_equal(pty.slave, -1);
	*state = &pty;
	return 0;
}

static int
teardown(void **state)
{
	struct pty *pty = *state;

	close(pty->slave);
	close(pty->master);
	return 0;
}

static void
test_size_is_the_present_one(void **state)
{
	const struct pty *pty = *state;
	struct winsize size = { .ws_col = 40, .ws_row = 10 };
	struct fz_term_size found;

	assert_int_equal(ioctl(pty->master, TIOCSWINSZ, &size), 0);
	assert_true(fz_term_get_size(pty->slave, &found));
	assert_int_equal(found.columns, 40);
	assert_int_equal(found.rows, 10);
	size.ws_col = 200;
	assert_int_equal(ioctl(pty->master, TIOCSWINSZ, &size), 0);
	assert_true(fz_term_get_size(pty->slave, &found));
	assert_int_equal(found.columns, 200);
}

static void
test_size_that_is_not_known_has_a_default(void **state)
{
	const struct pty *pty = *state;
	struct fz_term_size found;

	assert_true(fz_term_get_size(pty->slave, &found));
	assert_int_equal(found.columns, FZ_TERM_COLUMNS);
	assert_int_equal(found.rows, FZ_TERM_ROWS);
}

static void
test_pipe_is_no_terminal(void **state)
{
	const struct pty *pty = *state;
	struct fz_term_size found;
	int fd[2];

	assert_int_equal(pipe(fd), 0);
	setenv("TERM", "xterm", 1);
	assert_false(fz_term_get_size(fd[1], &found));
	assert_false(fz_term_has_cursor(fd[1]));
	assert_false(fz_term_is_same(fd[1], fd[1]));
	assert_false(fz_term_is_same(pty->slave, fd[1]));
	assert_false(fz_term_is_background(fd[1]));
	close(fd[0]);
	close(fd[1]);
}

static void
test_cursor_needs_a_capable_terminal(void **state)
{
	const struct pty *pty = *state;

	setenv("TERM", "xterm", 1);
	assert_true(fz_term_has_cursor(pty->slave));
	setenv("TERM", "dumb", 1);
	assert_false(fz_term_has_cursor(pty->slave));
	setenv("TERM", "", 1);
	assert_false(fz_term_has_cursor(pty->slave));
	unsetenv("TERM");
	assert_false(fz_term_has_cursor(pty->slave));
}

static void
test_descriptors_of_one_terminal_are_the_same(void **state)
{
	const struct pty *pty = *state;
	struct pty other, *p = &other;
	void *second = p;
	int copy = dup(pty->slave);

	assert_true(fz_term_is_same(pty->slave, copy));
	close(copy);
	other = *pty;
	assert_int_equal(setup(&second), 0);
	p = second;
	assert_false(fz_term_is_same(other.slave, p->slave));
	teardown(&second);
	*p = other;
}

/* Returns 0 if fz_term_is_background() is right before and after a change. */
static int
session_leader(const char *name)
{
	int fd;
	pid_t child;
	int status = 0;

	if (setsid() == -1 || (fd = open(name, O_RDWR)) == -1)
		return 1;
	if (fz_term_is_background(fd))
		return 2;
	child = fork();
	if (child == 0)
		_exit(setpgid(0, 0) == 0 && fz_term_is_background(fd) ? 0 : 3);
	waitpid(child, &status, 0);
	return WEXITSTATUS(status);
}

static void
test_another_group_is_in_the_background(void **state)
{
	const struct pty *pty = *state;
	int status = 0;
	pid_t child = fork();

	if (child == 0)
		_exit(session_leader(ptsname(pty->master)));
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_size_is_the_present_one),
		T(test_size_that_is_not_known_has_a_default),
		T(test_pipe_is_no_terminal),
		T(test_cursor_needs_a_capable_terminal),
		T(test_descriptors_of_one_terminal_are_the_same),
		T(test_another_group_is_in_the_background),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
