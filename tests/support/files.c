/* pipe is no part of C. */
#define _POSIX_C_SOURCE 200809L
#include "files.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int __real_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...);

const struct file *files;
const struct file no_files[] = { { NULL, NULL } };

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
