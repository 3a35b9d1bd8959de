#define _GNU_SOURCE /* F_DUPFD_CLOEXEC, closefrom */
#include "gateway/process.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stddef.h>
#include <unistd.h>

#include "base/err.h"
#include "os/fd.h"

/* Of our descriptors it gets the socket alone: libnats has some, too. */
static int
set_files(posix_spawn_file_actions_t *files, int end)
{
	int code = posix_spawn_file_actions_adddup2(files, end, STDIN_FILENO);

	if (code == 0)
		code =
		    posix_spawn_file_actions_adddup2(files, end, STDOUT_FILENO);
	if (code == 0)
		code = posix_spawn_file_actions_addclosefrom_np(
		    files, STDERR_FILENO + 1);
	return code;
}

/* A group of its own: Ctrl-C is for the gateway. */
static int
set_attributes(posix_spawnattr_t *attr)
{
	sigset_t set;
	int code = posix_spawnattr_setflags(attr, POSIX_SPAWN_SETPGROUP |
						      POSIX_SPAWN_SETSIGDEF |
						      POSIX_SPAWN_SETSIGMASK);

	if (code != 0)
		return code;
	posix_spawnattr_setpgroup(attr, 0);
	sigemptyset(&set);
	posix_spawnattr_setsigmask(attr, &set);
	sigfillset(&set);
	return posix_spawnattr_setsigdefault(attr, &set);
}

static int
spawn(pid_t *pid, const char *path, char *const *argv, int end)
{
	posix_spawn_file_actions_t files;
	posix_spawnattr_t attr;
	int code = posix_spawn_file_actions_init(&files);

	if (code != 0)
		return code;
	code = posix_spawnattr_init(&attr);
	if (code == 0) {
		code = set_files(&files, end);
		if (code == 0)
			code = set_attributes(&attr);
		if (code == 0)
			code = posix_spawnp(
			    pid, path, &files, &attr, argv, environ);
		posix_spawnattr_destroy(&attr);
	}
	posix_spawn_file_actions_destroy(&files);
	return code;
}

int
process_start(const char *command, const char *identity, int *in, int *out,
    pid_t *pid, struct fz_err *err)
{
	char *argv[] = { (char *)(uintptr_t)command, (char[]){ "--worker" },
		(char *)(uintptr_t)identity, NULL };
	int ends[2], code;

	*in = *out = -1;
	if (fz_fd_socket_pair(ends, err) != 0)
		return -1;
	*in = ends[0];
	*out = fcntl(ends[0], F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
	code = *out == -1 ? errno : spawn(pid, command, argv, ends[1]);
	fz_fd_close(&ends[1]);
	if (code == 0 && fz_fd_nonblock(*in, NULL) == 0)
		return 0;
	fz_fd_close(in);
	fz_fd_close(out);
	return fz_err_sys(
	    err, code, "cannot start the program '%.128s'", command);
}
