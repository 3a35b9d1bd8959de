/*
 * The state of the host's process that a run does not change, and the signals,
 * children, descriptors and threads that the host may use during a run.
 */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <lauxlib.h>

#include "api/fzlua.h"
#include "host_test.h"

/* Uses each kind of child, a big value, and a worker that dies. */
static const char use_all[] =
    "local s, u = fz.stage 's', fz.stage 'u'\n"
    "function s.B(A) return A + 1 end\n"
    "function u.C(B) return {B, ('x'):rep(1 << 20)} end\n"
    "local chain <close> = s >> u\n"
    "assert(chain:invoke{A = 1}.output.C[1] == 2)\n"
    "local function twice(n) return 2 * n end\n"
    "local pool <close> = fz.pool(2)\n"
    "assert(pool:map(twice, {1, 2, 3})[3] == 6)\n"
    "local process <close> = fz.process(twice, 4):start()\n"
    "assert(process:result() == 8)\n"
    "process:join()\n"
    "local q, l = fz.queue(), fz.lock()\n"
    "q:put{5}\n"
    "assert(pool:apply(function() return q:get()[1] end) == 5)\n"
    "l:with(function() end)\n"
    "local ok, e = pcall(pool.apply, pool, os.exit, 3)\n"
    "assert(not ok and e.kind == 'crash', tostring(e))\n"
    "local ok, e = pcall(pool.apply, pool, error, 'oops')\n"
    "assert(not ok and e.kind == 'error', tostring(e))\n"
    "assert(fz.exec({'true'}).exitcode == 0)\n"
    "fz.await(fz.spawn(fz.sleep, 0.01))\n";

static void
must_run(lua_State *L, const char *code)
{
	host_push_function(L, code);
	if (fzlua_call(L, 0, 0) != FZLUA_OK)
		fail_msg("%s: %s", code, luaL_tolstring(L, -1, NULL));
}

/* Run `code` in a state of its own. Returns 0, or 1 after writing the error. */
static int
run_in_new_state(const char *code, const struct fzlua_options *options)
{
	lua_State *L;
	int status = fzlua_new(&L, options);

	if (status == FZLUA_OK && luaL_loadstring(L, code) == LUA_OK)
		status = fzlua_call(L, 0, 0);
	if (status != FZLUA_OK && L != NULL)
		print_message("%s\n", luaL_tolstring(L, -1, NULL));
	fzlua_close(L);
	return status != FZLUA_OK;
}

