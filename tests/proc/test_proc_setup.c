/*
 * The state in which a child starts, and failures of its setup.
 *
 * wrap: fork open openat read prctl setpgid sigaction dup2 fcntl waitid
 * wrap: wait4 getrlimit setrlimit getdents64 readlink
 */
/* prctl, pipe2 and __fpurge are not in C11. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <netdb.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "base/err.h"
#include "forked.h"
#include "os/fd.h"
#include "proc/death.h"
#include "proc/proc.h"
#include "sanitized.h"

static int
tell_setting(void *ctx, const struct fz_err *failed)
{
	struct sigaction action;
	sigset_t mask;
	char c;

	(void)failed;
	forked_tell_number(ctx, getpgrp() == getpid());
	forked_tell_number(ctx, read(STDIN_FILENO, &c, 1));
	sigaction(SIGUSR1, NULL, &action);
	forked_tell_number(ctx, action.sa_handler == SIG_DFL);
	sigaction(SIGCHLD, NULL, &action);
	forked_tell_number(ctx, action.sa_handler == SIG_DFL);
	for (size_t i = 0; i < FZ_PROC_NIGNORED; i++) {
		sigaction(fz_proc_ignored[i], NULL, &action);
		forked_tell_number(ctx, action.sa_handler == SIG_IGN);
	}
	sigprocmask(SIG_BLOCK, NULL, &mask);
	forked_tell_number(ctx, sigismember(&mask, SIGUSR2));
	forked_tell_number(ctx, sigismember(&mask, SIGTERM));
	forked_tell_number(ctx, getchar());
	return 0;
}

static void
test_proc_child_starts_in_a_known_state(void **state)
{
	static const char *const told[] = { "1", "0", "1", "1", "1", "1", "1",
		"0", "0", "-1" };
	struct forked *f = *state;
	sigset_t set, before;
	char text[32];
	size_t i;

	signal(SIGUSR1, SIG_IGN);
	signal(SIGCHLD, SIG_IGN);
	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	sigaddset(&set, SIGTERM);
	sigprocmask(SIG_BLOCK, &set, &before);
	forked_start(f, tell_setting);
	for (i = 0; i < sizeof(told) / sizeof(*told); i++) {
		forked_hear(f, text, sizeof(text));
		assert_string_equal(text, told[i]);
	}
	sigprocmask(SIG_BLOCK, NULL, &set);
	assert_int_equal(sigismember(&set, SIGTERM), 1);
	sigprocmask(SIG_SETMASK, &before, NULL);
	signal(SIGUSR1, SIG_DFL);
	signal(SIGCHLD, SIG_DFL);
}

/* The parent registers tell_at_exit(), which must not run in a child. */
static int at_exit_fd = -1;

static void
tell_at_exit(void)
{
	if (at_exit_fd != -1 && write(at_exit_fd, "ran\n", 4) != 4)
		_exit(99);
}

static int
exit_eight(void *ctx, const struct fz_err *failed)
{
	(void)ctx;
	(void)failed;
	exit(8);
}

static void
test_proc_exit_in_a_child_runs_no_handler_of_the_parent(void **state)
{
	struct forked *f = *state;
	struct fz_death death;
	char text[32];

	assert_int_equal(atexit(tell_at_exit), 0);
	at_exit_fd = f->ends[1];
	forked_start(f, exit_eight);
	at_exit_fd = -1;
	fz_proc_reap(&f->proc, true, &death);
	assert_int_equal(death.exitcode, 8);
	fz_fd_close(&f->ends[1]);
	forked_hear(f, text, sizeof(text));
	assert_string_equal(text, "");
}

/* Read and write the terminal, whose foreground is another process group. */
static int
use_terminal(void *ctx, const struct fz_err *failed)
{
	int tty = open("/dev/tty", O_RDWR | O_CLOEXEC);
	char c;

	(void)failed;
	forked_tell_number(ctx, tty != -1);
	forked_tell_number(ctx, read(tty, &c, 1));
	forked_tell_number(ctx, write(tty, "x", 1));
	return 0;
}

