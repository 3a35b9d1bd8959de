/*
 * Other programs: what they get, what they write, and how they end.
 *
 * wrap: malloc calloc realloc mmap epoll_create1 epoll_ctl epoll_pwait fork
 * wrap: pipe2 read write pwritev2 syscall
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
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
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

enum { PIPE_BYTES = 1 << 20 };

static void
test_program_returns_output_and_exit_code(void **state)
{
	struct world *w = *state;
	struct fz_program_opts opts =
	    program_options(w, program_shell("echo out; echo err >&2; exit 3"));
	struct fz_program *program = program_start(&opts);

	assert_program_ended(program_wait(w, program), 3, "out\n", "err\n");
	fz_program_free(program);
}

static void
test_program_reports_the_signal(void **state)
{
	struct world *w = *state;
	struct fz_program_opts opts =
	    program_options(w, program_shell("kill -TERM $$"));
	struct fz_program *program = program_start(&opts);
	struct fz_program_end *end = program_wait(w, program);

	assert_int_equal(end->err.kind, FZ_ERR_NONE);
	assert_int_equal(end->signal, SIGTERM);
	assert_int_equal(end->exitcode, 0);
	fz_program_free(program);
}

/* The threads of a host often block all signals. */
static void
test_program_a_program_has_no_signal_blocked_or_ignored(void **state)
{
	struct world *w = *state;
	sigset_t all, before;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	for (int i = 0; i < 2; i++) {
		struct fz_program_opts opts = program_options(
		    w, program_shell(i == 0 ? "kill -TERM $$; sleep 9"
					    : "kill -INT $$; sleep 9"));
		struct fz_program *program = program_start(&opts);

		assert_int_equal(program_wait(w, program)->signal,
		    i == 0 ? SIGTERM : SIGINT);
		fz_program_free(program);
	}
	pthread_sigmask(SIG_SETMASK, &before, NULL);
}

