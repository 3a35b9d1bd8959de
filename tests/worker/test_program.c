/*
 * Other programs; what their supervisor and we ask of the system fails on
 * demand.
 * wrap: malloc calloc realloc mmap epoll_create1 epoll_ctl epoll_wait fork
 * wrap: pipe2 read write pwritev2 syscall posix_spawnp putenv prctl waitpid
 * wrap: posix_spawn_file_actions_adddup2 fcntl
 */
/* F_SETPIPE_SZ is Linux. */
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
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"
#include "faults.h"
#include "os/loop.h"
#include "os/proc.h"
#include "worker/program.h"
#include "world.h"

enum { PIPE_BYTES = 1 << 20 };

/* What the next supervisors cannot do. */
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

static bool no_pidfd; /* nor close_range: an old kernel */

long __real_syscall(long number, long a, long b, long c);
long __wrap_syscall(long number, long a, long b, long c);
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

/* ---- one program ------------------------------------------------------- */

/* `words` ends with NULL; what it is not given it has not. */
static struct fz_program_opts
options(struct world *w, char *const *words)
{
	return (struct fz_program_opts){ .engine = &w->engine,
		.file = words[0],
		.argv = words,
		.timeout_ns = FZ_CLOCK_NEVER };
}

static char *const *
shell(const char *script)
{
	static char *words[4];
	static char text[512];

	snprintf(text, sizeof(text), "%s", script);
	words[0] = (char *)(uintptr_t) "sh";
	words[1] = (char *)(uintptr_t) "-c";
	words[2] = text;
	return words;
}

static struct fz_program *
start(const struct fz_program_opts *opts)
{
	struct fz_err err = { 0 };
	struct fz_program *exec = fz_program_new(opts, &err);

	if (exec == NULL)
		fail_msg("%s", err.text);
	return exec;
}

/* Its end, within ten seconds. */
static struct fz_program_end *
wait_end(struct world *w, struct fz_program *exec)
{
	int64_t until = in_ms(on_valgrind() ? 60000 : 10000);
	unsigned long before = w->engine.wake_count;

	while (fz_program_end(exec) == NULL) {
		assert_int_equal(w->engine.wake_count, before);
		assert_true(step_until(w, until));
	}
	assert_int_equal(w->engine.wake_count, before + 1);
	return fz_program_end(exec);
}

static void
assert_bytes(const struct fz_buf *buf, const char *text)
{
	assert_int_equal(buf->len, strlen(text));
	if (buf->len != 0)
		assert_memory_equal(buf->data, text, buf->len);
}

/* It ended by itself, and wrote these. */
static void
assert_ended(const struct fz_program_end *end, int exitcode, const char *out,
    const char *errors)
{
	assert_string_equal(end->err.text, "");
	assert_int_equal(end->err.kind, FZ_ERR_NONE);
	assert_int_equal(end->signal, 0);
	assert_int_equal(end->exitcode, exitcode);
	assert_false(end->timed_out);
	assert_bytes(&end->out, out);
	assert_bytes(&end->errors, errors);
}

static void
test_program_tells_what_a_program_wrote_and_how_it_ended(void **state)
{
	struct world *w = *state;
	struct fz_program_opts opts =
	    options(w, shell("echo out; echo err >&2; exit 3"));
	struct fz_program *exec = start(&opts);

	assert_ended(wait_end(w, exec), 3, "out\n", "err\n");
	fz_program_free(exec);
}

static void
test_program_tells_the_signal(void **state)
{
	struct world *w = *state;
	struct fz_program_opts opts = options(w, shell("kill -TERM $$"));
	struct fz_program *exec = start(&opts);
	struct fz_program_end *end = wait_end(w, exec);

	assert_int_equal(end->err.kind, FZ_ERR_NONE);
	assert_int_equal(end->signal, SIGTERM);
	assert_int_equal(end->exitcode, 0);
	fz_program_free(exec);
}

/* A host's threads often block them all. */
static void
test_program_a_program_has_no_signal_blocked_or_ignored(void **state)
{
	struct world *w = *state;
	sigset_t all, before;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	for (int i = 0; i < 2; i++) {
		struct fz_program_opts opts =
		    options(w, shell(i == 0 ? "kill -TERM $$; sleep 9"
					    : "kill -INT $$; sleep 9"));
		struct fz_program *exec = start(&opts);

		assert_int_equal(
		    wait_end(w, exec)->signal, i == 0 ? SIGTERM : SIGINT);
		fz_program_free(exec);
	}
	pthread_sigmask(SIG_SETMASK, &before, NULL);
}