/* Begin a session with the terminal `name`. Returns 0 if all is well. */
static int
session_main(struct forked *f, const char *name)
{
	static const char *const told[] = { "1", "-1", "1" };
	struct termios settings;
	char text[32];
	int tty;

	alarm(120);
	if (setsid() == -1)
		return 1;
	tty = open(name, O_RDWR); /* becomes the session's terminal */
	if (tty == -1 || tcgetattr(tty, &settings) != 0)
		return 2;
	settings.c_lflag |= TOSTOP;
	if (tcsetattr(tty, TCSANOW, &settings) != 0)
		return 3;
	if (fz_proc_fork(&f->proc, &as_parent, use_terminal, f, NULL) != 0)
		return 4;
	for (size_t i = 0; i < sizeof(told) / sizeof(*told); i++) {
		forked_hear(f, text, sizeof(text));
		if (strcmp(text, told[i]) != 0)
			return 5 + (int)i;
	}
	return 0;
}

static void
test_proc_a_child_is_never_stopped_for_the_terminal(void **state)
{
	struct forked *f = *state;
	int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC), status;
	pid_t pid;

	assert_true(master != -1);
	assert_int_equal(grantpt(master), 0);
	assert_int_equal(unlockpt(master), 0);
	pid = __real_fork();
	if (pid == 0)
		_exit(session_main(f, ptsname(master)));
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	close(master);
}

static int
print_both(void *ctx, const struct fz_err *failed)
{
	(void)ctx;
	(void)failed;
	printf("out");
	fprintf(stderr, " err\n");
	return 0;
}

/*
 * The standard descriptors are given in another order, or some of the three are
 * closed in the parent.
 */
static void
test_proc_output_goes_to_the_given_descriptors(void **state)
{
	struct forked *f = *state;
	int saved[3], i, way;
	struct fz_death death;
	char text[64];

	for (way = 0; way < 3; way++) {
		struct fz_proc_opts opts = { .out = f->ends[1],
			.err = f->ends[1] };

		fflush(NULL);
		for (i = 0; i < 3; i++)
			saved[i] = fcntl(i, F_DUPFD_CLOEXEC, 10);
		if (way == 1) {
			opts.out = dup2(f->ends[1], 2);
			opts.err = dup2(f->ends[1], 1);
		} else if (way == 2) {
			opts.out = opts.err = dup2(f->ends[1], 0);
			close(1);
			close(2);
		}
		i = fz_proc_fork(&f->proc, &opts, print_both, f, NULL);
		if (f->proc.pidfd <= 2) /* the next lines overwrite the pidfd */
			f->proc.pidfd = -1;
		dup2(saved[0], 0);
		dup2(saved[1], 1);
		dup2(saved[2], 2);
		close(saved[0]);
		close(saved[1]);
		close(saved[2]);
		assert_int_equal(i, 0);
		forked_hear(f, text, sizeof(text));
		assert_string_equal(text, "out err"); /* in this order */
		assert_int_equal(fz_proc_reap(&f->proc, true, &death), 1);
	}
}

static void
test_proc_buffered_output_is_written_once(void **state)
{
	struct forked *f = *state;
	FILE *file = fdopen(dup(f->ends[1]), "w");
	struct fz_death death;
	char text[64];

	fputs("once\n", file);
	forked_start(f, return_seven);
	fz_proc_reap(&f->proc, true, &death);
	fclose(file);
	fz_fd_close(&f->ends[1]);
	forked_hear(f, text, sizeof(text));
	assert_string_equal(text, "once");
	forked_hear(f, text, sizeof(text));
	assert_string_equal(text, "");
}

static int
tell_failure(void *ctx, const struct fz_err *failed)
{
	forked_tell(ctx, failed != NULL ? failed->text : "no failure");
	forked_tell(ctx, "\n");
	return 1;
}

static void
test_proc_child_reports_what_failed_in_its_setup(void **state)
{
	static const struct {
		enum call call;
		const char *text;
	} cases[] = {
		{ NONE, "no failure" },
		{ OPEN_NULL, "/dev/null" },
		{ PDEATHSIG, "parent" },
		{ SUBREAPER, "orphans" },
		{ SETPGID, "process group" },
		{ SIGACTION, "signal" },
		{ DUP2, "redirect descriptor 0" },
	};
	struct forked *f = *state;
	struct fz_death death;
	char text[128];
	size_t i;

	for (i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		failing = cases[i].call;
		forked_start(f, tell_failure);
		failing = NONE;
		forked_hear(f, text, sizeof(text));
		assert_non_null(strstr(text, cases[i].text));
		fz_proc_reap(&f->proc, true, &death);
	}
}

