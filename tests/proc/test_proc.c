/*
 * Forked children: exit statuses, signals and failures to fork.
 *
 * wrap: fork open openat read prctl setpgid sigaction dup2 fcntl waitid
 * wrap: wait4 getrlimit setrlimit getdents64 readlink ioctl
 */
/* prctl, pipe2 and __fpurge are not in C11. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <limits.h>
#include <netdb.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <termios.h>

#include "base/err.h"
#include "forked.h"
#include "proc/death.h"
#include "proc/proc.h"

static void
test_proc_exit_status_is_what_the_entry_returns(void **state)
{
	struct forked *f = *state;
	struct fz_death death;
	char text[128];

	forked_start(f, return_seven);
	interruptions = 2;
	assert_int_equal(fz_proc_reap(&f->proc, true, &death), 1);
	assert_int_equal(death.signal, 0);
	assert_int_equal(death.exitcode, 7);
	assert_true(death.peak_rss > 0);
	assert_string_equal(
	    fz_death_text(&death, text, sizeof(text)), "exited with code 7");
	assert_int_equal(f->proc.pid, 0);
	assert_int_equal(f->proc.pidfd, -1);
}

static void
test_proc_reap_without_waiting_says_alive(void **state)
{
	struct forked *f = *state;
	struct fz_death death;
	char text[128];

	forked_start(f, wait_for_ever);
	forked_hear(f, text, sizeof(text));
	assert_int_equal(fz_proc_reap(&f->proc, false, &death), 0);
	fz_proc_kill(&f->proc);
	fz_proc_kill(&f->proc);
	interruptions = 3;
	assert_int_equal(fz_proc_reap(&f->proc, true, &death), 1);
	assert_int_equal(death.signal, SIGKILL);
	death.peak_rss = UINT64_C(3900000000);
	assert_string_equal(fz_death_text(&death, text, sizeof(text)),
	    "killed by signal 9 (SIGKILL), perhaps out of memory; "
	    "peak memory 3.9 GB");
	fz_proc_kill(&f->proc);
	assert_int_equal(fz_proc_reap(&f->proc, true, &death), 1);
}

static void
test_proc_does_not_wait_for_a_child_that_the_host_has_reaped(void **state)
{
	struct forked *f = *state;
	struct fz_death death;
	char text[128];

	forked_start(f, return_seven);
	assert_int_equal(waitpid(f->proc.pid, NULL, 0), f->proc.pid);
	fz_proc_kill(&f->proc);
	assert_int_equal(fz_proc_reap(&f->proc, true, &death), 1);
	assert_int_equal(death.signal, 0);
	/* Linux 6.15 and newer report the exit code of a reaped process. */
	if (death.exitcode != 7)
		assert_int_equal(death.exitcode, -1);
	death.exitcode = -1;
	fz_death_text(&death, text, sizeof(text));
	assert_non_null(strstr(text, "exit status"));
}

static void
test_proc_death_texts(void **state)
{
	struct fz_death death = { .signal = SIGSEGV,
		.peak_rss = UINT64_C(420000000) };
	char text[128];

	(void)state;
	assert_string_equal(fz_death_text(&death, text, sizeof(text)),
	    "killed by signal 11 (SIGSEGV); peak memory 420 MB");
	death.peak_rss = 1 << 20;
	assert_string_equal(fz_death_text(&death, text, sizeof(text)),
	    "killed by signal 11 (SIGSEGV)");
	death.signal = SIGRTMAX - 5;
	snprintf(text, sizeof(text), "killed by signal %d", SIGRTMAX - 5);
	assert_string_equal(fz_death_text(&death, text + 64, 64), text);
	death.signal = SIGKILL;
	assert_string_equal(
	    fz_death_text(&death, text, 17), "killed by signal");
}

static int
abort_now(void *ctx, const struct fz_err *failed)
{
	(void)ctx;
	(void)failed;
	abort();
}

static void
test_proc_death_by_a_signal_is_reported(void **state)
{
	struct forked *f = *state;
	struct fz_death death;
	char text[128];

	forked_start(f, abort_now);
	assert_int_equal(fz_proc_reap(&f->proc, true, &death), 1);
	death.peak_rss = 0;
	assert_string_equal(fz_death_text(&death, text, sizeof(text)),
	    "killed by signal 6 (SIGABRT)");
}

static int
use_cpu_time(void *ctx, const struct fz_err *failed)
{
	(void)ctx;
	(void)failed;
	for (volatile unsigned n = 0; n != UINT_MAX; n = n % 1000 + 1)
		continue;
	return 0;
}

