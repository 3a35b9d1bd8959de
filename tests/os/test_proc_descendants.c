/*
 * What a child leaves behind ends with it.
 *
 * wrap: fork open openat read prctl setpgid sigaction dup2 fcntl waitid
 * wrap: wait4 getrlimit setrlimit getdents64 readlink kill
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
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "forked.h"
#include "os/death.h"
#include "os/fd.h"
#include "os/proc.h"

int __real_kill(pid_t pid, int sig);
int __wrap_kill(pid_t pid, int sig);

/* Not there, or only as a zombie that its new parent has yet to reap. */
static bool
is_gone(pid_t pid)
{
	char path[64], text[256] = "";
	const char *p;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	file = fopen(path, "r");
	if (file == NULL)
		return true;
	if (fgets(text, sizeof(text), file) == NULL)
		text[0] = '\0';
	fclose(file);
	p = strrchr(text, ')');
	return p == NULL || p[2] == 'Z' || p[2] == 'X';
}

/* Wait until the process is gone. The processes of these tests sleep longer. */
static void
assert_goes(pid_t pid)
{
	int64_t deadline = fz_clock_ns() + 30 * FZ_CLOCK_SECOND;

	assert_true(pid > 0);
	while (!is_gone(pid)) {
		assert_true(fz_clock_ns() < deadline);
		forked_nap(1);
	}
}

static pid_t
hear_pid(struct forked *f)
{
	char text[32];

	forked_hear(f, text, sizeof(text));
	return (pid_t)strtol(text, NULL, 10);
}

/* Tells the numbers of two sleepers, one in a session of its own. */
static void
start_sleepers(struct forked *f)
{
	char command[160];

	snprintf(command, sizeof(command),
	    "(setsid sh -c 'echo $$ >&%d; exec sleep 77' &) ; "
	    "sh -c 'echo $$ >&%d; exec sleep 77'",
	    f->ends[1], f->ends[1]);
	if (__real_fcntl(f->ends[1], F_SETFD, 0) == 0 && system(command) == -1)
		_exit(99);
}

static int
run_sleepers(void *ctx, const struct fz_err *failed)
{
	(void)failed;
	start_sleepers(ctx);
	return 0;
}

static void
test_proc_kill_ends_all_descendants(void **state)
{
	struct forked *f = *state;
	pid_t one, two;

	forked_start(f, run_sleepers);
	one = hear_pid(f);
	two = hear_pid(f);
	fz_proc_kill(&f->proc);
	assert_goes(one);
	assert_goes(two);
	assert_goes(f->proc.pid);
}

static void
test_proc_terminate_ends_all_descendants_by_sigterm(void **state)
{
	struct forked *f = *state;
	struct fz_death death;
	pid_t one, two;

	forked_start(f, run_sleepers);
	one = hear_pid(f);
	two = hear_pid(f);
	kill(f->proc.pid, SIGSTOP);
	fz_proc_terminate(&f->proc);
	assert_int_equal(fz_proc_reap(&f->proc, true, &death), 1);
	assert_int_equal(death.signal, SIGTERM);
	assert_goes(one);
	assert_goes(two);
	fz_proc_terminate(&f->proc); /* there is none any more */
}

/* Twice forked and with a session of its own, like a daemon. */
static int
run_daemon(void *ctx, const struct fz_err *failed)
{
	(void)failed;
	if (__real_fork() == 0) {
		setsid();
		if (__real_fork() == 0) {
			forked_tell_number(ctx, getpid());
			for (;;)
				pause();
		}
		_exit(0);
	}
	while (pause() == -1)
		;
	return 0;
}

static void
test_proc_kill_ends_daemons(void **state)
{
	struct forked *f = *state;
	pid_t pid;

	forked_start(f, run_daemon);
	pid = hear_pid(f);
	fz_proc_kill(&f->proc);
	assert_goes(pid);
	assert_goes(f->proc.pid);
}

