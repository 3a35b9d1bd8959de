#define _POSIX_C_SOURCE 200809L /* sigfillset */
#include "proc/proc.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/err.h"
#include "proc/children.h"
#include "proc/proc_state.h"
#include "proc/spawn.h"

#if __has_include(<valgrind/valgrind.h>)
#include <valgrind/valgrind.h>
#endif

struct start {
	const struct fz_proc_opts *opts;
	const struct fz_proc_program *program;
};

/* A descriptor that is duplicated to itself stays open across exec. */
static int
set_files(posix_spawn_file_actions_t *files, const void *ctx)
{
	const struct start *start = ctx;
	const struct fz_proc_opts *opts = start->opts;
	const struct fz_proc_program *program = start->program;
	int code;

	if (program->in != 0)
		code = posix_spawn_file_actions_adddup2(
		    files, program->in, STDIN_FILENO);
	else
		code = posix_spawn_file_actions_addopen(
		    files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
	if (code == 0 && opts->out != -1)
		code = posix_spawn_file_actions_adddup2(
		    files, opts->out, STDOUT_FILENO);
	if (code == 0 && opts->err != -1)
		code = posix_spawn_file_actions_adddup2(
		    files, opts->err, STDERR_FILENO);
	for (size_t i = 0; code == 0 && i < program->nkeep; i++)
		code = posix_spawn_file_actions_adddup2(
		    files, program->keep[i], program->keep[i]);
	return code;
}

#ifdef RUNNING_ON_VALGRIND
/*
 * Let a shell execute the program, under valgrind, where posix_spawn() is a
 * fork. If exec fails there, the child first searches for leaks, which touches
 * every page of the shared heap, and the error is lost. A shell fails at once.
 * The caller has checked that the program exists.
 */
static char **
argv_by_shell(const struct fz_proc_program *program)
{
	const char *const words[] = { "sh", "-c", "exec \"$0\" \"$@\"",
		program->path };
	char **argv;
	size_t n = 0;

	while (program->argv[n] != NULL)
		n++;
	argv = malloc((n + 4) * sizeof(*argv));
	if (argv == NULL)
		return NULL;
	/* The cast removes `const`, but the words are only read. */
	for (size_t i = 0; i < 4; i++)
		argv[i] = (char *)(uintptr_t)words[i];
	for (size_t i = 1; i <= n; i++)
		argv[3 + i] = program->argv[i];
	return argv;
}

static int
start_by_shell(
    pid_t *pid, const struct fz_proc_program *program, struct fz_spawn spawn)
{
	char **argv;
	int code;

	if (access(program->path, X_OK) != 0)
		return errno;
	argv = argv_by_shell(program);
	if (argv == NULL)
		return ENOMEM;
	spawn.path = "/bin/sh";
	spawn.argv = argv;
	code = fz_spawn_start(pid, &spawn);
	free(argv);
	return code;
}
#endif

static int
start_program(pid_t *pid, const struct fz_proc_program *program,
    const struct fz_spawn *spawn)
{
#ifdef RUNNING_ON_VALGRIND
	if (RUNNING_ON_VALGRIND)
		return start_by_shell(pid, program, *spawn);
#endif
	(void)program;
	return fz_spawn_start(pid, spawn);
}

int
fz_proc_spawn(struct fz_proc *proc, const struct fz_proc_opts *opts,
    const struct fz_proc_program *program, struct fz_err *err)
{
	const struct start start = { opts, program };
	struct fz_spawn spawn = { .path = program->path,
		.argv = program->argv,
		.environ_ = program->environ_,
		.files = set_files,
		.ctx = &start,
		.in_group = program->enters };
	pid_t pid;
	int code;

	*proc = (struct fz_proc){ .pidfd = -1 };
	/*
	 * Until the program has called fz_proc_enter(), all signals are
	 * blocked, so fz_proc_kill() must use force; and the program is in the
	 * group of this process, as fz_proc_fork() explains.
	 */
	sigemptyset(&spawn.blocked);
	if (program->enters)
		sigfillset(&spawn.blocked);
	fz_proc_begin_adoption();
	code = start_program(&pid, program, &spawn);
	if (code == 0) {
		fz_proc_watch(proc, pid, opts->children);
		if (opts->children != NULL)
			fz_children_count(opts->children, pid);
		return 0;
	}
	fz_proc_end_adoption();
	return fz_err_sys(
	    err, code, "cannot start the program '%.128s'", program->path);
}
