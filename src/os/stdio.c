/* O_PATH is Linux; fopencookie and the list of all streams are glibc's. */
#define _GNU_SOURCE
#include "os/stdio.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdio_ext.h>
#include <sys/single_threaded.h>
#include <sys/stat.h>
#include <unistd.h>

static void
flush_stream(FILE *stream)
{
	if (ftrylockfile(stream) != 0)
		return;
	fflush_unlocked(stream);
	funlockfile(stream);
}

void
fz_stdio_flush(void)
{
	if (__libc_single_threaded) {
		fflush(NULL);
		return;
	}
	flush_stream(stdout);
	flush_stream(stderr);
}

/*
 * Whether `fd` is a pipe or a socket: another process may wait until the last
 * copy of the descriptor is closed.
 */
static bool
has_reader_or_writer(int fd)
{
	struct stat st;

	return fstat(fd, &st) == 0 &&
	       (S_ISFIFO(st.st_mode) || S_ISSOCK(st.st_mode));
}

/* Replace `fd` by a useless descriptor, so that its number stays taken. */
static void
put_away(int fd)
{
	int none = open("/dev/null", O_PATH | O_CLOEXEC);

	if (none == -1) {
		close(fd);
		return;
	}
	dup3(none, fd, O_CLOEXEC);
	close(none);
}

static void
disown(FILE *stream)
{
	int fd = fileno_unlocked(stream);

	if (fd == -1)
		/* a memory stream, of which this process has its own copy */
		return;
	if (__fpending(stream) != 0)
		__fpurge(stream);
	if (fd > STDERR_FILENO && has_reader_or_writer(fd))
		put_away(fd);
}

/* Disown all streams. glibc links a new stream before all others. */
static void
disown_all(void)
{
	FILE *newest = fopencookie(NULL, "r", (cookie_io_functions_t){ 0 });

	if (newest == NULL)
		return;
	for (FILE *stream = newest->_chain; stream != NULL;
	     stream = stream->_chain)
		disown(stream);
	fclose(newest);
}

void
fz_stdio_in_child(void)
{
	disown_all();
	__fpurge(stdin);
	__fpurge(stdout);
	__fpurge(stderr);
	clearerr(stdin);
	/* unbuffered, so that a crash loses no output */
	setvbuf(stdout, NULL, _IONBF, 0);
}
