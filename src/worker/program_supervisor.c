/* environ */
#define _GNU_SOURCE
#include "worker/program_state.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "os/fd.h"
#include "os/loop.h"
#include "proc/proc.h"
#include "worker/engine.h"
#include "worker/program.h"

/*
 * Open the file that is named for the program's standard input (0), output (1)
 * or error (2). Does nothing if none is named.
 */
static int
open_file(
    const struct fz_program_opts *opts, int which, int *fd, struct fz_err *err)
{
	int flags = which == 0 ? O_RDONLY : O_WRONLY | O_CREAT | O_TRUNC;

	if (opts->files[which] == NULL)
		return 0;
	*fd = open(opts->files[which], flags | O_CLOEXEC, 0666);
	if (*fd == -1)
		return fz_err_sys(
		    err, errno, "cannot open '%.128s'", opts->files[which]);
	return 0;
}

/* Open the named files; one that is named twice is opened only once. */
static int
open_files(struct fz_program_pipes *b, struct fz_err *err)
{
	const char *const *files = b->opts->files;

	if (open_file(b->opts, 0, &b->in[0], err) != 0 ||
	    open_file(b->opts, 1, &b->out[1], err) != 0)
		return -1;
	if (files[1] == NULL || files[2] == NULL ||
	    strcmp(files[1], files[2]) != 0)
		return open_file(b->opts, 2, &b->err[1], err);
	b->err[1] = fcntl(b->out[1], F_DUPFD_CLOEXEC, 0);
	return b->err[1] != -1
		   ? 0
		   : fz_err_sys(err, errno, "cannot copy a descriptor");
}

static int
enter(const struct fz_program_opts *opts, struct fz_err *err)
{
	/* putenv() removes a variable if the string has no "=". */
	for (char *const *entry = opts->env; entry != NULL && *entry != NULL;
	     entry++) {
		if (putenv(*entry) != 0)
			return fz_err_sys(
			    err, errno, "cannot set the environment");
	}
	if (opts->cwd != NULL && chdir(opts->cwd) != 0)
		return fz_err_sys(err, errno,
		    "cannot change to directory '%.128s'", opts->cwd);
	fz_fd_restore_limit();
	return 0;
}

/*
 * Set the standard streams of the program. A program without input inherits the
 * supervisor's standard input, /dev/null.
 */
static int
set_files(posix_spawn_file_actions_t *files, const struct fz_program_pipes *b)
{
	int code = 0;

	if (b->in[0] != -1)
		code = posix_spawn_file_actions_adddup2(
		    files, b->in[0], STDIN_FILENO);
	if (code == 0)
		code = posix_spawn_file_actions_adddup2(
		    files, b->out[1], STDOUT_FILENO);
	if (code == 0)
		code = posix_spawn_file_actions_adddup2(
		    files, b->err[1], STDERR_FILENO);
	return code;
}

/*
 * Ignored signals are set to their defaults, because exec would keep them
 * ignored. The program gets its own session, and therefore no terminal: if it
 * asks for a password, it fails at once. With a terminal it would be stopped,
 * because it is in the background, and the supervisor would wait forever.
 */
static void
set_attributes(posix_spawnattr_t *attributes)
{
	sigset_t signals;

	sigemptyset(&signals);
	posix_spawnattr_setsigmask(attributes, &signals);
	for (size_t i = 0; i < FZ_PROC_NIGNORED; i++)
		sigaddset(&signals, fz_proc_ignored[i]);
	posix_spawnattr_setsigdefault(attributes, &signals);
	posix_spawnattr_setflags(attributes, POSIX_SPAWN_SETSIGMASK |
						 POSIX_SPAWN_SETSIGDEF |
						 POSIX_SPAWN_SETSID);
}

static pid_t
spawn(const struct fz_program_pipes *b, struct fz_err *err)
{
	posix_spawn_file_actions_t files;
	posix_spawnattr_t attributes;
	pid_t pid = -1;
	int code;

	posix_spawn_file_actions_init(&files);
	posix_spawnattr_init(&attributes);
	set_attributes(&attributes);
	code = set_files(&files, b);
	if (code == 0)
		code = posix_spawnp(&pid, b->opts->file, &files, &attributes,
		    b->opts->argv, environ);
	posix_spawnattr_destroy(&attributes);
	posix_spawn_file_actions_destroy(&files);
	if (code == 0)
		return pid;
	fz_err_sys(err, code, "cannot run '%s'", b->name);
	return -1;
}

/*
 * Wait for the end of the process `pid`. Adopted orphans are reaped, too,
 * because they could become many while the program runs.
 */
static int
wait_for(pid_t pid)
{
	int status = 0;
	pid_t got;

	do
		got = waitpid(-1, &status, 0);
	while (got != pid && (got != -1 || errno == EINTR));
	return status;
}

static void
supervise(struct fz_program_pipes *b, struct fz_program_report *report)
{
	pid_t pid;

	if (open_files(b, &report->err) != 0 ||
	    enter(b->opts, &report->err) != 0)
		return;
	pid = spawn(b, &report->err);
	/* now only the program and its descendants hold these ends */
	fz_fd_close(&b->in[0]);
	fz_fd_close(&b->out[1]);
	fz_fd_close(&b->err[1]);
	if (pid != -1)
		report->status = wait_for(pid);
}

/*
 * Close all inherited descriptors that are not needed here. If the kernel has
 * no call for that, close at least the pipes and the loop.
 */
static void
close_inherited(struct fz_program_pipes *b)
{
	int keep[] = { b->in[0], b->out[1], b->err[1], b->report[1] };

	if (fz_fd_close_others(keep, sizeof(keep) / sizeof(*keep)) == 0)
		return;
	fz_fd_close(&b->in[1]);
	fz_fd_close(&b->out[0]);
	fz_fd_close(&b->err[0]);
	fz_fd_close(&b->report[0]);
	fz_loop_in_child(b->opts->engine->loop);
}

/* When this returns, fz_proc_exit() ends the descendants that still run. */
int
fz_program_supervisor_main(void *ctx, const struct fz_err *failed)
{
	struct fz_program_pipes *b = ctx;
	struct fz_program_report report = { .status = 0 };

	close_inherited(b);
	if (failed != NULL)
		report.err = *failed;
	else
		supervise(b, &report);
	return fz_fd_write_all(b->report[1], &report, sizeof(report)) == 0
		   ? EXIT_SUCCESS
		   : EXIT_FAILURE;
}
