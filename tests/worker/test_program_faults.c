/*
 * Other programs, while calls to the system of their supervisor or of this
 * process fail.
 *
 * wrap: malloc calloc realloc mmap epoll_create1 epoll_ctl epoll_pwait fork
 * wrap: pipe2 read write pwritev2 syscall posix_spawnp putenv prctl waitpid
 * wrap: posix_spawn_file_actions_adddup2 fcntl
 */
/* F_GETPIPE_SZ is Linux. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "descriptors.h"
#include "faults.h"
#include "os/loop.h"
#include "program_test.h"
#include "worker/program.h"
#include "world.h"

/* The call that fails in supervisors. */
static enum {
	NOTHING,
	SPAWN,
	ADDDUP2,
	PUTENV,
	PRCTL,
	WAITPID_ONCE,
	DUPFD,
} failing;

static bool
fails(int call)
{
	return (int)failing == call;
}

int __real_posix_spawnp(pid_t *pid, const char *file,
    const posix_spawn_file_actions_t *files,
    const posix_spawnattr_t *attributes, char *const argv[], char *const env[]);
int __wrap_posix_spawnp(pid_t *pid, const char *file,
    const posix_spawn_file_actions_t *files,
    const posix_spawnattr_t *attributes, char *const argv[], char *const env[]);
int __real_posix_spawn_file_actions_adddup2(
    posix_spawn_file_actions_t *files, int from, int to);
int __wrap_posix_spawn_file_actions_adddup2(
    posix_spawn_file_actions_t *files, int from, int to);
int __real_putenv(char *text);
int __wrap_putenv(char *text);
int __real_prctl(int what, unsigned long arg);
int __wrap_prctl(int what, unsigned long arg);
int __real_fcntl(int fd, int cmd, ...);
int __wrap_fcntl(int fd, int cmd, ...);
pid_t __real_waitpid(pid_t pid, int *status, int flags);
pid_t __wrap_waitpid(pid_t pid, int *status, int flags);

int
__wrap_posix_spawnp(pid_t *pid, const char *file,
    const posix_spawn_file_actions_t *files,
    const posix_spawnattr_t *attributes, char *const argv[], char *const env[])
{
	if (fails(SPAWN))
		return EAGAIN;
	return __real_posix_spawnp(pid, file, files, attributes, argv, env);
}

int
__wrap_posix_spawn_file_actions_adddup2(
    posix_spawn_file_actions_t *files, int from, int to)
{
	if (fails(ADDDUP2))
		return ENOMEM;
	return __real_posix_spawn_file_actions_adddup2(files, from, to);
}

int
__wrap_putenv(char *text)
{
	if (fails(PUTENV)) {
		errno = ENOMEM;
		return -1;
	}
	return __real_putenv(text);
}

int
__wrap_prctl(int what, unsigned long arg)
{
	if (fails(PRCTL) && what == PR_SET_PDEATHSIG) {
		errno = EPERM;
		return -1;
	}
	return __real_prctl(what, arg);
}

int
__wrap_fcntl(int fd, int cmd, ...)
{
	va_list ap;
	int arg;

	va_start(ap, cmd);
	arg = cmd == F_GETFD || cmd == F_GETFL || cmd == F_GETPIPE_SZ
		  ? 0
		  : va_arg(ap, int);
	va_end(ap);
	if (!fails(DUPFD) || cmd != F_DUPFD_CLOEXEC)
		return __real_fcntl(fd, cmd, arg);
	errno = EMFILE;
	return -1;
}

pid_t
__wrap_waitpid(pid_t pid, int *status, int flags)
{
	if (fails(WAITPID_ONCE)) {
		failing = NOTHING;
		errno = EINTR;
		return -1;
	}
	return __real_waitpid(pid, status, flags);
}