/* Fork. The child exits with the result of f(), which must be 0. */
static void
must_succeed_in_child(int (*f)(void))
{
	pid_t pid = fork();
	int status;

	assert_int_not_equal(pid, -1);
	if (pid == 0) {
		alarm(HOST_HANGS_S);
		_exit(f());
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

static void
read_actions(struct sigaction *actions)
{
	for (int sig = 1; sig < NSIG; sig++) {
		memset(&actions[sig], 0, sizeof(actions[sig]));
		sigaction(sig, NULL, &actions[sig]);
	}
}

static void
test_signal_actions_stay(void **state)
{
	struct sigaction before[NSIG], after[NSIG];

	(void)state;
	read_actions(before);
	assert_int_equal(run_in_new_state(use_all, NULL), 0);
	read_actions(after);
	for (int sig = 1; sig < NSIG; sig++) {
		assert_ptr_equal(before[sig].sa_handler, after[sig].sa_handler);
		assert_int_equal(before[sig].sa_flags, after[sig].sa_flags);
	}
}

/* The state of the process, no part of which may change in a run. */
struct process_state {
	char directory[512];
	char locale[256];
	char name[17];
	char **environment;
	size_t nvariables;
	mode_t umask;
	sigset_t mask;
	struct rlimit descriptors, memory;
	int subreaper, death_signal, nice;
};

static size_t
count_variables(void)
{
	size_t n = 0;

	while (environ[n] != NULL)
		n++;
	return n;
}

static void
read_process(struct process_state *s)
{
	memset(s, 0, sizeof(*s));
	assert_non_null(getcwd(s->directory, sizeof(s->directory)));
	snprintf(s->locale, sizeof(s->locale), "%s", setlocale(LC_ALL, NULL));
	prctl(PR_GET_NAME, s->name);
	s->environment = environ;
	s->nvariables = count_variables();
	s->umask = umask(0);
	umask(s->umask);
	pthread_sigmask(SIG_SETMASK, NULL, &s->mask);
	getrlimit(RLIMIT_NOFILE, &s->descriptors);
	getrlimit(RLIMIT_DATA, &s->memory);
	prctl(PR_GET_CHILD_SUBREAPER, &s->subreaper);
	prctl(PR_GET_PDEATHSIG, &s->death_signal);
	s->nice = getpriority(PRIO_PROCESS, 0);
}

static void
test_the_process_stays_as_it_was(void **state)
{
	struct process_state before, after;
	const mode_t mask = umask(0137);
	sigset_t signals, old;

	(void)state;
	sigemptyset(&signals);
	sigaddset(&signals, SIGUSR1);
	sigaddset(&signals, SIGPIPE);
	pthread_sigmask(SIG_BLOCK, &signals, &old);
	setlocale(LC_ALL, "C.UTF-8");
	read_process(&before);
	assert_int_equal(run_in_new_state(use_all, NULL), 0);
	read_process(&after);
	assert_memory_equal(&before, &after, sizeof(before));
	setlocale(LC_ALL, "C");
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	umask(mask);
}

/* The value of errno before each call; the call must leave it unchanged. */
enum { ERRNO = ENOTEMPTY };

static int
nothing(lua_State *L)
{
	(void)L;
	return 0;
}

/* Tags, which the functions below only compare. */
static char tag_of_task;

static int
call_new(lua_State *L)
{
	lua_State *other;
	int status = fzlua_new(&other, NULL);

	(void)L;
	if (errno == ERRNO)
		fzlua_close(other);
	return status;
}

static int
call_work(lua_State *L)
{
	if (luaL_loadstring(L, use_all) != LUA_OK)
		return FZLUA_ERROR;
	errno = ERRNO;
	return fzlua_call(L, 0, 0);
}

static int
call_dofile(lua_State *L)
{
	return fzlua_dofile(L, "/dev/null", 0);
}

/* The file does not exist, so a system call of fzlua_dofile() sets errno. */
static int
call_dofile_in_vain(lua_State *L)
{
	return fzlua_dofile(L, "/nonexistent", 0) == FZLUA_ERROR ? FZLUA_OK
								 : FZLUA_ERROR;
}

static int
call_chain(lua_State *L)
{
	int status = fzlua_stage(L, "s");

	lua_pushcfunction(L, nothing);
	if (status == FZLUA_OK)
		status = fzlua_register(L, -2, "A", "B");
	return status == FZLUA_OK ? fzlua_chain(L, 1) : status;
}

static int
call_spawn(lua_State *L)
{
	lua_pushcfunction(L, nothing);
	return fzlua_spawn(L, 0, &tag_of_task);
}

static int
call_fd(lua_State *L)
{
	return fzlua_fd(L) != -1 ? FZLUA_OK : FZLUA_ERROR;
}

static int
call_step(lua_State *L)
{
	return fzlua_step(L, 0.001);
}

static int
call_next(lua_State *L)
{
	void *tag;

	return fzlua_next(L, 0, &tag);
}

static int
call_cancel(lua_State *L)
{
	return fzlua_cancel(L, &tag_of_task);
}

static int
call_limit(lua_State *L)
{
	const struct fzlua_limits limits = {
		.size = sizeof(limits), .seconds = 60, .memory = 1U << 30
	};

	fzlua_limit(L, &limits);
	return FZLUA_OK;
}

static int
call_set(lua_State *L)
{
	fzlua_set_output(L, NULL, NULL);
	fzlua_set_log(L, NULL, NULL);
	fzlua_set_forks(L, NULL, NULL);
	return fzlua_version() != NULL ? FZLUA_OK : FZLUA_ERROR;
}

static int
call_interrupt(lua_State *L)
{
	fzlua_interrupt(fzlua_instance_of(L));
	return fzlua_step(L, 0) == FZLUA_INTERRUPTED ? FZLUA_OK : FZLUA_ERROR;
}

static void
test_calls_keep_errno(void **state)
{
	static int (*const calls[])(lua_State * L) = { call_new, call_set,
		call_fd, call_work, call_dofile, call_dofile_in_vain,
		call_chain, call_spawn, call_step, call_next, call_cancel,
		call_limit, call_work, call_interrupt, fzlua_finish };
	lua_State *L = *state;

	for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
		int status;

		errno = ERRNO;
		status = calls[i](L);
		if (errno != ERRNO)
			fail_msg("call %zu: errno is %d", i, errno);
		assert_int_equal(status, FZLUA_OK);
	}
}

/* A descriptor that check_descriptors() should not have found; -1: none. */
static int wrong_descriptor = -1;
static uint64_t known_descriptors; /* a bit for each that the test has open */

static void
check_descriptors(void *ctx, int when)
{
	(void)ctx;
	for (int fd = 0; fd < 64 && when != FZLUA_FORK_CHILD; fd++) {
		int flags = fcntl(fd, F_GETFD);

		if (flags != -1 && !(known_descriptors >> fd & 1) &&
		    (fd <= STDERR_FILENO || !(flags & FD_CLOEXEC)))
			wrong_descriptor = fd;
	}
}

static int
run_without_standard_files(void)
{
	const struct fzlua_options options = { .size = sizeof(options),
		.forks = check_descriptors };
	lua_State *L;
	int status;

	for (int fd = 0; fd <= STDERR_FILENO; fd++)
		close(fd);
	for (int fd = 0; fd < 64; fd++)
		if (fcntl(fd, F_GETFD) != -1)
			known_descriptors |= UINT64_C(1) << fd;
	status = fzlua_new(&L, &options);
	if (status != FZLUA_OK || fzlua_fd(L) == -1 ||
	    luaL_loadstring(L, use_all) != LUA_OK)
		return 2;
	status = fzlua_call(L, 0, 0);
	check_descriptors(NULL, FZLUA_FORK_PARENT);
	if (wrong_descriptor != -1)
		return 100 + wrong_descriptor;
	return status != FZLUA_OK;
}

static void
test_descriptors_are_above_2_and_close_on_exec(void **state)
{
	(void)state;
	must_succeed_in_child(run_without_standard_files);
}

static int
count_bytes(void *ctx, int fd, const char *bytes, size_t len)
{
	(void)fd;
	(void)bytes;
	*(size_t *)ctx += len;
	return 0;
}

static void
count_log(void *ctx, const char *line, size_t len)
{
	count_bytes(ctx, STDERR_FILENO, line, len);
}

/* Each statement prints or logs something. */
static const char print_all[] =
    "local function f() print('x') io.stderr:write('y\\n') end\n"
    "local pool <close> = fz.pool(1)\n"
    "pool:apply(f)\n"
    "pcall(pool.apply, pool, error, 'not printed')\n"
    "fz.process(f):start():join()\n"
    "fz.process(error, 'printed'):start():join()\n"
    "fz.spawn(error, 'nothing awaits this')\n"
    "fz.sleep(0.01) collectgarbage()\n"
    "pool:map(math.abs, {1}, {progress = true})\n";

static int
print_into_pipe(void)
{
	size_t noutput = 0, nlog = 0;
	const struct fzlua_options options = {
		.size = sizeof(options),
		.output = count_bytes,
		.output_ctx = &noutput,
		.log = count_log,
		.log_ctx = &nlog,
	};
	char byte;
	lua_State *L;
	int fd[2];

	if (pipe(fd) == -1 || dup2(fd[1], STDOUT_FILENO) == -1 ||
	    dup2(fd[1], STDERR_FILENO) == -1)
		return 2;
	if (fzlua_new(&L, &options) != FZLUA_OK ||
	    luaL_loadstring(L, print_all) != LUA_OK ||
	    fzlua_call(L, 0, 0) != FZLUA_OK || fzlua_finish(L) != FZLUA_OK)
		return 3;
	fzlua_close(L);
	fflush(NULL);
	fcntl(fd[0], F_SETFL, O_NONBLOCK);
	if (read(fd[0], &byte, 1) != -1)
		return 4;
	return noutput > 0 && nlog > 0 ? 0 : 5;
}

static void
test_all_output_goes_to_the_host(void **state)
{
	(void)state;
	must_succeed_in_child(print_into_pipe);
}

static int
ignore_sigchld(void)
{
	signal(SIGCHLD, SIG_IGN);
	return run_in_new_state(use_all, NULL);
}

static int
wait_for_no_zombies(void)
{
	struct sigaction action = { .sa_flags = SA_NOCLDWAIT };

	sigaction(SIGCHLD, &action, NULL);
	return run_in_new_state(use_all, NULL);
}

static void
reap_in_handler(int sig)
{
	int keep = errno;

	(void)sig;
	while (waitpid(-1, NULL, WNOHANG) > 0)
		continue;
	errno = keep;
}

static int
reap_on_sigchld(void)
{
	struct sigaction action = { .sa_handler = reap_in_handler };

	sigaction(SIGCHLD, &action, NULL);
	return run_in_new_state(use_all, NULL);
}

static void *
reap_all(void *ends)
{
	const struct timespec nap = { 0, 100000 };

	while (!*(atomic_bool *)ends)
		if (waitpid(-1, NULL, 0) == -1)
			nanosleep(&nap, NULL);
	return NULL;
}

static int
reap_in_thread(void)
{
	atomic_bool ends = false;
	pthread_t thread;
	int failed = 0;

	if (pthread_create(&thread, NULL, reap_all, &ends) != 0)
		return 2;
	for (int i = 0; i < 5; i++)
		failed |= run_in_new_state(use_all, NULL);
	ends = true;
	pthread_join(thread, NULL);
	return failed;
}

static void
test_hosts_may_ignore_or_reap_children(void **state)
{
	(void)state;
	must_succeed_in_child(ignore_sigchld);
	must_succeed_in_child(wait_for_no_zombies);
	must_succeed_in_child(reap_on_sigchld);
	must_succeed_in_child(reap_in_thread);
}

/* A daemon of the host, in a session of its own. Returns its pid. */
static pid_t
start_daemon(void)
{
	siginfo_t info;
	pid_t pid = fork();

	if (pid == 0) {
		setsid();
		_exit(7);
	}
	waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT);
	return pid;
}

