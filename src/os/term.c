/* The size of a terminal is no part of C or POSIX. */
#define _GNU_SOURCE
#include "os/term.h"

#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

bool
fz_term_get_size(int fd, struct fz_term_size *size)
{
	struct winsize found = { 0 };

	if (!isatty(fd))
		return false;
	if (ioctl(fd, TIOCGWINSZ, &found) != 0)
		found = (struct winsize){ 0 };
	size->columns = found.ws_col != 0 ? found.ws_col : FZ_TERM_COLUMNS;
	size->rows = found.ws_row != 0 ? found.ws_row : FZ_TERM_ROWS;
	return true;
}

bool
fz_term_has_cursor(int fd)
{
	const char *name = getenv("TERM");

	return name != NULL && *name != '\0' && strcmp(name, "dumb") != 0 &&
	       isatty(fd);
}

bool
fz_term_is_same(int fd, int other)
{
	struct stat a, b;

	return isatty(fd) && isatty(other) && fstat(fd, &a) == 0 &&
	       fstat(other, &b) == 0 && a.st_rdev == b.st_rdev;
}

bool
fz_term_is_background(int fd)
{
	pid_t group = tcgetpgrp(fd);

	return group != -1 && group != getpgrp();
}
