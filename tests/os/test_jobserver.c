/*
 * MAKEFLAGS that name a pipe or something else, and those for workers.
 * wrap: open malloc calloc realloc
 */
/* pipe2, mkfifo and setenv are not in C11. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "no_memory.h"
#include "os/fd.h"
#include "os/jobserver.h"

int __real_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...);

static bool no_proc;
static int open_fails; /* the n-th open() from now fails; 0: none */

int
__wrap_open(const char *path, int flags, ...)
{
	if (open_fails != 0 && --open_fails == 0) {
		errno = EMFILE;
		return -1;
	}
	if (no_proc && strncmp(path, "/proc", 5) == 0) {
		errno = ENOENT;
		return -1;
	}
	return __real_open(path, flags);
}

/* Whether the library finds a pipe in MAKEFLAGS=`format`, with `a` and `b`. */
static bool
finds(const char *format, int a, int b, int fd[2])
{
	char text[256];

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
	snprintf(text, sizeof(text), format, a, b);
#pragma GCC diagnostic pop
	setenv("MAKEFLAGS", text, 1);
	return fz_jobserver_find(fd);
}

static void
assert_none(const char *format, int a, int b)
{
	int fd[2];

	assert_false(finds(format, a, b, fd));
	assert_int_equal(fd[0], -1);
	assert_int_equal(fd[1], -1);
}

/* `fd` has the ends of the pipe `theirs`, which were opened again. */
static void
assert_ends(const int fd[2], const int theirs[2])
{
	char byte = 0;

	assert_int_equal(read(fd[0], &byte, 1), -1);
	assert_int_equal(errno, EAGAIN);
	assert_int_equal(fcntl(theirs[0], F_GETFL) & O_NONBLOCK, 0);
	assert_int_equal(fcntl(fd[0], F_GETFD), FD_CLOEXEC);
	assert_int_equal(fcntl(fd[1], F_GETFD), FD_CLOEXEC);
	assert_int_equal(write(fd[1], "x", 1), 1);
	assert_int_equal(fz_jobserver_count(fd[0]), 1);
	assert_int_equal(read(theirs[0], &byte, 1), 1);
	assert_int_equal(byte, 'x');
	assert_int_equal(fz_jobserver_count(fd[0]), 0);
}

static void
close_pair(int fd[2])
{
	fz_fd_close(&fd[0]);
	fz_fd_close(&fd[1]);
}

static void
test_jobserver_a_pipe_by_its_numbers(void **state)
{
	static const char *const flags[] = {
		" -j3 --jobserver-auth=%d,%d",
		"kw --jobserver-fds=%d,%d -j",
		"--jobserver-auth=7777,7778 --jobserver-auth=%d,%d -- A=1",
	};
	int theirs[2], fd[2];

	(void)state;
	assert_int_equal(pipe2(theirs, 0), 0);
	for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]); i++) {
		assert_true(finds(flags[i], theirs[0], theirs[1], fd));
		assert_ends(fd, theirs);
		close_pair(fd);
	}
	close_pair(theirs);
}

static void
test_jobserver_the_numbers_alone(void **state)
{
	int theirs[2], fd[2], found[2];

	(void)state;
	assert_int_equal(pipe2(theirs, 0), 0);
	assert_true(
	    finds("-j2 --jobserver-auth=%d,%d", theirs[0], theirs[1], found));
	assert_true(fz_jobserver_named(fd));
	assert_memory_equal(fd, theirs, sizeof(fd));
	close_pair(found);
	/* The two ends in the wrong order, and a file that does not exist. */
	assert_none("--jobserver-auth=%d,%d", theirs[1], theirs[0]);
	assert_false(fz_jobserver_named(fd));
	assert_int_equal(fd[0], -1);
	assert_int_equal(fd[1], -1);
	assert_none("--jobserver-auth=fifo:/nowhere", 0, 0);
	assert_false(fz_jobserver_named(fd));
	unsetenv("MAKEFLAGS");
	assert_false(fz_jobserver_named(fd));
	assert_int_equal(fd[1], -1);
	close_pair(theirs);
}

