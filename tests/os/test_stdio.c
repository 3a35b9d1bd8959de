/* Streams of a parent in its child: see os/stdio.h. */
/* O_PATH and open_memstream are not in C11. */
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
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "os/stdio.h"

/* Run `check` in a child. Each bit of its result is a check that failed. */
static void
assert_in_child(int (*check)(void *ctx), void *ctx)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		fz_stdio_in_child();
		_exit(check(ctx));
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

/* A write to `stream` fails with EBADF, even after a file was opened. */
static int
check_closed(void *ctx)
{
	FILE *stream = ctx;
	int other = open("/dev/null", O_WRONLY | O_CLOEXEC);
	int bad = other == fileno(stream);

	bad |= (fputs("x", stream) < 0) << 1;
	errno = 0;
	bad |= (fflush(stream) != EOF) << 2;
	bad |= (errno != EBADF) << 3;
	fclose(stream);
	return bad;
}

static void
test_stdio_pipes_and_sockets_are_closed_in_a_child(void **state)
{
	FILE *streams[3];
	int sides[2], piped[2];
	char c;

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, sides), 0);
	assert_int_equal(pipe(piped), 0);
	streams[0] = popen("cat", "w");
	streams[1] = fdopen(sides[0], "w");
	streams[2] = fdopen(piped[1], "w");
	for (int i = 0; i < 3; i++)
		assert_in_child(check_closed, streams[i]);
	/* The streams are still open in the parent. */
	for (int i = 1; i < 3; i++) {
		assert_int_equal(fputs("x", streams[i]), 1);
		assert_int_equal(fflush(streams[i]), 0);
		assert_int_equal(read(i == 1 ? sides[1] : piped[0], &c, 1), 1);
		fclose(streams[i]);
	}
	assert_int_equal(pclose(streams[0]), 0);
	close(sides[1]);
	close(piped[0]);
}

static int
flush_all(void *ctx)
{
	(void)ctx;
	return fflush(NULL);
}

/* The stream is not flushed before the fork, as in a host with threads. */
static void
test_stdio_buffered_bytes_of_the_parent_are_written_once(void **state)
{
	FILE *file = tmpfile();

	(void)state;
	fputs("once", file);
	assert_in_child(flush_all, NULL);
	fflush(file);
	assert_int_equal(ftell(file), 4);
	assert_int_equal(fseek(file, 0, SEEK_END), 0);
	assert_int_equal(ftell(file), 4);
	fclose(file);
}

struct memory {
	FILE *stream;
	char *text;
	size_t len;
};

static int
check_memory(void *ctx)
{
	struct memory *m = ctx;

	fputs(" more", m->stream);
	fflush(m->stream);
	return strcmp(m->text, "kept more") != 0;
}

static void
test_stdio_of_memory_are_the_childs_own(void **state)
{
	struct memory m = { NULL, NULL, 0 };

	(void)state;
	m.stream = open_memstream(&m.text, &m.len);
	fputs("kept", m.stream);
	assert_in_child(check_memory, &m);
	fclose(m.stream);
	assert_string_equal(m.text, "kept");
	free(m.text);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
		    test_stdio_pipes_and_sockets_are_closed_in_a_child),
		cmocka_unit_test(
		    test_stdio_buffered_bytes_of_the_parent_are_written_once),
		cmocka_unit_test(test_stdio_of_memory_are_the_childs_own),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