/* A death by SIGXCPU names the limit; a death by SIGKILL says "perhaps". */
static void
test_proc_death_by_the_cpu_limit_is_reported(void **state)
{
	struct forked *f = *state;
	struct rlimit before, limit;
	struct fz_death death;
	struct rusage usage;
	char text[128];

	getrlimit(RLIMIT_CPU, &before);
	getrusage(RUSAGE_SELF, &usage);
	/* The limit also holds for this process, which must not exceed it. */
	limit.rlim_cur =
	    (rlim_t)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) + 2;
	limit.rlim_max = before.rlim_max;
	assert_int_equal(setrlimit(RLIMIT_CPU, &limit), 0);
	forked_start(f, use_cpu_time);
	assert_int_equal(fz_proc_reap(&f->proc, true, &death), 1);
	setrlimit(RLIMIT_CPU, &before);
	assert_int_equal(death.signal, SIGXCPU);
	assert_int_equal(death.cpu_limit, limit.rlim_cur);
	death.peak_rss = 0;
	fz_death_text(&death, text, sizeof(text));
	assert_non_null(strstr(text, "(SIGXCPU), at its CPU time limit of "));
	death.signal = SIGKILL;
	fz_death_text(&death, text, sizeof(text));
	assert_null(strstr(text, "memory"));
	assert_non_null(strstr(text, "perhaps at its CPU time limit of "));
}

int __real_ioctl(int fd, unsigned long request, ...);
int __wrap_ioctl(int fd, unsigned long request, ...);

/* Number of ioctl() calls without an exit status, as just before a death. */
static int nearly;

int
__wrap_ioctl(int fd, unsigned long request, ...)
{
	uint64_t *mask;
	va_list args;
	int rc;

	va_start(args, request);
	mask = va_arg(args, uint64_t *);
	va_end(args);
	rc = __real_ioctl(fd, request, mask);
	if (rc == 0 && nearly > 0) {
		nearly--;
		*mask = 0;
	}
	return rc;
}

/* Whether the kernel reports the exit status of a process that was reaped. */
static bool
tells_exit_of_reaped(void)
{
	struct utsname name;
	int major = 0, minor = 0;

	/*
	 * Linux 6.15 and newer report the exit status. Valgrind does not
	 * support this ioctl().
	 */
	return getenv("FZLUA_VALGRIND") == NULL && uname(&name) == 0 &&
	       sscanf(name.release, "%d.%d", &major, &minor) == 2 &&
	       (major > 6 || (major == 6 && minor >= 15));
}

static void
test_proc_exit_status_is_exact_if_the_host_ignores_sigchld(void **state)
{
	struct forked *f = *state;
	struct fz_death death;
	bool exact = tells_exit_of_reaped();

	signal(SIGCHLD, SIG_IGN);
	forked_start(f, return_seven);
	nearly = 3;
	assert_int_equal(fz_proc_reap(&f->proc, true, &death), 1);
	nearly = 0;
	assert_int_equal(death.exitcode, exact ? 7 : -1);
	forked_start(f, abort_now);
	assert_int_equal(fz_proc_reap(&f->proc, true, &death), 1);
	assert_int_equal(death.signal, exact ? SIGABRT : 0);
	signal(SIGCHLD, SIG_DFL);
}

static void
test_proc_fork_failure_is_reported(void **state)
{
	struct forked *f = *state;
	struct fz_err err;
	sigset_t mask;

	failing = FORK;
	assert_int_equal(
	    fz_proc_fork(&f->proc, &as_parent, return_seven, f, &err), -1);
	assert_int_equal(err.code, EPERM);
	assert_int_equal(f->proc.pid, 0);
	sigprocmask(SIG_BLOCK, NULL, &mask);
	assert_int_equal(sigismember(&mask, SIGTERM), 0);
}

#define TEST(name) \
	cmocka_unit_test_setup_teardown(name, forked_setup, forked_teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_proc_exit_status_is_what_the_entry_returns),
		TEST(test_proc_reap_without_waiting_says_alive),
		TEST(
		    test_proc_does_not_wait_for_a_child_that_the_host_has_reaped),
		TEST(test_proc_death_texts),
		TEST(test_proc_death_by_a_signal_is_reported),
		TEST(test_proc_death_by_the_cpu_limit_is_reported),
		TEST(
		    test_proc_exit_status_is_exact_if_the_host_ignores_sigchld),
		TEST(test_proc_fork_failure_is_reported),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