static void
test_proc_kill_without_proc_ends_the_child(void **state)
{
	static const enum call calls[] = { OPEN_PROC, OPENAT, GETDENTS,
		READLINK };
	struct forked *f = *state;
	struct fz_death death;
	char text[32];
	size_t i;

	for (i = 0; i < sizeof(calls) / sizeof(*calls); i++) {
		forked_start(f, wait_for_ever);
		forked_hear(f, text, sizeof(text));
		failing = calls[i];
		fz_proc_kill(&f->proc);
		failing = NONE;
		assert_int_equal(fz_proc_reap(&f->proc, true, &death), 1);
		assert_int_equal(death.signal, SIGKILL);
	}
}

static int
run_sleeper(void *ctx, const struct fz_err *failed)
{
	struct forked *f = ctx;
	char command[80];

	(void)failed;
	snprintf(command, sizeof(command),
	    "sh -c 'echo $$ >&%d; exec sleep 77'", f->ends[1]);
	__real_fcntl(f->ends[1], F_SETFD, 0);
	return system(command) == -1;
}

static void
test_proc_reap_ends_what_a_dead_child_left(void **state)
{
	struct forked *f = *state;
	struct fz_death death;
	pid_t pid;

	forked_start(f, run_sleeper);
	pid = hear_pid(f);
	kill(f->proc.pid, SIGTERM);
	assert_int_equal(fz_proc_reap(&f->proc, true, &death), 1);
	assert_int_equal(death.signal, SIGTERM);
	assert_goes(pid);
}

static void
start_daemon(struct forked *f)
{
	pid_t pid = __real_fork();

	if (pid == 0) {
		setsid();
		for (;;)
			pause();
	}
	while (getsid(pid) != pid)
		forked_nap(1);
	forked_tell_number(f, pid);
}

static int
leave_a_daemon(void *ctx, const struct fz_err *failed)
{
	(void)failed;
	start_daemon(ctx);
	return 5;
}

static void
test_proc_exit_ends_all_descendants(void **state)
{
	struct forked *f = *state;
	struct fz_death death;

	forked_start(f, leave_a_daemon);
	assert_goes(hear_pid(f));
	assert_int_equal(fz_proc_reap(&f->proc, true, &death), 1);
	assert_int_equal(death.exitcode, 5);
}

static int
write_to_no_reader(void *ctx, const struct fz_err *failed)
{
	int fd[2];

	(void)failed;
	start_daemon(ctx);
	if (fz_fd_pipe(fd, NULL) == -1)
		return 99;
	fz_fd_close(&fd[0]);
	return fz_fd_write_all(fd[1], "x", 1) == 0 ? 98 : 97;
}

static void
test_proc_sigpipe_ends_all_descendants(void **state)
{
	struct forked *f = *state;
	struct fz_death death;

	forked_start(f, write_to_no_reader);
	assert_goes(hear_pid(f));
	assert_int_equal(fz_proc_reap(&f->proc, true, &death), 1);
	assert_int_equal(death.signal, SIGPIPE);
}

/* A worker of a worker; all signals were blocked where it was started. */
static int
run_inner(void *ctx, const struct fz_err *failed)
{
	struct forked *f = ctx;
	struct fz_proc inner;
	sigset_t all;

	(void)failed;
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	if (fz_proc_fork(&inner, &as_parent, run_sleepers, f, NULL) == -1)
		return 99;
	forked_tell_number(f, inner.pid);
	while (pause() == -1)
		;
	return 0;
}

static void
test_proc_parent_killed_ends_worker_and_descendants(void **state)
{
	struct forked *f = *state;
	pid_t pid[3];
	int i;

	forked_start(f, run_inner);
	for (i = 0; i < 3; i++)
		pid[i] = hear_pid(f);
	kill(f->proc.pid, SIGKILL);
	for (i = 0; i < 3; i++)
		assert_goes(pid[i]);
}

/* No signal is handled while the child of a vfork() runs. */
static int
wait_in_vfork(void *ctx, const struct fz_err *failed)
{
	(void)failed;
	forked_tell_number(ctx, getpid());
	if (vfork() == 0) {
		forked_tell_number(ctx, getpid());
		for (;;)
			pause();
	}
	while (pause() == -1)
		;
	return 0;
}