static void
test_proc_descriptors_that_cannot_move_are_reported(void **state)
{
	const struct fz_proc_opts crossed[] = { { .out = 0, .err = -1 },
		{ .out = -1, .err = 1 }, { .out = 1, .err = -1 } };
	struct forked *f = *state;
	struct fz_death death;
	char text[128];
	size_t i;

	for (i = 0; i < sizeof(crossed) / sizeof(*crossed); i++) {
		failing = FCNTL;
		assert_int_equal(
		    fz_proc_fork(&f->proc, &crossed[i], tell_failure, f, NULL),
		    0);
		failing = NONE;
		forked_hear(f, text, sizeof(text));
		assert_non_null(strstr(text, "descriptor"));
		fz_proc_reap(&f->proc, true, &death);
	}
}

static void *
fork_and_end(void *ctx)
{
	forked_start(ctx, wait_for_ever);
	return NULL;
}

static void
test_proc_lives_on_when_the_thread_ends_that_forked_it(void **state)
{
	struct forked *f = *state;
	struct fz_death death;
	pthread_t thread;
	char text[32];

	assert_int_equal(pthread_create(&thread, NULL, fork_and_end, f), 0);
	pthread_join(thread, NULL);
	forked_hear(f, text, sizeof(text));
	forked_nap(50);
	assert_int_equal(fz_proc_reap(&f->proc, false, &death), 0);
}

static void
test_proc_ends_if_the_parent_dies_during_its_setup(void **state)
{
	struct forked *f = *state;
	pid_t parent = __real_fork();
	char text[32];
	int status;

	if (parent == 0) {
		kills_parent = true;
		forked_start(f, tell_failure);
		forked_nap(60000);
		_exit(1);
	}
	assert_int_equal(waitpid(parent, &status, 0), parent);
	assert_true(WIFSIGNALED(status));
	fz_fd_close(&f->ends[1]);
	forked_hear(f, text, sizeof(text));
	assert_string_equal(text, "");
}

static atomic_bool over;

static void *
hammer(void *ctx)
{
	FILE *null = ctx;
	struct addrinfo *found;

	while (!atomic_load(&over)) {
		fprintf(null, "%d\n", 1);
		fflush(null);
		printf("%s", "");
		if (UNDER_ASAN) /* see sanitized.h */
			continue;
		free(malloc(1 + (size_t)(random() & 0xfff)));
		if (getaddrinfo("localhost", NULL, NULL, &found) == 0)
			freeaddrinfo(found);
	}
	return NULL;
}

static int
use_malloc_and_stdio(void *ctx, const struct fz_err *failed)
{
	(void)ctx;
	(void)failed;
	free(malloc(100000));
	printf("%s", "");
	fflush(NULL);
	return 0;
}

static void
test_proc_forks_among_threads(void **state)
{
	struct forked *f = *state;
	int n = getenv("FZ_SOAK") != NULL ? 2000 : 300;
	FILE *null = fopen("/dev/null", "w");
	static char buffer[BUFSIZ]; /* no thread allocates one */
	pthread_t threads[8];
	struct fz_death death;
	int i;

	if (getenv("FZLUA_VALGRIND") != NULL) {
		n = 20; /* valgrind runs one thread at a time */
		print_message("under valgrind: %d forks\n", n);
	}
	setvbuf(null, buffer, _IOFBF, sizeof(buffer));
	atomic_store(&over, false);
	for (i = 0; i < 8; i++)
		assert_int_equal(
		    pthread_create(&threads[i], NULL, hammer, null), 0);
	while (n-- > 0) {
		forked_start(f, use_malloc_and_stdio);
		assert_int_equal(fz_proc_reap(&f->proc, true, &death), 1);
		assert_int_equal(death.exitcode, 0);
	}
	atomic_store(&over, true);
	for (i = 0; i < 8; i++)
		pthread_join(threads[i], NULL);
	fclose(null);
}

