#define _POSIX_C_SOURCE 200809L /* sigfillset */
#include "os/proc.h"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include "base/err.h"
#include "os/children.h"
#include "os/proc_state.h"
#include "os/spawn.h"

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
	 * fz_proc_enter() sets the actions: fz_proc_kill() uses force until
	 * then. The child leads a group from then on, too: see
	 * fz_proc_fork().
	 */
	sigemptyset(&spawn.blocked);
	if (program->enters)
		sigfillset(&spawn.blocked);
	fz_proc_begin_adoption();
	code = fz_spawn_start(&pid, &spawn);
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