/* Bytes that go through cat, `faults` as they are set. */
static void
through_cat(struct world *w, size_t n)
{
	unsigned char *input = malloc(n);
	struct fz_program_opts opts = options(w, shell("exec cat"));
	struct fz_program *exec;
	struct fz_program_end *end;

	for (size_t i = 0; i < n; i++)
		input[i] = (unsigned char)(i * 7 + i / 251);
	opts.input = input;
	opts.ninput = n;
	exec = start(&opts);
	end = wait_end(w, exec);
	assert_int_equal(end->err.kind, FZ_ERR_NONE);
	assert_int_equal(end->out.len, n);
	assert_memory_equal(end->out.data, input, n);
	fz_program_free(exec);
	free(input);
}

static void
test_program_input_of_any_size_comes_back(void **state)
{
	through_cat(*state, 1);
	through_cat(*state, 65536);
	through_cat(*state, bulk_size() / 4 + 1);
}

static void
test_program_goes_on_after_short_and_interrupted_calls(void **state)
{
	faults.pid = getpid();
	faults.most = 1000;
	faults.odd_every = 3;
	faults.odd_error = EINTR;
	faults.nodd = 0;
	through_cat(*state, 200000);
	assert_true(faults.nodd > 50);
	faults_end();
}

static void
test_program_a_program_need_not_read(void **state)
{
	struct world *w = *state;
	struct fz_program_opts opts = options(w, shell("exec <&-; echo there"));
	size_t n = (size_t)4 << 20;
	char *input = calloc(1, n);
	struct fz_program *exec;

	opts.input = input;
	opts.ninput = n;
	exec = start(&opts);
	assert_ended(wait_end(w, exec), 0, "there\n", "");
	fz_program_free(exec);
	free(input);
}

static void
test_program_sets_environment_and_directory(void **state)
{
	struct world *w = *state;
	struct fz_program_opts opts =
	    options(w, shell("echo $ONE ${HOME-none} ${PATH:+path}; pwd"));
	char one[] = "ONE=a b", home[] = "HOME";
	char *env[] = { one, home, NULL };
	struct fz_program *exec;

	opts.env = env;
	opts.cwd = "/usr";
	exec = start(&opts);
	assert_ended(wait_end(w, exec), 0, "a b none path\n/usr\n", "");
	assert_null(getenv("ONE"));
	fz_program_free(exec);
}

/* ---- what goes wrong
 * ---------------------------------------------------------
 */

static void
assert_not_run(struct world *w, const struct fz_program_opts *opts,
    const char *what, int code)
{
	struct fz_program *exec = start(opts);
	struct fz_program_end *end = wait_end(w, exec);

	assert_int_equal(end->err.kind, FZ_ERR_ERROR);
	assert_int_equal(end->err.code, code);
	assert_non_null(strstr(end->err.text, what));
	assert_non_null(strstr(end->err.text, strerror(code)));
	fz_program_free(exec);
}

static void
test_program_a_missing_program_is_told(void **state)
{
	struct world *w = *state;
	char name[] = "/no/such/program";
	char *words[] = { name, NULL };
	struct fz_program_opts opts = options(w, words);

	if (on_valgrind()) /* its vfork() is a fork() */
		skip();
	assert_not_run(w, &opts, "cannot run '/no/such/program'", ENOENT);
}

static void
test_program_a_missing_directory_is_told(void **state)
{
	struct fz_program_opts opts = options(*state, shell("true"));

	opts.cwd = "/no/such/directory";
	assert_not_run(*state, &opts, "directory '/no/such/directory'", ENOENT);
}

static void
test_program_tells_what_a_supervisor_could_not_do(void **state)
{
	struct fz_program_opts opts = options(*state, shell("true"));
	char one[] = "ONE=1";
	char *env[] = { one, NULL };

	failing = SPAWN;
	assert_not_run(*state, &opts, "cannot run 'sh'", EAGAIN);
	failing = ADDDUP2;
	assert_not_run(*state, &opts, "cannot run 'sh'", ENOMEM);
	failing = PRCTL;
	assert_not_run(*state, &opts, "cannot watch the parent", EPERM);
	failing = PUTENV;
	opts.env = env;
	assert_not_run(*state, &opts, "cannot set the environment", ENOMEM);
	failing = NOTHING;
}

