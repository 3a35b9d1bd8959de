#define _GNU_SOURCE /* F_DUPFD_CLOEXEC */
#include "cli/output.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <lauxlib.h>

#include "base/err.h"
#include "os/fd.h"
#include "value/lerror.h"

/* A copy of standard output while output is diverted; -1: not diverted. */
static int diverted = -1;

/* errno of the first failed write; 0: none, or not known. */
static int write_error;

/* Whether standard output is a pipe that has no reader. */
static bool
has_no_reader(void)
{
	struct pollfd p = { .fd = STDOUT_FILENO, .events = POLLOUT };

	return poll(&p, 1, 0) == 1 && (p.revents & POLLERR) != 0;
}

void
fz_output_close(void)
{
	int failed = ferror(stdout);

	errno = 0;
	if (fflush(stdout) == 0 && !failed)
		return;
	if (write_error != 0)
		errno = write_error;
	if (errno != EPIPE && !has_no_reader())
		fprintf(stderr, "fzlua: cannot write standard output%s%s\n",
		    errno != 0 ? ": " : "", errno != 0 ? strerror(errno) : "");
	_exit(EXIT_FAILURE);
}

void
fz_output_check(void)
{
	if (write_error == 0 && ferror(stdout))
		write_error = errno;
}

int
fz_output_failed(lua_State *L)
{
	write_error = (int)luaL_checkinteger(L, 1);
	return 0;
}

/* Raise the error of a system call. */
static int
fail(lua_State *L, int code)
{
	struct fz_err err = { 0 };

	fz_err_sys(&err, code, "cannot redirect standard output");
	return fz_lerror_raise(L, &err);
}

int
fz_output_divert(lua_State *L)
{
	struct fz_err err = { 0 };

	fflush(stdout);
	diverted = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
	if (diverted == -1)
		return fail(L, errno);
	if (fz_fd_make_private(diverted, &err) != 0)
		return fz_lerror_raise(L, &err);
	if (dup2(STDERR_FILENO, STDOUT_FILENO) == -1)
		return fail(L, errno);
	return 0;
}

int
fz_output_restore(lua_State *L)
{
	if (diverted == -1)
		return 0;
	fflush(stdout);
	clearerr(stdout); /* the write to standard error failed */
	if (dup2(diverted, STDOUT_FILENO) == -1)
		return fail(L, errno);
	fz_fd_close(&diverted);
	return 0;
}