static int
be_subreaper(void)
{
	pid_t pid;
	int status;

	prctl(PR_SET_CHILD_SUBREAPER, 1);
	pid = start_daemon();
	if (run_in_new_state(use_all, NULL) != 0)
		return 1;
	return waitpid(pid, &status, WNOHANG) == pid && WEXITSTATUS(status) == 7
		   ? 0
		   : 2;
}

static void
test_other_children_are_left_to_the_host(void **state)
{
	(void)state;
	must_succeed_in_child(be_subreaper);
}

/* Workers die while long arguments are on their way. */
static int
break_pipes(void)
{
	static const char code[] =
	    "local big = ('x'):rep(1 << 22)\n"
	    "for i = 1, 5 do\n"
	    "  local pool <close> = fz.pool(1)\n"
	    "  local first = pool:apply_async(os.exit, {1})\n"
	    "  for k = 1, 4 do pool:apply_async(string.len, {big}) end\n"
	    "  pcall(first.await, first)\n"
	    "  pool:terminate()\n"
	    "end\n"
	    "fz.exec({'true'}, {stdin = big})\n"
	    "local a, b = fz.pipe() b:close() pcall(a.send, a, big)\n";

	return run_in_new_state(code, NULL);
}

static int
break_pipes_with_sigpipe_blocked(void)
{
	sigset_t sigpipe, pending;

	sigemptyset(&sigpipe);
	sigaddset(&sigpipe, SIGPIPE);
	pthread_sigmask(SIG_BLOCK, &sigpipe, NULL);
	if (break_pipes() != 0)
		return 1;
	sigpending(&pending);
	return sigismember(&pending, SIGPIPE) ? 2 : 0;
}

