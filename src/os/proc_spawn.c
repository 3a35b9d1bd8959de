/* posix_spawn of glibc. */
#define _GNU_SOURCE
#include "os/proc.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <unistd.h>

#include "base/err.h"
#include "os/children.h"
#include "os/proc_state.h"

/* A descriptor that is duplicated to itself stays open across exec. */
static int
set_files(posix_spawn_file_actions_t *files, const struct fz_proc_opts *opts,
    const struct fz_proc_program *program)
{
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

/*
 * It leads a process group, and no signal is ignored. If the program enters,
 * all are blocked until fz_proc_enter() has set the actions: fz_proc_kill()
 * uses force until then.
 */
static int
set_attributes(posix_spawnattr_t *attr, bool enters)
{
	sigset_t set;
	int code = posix_spawnattr_setflags(attr, POSIX_SPAWN_SETPGROUP |
						      POSIX_SPAWN_SETSIGDEF |
						      POSIX_SPAWN_SETSIGMASK);

	if (code != 0)
		return code;
	posix_spawnattr_setpgroup(attr, 0);
	sigemptyset(&set);
	if (enters)
		sigfillset(&set);
	posix_spawnattr_setsigmask(attr, &set);
	sigfillset(&set);
	return posix_spawnattr_setsigdefault(attr, &set);
}

/* Returns 0 and sets `*pid`, or an errno. */
static int
start(pid_t *pid, const struct fz_proc_opts *opts,
    const struct fz_proc_program *program)
{
	posix_spawn_file_actions_t files;
	posix_spawnattr_t attr;
	int code = posix_spawn_file_actions_init(&files);

	if (code != 0)
		return code;
	code = posix_spawnattr_init(&attr);
	if (code != 0)
		goto out;
	code = set_files(&files, opts, program);
	if (code == 0)
		code = set_attributes(&attr, program->enters);
	if (code == 0)
		code = posix_spawnp(
		    pid, program->path, &files, &attr, program->argv, environ);
	posix_spawnattr_destroy(&attr);
out:
	posix_spawn_file_actions_destroy(&files);
	return code;
}

int
fz_proc_spawn(struct fz_proc *proc, const struct fz_proc_opts *opts,
    const struct fz_proc_program *program, struct fz_err *err)
{
	pid_t pid;
	int code;

	*proc = (struct fz_proc){ .pidfd = -1 };
	fz_proc_begin_adoption();
	code = start(&pid, opts, program);
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