static int
run_wait_in_vfork(void *ctx, const struct fz_err *failed)
{
	struct fz_proc inner;

	(void)failed;
	if (fz_proc_fork(&inner, &as_parent, wait_in_vfork, ctx, NULL) == -1)
		return 99;
	while (pause() == -1)
		;
	return 0;
}

static void
test_proc_parent_killed_ends_a_worker_whose_stop_is_pending(void **state)
{
	struct forked *f = *state;
	pid_t worker, child;

	forked_start(f, run_wait_in_vfork);
	worker = hear_pid(f);
	child = hear_pid(f);
	kill(worker, SIGSTOP);
	kill(f->proc.pid, SIGKILL);
	assert_goes(f->proc.pid);
	kill(child, SIGKILL);
	assert_goes(child);
	assert_goes(worker);
}

static int nstops; /* SIGSTOPs that were sent */

int
__wrap_kill(pid_t pid, int sig)
{
	nstops += sig == SIGSTOP;
	return __real_kill(pid, sig);
}

/* A stop would outlast this process, if that died just then. */
static void
test_proc_kill_stops_no_child_that_is_not_tied_to_its_parent(void **state)
{
	struct forked *f = *state;

	hangs_untied = true;
	forked_start(f, wait_for_ever);
	hangs_untied = false;
	nstops = 0;
	fz_proc_kill(&f->proc);
	assert_int_equal(nstops, 0);
	assert_goes(f->proc.pid);
}

static int
leave_a_program(void *ctx, const struct fz_err *failed)
{
	static char sleep_[] = "sleep", seconds[] = "77";
	char *const argv[] = { sleep_, seconds, NULL };
	struct forked *f = ctx;
	pid_t pid = __real_fork();

	(void)failed;
	if (pid == 0) {
		setsid();
		fcntl(f->ends[1], F_SETFD, FD_CLOEXEC);
		execvp(argv[0], argv);
		_exit(99);
	}
	forked_tell_number(f, pid);
	while (pause() == -1)
		;
	return 0;
}

static bool
is_subreaper(void)
{
	int is = 0;

	return prctl(PR_GET_CHILD_SUBREAPER, &is) == 0 && is != 0;
}

static void
wait_for_program(pid_t pid, const char *name)
{
	char path[64], text[64] = "";
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/comm", (int)pid);
	while (strncmp(text, name, strlen(name)) != 0) {
		file = fopen(path, "r");
		if (file == NULL || fgets(text, sizeof(text), file) == NULL)
			_exit(98);
		fclose(file);
	}
}

/* Wait until nothing is left to reap. Whether that came. */
static bool
reap_all_late(void)
{
	int64_t deadline = fz_clock_ns() + 30 * FZ_CLOCK_SECOND;

	while (fz_proc_reap_late()) {
		if (fz_clock_ns() >= deadline)
			return false;
		forked_nap(1);
	}
	return waitpid(-1, NULL, WNOHANG) == -1;
}

/* Returns how many of the checks have failed. */
static int
crash_a_child(struct forked *f)
{
	static char big[100 << 10];
	char name[16];
	struct fz_death death;
	int failures = 0;
	pid_t pid;

	memset(big, 'x', sizeof(big) - 1);
	for (int i = 0; i < 6; i++) {
		snprintf(name, sizeof(name), "BIG%d", i);
		setenv(name, big, 1);
	}
	fz_proc_adopt();
	failures += is_subreaper();
	forked_start(f, leave_a_program);
	failures += !is_subreaper();
	pid = hear_pid(f);
	wait_for_program(pid, "sleep");
	kill(f->proc.pid, SIGKILL);
	failures += fz_proc_reap(&f->proc, true, &death) != 1;
	failures += !reap_all_late(); /* a busy machine kills slowly */
	failures += !is_gone(pid);
	return failures + is_subreaper();
}

static void
assert_no_failure_in_an_adopter(
    int (*scenario)(struct forked *f), struct forked *f)
{
	pid_t adopter = __real_fork();
	int status;

	if (adopter == 0)
		_exit(scenario(f));
	assert_int_equal(waitpid(adopter, &status, 0), adopter);
	assert_int_equal(status, 0);
}

static void
test_proc_adopter_ends_what_a_crashed_child_left(void **state)
{
	assert_no_failure_in_an_adopter(crash_a_child, *state);
}