static void
test_program_a_supervisor_waits_on_after_a_signal(void **state)
{
	struct fz_program_opts opts =
	    options(*state, shell("sleep 0.05; exit 5"));
	struct fz_program *exec;

	failing = WAITPID_ONCE;
	exec = start(&opts);
	failing = NOTHING; /* here, not there */
	assert_ended(wait_end(*state, exec), 5, "", "");
	fz_program_free(exec);
}

static void
test_program_a_supervisor_that_is_killed_is_a_crash(void **state)
{
	struct world *w = *state;
	struct fz_program_opts opts =
	    options(w, shell("kill -9 $PPID; sleep 77"));
	struct fz_program *exec = start(&opts);
	struct fz_program_end *end = wait_end(w, exec);

	assert_int_equal(end->err.kind, FZ_ERR_CRASH);
	assert_non_null(strstr(end->err.text, "watched over 'sh' killed by"));
	fz_program_free(exec);
}

static void
test_program_runs_in_a_host_without_standard_descriptors(void **state)
{
	struct world *w = *state;
	struct fz_program_opts opts = options(w, shell("cat; echo err >&2"));
	int64_t until = in_ms(10000);
	struct fz_program_end *end;
	struct fz_program *exec;
	int keep_fd[3];

	opts.input = "in";
	opts.ninput = 2;
	for (int i = 0; i < 3; i++) {
		keep_fd[i] = fcntl(i, F_DUPFD_CLOEXEC, 10);
		close(i);
	}
	exec = fz_program_new(&opts, NULL);
	while (exec != NULL && fz_program_end(exec) == NULL &&
	       fz_clock_ns() < until)
		fz_loop_step(w->engine.loop, until, NULL);
	end = exec != NULL ? fz_program_end(exec) : NULL;
	for (int i = 0; i < 3; i++) {
		dup2(keep_fd[i], i);
		close(keep_fd[i]);
	}
	assert_non_null(end);
	assert_ended(end, 0, "in", "err\n");
	fz_program_free(exec);
}

static void
test_program_a_pipe_that_cannot_be_moved_is_told(void **state)
{
	struct fz_program_opts opts = options(*state, shell("true"));
	int keep_fd = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 10);
	struct fz_err err = { 0 };
	struct fz_program *exec;

	close(STDIN_FILENO);
	failing = DUPFD;
	exec = fz_program_new(&opts, &err);
	failing = NOTHING;
	dup2(keep_fd, STDIN_FILENO);
	close(keep_fd);
	assert_null(exec);
	assert_int_equal(err.code, EMFILE);
}

/* Whatever fails here, it ran as it should or the reason is told. */
static int
scenario(struct world *w)
{
	struct fz_program_opts opts = options(w, shell("cat; echo err >&2"));
	int64_t until = in_ms(10000);
	struct fz_err err = { 0 };
	struct fz_program *exec;
	struct fz_program_end *end;
	int rc = -1;

	opts.input = "in";
	opts.ninput = 2;
	opts.timeout_ns = 60 * FZ_CLOCK_SECOND;
	exec = fz_program_new(&opts, &err);
	if (exec == NULL) {
		assert_int_not_equal(err.kind, FZ_ERR_NONE);
		return -1;
	}
	while (fz_program_end(exec) == NULL && fz_clock_ns() < until)
		fz_loop_step(w->engine.loop, until, NULL);
	end = fz_program_end(exec);
	assert_non_null(end);
	if (end->err.kind == FZ_ERR_NONE) {
		assert_ended(end, 0, "in", "err\n");
		rc = 0;
	}
	fz_program_free(exec);
	return rc;
}

/* Returns how many calls there are. */
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
		assert_true(count_fds() <= nfds + 1); /* a new epoll set */
	} while (faults_end());
	assert_int_equal(rc, 0);
	assert_true(nfailed > 10);
	return n;
}

/*
 * Once more when nothing is the first of its kind: the room for a timer is
 * made but once, and moved the calls behind it past the one that was to fail.
 */
