/*
 * The working directory of calls; system calls are counted.
 * wrap: fchdir open
 */
/* O_PATH is Linux. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "os/cwd.h"

int __real_fchdir(int fd);
int __wrap_fchdir(int fd);
int __real_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...);

static int ncalls;

int
__wrap_fchdir(int fd)
{
	ncalls++;
	return __real_fchdir(fd);
}

int
__wrap_open(const char *path, int flags, ...)
{
	ncalls++;
	return __real_open(path, flags);
}

/* Does the same as the chdir() function of the command. */
static void
go_to(const char *path)
{
	fz_cwd_moving();
	assert_int_equal(chdir(path), 0);
}

static void
assert_at(const char *path)
{
	char now[PATH_MAX];

	assert_non_null(getcwd(now, sizeof(now)));
	assert_string_equal(now, path);
}

/*
 * Called twice: for a program that reports that it calls chdir(), and for one
 * that does not.
 */
static void
check_calls(void)
{
	struct fz_cwd outer, inner;

	assert_int_equal(chdir("/usr"), 0);
	fz_cwd_enter(&outer);
	fz_cwd_return();
	assert_at("/usr");
	go_to("/");
	go_to("/usr/bin");
	fz_cwd_return();
	assert_at("/usr");
	go_to("/usr/bin");
	fz_cwd_stay(); /* `init` does this */
	go_to("/");
	fz_cwd_return();
	assert_at("/usr/bin");
	go_to("/"); /* the call that begins here makes further calls */
	fz_cwd_enter(&inner);
	go_to("/usr");
	fz_cwd_return();
	assert_at("/");
	go_to("/usr");
	fz_cwd_leave(&inner);
	assert_at("/");
	fz_cwd_leave(&outer);
	assert_at("/usr/bin");
}

static void
test_cwd_calls_begin_where_they_were_entered(void **state)
{
	(void)state;
	check_calls();
}

static void
test_cwd_child_has_no_calls_of_its_parent(void **state)
{
	struct fz_cwd cwd;
	int status;
	pid_t pid;

	(void)state;
	assert_int_equal(chdir("/usr"), 0);
	fz_cwd_enter(&cwd);
	go_to("/");
	pid = fork();
	if (pid == 0) {
		fz_cwd_in_child();
		fz_cwd_moving();
		fz_cwd_return();
		assert_at("/");
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	fz_cwd_leave(&cwd);
	assert_at("/usr");
}

static void
test_cwd_reported_moves_cost_only_the_calls_that_move(void **state)
{
	struct fz_cwd cwd;

	(void)state;
	fz_cwd_reported();
	check_calls();
	ncalls = 0;
	fz_cwd_enter(&cwd);
	for (int i = 0; i < 1000; i++)
		fz_cwd_return();
	assert_int_equal(ncalls, 0);
	go_to("/");
	fz_cwd_return();
	fz_cwd_return();
	/* One call opens the directory, and one changes back. */
	assert_int_equal(ncalls, 2);
	fz_cwd_leave(&cwd);
	assert_int_equal(ncalls, 2);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cwd_calls_begin_where_they_were_entered),
		cmocka_unit_test(test_cwd_child_has_no_calls_of_its_parent),
		cmocka_unit_test(
		    test_cwd_reported_moves_cost_only_the_calls_that_move),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