static int
leave_in_group(void *ctx, const struct fz_err *failed)
{
	pid_t pid = __real_fork();

	(void)failed;
	if (pid == 0) {
		while (pause() == -1)
			;
	}
	forked_tell_number(ctx, pid);
	while (pause() == -1)
		;
	return 0;
}

/*
 * Start a process that traces `pid`: its parent cannot reap it until the tracer
 * has ended. 0 if that is not allowed here.
 */
static pid_t
start_tracer(pid_t pid)
{
	pid_t tracer = __real_fork();
	int status;

	if (tracer == 0) {
		if (ptrace(PTRACE_SEIZE, pid, NULL, NULL) == -1)
			_exit(1);
		raise(SIGSTOP);
		_exit(0);
	}
	if (waitpid(tracer, &status, WUNTRACED) != tracer)
		_exit(99);
	return WIFSTOPPED(status) ? tracer : 0;
}

/* Returns how many of the checks have failed. */
static int
hold_a_descendant(struct forked *f)
{
	struct fz_death death;
	int failures = 0;
	pid_t pid, tracer;

	fz_proc_adopt();
	forked_start(f, leave_in_group);
	pid = hear_pid(f);
	tracer = start_tracer(pid);
	fz_proc_kill(&f->proc);
	failures += fz_proc_reap(&f->proc, true, &death) != 1;
	failures += fz_proc_reap_late() != (tracer != 0);
	if (tracer != 0) {
		failures += waitpid(pid, NULL, WNOHANG) != 0;
		kill(tracer, SIGKILL);
		waitpid(tracer, NULL, 0);
	}
	return failures + !reap_all_late();
}

static int
wait_to_be_killed(void *ctx, const struct fz_err *failed)
{
	(void)failed;
	forked_tell_number(ctx, getpid());
	while (pause() == -1)
		;
	return 0;
}

static int
start_a_worker(void *ctx, const struct fz_err *failed)
{
	struct fz_proc proc = { 0 };
	struct fz_err err = { 0 };

	if (failed != NULL ||
	    fz_proc_fork(&proc, &as_parent, wait_to_be_killed, ctx, &err) != 0)
		_exit(99);
	return wait_to_be_killed(ctx, NULL);
}

static int
start_two_levels(void *ctx, const struct fz_err *failed)
{
	struct fz_proc proc = { 0 };
	struct fz_err err = { 0 };

	if (failed != NULL ||
	    fz_proc_fork(&proc, &as_parent, start_a_worker, ctx, &err) != 0)
		_exit(99);
	while (pause() == -1)
		;
	return 0;
}

static void
hear_numbers(struct forked *f, pid_t *numbers, int n)
{
	for (int i = 0; i < n; i++)
		numbers[i] = hear_pid(f);
}

/* The worker of a dead worker is held when it ends itself. */
static int
hold_a_worker_of_a_worker(struct forked *f)
{
	struct fz_death death;
	int failures = 0;
	pid_t workers[2], held, tracer;

	fz_proc_adopt();
	forked_start(f, start_a_worker);
	hear_numbers(f, workers, 2);
	held = workers[workers[0] == f->proc.pid];
	tracer = start_tracer(held);
	kill(f->proc.pid, SIGKILL);
	failures += fz_proc_reap(&f->proc, true, &death) != 1;
	failures += fz_proc_reap_late() != (tracer != 0);
	if (tracer != 0) {
		failures += waitpid(held, NULL, WNOHANG) != 0;
		kill(tracer, SIGKILL);
		waitpid(tracer, NULL, 0);
	}
	return failures + !reap_all_late();
}

/* Two levels of workers are killed; the lower one before the upper one knows.
 */
static int
kill_two_levels(struct forked *f)
{
	struct fz_death death;
	int failures = 0;
	pid_t workers[2];

	fz_proc_adopt();
	forked_start(f, start_two_levels);
	hear_numbers(f, workers, 2);
	kill(f->proc.pid, SIGSTOP);
	for (int i = 0; i < 2; i++)
		kill(workers[i], SIGKILL);
	kill(f->proc.pid, SIGKILL);
	failures += fz_proc_reap(&f->proc, true, &death) != 1;
	return failures + !reap_all_late();
}

