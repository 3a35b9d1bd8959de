/* O_PATH is Linux. */
#define _GNU_SOURCE
#include "os/cwd.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <unistd.h>

#include "os/fd.h"

_Thread_local bool fz_cwd_moved;

/* The innermost call that this thread is in; NULL: none. */
static _Thread_local struct fz_cwd *innermost;

/*
 * Whether chdir() and fchdir() report themselves. The command sets this before
 * it starts a thread.
 */
static bool reported;

int
fz_cwd_open(void)
{
	int fd = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);

	if (fd != -1 && fz_fd_clear_standard(&fd, NULL) != 0)
		fz_fd_close(&fd);
	return fd;
}

/* Make the current directory the start directory of calls. */
static void
keep_directory(struct fz_cwd *cwd)
{
	cwd->fd = fz_cwd_open();
	fz_cwd_moved = true;
}

void
fz_cwd_enter(struct fz_cwd *cwd)
{
	cwd->outer = innermost;
	cwd->outer_moved = fz_cwd_moved;
	cwd->fd = -1;
	innermost = cwd;
	fz_cwd_moved = false;
	if (!reported)
		keep_directory(cwd);
}

void
fz_cwd_go_back(void)
{
	/* If the start directory cannot be entered, the current one stays. */
	if (innermost->fd == -1 || fchdir(innermost->fd) != 0 || !reported)
		return;
	fz_fd_close(&innermost->fd);
	fz_cwd_moved = false;
}

void
fz_cwd_leave(struct fz_cwd *cwd)
{
	fz_cwd_return();
	fz_fd_close(&cwd->fd);
	innermost = cwd->outer;
	fz_cwd_moved = cwd->outer_moved;
}

void
fz_cwd_stay(void)
{
	struct fz_cwd *cwd = innermost;

	if (!fz_cwd_moved)
		return;
	if (cwd->outer != NULL && !cwd->outer_moved) {
		cwd->outer->fd = cwd->fd;
		cwd->outer_moved = true;
		cwd->fd = -1;
	}
	fz_fd_close(&cwd->fd);
	fz_cwd_moved = false;
	if (!reported)
		keep_directory(cwd);
}

void
fz_cwd_reported(void)
{
	reported = true;
}

void
fz_cwd_moving(void)
{
	int saved = errno;

	if (innermost != NULL && !fz_cwd_moved)
		keep_directory(innermost);
	errno = saved;
}

void
fz_cwd_go(int fd)
{
	fz_cwd_moving();
	if (fchdir(fd) != 0)
		return; /* the directory cannot be entered any more */
}

void
fz_cwd_in_child(void)
{
	innermost = NULL;
	fz_cwd_moved = false;
}