static void
test_no_sigpipe_reaches_the_host(void **state)
{
	(void)state;
	must_succeed_in_child(break_pipes);
	must_succeed_in_child(break_pipes_with_sigpipe_blocked);
}

static void
close_in_child(void *ctx, int when)
{
	if (when == FZLUA_FORK_CHILD)
		close(*(int *)ctx);
}

static void
test_workers_close_what_the_host_says(void **state)
{
	lua_State *L = *state;
	struct pollfd end;
	int fd[2];

	assert_int_equal(pipe(fd), 0);
	fzlua_set_forks(L, close_in_child, &fd[1]);
	must_run(L, "pool = fz.pool(2) pool:map(math.abs, {1, 2})\n"
		    "local s = fz.stage 's' function s.A() return 1 end\n"
		    "chain = fz.chain{s} chain:invoke()\n"
		    "process = fz.process(fz.sleep, 60)\n"
		    "process.daemon = true process:start()\n"
		    "task = fz.spawn(fz.exec, {'sleep', '60'}) fz.sleep(0.05)");
	close(fd[1]);
	end = (struct pollfd){ .fd = fd[0], .events = POLLIN };
	assert_int_equal(poll(&end, 1, HOST_HANGS_S * 1000), 1);
	assert_true(end.revents & POLLHUP);
	must_run(L, "assert(process:is_alive()) task:cancel()");
	close(fd[0]);
}