static void
test_program_any_call_may_fail(void **state)
{
	unsigned long first = fail_each_call(*state);

	print_message("%lu calls, %lu\n", first, fail_each_call(*state));
}

/* ---- time, and what is left -------------------------------------------- */

/* The number that a program has written to the file, once it has. */
static pid_t
wait_pid(const struct world *w, struct fz_program *exec, const char *path)
{
	int64_t until = in_ms(10000);
	long pid = 0;

	while (pid == 0 && fz_clock_ns() < until) {
		FILE *f = fopen(path, "r");

		assert_non_null(f);
		if (fscanf(f, "%ld", &pid) != 1)
			pid = 0;
		fclose(f);
		assert_null(fz_program_end(exec));
		fz_loop_step(w->engine.loop, in_ms(1), NULL);
	}
	assert_true(pid > 0);
	return (pid_t)pid;
}

static void
test_program_ends_all_of_it_when_its_time_is_over(void **state)
{
	struct world *w = *state;
	struct fz_program_opts opts = options(
	    w, shell("echo so far; setsid sleep 77 & trap '' TERM; sleep 78"));
	struct fz_program *exec;
	struct fz_program_end *end;
	int64_t from = fz_clock_ns();

	opts.timeout_ns = 100 * FZ_CLOCK_MS * (on_valgrind() ? 50 : 1);
	exec = start(&opts);
	end = wait_end(w, exec);
	assert_true(fz_clock_ns() - from >= opts.timeout_ns);
	assert_int_equal(end->err.kind, FZ_ERR_NONE);
	assert_true(end->timed_out);
	assert_int_equal(end->signal, SIGKILL);
	assert_bytes(&end->out, "so far\n");
	fz_program_free(exec);
}

/* Steps of the loop may be far apart: it had ended before it was to. */
static void
test_program_what_ended_in_time_has_not_run_out_of_it(void **state)
{
	struct world *w = *state;
	struct fz_program_opts opts = options(w, shell("echo x; exit 4"));
	struct fz_program *exec;

	if (on_valgrind())
		skip();
	opts.timeout_ns = 400 * FZ_CLOCK_MS;
	exec = start(&opts);
	usleep(600000);
	assert_ended(wait_end(w, exec), 4, "x\n", "");
	fz_program_free(exec);
}

static void
test_program_freed_while_it_runs_ends_it(void **state)
{
	struct world *w = *state;
	char path[] = "/tmp/test_exec.XXXXXX", script[256];
	int fd = mkstemp(path);
	struct fz_program_opts opts;
	struct fz_program *exec;
	pid_t pid;

	snprintf(script, sizeof(script),
	    "setsid sh -c 'echo $$ >%s; sleep 77' & sleep 78", path);
	opts = options(w, shell(script));
	exec = start(&opts);
	pid = wait_pid(w, exec, path);
	assert_int_equal(kill(pid, 0), 0);
	fz_program_free(exec);
	assert_int_equal(kill(pid, 0), -1);
	close(fd);
	unlink(path);
	fz_program_free(NULL);
}