static void
assert_not_run(struct world *w, const struct fz_program_opts *opts,
    const char *what, int code)
{
	struct fz_program *program = program_start(opts);
	struct fz_program_end *end = program_wait(w, program);

	assert_int_equal(
	    end->err.kind, code == ENOMEM ? FZ_ERR_MEMORY : FZ_ERR_ERROR);
	assert_int_equal(end->err.code, code);
	assert_non_null(strstr(end->err.text, what));
	assert_non_null(strstr(end->err.text, strerror(code)));
	fz_program_free(program);
}

static void
test_program_a_missing_program_is_reported(void **state)
{
	struct world *w = *state;
	char name[] = "/no/such/program";
	char *words[] = { name, NULL };
	struct fz_program_opts opts = program_options(w, words);

	if (on_valgrind()) /* under valgrind, vfork() is a fork() */
		skip();
	assert_not_run(w, &opts, "cannot run '/no/such/program'", ENOENT);
}

static void
test_program_a_missing_directory_is_reported(void **state)
{
	struct fz_program_opts opts =
	    program_options(*state, program_shell("true"));

	opts.cwd = "/no/such/directory";
	assert_not_run(*state, &opts, "directory '/no/such/directory'", ENOENT);
}

static void
test_program_reports_what_the_supervisor_could_not_do(void **state)
{
	struct fz_program_opts opts =
	    program_options(*state, program_shell("true"));
	char one[] = "ONE=1";
	char *env[] = { one, NULL };

	failing = SPAWN;
	assert_not_run(*state, &opts, "cannot run 'sh'", EAGAIN);
	failing = ADDDUP2;
	assert_not_run(*state, &opts, "cannot run 'sh'", ENOMEM);
	failing = PRCTL;
	assert_not_run(*state, &opts, "cannot watch the parent", EPERM);
	opts.files[1] = opts.files[2] = "/dev/null";
	failing = DUPFD;
	assert_not_run(*state, &opts, "cannot copy a descriptor", EMFILE);
	failing = PUTENV;
	opts.env = env;
	assert_not_run(*state, &opts, "cannot set the environment", ENOMEM);
	failing = NOTHING;
}

static void
test_program_a_supervisor_waits_on_after_a_signal(void **state)
{
	struct fz_program_opts opts =
	    program_options(*state, program_shell("sleep 0.05; exit 5"));
	struct fz_program *program;

	failing = WAITPID_ONCE;
	program = program_start(&opts);
	failing = NOTHING; /* from now on, calls fail in this process only */
	assert_program_ended(program_wait(*state, program), 5, "", "");
	fz_program_free(program);
}

static void
test_program_a_supervisor_that_is_killed_is_a_crash(void **state)
{
	struct world *w = *state;
	struct fz_program_opts opts = program_options(
	    w, program_shell("echo $$; kill -9 $PPID; sleep 77"));
	struct fz_program *program = program_start(&opts);
	struct fz_program_end *end = program_wait(w, program);
	pid_t pid;

	assert_int_equal(end->err.kind, FZ_ERR_CRASH);
	assert_non_null(
	    strstr(end->err.text, "supervisor of 'sh' died: killed by"));
	/* The program lives on, because this process is not a subreaper. */
	fz_buf_put(&end->out, "", 1);
	pid = atoi((const char *)end->out.data);
	assert_true(pid > 1);
	kill(-pid, SIGKILL);
	fz_program_free(program);
}

static void
test_program_runs_in_a_host_without_standard_descriptors(void **state)
{
	struct world *w = *state;
	struct fz_program_opts opts =
	    program_options(w, program_shell("cat; echo err >&2"));
	int64_t until = in_ms(PATIENCE_MS);
	struct fz_program_end *end;
	struct fz_program *program;
	int keep_fd[3];

	opts.input = "in";
	opts.ninput = 2;
	for (int i = 0; i < 3; i++) {
		keep_fd[i] = fcntl(i, F_DUPFD_CLOEXEC, 10);
		close(i);
	}
	program = fz_program_new(&opts, NULL);
	while (program != NULL && fz_program_end(program) == NULL &&
	       fz_clock_ns() < until)
		fz_loop_turn(w->engine.loop, until, NULL);
	end = program != NULL ? fz_program_end(program) : NULL;
	for (int i = 0; i < 3; i++) {
		dup2(keep_fd[i], i);
		close(keep_fd[i]);
	}
	assert_non_null(end);
	assert_program_ended(end, 0, "in", "err\n");
	fz_program_free(program);
}