/* Opens a state and starts things whose processes outlive this thread. */
static void *
open_in_thread(void *ctx)
{
	static const char code[] =
	    "pool, q, l = fz.pool(1), fz.queue(), fz.lock()\n"
	    "function pid() return fz.current_process().pid end\n"
	    "function try() return l:acquire(0.01) end\n"
	    "worker = pool:apply(pid)\n"
	    "process = fz.process(function() return q:get(60) end):start()\n"
	    "l:acquire()\n";
	lua_State **L = ctx;

	if (fzlua_new(L, NULL) != FZLUA_OK ||
	    luaL_loadstring(*L, code) != LUA_OK ||
	    fzlua_call(*L, 0, 0) != FZLUA_OK)
		return ctx;
	return NULL;
}

static void
test_the_end_of_a_thread_is_not_that_of_the_process(void **state)
{
	lua_State *L;
	pthread_t thread;
	void *failed;

	(void)state;
	assert_int_equal(pthread_create(&thread, NULL, open_in_thread, &L), 0);
	pthread_join(thread, &failed);
	assert_null(failed);
	must_run(L, "assert(pool:apply(pid) == worker)\n"
		    "local held, why = pool:apply(try)\n"
		    "assert(not held and not why, tostring(why))\n"
		    "l:release()\n"
		    "local held, why = pool:apply(try)\n"
		    "assert(held and not why, tostring(why))\n"
		    "assert(process:is_alive())\n"
		    "q:put('x')\n"
		    "assert(process:result(60) == 'x')\n");
	fzlua_close(L);
}

#define TEST(name) cmocka_unit_test(name)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_signal_actions_stay),
		TEST(test_the_process_stays_as_it_was),
		HOST_TEST(test_calls_keep_errno),
		TEST(test_descriptors_are_above_2_and_close_on_exec),
		TEST(test_all_output_goes_to_the_host),
		TEST(test_hosts_may_ignore_or_reap_children),
		TEST(test_other_children_are_left_to_the_host),
		TEST(test_no_sigpipe_reaches_the_host),
		HOST_TEST(test_workers_close_what_the_host_says),
		TEST(test_the_end_of_a_thread_is_not_that_of_the_process),
	};

	alarm(HOST_HANGS_S);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
