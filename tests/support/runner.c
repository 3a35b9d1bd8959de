/*
 * runner - run test programs in parallel, and end those that hang.
 *
 *	runner JOBS LIMIT DIR COMMAND...
 *
 * Each COMMAND is a line for sh, named after the file that is its last word and
 * that file's folder. JOBS of them run at the same time, in this order. The
 * output of a program goes to DIR/FOLDER-FILE.log, and to standard output too
 * if the program fails. The last lines name the programs that failed and count
 * the tests: run.lua and cmocka write the numbers at the end of their output.
 *
 * A program writes something when it begins a test. It counts as hanging if it
 * writes nothing while none of its processes runs for LIMIT seconds in all, or
 * if one test takes BUSY times as long. Time in which a process is ready to run
 * but has no processor does not count, so that no program counts as hanging
 * only because the machine is busy.
 *
 * What the programs have started must end within LIMIT seconds after the last
 * of them. The rest is described, killed, and counts as a failed test.
 */
/* getline, open_memstream and sigtimedwait are not in C. */
#define _POSIX_C_SOURCE 200809L
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "processes.h"

enum { BUSY = 5, SECOND_NS = 1000000000 };

/* The variable that names the program to all processes below it. */
#define PROGRAM "FZLUA_TEST_PROGRAM"

struct program {
	const char *command;
	const char *name; /* the end of `command`: FOLDER/FILE, or FILE */
	pid_t pid;        /* 0: the program does not run */
	int log;
	off_t written; /* length of the log at the last check */
	int64_t start_ns, looked_ns;
	int64_t idle_ns;  /* time in this test without a process to run */
	int64_t total_ns; /* time in this test without waits for a processor */
	struct processes processes; /* at the last check */
};

static int64_t limit_ns;
static const char *directory;
static unsigned npassed, nfailed;

static void
die(const char *what)
{
	perror(what);
	exit(2);
}

static int64_t
now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * SECOND_NS + ts.tv_nsec;
}

static int
open_log(const struct program *p)
{
	char path[4096];
	int fd, start;

	start = snprintf(path, sizeof(path), "%s/", directory);
	snprintf(path + start, sizeof(path) - (size_t)start, "%s.log", p->name);
	for (char *c = path + start; *c != '\0'; c++)
		if (*c == '/')
			*c = '-';
	fd =
	    open(path, O_RDWR | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0666);
	if (fd == -1)
		die(path);
	return fd;
}

/*
 * In the child: run the command. Signals have default actions, even with nohup.
 */
