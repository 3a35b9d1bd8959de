#define _GNU_SOURCE /* for posix_openpt, cfmakeraw */
#include "footer_test.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "no_memory.h"

ssize_t __real_fz_fd_write(int fd, const void *bytes, size_t n);
ssize_t __wrap_fz_fd_write(int fd, const void *bytes, size_t n);

int write_error;
size_t write_limit;

ssize_t
__wrap_fz_fd_write(int fd, const void *bytes, size_t n)
{
	if (write_error != 0) {
		errno = write_error;
		if (write_error == EAGAIN)
			write_error = 0;
		return -1;
	}
	return __real_fz_fd_write(
	    fd, bytes, write_limit != 0 && n > write_limit ? write_limit : n);
}

void
terminal_resize(const struct terminal *t, unsigned columns, unsigned rows)
{
	struct winsize size = { .ws_col = (unsigned short)columns,
		.ws_row = (unsigned short)rows };

	assert_int_equal(ioctl(t->master, TIOCSWINSZ, &size), 0);
}

int
terminal_setup(void **state)
{
	static struct terminal t;
	struct termios raw;

	write_error = 0;
	write_limit = 0;
	no_memory = false;
	t.master = posix_openpt(O_RDWR | O_NOCTTY);
	assert_int_not_equal(t.master, -1);
	assert_int_equal(grantpt(t.master), 0);
	assert_int_equal(unlockpt(t.master), 0);
	t.slave = open(ptsname(t.master), O_RDWR | O_NOCTTY);
	assert_int_not_equal(t.slave, -1);
	assert_int_equal(tcgetattr(t.slave, &raw), 0);
	cfmakeraw(&raw);
	assert_int_equal(tcsetattr(t.slave, TCSANOW, &raw), 0);
	assert_int_equal(fcntl(t.master, F_SETFL, O_NONBLOCK), 0);
	terminal_resize(&t, 10, 6);
	fz_footer_init(&t.footer, t.slave);
	*state = &t;
	return 0;
}

int
terminal_teardown(void **state)
{
	struct terminal *t = *state;

	fz_footer_fini(&t->footer);
	close(t->slave);
	close(t->master);
	return 0;
}

void
terminal_expect(const struct terminal *t, const char *bytes)
{
	char got[4096];
	size_t len = 0;
	ssize_t n;

	while ((n = read(t->master, got + len, sizeof(got) - 1 - len)) > 0)
		len += (size_t)n;
	got[len] = '\0';
	assert_string_equal(got, bytes);
}

int
terminal_set(struct terminal *t, const char *text, unsigned n)
{
	return fz_footer_set(&t->footer, text, strlen(text), n, 9);
}

int
terminal_print(struct terminal *t, const char *text)
{
	return fz_footer_print(&t->footer, text, strlen(text));
}
