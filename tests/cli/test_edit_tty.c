/*
 * Signals that end the command while input is edited.
 *
 * wrap: tcsetattr
 */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <signal.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "cli/edit_tty.h"

enum { HANGS_S = 120 };

/* A signal to raise while the modes of the terminal are restored; 0: none. */
static int coming;

int __wrap_tcsetattr(int fd, int when, const struct termios *modes);

int
__wrap_tcsetattr(int fd, int when, const struct termios *modes)
{
	int sig = coming;

	(void)fd;
	(void)when;
	(void)modes;
	coming = 0;
	if (sig != 0)
		raise(sig);
	return 0;
}

/* Raise `first` before, and `second` while the modes are restored; 0: none. */
static void
assert_ends(int first, int second)
{
	pid_t pid = fork();
	int status;

	assert_int_not_equal(pid, -1);
	if (pid == 0) {
		alarm(HANGS_S);
		fz_edit_tty_begin(-1);
		coming = second;
		if (first != 0)
			raise(first);
		fz_edit_tty_end();
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), second != 0 ? second : first);
}

static void
test_edit_tty_a_signal_ends_the_process(void **state)
{
	(void)state;
	assert_ends(SIGTERM, 0);
	assert_ends(SIGHUP, 0);
}

static void
test_edit_tty_a_signal_at_the_end_ends_the_process(void **state)
{
	(void)state;
	assert_ends(0, SIGHUP);
	assert_ends(0, SIGTERM);
}

static void
test_edit_tty_a_signal_in_the_handler_of_another_ends_the_process(void **state)
{
	(void)state;
	assert_ends(SIGTERM, SIGHUP);
	assert_ends(SIGHUP, SIGTERM);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_edit_tty_a_signal_ends_the_process),
		cmocka_unit_test(
		    test_edit_tty_a_signal_at_the_end_ends_the_process),
		cmocka_unit_test(
		    test_edit_tty_a_signal_in_the_handler_of_another_ends_the_process),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