static int
use_limited_memory(void *ctx, const struct fz_err *failed)
{
	size_t len = (size_t)256 << 20;
	void *volatile p; /* volatile, so that no compiler removes malloc() */

	(void)failed;
	if (fz_proc_limit_memory((uint64_t)64 << 20, NULL) == -1)
		return 1;
	p = malloc(len);
	forked_tell(ctx, p == NULL ? "refused\n" : "given\n");
	free(p);
	p = malloc(len / 8);
	forked_tell(ctx, p == NULL ? "refused\n" : "given\n");
	free(p);
	if (fz_proc_limit_memory(0, NULL) == -1)
		return 1;
	p = malloc(len);
	forked_tell(ctx, p == NULL ? "refused\n" : "given\n");
	free(p);
	return fz_proc_limit_memory(UINT64_MAX, NULL) == -1;
}

static void
test_proc_memory_beyond_the_limit_is_refused(void **state)
{
	static const char *const told[] = { "refused", "given", "given" };
	struct forked *f = *state;
	struct fz_death death;
	char text[32];
	size_t i;

	if (UNDER_ASAN || getenv("FZ_NO_LIMITS") != NULL)
		skip();
	if (getenv("FZLUA_VALGRIND") != NULL) {
		print_message("valgrind keeps limits from its malloc\n");
		skip();
	}
	forked_start(f, use_limited_memory);
	for (i = 0; i < sizeof(told) / sizeof(*told); i++) {
		forked_hear(f, text, sizeof(text));
		assert_string_equal(text, told[i]);
	}
	fz_proc_reap(&f->proc, true, &death);
	assert_int_equal(death.exitcode, 0);
}

static void
test_proc_memory_limit_failures_are_reported(void **state)
{
	static const enum call calls[] = { GETRLIMIT, SETRLIMIT, OPEN_PROC,
		READ };
	struct fz_err err;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(calls) / sizeof(*calls); i++) {
		failing = calls[i];
		assert_int_equal(fz_proc_limit_memory(1 << 30, &err), -1);
		failing = NONE;
		assert_true(err.text[0] != '\0');
	}
}

/* Let a program write the signals that it has blocked. */
static void
spawn_a_program(struct forked *f, bool enters, char *text, size_t len)
{
	static char grep[] = "grep", what[] = "SigBlk",
		    where[] = "/proc/self/status";
	char *const argv[] = { grep, what, where, NULL };
	const struct fz_proc_program program = {
		.path = grep, .argv = argv, .enters = enters
	};
	struct fz_proc_opts opts = as_parent;
	struct fz_death death;

	opts.out = f->ends[1];
	assert_int_equal(fz_proc_spawn(&f->proc, &opts, &program, NULL), 0);
	forked_hear(f, text, len);
	assert_int_equal(fz_proc_reap(&f->proc, true, &death), 1);
	assert_int_equal(death.exitcode, 0);
}

static void
test_proc_only_a_program_that_enters_has_signals_blocked(void **state)
{
	sigset_t set, before;
	char text[64];

	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	sigprocmask(SIG_BLOCK, &set, &before);
	spawn_a_program(*state, false, text, sizeof(text));
	assert_string_equal(text, "SigBlk:\t0000000000000000");
	spawn_a_program(*state, true, text, sizeof(text));
	assert_non_null(strchr(text, 'f'));
	sigprocmask(SIG_SETMASK, &before, NULL);
}

#define TEST(name) \
	cmocka_unit_test_setup_teardown(name, forked_setup, forked_teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_proc_child_starts_in_a_known_state),
		TEST(test_proc_exit_in_a_child_runs_no_handler_of_the_parent),
		TEST(test_proc_a_child_is_never_stopped_for_the_terminal),
		TEST(test_proc_output_goes_to_the_given_descriptors),
		TEST(test_proc_buffered_output_is_written_once),
		TEST(test_proc_child_reports_what_failed_in_its_setup),
		TEST(test_proc_descriptors_that_cannot_move_are_reported),
		TEST(test_proc_lives_on_when_the_thread_ends_that_forked_it),
		TEST(test_proc_ends_if_the_parent_dies_during_its_setup),
		TEST(test_proc_forks_among_threads),
		TEST(test_proc_only_a_program_that_enters_has_signals_blocked),
		TEST(test_proc_memory_beyond_the_limit_is_refused),
		TEST(test_proc_memory_limit_failures_are_reported),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
