/* SYS_pidfd_open is Linux. */
#define _GNU_SOURCE
#include "program_test.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/clock.h"

static bool no_pidfd; /* old kernel: no pidfds and no close_range() */

long __real_syscall(long number, long a, long b, long c);
long __wrap_syscall(long number, long a, long b, long c);

long
__wrap_syscall(long number, long a, long b, long c)
{
	if (no_pidfd &&
	    (number == SYS_pidfd_open || number == SYS_close_range)) {
		errno = ENOSYS;
		return -1;
	}
	return __real_syscall(number, a, b, c);
}

struct fz_program_opts
program_options(struct world *w, char *const *words)
{
	return (struct fz_program_opts){ .engine = &w->engine,
		.file = words[0],
		.argv = words,
		.timeout_ns = FZ_CLOCK_NEVER };
}

char *const *
program_shell(const char *script)
{
	static char *words[4];
	static char text[512];

	snprintf(text, sizeof(text), "%s", script);
	words[0] = (char *)(uintptr_t) "sh";
	words[1] = (char *)(uintptr_t) "-c";
	words[2] = text;
	return words;
}

struct fz_program *
program_start(const struct fz_program_opts *opts)
{
	struct fz_err err = { 0 };
	struct fz_program *program = fz_program_new(opts, &err);

	if (program == NULL)
		fail_msg("%s", err.text);
	return program;
}

struct fz_program_end *
program_wait(struct world *w, struct fz_program *program)
{
	int64_t until = in_ms(PATIENCE_MS);
	unsigned long before = w->engine.wake_count;

	while (fz_program_end(program) == NULL) {
		assert_int_equal(w->engine.wake_count, before);
		assert_true(turn_until(w, until));
	}
	assert_int_equal(w->engine.wake_count, before + 1);
	return fz_program_end(program);
}

void
assert_program_wrote(const struct fz_buf *buf, const char *text)
{
	assert_int_equal(buf->len, strlen(text));
	if (buf->len != 0)
		assert_memory_equal(buf->data, text, buf->len);
}

void
assert_program_ended(const struct fz_program_end *end, int exitcode,
    const char *out, const char *errors)
{
	assert_string_equal(end->err.text, "");
	assert_int_equal(end->err.kind, FZ_ERR_NONE);
	assert_int_equal(end->signal, 0);
	assert_int_equal(end->exitcode, exitcode);
	assert_false(end->timed_out);
	assert_program_wrote(&end->out, out);
	assert_program_wrote(&end->errors, errors);
}

static int
old_kernel(void **state)
{
	(void)state;
	no_pidfd = true;
	return 0;
}

int
run_programs(const struct CMUnitTest *tests, size_t n)
{
	int failed = _cmocka_run_group_tests("as it is", tests, n, NULL, NULL);

	return failed + _cmocka_run_group_tests(
			    "on an old kernel", tests, n, old_kernel, NULL);
}