/* Leaves a process whose end takes long, because it has much memory. */
static int
leave_a_big_process(void *ctx, const struct fz_err *failed)
{
	enum { SIZE = 256 << 20 };
	pid_t pid = __real_fork();
	char *big;

	(void)failed;
	if (pid == 0) {
		setsid();
		big = mmap(NULL, SIZE, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (big == MAP_FAILED)
			_exit(99);
		for (size_t i = 0; i < SIZE; i += 4096)
			big[i] = 1;
		forked_tell_number(ctx, getpid());
	}
	while (pause() == -1)
		;
	return 0;
}

static void
wait_until_without_memory(pid_t pid)
{
	char path[64];
	long pages = 1;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/statm", (int)pid);
	while (pages != 0) {
		file = fopen(path, "r");
		if (file == NULL || fscanf(file, "%ld", &pages) != 1)
			_exit(98);
		fclose(file);
	}
}

/* It has no environment any more when its parent is reaped. */
static int
kill_a_big_process_and_its_parent(struct forked *f)
{
	struct fz_death death;
	int failures = 0;
	pid_t pid;

	fz_proc_adopt();
	forked_start(f, leave_a_big_process);
	pid = hear_pid(f);
	kill(pid, SIGKILL);
	wait_until_without_memory(pid);
	kill(f->proc.pid, SIGKILL);
	failures += fz_proc_reap(&f->proc, true, &death) != 1;
	return failures + !reap_all_late();
}

static void
test_proc_reap_late_reaps_what_was_exiting(void **state)
{
	assert_no_failure_in_an_adopter(
	    kill_a_big_process_and_its_parent, *state);
}

static void
test_proc_reap_late_reaps_what_dies_late(void **state)
{
	assert_no_failure_in_an_adopter(hold_a_descendant, *state);
}

static void
test_proc_reap_late_reaps_the_workers_of_a_dead_worker(void **state)
{
	assert_no_failure_in_an_adopter(hold_a_worker_of_a_worker, *state);
}

static void
test_proc_reap_late_reaps_two_levels(void **state)
{
	for (int i = 0; i < 20; i++)
		assert_no_failure_in_an_adopter(kill_two_levels, *state);
}

static void
test_proc_copy_of_a_handle_ends_nothing(void **state)
{
	struct forked *f = *state;
	struct fz_death death;
	char text[32];
	pid_t other;

	forked_start(f, wait_for_ever);
	forked_hear(f, text, sizeof(text));
	other = __real_fork();
	if (other == 0) {
		fz_proc_kill(&f->proc);
		fz_proc_reap(&f->proc, false, &death);
		_exit(0);
	}
	assert_int_equal(waitpid(other, NULL, 0), other);
	assert_int_equal(fz_proc_reap(&f->proc, false, &death), 0);
}

#define TEST(name) \
	cmocka_unit_test_setup_teardown(name, forked_setup, forked_teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_proc_kill_ends_all_descendants),
		TEST(test_proc_terminate_ends_all_descendants_by_sigterm),
		TEST(test_proc_kill_ends_daemons),
		TEST(test_proc_kill_without_proc_ends_the_child),
		TEST(test_proc_reap_ends_what_a_dead_child_left),
		TEST(test_proc_exit_ends_all_descendants),
		TEST(test_proc_sigpipe_ends_all_descendants),
		TEST(test_proc_parent_killed_ends_worker_and_descendants),
		TEST(
		    test_proc_parent_killed_ends_a_worker_whose_stop_is_pending),
		TEST(
		    test_proc_kill_stops_no_child_that_is_not_tied_to_its_parent),
		TEST(test_proc_adopter_ends_what_a_crashed_child_left),
		TEST(test_proc_reap_late_reaps_what_was_exiting),
		TEST(test_proc_reap_late_reaps_what_dies_late),
		TEST(test_proc_reap_late_reaps_the_workers_of_a_dead_worker),
		TEST(test_proc_reap_late_reaps_two_levels),
		TEST(test_proc_copy_of_a_handle_ends_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
