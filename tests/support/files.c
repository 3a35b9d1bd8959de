/* fileno is not in C11. */
#define _POSIX_C_SOURCE 200809L
#include "files.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int __real_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...);

const struct file *files;
const struct file no_files[] = { { NULL, NULL } };

/* The text is in a file, because a pipe has room for 64 KiB only. */
static int
open_text(const char *text)
{
	FILE *file = tmpfile();
	int fd;

	if (file == NULL || fputs(text, file) == EOF || fflush(file) != 0)
		abort();
	fd = dup(fileno(file));
	fclose(file);
	lseek(fd, 0, SEEK_SET);
	return fd;
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
