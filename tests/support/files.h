/*
 * files.h - a test replaces the files that the code under test reads.
 *
 * A test that includes this has this line in its first comment:
 * wrap: open
 */
#ifndef FILES_H
#define FILES_H

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int __real_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...);

/* The text of the files, by path, up to a NULL. */
struct file {
	const char *path, *text;
};

static const struct file *files; /* NULL: the real ones */
static const struct file no_files[] = { { NULL, NULL } };

static int
open_text(const char *text)
{
	int fd[2];

	if (pipe(fd) == -1)
		return -1;
	if (write(fd[1], text, strlen(text)) != (ssize_t)strlen(text))
		abort();
	close(fd[1]);
	return fd[0];
}

int
__wrap_open(const char *path, int flags, ...)
{
	const struct file *file;

	if (files == NULL)
		return __real_open(path, flags);
	for (file = files; file->path != NULL; file++)
		if (strcmp(file->path, path) == 0)
			return open_text(file->text);
	errno = ENOENT;
	return -1;
}

#endif
