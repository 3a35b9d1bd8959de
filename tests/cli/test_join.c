/*
 * test_join.c - fzlua --worker --engine: each call that it makes may fail.
 *
 * wrap: pipe2 write dup execlp
 */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "cli/join.h"

enum call { PIPE2, WRITE, DUP, EXEC, MISSING };

static enum call failing;

int __real_pipe2(int fd[2], int flags);
int __wrap_pipe2(int fd[2], int flags);
ssize_t __real_write(int fd, const void *bytes, size_t n);
ssize_t __wrap_write(int fd, const void *bytes, size_t n);
int __real_dup(int fd);
int __wrap_dup(int fd);
int __wrap_execlp(const char *file, const char *arg, ...);

static int
refuse(int error)
{
	errno = error;
	return -1;
}

int
__wrap_pipe2(int fd[2], int flags)
{
	return failing == PIPE2 ? refuse(EMFILE) : __real_pipe2(fd, flags);
}

ssize_t
__wrap_write(int fd, const void *bytes, size_t n)
{
	return failing == WRITE ? refuse(EIO) : __real_write(fd, bytes, n);
}

int
__wrap_dup(int fd)
{
	return failing == DUP ? refuse(EMFILE) : __real_dup(fd);
}

int
__wrap_execlp(const char *file, const char *arg, ...)
{
	(void)file;
	(void)arg;
	return refuse(failing == MISSING ? ENOENT : EACCES);
}

/* Join while this call fails. Returns the status, and the text on stderr. */
static int
join(enum call call, char text[1024])
{
	char *argv[] = { (char[]){ "fzlua" }, (char[]){ "--worker" },
		(char[]){ "--engine" }, (char[]){ "tls://host" }, NULL };
	int ends[2], saved = __real_dup(STDERR_FILENO), status;
	ssize_t n;

	assert_int_equal(__real_pipe2(ends, 0), 0);
	dup2(ends[1], STDERR_FILENO);
	close(ends[1]);
	failing = call;
	status = fz_join_main(4, argv);
	failing = EXEC;
	dup2(saved, STDERR_FILENO);
	close(saved);
	n = read(ends[0], text, 1023);
	close(ends[0]);
	assert_true(n > 0);
	text[n] = '\0';
	return status;
}

static void
test_join_reports_the_call_that_fails(void **state)
{
	static const struct {
		enum call call;
		int status;
		const char *text;
	} cases[] = {
		{ PIPE2, 2, "cannot start the gateway: Too many open files\n" },
		{ WRITE, 2, "cannot start the gateway: Input/output error\n" },
		{ DUP, 2, "cannot start the gateway: Too many open files\n" },
		{ EXEC, 1, "fzlua-nats: Permission denied\n" },
		{ MISSING, 1, "fzlua-nats" },
	};
	char text[1024];

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		assert_int_equal(join(cases[i].call, text), cases[i].status);
		if (strstr(text, cases[i].text) == NULL)
			fail_msg("%s", text);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_join_reports_the_call_that_fails),
	};

	return cmocka_run_group_tests_name("join", tests, NULL, NULL);
}