static void
execute(const struct program *p)
{
	sigset_t none;

	for (int sig = 1; sig <= SIGRTMAX; sig++)
		signal(sig, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	setenv(PROGRAM, p->name, 1);
	dup2(p->log, STDOUT_FILENO);
	dup2(p->log, STDERR_FILENO);
	execl("/bin/sh", "sh", "-c", p->command, (char *)NULL);
	_exit(127);
}

/* The last two parts of the path that ends the command. */
static const char *
name_of(const char *command)
{
	const char *slash = strrchr(command, '/'), *at = slash;

	if (slash == NULL)
		return command;
	while (at > command && strchr("/ '", at[-1]) == NULL)
		at--;
	return at == slash ? slash + 1 : at;
}

static void
start(struct program *p)
{
	p->name = name_of(p->command);
	p->log = open_log(p);
	p->start_ns = p->looked_ns = now_ns();
	fflush(NULL);
	p->pid = fork();
	if (p->pid == -1)
		die("fork");
	if (p->pid == 0)
		execute(p);
}

static void
end_hanging(struct program *p)
{
	FILE *log = fdopen(dup(p->log), "a");

	if (log == NULL)
		die("fdopen");
	fprintf(log, "\nwatchdog: hangs in the test above\n");
	for (size_t i = 0; i < p->processes.n; i++)
		processes_describe(&p->processes.list[i], log);
	fclose(log);
	processes_kill(&p->processes, p->pid);
}

/* Check a program, and kill it if it hangs. */
static void
look_at(struct program *p)
{
	struct processes last = p->processes;
	int64_t now = now_ns(), passed_ns = now - p->looked_ns;
	int64_t busy_ns, waited_ns;
	struct stat st;

	p->processes = (struct processes){ 0 };
	processes_read(&p->processes, p->pid);
	processes_times(&last, &p->processes, &busy_ns, &waited_ns);
	processes_free(&last);
	p->looked_ns = now;
	if (passed_ns > waited_ns)
		p->total_ns += passed_ns - waited_ns;
	if (passed_ns > busy_ns)
		p->idle_ns += passed_ns - busy_ns;
	if (fstat(p->log, &st) == 0 && st.st_size != p->written) {
		p->written = st.st_size;
		p->idle_ns = p->total_ns = 0;
	}
	if (p->idle_ns > limit_ns || p->total_ns > BUSY * limit_ns)
		end_hanging(p);
}

/* Count the tests in the log. Returns the number of tests that failed. */
static unsigned
count_tests(FILE *log)
{
	unsigned failed = 0, n, m;
	char *line = NULL;
	size_t cap = 0;

	rewind(log);
	while (getline(&line, &cap, log) != -1) {
		if (sscanf(line, "%u passed, %u failed", &n, &m) == 2) {
			npassed += n;
			failed += m;
		} else if (sscanf(line, "[  PASSED  ] %u test", &n) == 1) {
			npassed += n;
		} else if (sscanf(line, "[  FAILED  ] %u test", &n) == 1) {
			failed += n;
		}
	}
	free(line);
	return failed;
}

static void
put_log(FILE *log)
{
	int c;

	rewind(log);
	while ((c = getc(log)) != EOF)
		putchar(c);
}

/* Report a program that has ended. Returns true if it failed. */
static bool
end(struct program *p, int status)
{
	double seconds = (double)(now_ns() - p->start_ns) / SECOND_NS;
	FILE *log = fdopen(p->log, "r");
	unsigned failed;
	bool ok;

	if (log == NULL)
		die("fdopen");
	failed = count_tests(log);
	ok = status == 0 && failed == 0;
	if (!ok && failed == 0) /* the program has written no counts of tests */
		failed = 1;
	nfailed += failed;
	if (!ok)
		put_log(log);
	fclose(log);
	printf("%s %7.2f s  %s", ok ? "ok    " : "FAILED", seconds, p->name);
	if (WIFSIGNALED(status))
		printf(": %s", strsignal(WTERMSIG(status)));
	printf("\n");
	fflush(stdout);
	processes_free(&p->processes);
	p->pid = 0;
	return !ok;
}

/* Wait for the end of a program, or a second. Returns the program, or NULL. */
static struct program *
wait_for(struct program *programs, size_t n, int *status)
{
	struct timespec second = { .tv_sec = 1 };
	sigset_t child;
	pid_t pid;

	while ((pid = waitpid(-1, status, WNOHANG)) == 0) {
		sigemptyset(&child);
		sigaddset(&child, SIGCHLD);
		if (sigtimedwait(&child, NULL, &second) == -1)
			return NULL;
	}
	for (size_t i = 0; i < n; i++)
		if (pid > 0 && programs[i].pid == pid)
			return &programs[i];
	return NULL;
}

/* Returns the names of the programs that failed, each after a blank. */
static char *
run(struct program *programs, size_t n, size_t njobs)
{
	size_t next = 0, running = 0, len;
	struct program *ended;
	char *names;
	FILE *failed = open_memstream(&names, &len);
	int status;

	if (failed == NULL)
		die("open_memstream");
	while (next < n || running > 0) {
		for (; running < njobs && next < n; running++)
			start(&programs[next++]);
		ended = wait_for(programs, next, &status);
		if (ended != NULL) {
			running--;
			if (end(ended, status))
				fprintf(failed, " %s", ended->name);
		}
		for (size_t i = 0; i < next; i++)
			if (programs[i].pid != 0 &&
			    now_ns() - programs[i].looked_ns > SECOND_NS)
				look_at(&programs[i]);
	}
	fclose(failed);
	return names;
}

/* The runner is the parent of the processes that ended programs have left. */
static void
check_left(void)
{
	const struct timespec nap = { .tv_nsec = SECOND_NS / 20 };
	int64_t until = now_ns() + limit_ns;
	struct processes left = { 0 };
	pid_t self = getpid();

	for (;;) {
		while (waitpid(-1, NULL, WNOHANG) > 0)
			continue;
		processes_read_below(&left, self);
		if (left.n == 0 || now_ns() > until)
			break;
		nanosleep(&nap, NULL);
	}
	for (size_t i = 0; i < left.n; i++) {
		printf("left running by ");
		processes_put_variable(&left.list[i], PROGRAM "=", stdout);
		printf(":\n");
		processes_describe(&left.list[i], stdout);
		kill(left.list[i].pid, SIGKILL);
	}
	nfailed += left.n > 0;
	processes_free(&left);
}

int
main(int argc, char **argv)
{
	size_t n = argc > 4 ? (size_t)argc - 4 : 0;
	struct program *programs = calloc(n + 1, sizeof(*programs));
	int njobs = argc > 1 ? atoi(argv[1]) : 0;
	sigset_t child;
	char *failed;

	if (argc < 4 || njobs < 1 || atof(argv[2]) <= 0 || programs == NULL) {
		fputs("usage: runner JOBS LIMIT DIR COMMAND...\n", stderr);
		return 2;
	}
	if (freopen("/dev/null", "r", stdin) == NULL)
		die("/dev/null");
	limit_ns = (int64_t)(atof(argv[2]) * SECOND_NS);
	directory = argv[3];
	for (size_t i = 0; i < n; i++)
		programs[i].command = argv[4 + i];
	sigemptyset(&child);
	sigaddset(&child, SIGCHLD);
	sigprocmask(SIG_BLOCK, &child, NULL);
	prctl(PR_SET_CHILD_SUBREAPER, 1L);
	failed = run(programs, n, (size_t)njobs);
	check_left();
	if (failed[0] != '\0')
		printf("failed:%s\n", failed);
	printf("%u passed, %u failed\n", npassed, nfailed);
	free(failed);
	free(programs);
	return nfailed != 0;
}