static void
test_jobserver_ignores_other_files(void **state)
{
	static const char auth[] = "--jobserver-auth=%d,%d";
	int a[2], b[2], fd[2];
	int null = open("/dev/null", O_RDWR);

	(void)state;
	assert_int_equal(pipe2(a, 0), 0);
	assert_int_equal(pipe2(b, 0), 0);
	unsetenv("MAKEFLAGS");
	assert_false(fz_jobserver_find(fd));
	assert_none("", 0, 0);
	assert_none("kw -j3", 0, 0);
	assert_none("--jobserver-auth=", 0, 0);
	assert_none("--jobserver-auth=%d", a[0], 0);
	assert_none("--jobserver-auth=fifo:", 0, 0);
	assert_none("--jobserver-auth=fifo:/dev/null", 0, 0);
	assert_none("--jobserver-auth=fifo:/nowhere/at/all", 0, 0);
	assert_none(auth, -2, -2);
	assert_none(auth, 7777, 7778); /* the descriptors are closed */
	assert_none(auth, null, null); /* the descriptors are not a pipe */
	assert_none(auth, a[1], a[0]); /* the ends are in the wrong order */
	assert_none(auth, a[0], b[1]); /* the ends belong to two pipes */
	assert_none("k -- A=--jobserver-auth=%d,%d", a[0], a[1]);
	assert_none("k -- --jobserver-auth=%d,%d", a[0], a[1]);
	close(a[1]);
	assert_none(auth, a[0], a[1]);
	close(a[0]);
	close_pair(b);
	close(null);
}

static void
test_jobserver_a_fifo_by_its_name(void **state)
{
	char dir[] = "/tmp/fz_jobserver_XXXXXX", path[64], flags[128];
	int theirs[2], fd[2];

	(void)state;
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/fifo", dir);
	snprintf(flags, sizeof(flags), "-j3 --jobserver-auth=fifo:%s -k", path);
	assert_int_equal(mkfifo(path, 0600), 0);
	theirs[0] = open(path, O_RDWR);
	theirs[1] = -1;
	assert_true(finds(flags, 0, 0, fd));
	assert_ends(fd, theirs);
	close_pair(fd);
	open_fails = 2; /* opening the second end fails */
	assert_none(flags, 0, 0);
	close_pair(theirs);
	unlink(path);
	rmdir(dir);
}

static void
test_jobserver_a_long_name_is_ignored(void **state)
{
	static char flags[6000] = "--jobserver-auth=fifo:";
	int fd[2];

	(void)state;
	memset(flags + strlen(flags), 'x', sizeof(flags) - strlen(flags) - 1);
	setenv("MAKEFLAGS", flags, 1);
	assert_false(fz_jobserver_find(fd));
}

static void
test_jobserver_a_pipe_that_cannot_be_opened_is_ignored(void **state)
{
	int theirs[2];

	(void)state;
	assert_int_equal(pipe2(theirs, 0), 0);
	for (int i = 1; i <= 2; i++) {
		open_fails = i;
		assert_none("--jobserver-auth=%d,%d", theirs[0], theirs[1]);
	}
	close_pair(theirs);
}

static void
test_jobserver_a_reader_never_blocks(void **state)
{
	int shared[2], in;
	char byte;

	(void)state;
	for (int i = 0; i < 2; i++) {
		no_proc = i == 1;
		assert_int_equal(pipe2(shared, 0), 0);
		in = fz_jobserver_reader(shared[0]);
		assert_int_equal(read(in, &byte, 1), -1);
		assert_int_equal(errno, EAGAIN);
		/* With /proc only our end is non-blocking. */
		assert_int_equal(
		    (fcntl(shared[0], F_GETFL) & O_NONBLOCK) != 0, no_proc);
		assert_int_equal(fcntl(in, F_GETFD), FD_CLOEXEC);
		close(in);
		close_pair(shared);
	}
	assert_int_equal(fz_jobserver_reader(7777), -1);
	no_proc = false;
}

static void
test_jobserver_a_pipe_has_room_for_its_tokens(void **state)
{
	static const int sizes[] = { 8192, 65536 };
	static char tokens[65536];
	int fd[2];

	(void)state;
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		unsigned n;

		assert_int_equal(pipe2(fd, O_NONBLOCK), 0);
		assert_true(fcntl(fd[1], F_SETPIPE_SZ, sizes[i]) >= sizes[i]);
		n = fz_jobserver_room(fd[0]);
		assert_true(n >= (unsigned)sizes[i] / 2);
		assert_int_equal(write(fd[1], tokens, n), n);
		for (unsigned k = 0; k < 3 * n; k++) {
			assert_int_equal(read(fd[0], tokens, 1), 1);
			assert_int_equal(write(fd[1], tokens, 1), 1);
		}
		assert_int_equal(fz_jobserver_count(fd[0]), n);
		close_pair(fd);
	}
	assert_int_equal(pipe2(fd, O_NONBLOCK), 0);
	assert_true(fcntl(fd[1], F_SETPIPE_SZ, 4096) == 4096);
	assert_int_equal(fz_jobserver_room(fd[0]), 0);
	close_pair(fd);
	assert_int_equal(fz_jobserver_room(7777), 0);
	assert_int_equal(fz_jobserver_count(7777), 0);
}