/* Send bytes through cat, while calls fail as `faults` says. */
static void
through_cat(struct world *w, size_t n)
{
	unsigned char *input = malloc(n);
	struct fz_program_opts opts =
	    program_options(w, program_shell("exec cat"));
	struct fz_program *program;
	struct fz_program_end *end;

	for (size_t i = 0; i < n; i++)
		input[i] = (unsigned char)(i * 7 + i / 251);
	opts.input = input;
	opts.ninput = n;
	program = program_start(&opts);
	end = program_wait(w, program);
	assert_int_equal(end->err.kind, FZ_ERR_NONE);
	assert_int_equal(end->out.len, n);
	assert_memory_equal(end->out.data, input, n);
	fz_program_free(program);
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

static struct fz_program *
start_fed(struct world *w, const char *script)
{
	struct fz_program_opts opts = program_options(w, program_shell(script));

	opts.feed = true;
	opts.follow[0] = true;
	return program_start(&opts);
}

static void
turn_until_ready(struct world *w, const struct fz_program *program)
{
	int64_t until = in_ms(PATIENCE_MS);

	while (!fz_program_ready(program))
		assert_true(turn_until(w, until));
}

static void
test_program_reads_input_piece_by_piece(void **state)
{
	struct world *w = *state;
	struct fz_program *program = start_fed(w, "cat; echo end >&2");
	struct fz_buf *out = fz_program_output(program, 0);

	for (int i = 0; i < 3; i++) {
		turn_until_ready(w, program);
		assert_true(fz_program_hungry(program));
		fz_program_feed(program, "piece\n", 6);
		assert_false(fz_program_hungry(program));
		while (out->len < 6)
			turn_until(w, in_ms(1000));
		assert_memory_equal(out->data, "piece\n", 6);
		fz_buf_clear(out);
	}
	turn_until_ready(w, program);
	fz_program_feed(program, NULL, 0);
	assert_false(fz_program_hungry(program));
	while (fz_program_end(program) == NULL)
		turn_until_ready(w, program);
	assert_int_equal(fz_program_end(program)->errors.len, 4);
	fz_program_free(program);
}

static void
test_program_that_closes_its_input_is_not_hungry(void **state)
{
	struct world *w = *state;
	struct fz_program *program = start_fed(w, "exec <&-; echo; sleep 100");

	while (fz_program_output(program, 0)->len == 0)
		turn_until(w, in_ms(1000));
	while (fz_program_hungry(program))
		turn_until(w, in_ms(1000));
	assert_null(fz_program_end(program));
	fz_program_free(program);
}

static void
test_program_uses_files_as_streams(void **state)
{
	struct world *w = *state;
	char name[] = "/tmp/test_program.XXXXXX";
	struct fz_program_opts opts =
	    program_options(w, program_shell("cat; echo b >&2"));
	struct fz_program *program;
	char text[8] = "";
	int fd = mkstemp(name);

	opts.files[0] = "/dev/null";
	opts.files[1] = opts.files[2] = name;
	program = program_start(&opts);
	assert_int_equal(program_wait(w, program)->exitcode, 0);
	assert_int_equal(fz_program_end(program)->out.len, 0);
	assert_int_equal(read(fd, text, sizeof(text)), 2);
	assert_string_equal(text, "b\n");
	fz_program_free(program);
	close(fd);
	unlink(name);
}

static void
test_program_a_program_need_not_read(void **state)
{
	struct world *w = *state;
	struct fz_program_opts opts =
	    program_options(w, program_shell("exec <&-; echo there"));
	size_t n = (size_t)4 << 20;
	char *input = calloc(1, n);
	struct fz_program *program;

	opts.input = input;
	opts.ninput = n;
	program = program_start(&opts);
	assert_program_ended(program_wait(w, program), 0, "there\n", "");
	fz_program_free(program);
	free(input);
}

static void
test_program_sets_environment_and_directory(void **state)
{
	struct world *w = *state;
	struct fz_program_opts opts = program_options(
	    w, program_shell("echo $ONE ${HOME-none} ${PATH:+path}; pwd"));
	char one[] = "ONE=a b", home[] = "HOME";
	char *env[] = { one, home, NULL };
	struct fz_program *program;

	opts.env = env;
	opts.cwd = "/usr";
	program = program_start(&opts);
	assert_program_ended(
	    program_wait(w, program), 0, "a b none path\n/usr\n", "");
	assert_null(getenv("ONE"));
	fz_program_free(program);
}

/* Wait until a program has written a pid to the file. Returns the pid. */
static pid_t
wait_pid(const struct world *w, struct fz_program *program, const char *path)
{
	int64_t until = in_ms(PATIENCE_MS);
	long pid = 0;

	while (pid == 0 && fz_clock_ns() < until) {
		FILE *f = fopen(path, "r");

		assert_non_null(f);
		if (fscanf(f, "%ld", &pid) != 1)
			pid = 0;
		fclose(f);
		assert_null(fz_program_end(program));
		fz_loop_turn(w->engine.loop, in_ms(1), NULL);
	}
	assert_true(pid > 0);
	return (pid_t)pid;
}

static void
test_program_ends_all_descendants_at_its_timeout(void **state)
{
	struct world *w = *state;
	struct fz_program_opts opts = program_options(
	    w, program_shell(
		   "setsid sleep 77 & trap '' TERM; echo so far; sleep 78"));
	struct fz_program *program;
	struct fz_program_end *end;

	fz_clock_share();
	opts.timeout_ns = 1000 * FZ_CLOCK_SECOND;
	program = program_start(&opts);
	while (fz_program_output(program, 0)->len < 7)
		turn_until(w, in_ms(1000));
	assert_null(fz_program_end(program));
	fz_clock_skip(-opts.timeout_ns);
	end = program_wait(w, program);
	assert_int_equal(end->err.kind, FZ_ERR_NONE);
	assert_true(end->timed_out);
	assert_int_equal(end->signal, SIGKILL);
	assert_program_wrote(&end->out, "so far\n");
	fz_program_free(program);
}

/* Wait until the only child has ended, but do not reap it. */
static void
wait_for_supervisor(void)
{
	siginfo_t info;

	assert_int_equal(waitid(P_ALL, 0, &info, WEXITED | WNOWAIT), 0);
}

/* The program ended before its timeout, although the loop turns later. */
static void
test_program_that_ended_in_time_has_no_timeout(void **state)
{
	struct world *w = *state;
	struct fz_program_opts opts =
	    program_options(w, program_shell("echo x; exit 4"));
	struct fz_program *program;

	if (on_valgrind())
		skip();
	opts.timeout_ns = 2 * FZ_CLOCK_SECOND;
	program = program_start(&opts);
	wait_for_supervisor();
	usleep(2100000); /* the loop turns after the timeout */
	assert_program_ended(program_wait(w, program), 4, "x\n", "");
	fz_program_free(program);
}

static void
test_program_freed_while_it_runs_ends_it(void **state)
{
	struct world *w = *state;
	char path[] = "/tmp/test_exec.XXXXXX", script[256];
	int fd = mkstemp(path);
	struct fz_program_opts opts;
	struct fz_program *program;
	int64_t until;
	pid_t pid;

	snprintf(script, sizeof(script),
	    "setsid sh -c 'echo $$ >%s; sleep 77' & sleep 78", path);
	opts = program_options(w, program_shell(script));
	program = program_start(&opts);
	pid = wait_pid(w, program, path);
	assert_int_equal(kill(pid, 0), 0);
	fz_program_free(program);
	/* A killed process exists until it has been reaped. */
	for (until = in_ms(PATIENCE_MS); kill(pid, 0) == 0;)
		assert_true(fz_clock_ns() < until);
	close(fd);
	unlink(path);
	fz_program_free(NULL);
}

/* A forked child, such as a worker, closes its copy and ends no program. */
static void
test_program_in_a_forked_child_is_the_parents(void **state)
{
	struct world *w = *state;
	struct fz_program_opts opts =
	    program_options(w, program_shell("cat; sleep 0.2; exit 6"));
	int nfds = count_fds();
	struct fz_program *program;
	pid_t pid;
	int status;

	opts.input = "in";
	opts.ninput = 2;
	program = program_start(&opts);
	pid = fork();
	if (pid == 0) {
		struct fz_program_end *end;

		fz_loop_in_child(w->engine.loop);
		end = fz_program_end(program);
		if (end == NULL || end->err.kind != FZ_ERR_CLOSED)
			_exit(1);
		if (strstr(end->err.text, "by another process") == NULL)
			_exit(2);
		fz_program_free(program);
		/*
		 * The child has one descriptor less, because it has closed the
		 * epoll set. Valgrind opens a log of its own.
		 */
		_exit(on_valgrind() || count_fds() == nfds - 1 ? 0 : 3);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_program_ended(program_wait(w, program), 6, "in", "");
	fz_program_free(program);
}

/* The words that run this test program itself. */
static char *const *
self(const char *what)
{
	static char *words[3];

	words[0] = (char *)(uintptr_t) "/proc/self/exe";
	words[1] = (char *)(uintptr_t)what;
	return words;
}

/* In the program: leave a full pipe of the largest size. */
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
	struct fz_program_opts opts = program_options(w, self("fill"));
	struct fz_program *program;
	struct fz_program_end *end;

	if (on_valgrind())
		skip();
	program = program_start(&opts);
	wait_for_supervisor();
	end = program_wait(w, program);
	assert_int_equal(end->exitcode, 0);
	assert_int_equal(end->out.len, PIPE_BYTES);
	fz_program_free(program);
}

/* A process that we may not kill, such as another user's, has the pipe open. */
static void
test_program_does_not_wait_for_a_pipe_of_another_process(void **state)
{
	struct world *w = *state;
	char path[] = "/tmp/test_exec.XXXXXX", script[256], name[64];
	int fd = mkstemp(path), held;
	struct fz_program_opts opts;
	struct fz_program *program;
	pid_t pid;

	snprintf(script, sizeof(script),
	    "echo $$ >%s; until test -e %s.go; do sleep 0.01; done", path,
	    path);
	opts = program_options(w, program_shell(script));
	program = program_start(&opts);
	pid = wait_pid(w, program, path);
	snprintf(name, sizeof(name), "/proc/%ld/fd/1", (long)pid);
	held = open(name, O_WRONLY | O_CLOEXEC);
	assert_int_not_equal(held, -1);
	assert_int_equal(write(held, "held", 4), 4);
	snprintf(script, sizeof(script), "%s.go", path);
	close(open(script, O_CREAT | O_WRONLY, 0600));
	assert_program_ended(program_wait(w, program), 0, "held", "");
	fz_program_free(program);
	close(held);
	close(fd);
	unlink(script);
	unlink(path);
}

#define TEST(name) \
	cmocka_unit_test_setup_teardown(name, world_setup, world_teardown)

int
main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		TEST(test_program_returns_output_and_exit_code),
		TEST(test_program_reports_the_signal),
		TEST(test_program_a_program_has_no_signal_blocked_or_ignored),
		TEST(test_program_input_of_any_size_comes_back),
		TEST(test_program_goes_on_after_short_and_interrupted_calls),
		TEST(test_program_reads_input_piece_by_piece),
		TEST(test_program_that_closes_its_input_is_not_hungry),
		TEST(test_program_uses_files_as_streams),
		TEST(test_program_a_program_need_not_read),
		TEST(test_program_sets_environment_and_directory),
		TEST(test_program_ends_all_descendants_at_its_timeout),
		TEST(test_program_that_ended_in_time_has_no_timeout),
		TEST(test_program_freed_while_it_runs_ends_it),
		TEST(test_program_in_a_forked_child_is_the_parents),
		TEST(test_program_what_is_left_in_a_pipe_is_read),
		TEST(test_program_does_not_wait_for_a_pipe_of_another_process),
	};

	if (argc > 1 && strcmp(argv[1], "fill") == 0)
		return act_fill();
	return run_programs(tests, sizeof(tests) / sizeof(*tests));
}
