/*
 * What a dead child has left is ended and reaped, however late it dies.
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
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "forked.h"
#include "os/fd.h"
#include "proc/death.h"
#include "proc/proc.h"

/* Wait until a signal ends this process. */
static _Noreturn void
wait_for_a_signal(void)
{
	for (;;)
		pause();
}

/* Start a program without the pipe of `f`; if `session`, in a new session. */
static pid_t
start_program(const struct forked *f, bool session, const char *command)
{
	pid_t pid = __real_fork();

	if (pid != 0)
		return pid;
	if (session)
		setsid();
	fcntl(f->ends[1], F_SETFD, FD_CLOEXEC);
	execl("/bin/sh", "sh", "-c", command, NULL);
	_exit(99);
}

static int
leave_a_program(void *ctx, const struct fz_err *failed)
{
	(void)failed;
	forked_tell_number(ctx, start_program(ctx, true, "exec sleep 77"));
	wait_for_a_signal();
}

/* The worker starts a program that has a child. */
static int
leave_two_programs(void *ctx, const struct fz_err *failed)
{
	(void)failed;
	forked_tell_number(
	    ctx, start_program(ctx, true, "sleep 77 & exec sleep 78"));
	wait_for_a_signal();
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

/* Wait until nothing is left to reap. Returns false if that takes too long. */
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

/*
 * Reap the child, and all processes that it has left behind. Returns how many
 * of the checks have failed.
 */
static int
reap_all(struct forked *f)
{
	struct fz_death death;
	int failures = 0;

	failures += fz_proc_reap(&f->proc, true, &death) != 1;
	return failures + !reap_all_late();
}

/* Returns how many of the checks have failed. */
static int
crash_a_child(struct forked *f)
{
	static char big[100 << 10];
	char name[16];
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
	pid = forked_hear_pid(f);
	wait_for_program(pid, "sleep");
	kill(f->proc.pid, SIGKILL);
	failures += reap_all(f);
	failures += !forked_is_gone(pid);
	return failures + is_subreaper();
}

static pid_t
only_child_of(pid_t pid)
{
	char path[64];
	int child = 0;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/children", (int)pid,
	    (int)pid);
	file = fopen(path, "r");
	if (file == NULL || fscanf(file, "%d", &child) != 1)
		_exit(97);
	fclose(file);
	return child;
}

/* Returns how many of the checks have failed. */
static int
crash_a_child_with_two_programs(struct forked *f)
{
	int failures = 0;
	pid_t programs[2];

	fz_proc_adopt();
	forked_start(f, leave_two_programs);
	programs[0] = forked_hear_pid(f);
	wait_for_program(programs[0], "sleep");
	programs[1] = only_child_of(programs[0]);
	kill(f->proc.pid, SIGKILL);
	failures += reap_all(f);
	for (int i = 0; i < 2; i++)
		failures += !forked_is_gone(programs[i]);
	return failures + is_subreaper();
}

/* Reading /proc once takes longer than fz_proc_reap() may wait. */
static int
crash_a_child_on_a_busy_machine(struct forked *f)
{
	slow_proc_ms = 60;
	return crash_a_child_with_two_programs(f);
}