static const char *
get(char *const *env, const char *name)
{
	const char *found = NULL;
	size_t n = strlen(name);

	for (; *env != NULL; env++) {
		if (strncmp(*env, name, n) != 0 || (*env)[n] != '=')
			continue;
		assert_null(found); /* a variable occurs only once */
		found = *env + n + 1;
	}
	return found;
}

/* If our MAKEFLAGS are `ours`, those for workers must be `expected`. */
static void
assert_flags(char *ours, const char *expected)
{
	static const int shared[2] = { 5, 6 };
	char other[] = "OTHER=x";
	char *env[] = { ours, other, NULL };
	char **copy = fz_jobserver_environ(env, 4, shared);

	assert_non_null(copy);
	assert_string_equal(get(copy, "MAKEFLAGS"), expected);
	assert_ptr_equal(get(copy, "OTHER"), other + 6);
	free(copy);
}

static void
test_jobserver_workers_get_the_pipe_in_makeflags(void **state)
{
	char none[] = "HOME=/",
	     empty[] = "MAKEFLAGS=", short_[] = "MAKEFLAGS=kw",
	     stale[] = "MAKEFLAGS= -j8 --jobserver-auth=3,4 -I dir",
	     jobs[] = "MAKEFLAGS=k --jobs=8 --jobserver-fds=3,4",
	     vars[] = "MAKEFLAGS=k -- A=-j9 B=\\ --jobserver-auth=1,2",
	     only[] = "MAKEFLAGS=-- A=1";

	(void)state;
	assert_flags(none, " -j4 --jobserver-auth=5,6");
	assert_flags(empty, " -j4 --jobserver-auth=5,6");
	assert_flags(short_, "kw  -j4 --jobserver-auth=5,6");
	assert_flags(stale, "-I dir  -j4 --jobserver-auth=5,6");
	assert_flags(jobs, "k  -j4 --jobserver-auth=5,6");
	assert_flags(vars,
	    "k  -j4 --jobserver-auth=5,6 -- A=-j9 B=\\ --jobserver-auth=1,2");
	assert_flags(only, " -j4 --jobserver-auth=5,6 -- A=1");
}

static void
test_jobserver_finds_the_pipe_of_make(void **state)
{
	static const int none[2] = { -1, -1 };
	char flags[] = "MAKEFLAGS= -j3 --jobserver-auth=3,4";
	char *env[] = { flags, NULL };
	char **copy = fz_jobserver_environ(env, 4, none);

	(void)state;
	assert_non_null(copy);
	assert_ptr_equal(get(copy, "MAKEFLAGS"), flags + 10);
	free(copy);
}

static void
test_jobserver_workers_start_no_threads(void **state)
{
	static const int none[2] = { -1, -1 };
	char omp[] = "OMP_NUM_THREADS=3",
	     mkl[] = "MKL_NUM_THREADS=", like[] = "NUMEXPR_NUM_THREADS_X=5";
	char *env[] = { omp, mkl, like, NULL };
	char **copy = fz_jobserver_environ(env, 4, none);

	(void)state;
	assert_non_null(copy);
	assert_string_equal(get(copy, "OMP_NUM_THREADS"), "3");
	assert_string_equal(get(copy, "MKL_NUM_THREADS"), "");
	assert_string_equal(get(copy, "NUMEXPR_NUM_THREADS"), "1");
	assert_string_equal(get(copy, "OPENBLAS_NUM_THREADS"), "1");
	assert_string_equal(get(copy, "BLIS_NUM_THREADS"), "1");
	assert_string_equal(get(copy, "VECLIB_MAXIMUM_THREADS"), "1");
	assert_null(get(copy, "MAKEFLAGS"));
	free(copy);
}

static void
test_jobserver_an_environment_takes_memory(void **state)
{
	static const int none[2] = { -1, -1 };
	char *env[] = { NULL };

	(void)state;
	no_memory = true;
	assert_null(fz_jobserver_environ(env, 4, none));
	no_memory = false;
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_jobserver_a_pipe_by_its_numbers),
		cmocka_unit_test(test_jobserver_the_numbers_alone),
		cmocka_unit_test(test_jobserver_ignores_other_files),
		cmocka_unit_test(test_jobserver_a_fifo_by_its_name),
		cmocka_unit_test(test_jobserver_a_long_name_is_ignored),
		cmocka_unit_test(
		    test_jobserver_a_pipe_that_cannot_be_opened_is_ignored),
		cmocka_unit_test(test_jobserver_a_reader_never_blocks),
		cmocka_unit_test(test_jobserver_a_pipe_has_room_for_its_tokens),
		cmocka_unit_test(
		    test_jobserver_workers_get_the_pipe_in_makeflags),
		cmocka_unit_test(test_jobserver_finds_the_pipe_of_make),
		cmocka_unit_test(test_jobserver_workers_start_no_threads),
		cmocka_unit_test(test_jobserver_an_environment_takes_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