static void
test_program_a_pipe_that_cannot_be_moved_is_reported(void **state)
{
	struct fz_program_opts opts =
	    program_options(*state, program_shell("true"));
	int keep_fd = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 10);
	struct fz_err err = { 0 };
	struct fz_program *program;

	close(STDIN_FILENO);
	failing = DUPFD;
	program = fz_program_new(&opts, &err);
	failing = NOTHING;
	dup2(keep_fd, STDIN_FILENO);
	close(keep_fd);
	assert_null(program);
	assert_int_equal(err.code, EMFILE);
}

/* If a call fails, the program runs correctly, or the error has a reason. */
static int
scenario(struct world *w)
{
	struct fz_program_opts opts =
	    program_options(w, program_shell("cat; echo err >&2"));
	int64_t until = in_ms(PATIENCE_MS);
	struct fz_err err = { 0 };
	struct fz_program *program;
	struct fz_program_end *end;
	int rc = -1;

	opts.input = "in";
	opts.ninput = 2;
	opts.feed = true;
	opts.timeout_ns = 60 * FZ_CLOCK_SECOND;
	program = fz_program_new(&opts, &err);
	if (program == NULL) {
		assert_int_not_equal(err.kind, FZ_ERR_NONE);
		return -1;
	}
	while (fz_program_end(program) == NULL && fz_clock_ns() < until) {
		fz_loop_turn(w->engine.loop, until, NULL);
		if (fz_program_hungry(program))
			fz_program_feed(program, NULL, 0);
	}
	end = fz_program_end(program);
	assert_non_null(end);
	if (end->err.kind == FZ_ERR_NONE) {
		assert_program_ended(end, 0, "in", "err\n");
		rc = 0;
	}
	fz_program_free(program);
	return rc;
}

/* Returns the number of calls that can fail. */
static unsigned long
fail_each_call(struct world *w)
{
	int rc, nfds, nfailed = 0;
	unsigned long n = 0;

	do {
		nfds = count_fds();
		faults_at(++n);
		rc = scenario(w);
		nfailed += rc != 0;
		assert_no_children();
		/* The loop may have opened a new epoll set. */
		assert_true(count_fds() <= nfds + 1);
	} while (faults_end());
	assert_int_equal(rc, 0);
	assert_true(nfailed > 10);
	return n;
}

/*
 * The first series allocates memory that is kept, such as that for a timer. So
 * the later calls get other numbers, and a second series is needed to let each
 * of them fail.
 */
static void
test_program_any_call_may_fail(void **state)
{
	unsigned long first = fail_each_call(*state);

	print_message("%lu calls, %lu\n", first, fail_each_call(*state));
}

#define TEST(name) \
	cmocka_unit_test_setup_teardown(name, world_setup, world_teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_program_a_missing_program_is_reported),
		TEST(test_program_a_missing_directory_is_reported),
		TEST(test_program_reports_what_the_supervisor_could_not_do),
		TEST(test_program_a_supervisor_waits_on_after_a_signal),
		TEST(test_program_a_supervisor_that_is_killed_is_a_crash),
		TEST(test_program_runs_in_a_host_without_standard_descriptors),
		TEST(test_program_a_pipe_that_cannot_be_moved_is_reported),
		TEST(test_program_any_call_may_fail),
	};

	return run_programs(tests, sizeof(tests) / sizeof(*tests));
}