static int
crash_a_child_with_programs_in_an_exec(struct forked *f)
{
	empty_environs = 3;
	return crash_a_child_with_two_programs(f) + empty_environs;
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

static void
test_proc_adopter_ends_what_it_finds_slowly(void **state)
{
	assert_no_failure_in_an_adopter(
	    crash_a_child_on_a_busy_machine, *state);
}

static void
test_proc_adopter_ends_what_is_in_an_exec(void **state)
{
	assert_no_failure_in_an_adopter(
	    crash_a_child_with_programs_in_an_exec, *state);
}

static int
leave_in_group(void *ctx, const struct fz_err *failed)
{
	pid_t pid = __real_fork();

	(void)failed;
	if (pid == 0)
		wait_for_a_signal();
	forked_tell_number(ctx, pid);
	wait_for_a_signal();
}

/*
 * Start a process that traces `pid`: the parent of `pid` cannot reap it until
 * the tracer has ended. Returns 0 if tracing is not allowed.
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

/*
 * Reap the killed child, end the tracer, and then reap the process `held`.
 * Returns how many of the checks have failed.
 */
static int
reap_held(struct forked *f, pid_t held, pid_t tracer)
{
	struct fz_death death;
	int failures = 0;

	failures += fz_proc_reap(&f->proc, true, &death) != 1;
	failures += fz_proc_reap_late() != (tracer != 0);
	if (tracer != 0) {
		failures += waitpid(held, NULL, WNOHANG) != 0;
		kill(tracer, SIGKILL);
		waitpid(tracer, NULL, 0);
	}
	return failures + !reap_all_late();
}

static int
hold_a_descendant(struct forked *f)
{
	pid_t pid, tracer;

	fz_proc_adopt();
	forked_start(f, leave_in_group);
	pid = forked_hear_pid(f);
	tracer = start_tracer(pid);
	fz_proc_kill(&f->proc);
	return reap_held(f, pid, tracer);
}

static int
wait_to_be_killed(void *ctx, const struct fz_err *failed)
{
	(void)failed;
	forked_tell_number(ctx, getpid());
	wait_for_a_signal();
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

/* Start a worker that runs `entry`, and wait to be killed. */
static _Noreturn void
start_one_with(fz_proc_main entry, void *ctx, const struct fz_err *failed)
{
	struct fz_proc proc = { 0 };
	struct fz_err err = { 0 };

	if (failed != NULL ||
	    fz_proc_fork(&proc, &as_parent, entry, ctx, &err) != 0)
		_exit(99);
	wait_for_a_signal();
}

static int
start_two_levels(void *ctx, const struct fz_err *failed)
{
	start_one_with(start_a_worker, ctx, failed);
}

static void
hear_numbers(struct forked *f, pid_t *numbers, int n)
{
	for (int i = 0; i < n; i++)
		numbers[i] = forked_hear_pid(f);
}

/* The worker of a dead worker ends itself; its tracer delays the reaping. */
static int
hold_a_worker_of_a_worker(struct forked *f)
{
	pid_t workers[2], held, tracer;

	fz_proc_adopt();
	forked_start(f, start_a_worker);
	hear_numbers(f, workers, 2);
	held = workers[workers[0] == f->proc.pid];
	tracer = start_tracer(held);
	kill(f->proc.pid, SIGKILL);
	return reap_held(f, held, tracer);
}

/* A worker is killed before it can handle the death of its own worker. */
static int
kill_two_levels(struct forked *f)
{
	pid_t workers[2];

	fz_proc_adopt();
	forked_start(f, start_two_levels);
	hear_numbers(f, workers, 2);
	kill(f->proc.pid, SIGSTOP);
	for (int i = 0; i < 2; i++)
		kill(workers[i], SIGKILL);
	kill(f->proc.pid, SIGKILL);
	return reap_all(f);
}

/* The function that the worker of start_a_leaver() runs. */
static fz_proc_main leaves;

static int
start_a_leaver(void *ctx, const struct fz_err *failed)
{
	start_one_with(leaves, ctx, failed);
}

/*
 * A worker is killed, and then its parent, before the parent can end the
 * program that the worker has left.
 */
static int
kill_a_leaver_and_its_parent(struct forked *f)
{
	int failures = 0;
	pid_t left, worker;

	fz_proc_adopt();
	forked_start(f, start_a_leaver);
	left = forked_hear_pid(f);
	if (leaves == leave_a_program)
		wait_for_program(left, "sleep");
	worker = only_child_of(f->proc.pid);
	kill(f->proc.pid, SIGSTOP);
	kill(worker, SIGKILL);
	kill(f->proc.pid, SIGKILL);
	failures += reap_all(f);
	return failures + !forked_is_gone(left);
}

/* The worker leaves a program in its process group, and is killed. */
static int
leave_in_group_and_die(void *ctx, const struct fz_err *failed)
{
	pid_t pid = start_program(ctx, false, "exec sleep 77");

	(void)failed;
	wait_for_program(pid, "sleep");
	forked_tell_number(ctx, pid);
	raise(SIGKILL);
	return 0;
}

/* The worker reaps its own dead worker, whose program stays alive. */
static int
reap_a_leaver(void *ctx, const struct fz_err *failed)
{
	struct fz_proc proc = { 0 };
	struct fz_err err = { 0 };

	if (failed != NULL || fz_proc_fork(&proc, &as_parent,
				  leave_in_group_and_die, ctx, &err) != 0)
		_exit(99);
	waitpid(proc.pid, NULL, 0);
	return wait_to_be_killed(ctx, NULL);
}

/*
 * A worker is killed after it has reaped its own worker, and before it has
 * ended the program that this dead worker has left.
 */
static int
kill_one_that_has_reaped(struct forked *f, bool program_dies)
{
	int failures = 0;
	pid_t numbers[2], left;

	fz_proc_adopt();
	forked_start(f, reap_a_leaver);
	hear_numbers(f, numbers, 2);
	left = numbers[numbers[0] == f->proc.pid];
	if (program_dies)
		kill(left, SIGKILL);
	while (program_dies && !forked_is_gone(left))
		forked_nap(1);
	kill(f->proc.pid, SIGKILL);
	failures += reap_all(f);
	return failures + !forked_is_gone(left);
}

static int
kill_one_that_has_reaped_and_left_a_program(struct forked *f)
{
	return kill_one_that_has_reaped(f, false);
}

static int
kill_one_that_has_reaped_and_left_a_zombie(struct forked *f)
{
	return kill_one_that_has_reaped(f, true);
}

static int
start_a_killer(void *ctx, const struct fz_err *failed)
{
	loses_parent = true;
	return start_a_worker(ctx, failed);
}

/* A worker that is not set up when its parent is reaped ends itself. */
static int
kill_the_parent_of_a_new_worker(struct forked *f)
{
	fz_proc_adopt();
	forked_start(f, start_a_killer);
	return reap_all(f);
}

static int
spawn_a_program(void *ctx, const struct fz_err *failed)
{
	static char true_[] = "true";
	char *const argv[] = { true_, NULL };
	const struct fz_proc_program program = {
		.path = true_, .argv = argv, .enters = true
	};
	struct fz_proc proc = { 0 };
	struct fz_err err = { 0 };

	if (failed != NULL ||
	    fz_proc_spawn(&proc, &as_parent, &program, &err) != 0)
		_exit(99);
	forked_tell_number(ctx, proc.pid);
	wait_for_a_signal();
}

/* The program has ended before it could call itself a worker. */
static int
kill_the_parent_of_a_dead_program(struct forked *f)
{
	pid_t pid;

	fz_proc_adopt();
	forked_start(f, spawn_a_program);
	pid = forked_hear_pid(f);
	while (!forked_is_gone(pid))
		forked_nap(1);
	kill(f->proc.pid, SIGKILL);
	return reap_all(f);
}

/* The worker leaves a process that dies slowly, because of its memory. */
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
	wait_for_a_signal();
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

/* The big process is dying and has no environment when its parent is reaped. */
static int
kill_a_big_process_and_its_parent(struct forked *f)
{
	pid_t pid;

	fz_proc_adopt();
	forked_start(f, leave_a_big_process);
	pid = forked_hear_pid(f);
	kill(pid, SIGKILL);
	wait_until_without_memory(pid);
	kill(f->proc.pid, SIGKILL);
	return reap_all(f);
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
test_proc_reap_late_ends_what_two_killed_levels_left(void **state)
{
	leaves = leave_a_program;
	assert_no_failure_in_an_adopter(kill_a_leaver_and_its_parent, *state);
	leaves = leave_in_group;
	assert_no_failure_in_an_adopter(kill_a_leaver_and_its_parent, *state);
}

static void
test_proc_reap_late_ends_what_one_that_has_reaped_left(void **state)
{
	assert_no_failure_in_an_adopter(
	    kill_one_that_has_reaped_and_left_a_program, *state);
	assert_no_failure_in_an_adopter(
	    kill_one_that_has_reaped_and_left_a_zombie, *state);
}

static void
test_proc_reap_late_reaps_a_worker_that_was_starting(void **state)
{
	assert_no_failure_in_an_adopter(
	    kill_the_parent_of_a_new_worker, *state);
	assert_no_failure_in_an_adopter(
	    kill_the_parent_of_a_dead_program, *state);
}

#define TEST(name) \
	cmocka_unit_test_setup_teardown(name, forked_setup, forked_teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_proc_adopter_ends_what_a_crashed_child_left),
		TEST(test_proc_adopter_ends_what_it_finds_slowly),
		TEST(test_proc_adopter_ends_what_is_in_an_exec),
		TEST(test_proc_reap_late_reaps_what_was_exiting),
		TEST(test_proc_reap_late_reaps_what_dies_late),
		TEST(test_proc_reap_late_reaps_the_workers_of_a_dead_worker),
		TEST(test_proc_reap_late_reaps_two_levels),
		TEST(test_proc_reap_late_ends_what_two_killed_levels_left),
		TEST(test_proc_reap_late_ends_what_one_that_has_reaped_left),
		TEST(test_proc_reap_late_reaps_a_worker_that_was_starting),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
