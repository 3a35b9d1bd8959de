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
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "forked.h"
#include "os/fd.h"
#include "proc/death.h"
#include "proc/proc.h"

int __real_kill(pid_t pid, int sig);
int __wrap_kill(pid_t pid, int sig);

/* Wait for the death of a process that otherwise sleeps much longer. */
static void
assert_goes(pid_t pid)
{
	int64_t deadline = fz_clock_ns() + 30 * FZ_CLOCK_SECOND;

	assert_true(pid > 0);
	while (!forked_is_gone(pid)) {
		assert_true(fz_clock_ns() < deadline);
		forked_nap(1);
	}
}

/* Start two sleepers, one in a session of its own, which report their pids. */
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
	one = forked_hear_pid(f);
	two = forked_hear_pid(f);
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
	one = forked_hear_pid(f);
	two = forked_hear_pid(f);
	kill(f->proc.pid, SIGSTOP);
	fz_proc_terminate(&f->proc);
	assert_int_equal(fz_proc_reap(&f->proc, true, &death), 1);
	assert_int_equal(death.signal, SIGTERM);
	assert_goes(one);
	assert_goes(two);
	fz_proc_terminate(&f->proc); /* no effect: it is dead */
}

/* Start a process like a daemon: forked twice, in a session of its own. */
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
	pid = forked_hear_pid(f);
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
	pid = forked_hear_pid(f);
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
	assert_goes(forked_hear_pid(f));
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
	assert_goes(forked_hear_pid(f));
	assert_int_equal(fz_proc_reap(&f->proc, true, &death), 1);
	assert_int_equal(death.signal, SIGPIPE);
}

/* A worker of a worker, which is started while all signals are blocked. */
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
		pid[i] = forked_hear_pid(f);
	kill(f->proc.pid, SIGKILL);
	for (i = 0; i < 3; i++)
		assert_goes(pid[i]);
}

/* While the child of its vfork() runs, a process handles no signal. */
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
	worker = forked_hear_pid(f);
	child = forked_hear_pid(f);
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

/* If this process died just after a SIGSTOP, the child would stay stopped. */
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
		TEST(test_proc_copy_of_a_handle_ends_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
