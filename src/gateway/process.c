#define _GNU_SOURCE /* F_DUPFD_CLOEXEC, closefrom */
#include "gateway/process.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <unistd.h>

#include "base/err.h"
#include "os/fd.h"
#include "os/spawn.h"

/* Of our descriptors it gets the socket alone: libnats has some, too. */
static int
set_files(posix_spawn_file_actions_t *files, const void *ctx)
{
	const int *end = ctx;
	int code = posix_spawn_file_actions_adddup2(files, *end, STDIN_FILENO);

	if (code == 0)
		code = posix_spawn_file_actions_adddup2(
		    files, *end, STDOUT_FILENO);
	if (code == 0)
		code = posix_spawn_file_actions_addclosefrom_np(
		    files, STDERR_FILENO + 1);
	return code;
}

int
process_start(const struct process_opts *opts, int *in, int *out, pid_t *pid,
    struct fz_err *err)
{
	const char *words[] = { opts->command, "--worker", opts->identity,
		"--allow", opts->allow };
	const size_t n = *opts->allow != '\0' ? 5 : 3;
	char *argv[6] = { NULL };
	/* A process group of its own: Ctrl-C is for the gateway. */
	struct fz_spawn spawn = {
		.path = opts->command, .argv = argv, .files = set_files
	};
	int ends[2], code;

	for (size_t i = 0; i < n; i++)
		argv[i] = (char *)(uintptr_t)words[i];
	*in = *out = -1;
	if (fz_fd_socket_pair(ends, err) != 0)
		return -1;
	spawn.ctx = &ends[1];
	/* One that comes before the program waits for it would end it. */
	sigemptyset(&spawn.blocked);
	sigaddset(&spawn.blocked, SIGTERM);
	*in = ends[0];
	*out = fcntl(ends[0], F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
	if (*out == -1 || fz_fd_nonblock(ends[0], NULL) != 0)
		code = errno;
	else
		code = fz_spawn_start(pid, &spawn);
	fz_fd_close(&ends[1]);
	if (code == 0)
		return 0;
	fz_fd_close(in);
	fz_fd_close(out);
	return fz_err_sys(
	    err, code, "cannot start the program '%.128s'", opts->command);
}