/* As a worker that is forked meanwhile: it lets go, and ends nothing. */
static void
test_program_in_a_forked_child_is_the_parents(void **state)
{
	struct world *w = *state;
	struct fz_program_opts opts =
	    options(w, shell("cat; sleep 0.2; exit 6"));
	int nfds = count_fds();
	struct fz_program *exec;
	pid_t pid;
	int status;

	opts.input = "in";
	opts.ninput = 2;
	exec = start(&opts);
	pid = fork();
	if (pid == 0) {
		struct fz_program_end *end;

		fz_loop_in_child(w->engine.loop);
		end = fz_program_end(exec);
		if (end == NULL || end->err.kind != FZ_ERR_CLOSED)
			_exit(1);
		if (strstr(end->err.text, "by another process") == NULL)
			_exit(2);
		fz_program_free(exec);
		/* No epoll set; valgrind's log of this process is its own. */
		_exit(on_valgrind() || count_fds() == nfds - 1 ? 0 : 3);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_ended(wait_end(w, exec), 6, "in", "");
	fz_program_free(exec);
}

/* ---- its last bytes ---------------------------------------------------- */

/* This program itself as the one that is run. */
static char *const *
self(const char *what)
{
	static char *words[3];

	words[0] = (char *)(uintptr_t) "/proc/self/exe";
	words[1] = (char *)(uintptr_t)what;
	return words;
}

/* Leaves a pipe of the largest size full. */
static int
act_fill(void)
{
	static char bytes[PIPE_BYTES];

	if (fcntl(STDOUT_FILENO, F_SETPIPE_SZ, PIPE_BYTES) < PIPE_BYTES)
		return 7;
	return write(STDOUT_FILENO, bytes, PIPE_BYTES) == PIPE_BYTES ? 0 : 8;
}

static void
test_program_what_is_left_in_a_pipe_is_read(void **state)
{
	struct world *w = *state;
	struct fz_program_opts opts = options(w, self("fill"));
	struct fz_program *exec;
	struct fz_program_end *end;

	if (on_valgrind())
		skip();
	exec = start(&opts);
	usleep(300000); /* by now its supervisor has ended, too */
	end = wait_end(w, exec);
	assert_int_equal(end->exitcode, 0);
	assert_int_equal(end->out.len, PIPE_BYTES);
	fz_program_free(exec);
}

/* Something that we may not end, as another user's process, holds the pipe. */
static void
test_program_does_not_wait_for_a_pipe_that_others_hold(void **state)
{
	struct world *w = *state;
	char path[] = "/tmp/test_exec.XXXXXX", script[256], name[64];
	int fd = mkstemp(path), held;
	struct fz_program_opts opts;
	struct fz_program *exec;
	pid_t pid;

	snprintf(script, sizeof(script),
	    "echo $$ >%s; until test -e %s.go; do sleep 0.01; done", path,
	    path);
	opts = options(w, shell(script));
	exec = start(&opts);
	pid = wait_pid(w, exec, path);
	snprintf(name, sizeof(name), "/proc/%ld/fd/1", (long)pid);
	held = open(name, O_WRONLY | O_CLOEXEC);
	assert_int_not_equal(held, -1);
	assert_int_equal(write(held, "held", 4), 4);
	snprintf(script, sizeof(script), "%s.go", path);
	close(open(script, O_CREAT | O_WRONLY, 0600));
	assert_ended(wait_end(w, exec), 0, "held", "");
	fz_program_free(exec);
	close(held);
	close(fd);
	unlink(script);
	unlink(path);
}

static int
old_kernel(void **state)
{
	(void)state;
	no_pidfd = true;
	return 0;
}

#define TEST(name) \
	cmocka_unit_test_setup_teardown(name, world_setup, world_teardown)

int
main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		TEST(test_program_tells_what_a_program_wrote_and_how_it_ended),
		TEST(test_program_tells_the_signal),
		TEST(test_program_a_program_has_no_signal_blocked_or_ignored),
		TEST(test_program_input_of_any_size_comes_back),
		TEST(test_program_goes_on_after_short_and_interrupted_calls),
		TEST(test_program_a_program_need_not_read),
		TEST(test_program_sets_environment_and_directory),
		TEST(test_program_a_missing_program_is_told),
		TEST(test_program_a_missing_directory_is_told),
		TEST(test_program_tells_what_a_supervisor_could_not_do),
		TEST(test_program_a_supervisor_waits_on_after_a_signal),
		TEST(test_program_a_supervisor_that_is_killed_is_a_crash),
		TEST(test_program_runs_in_a_host_without_standard_descriptors),
		TEST(test_program_a_pipe_that_cannot_be_moved_is_told),
		TEST(test_program_any_call_may_fail),
		TEST(test_program_ends_all_of_it_when_its_time_is_over),
		TEST(test_program_what_ended_in_time_has_not_run_out_of_it),
		TEST(test_program_freed_while_it_runs_ends_it),
		TEST(test_program_in_a_forked_child_is_the_parents),
		TEST(test_program_what_is_left_in_a_pipe_is_read),
		TEST(test_program_does_not_wait_for_a_pipe_that_others_hold),
	};
	int failed;

	if (argc > 1 && strcmp(argv[1], "fill") == 0)
		return act_fill();
	failed = cmocka_run_group_tests_name("as it is", tests, NULL, NULL);
	return failed + cmocka_run_group_tests_name(
			    "on an old kernel", tests, old_kernel, NULL);
}
