#define _GNU_SOURCE /* for F_DUPFD_CLOEXEC and closefrom */
#include "gateway/node_process.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/err.h"
#include "os/fd.h"
#include "proc/spawn.h"

/* The descriptor of the worker's end of its slot_line. */
#define PROCESS_SLOT "3"
enum { PROCESS_SLOT_FD = 3 };

/* The descriptors for the program, apart from those of libnats. */
struct files {
	int stream, slot;
};

static int
set_files(posix_spawn_file_actions_t *files, const void *ctx)
{
	const struct files *own = ctx;
	int code =
	    posix_spawn_file_actions_adddup2(files, own->stream, STDIN_FILENO);

	if (code == 0)
		code = posix_spawn_file_actions_adddup2(
		    files, own->stream, STDOUT_FILENO);
	/* last, because `stream` may be PROCESS_SLOT_FD, which this replaces */
	if (code == 0)
		code = posix_spawn_file_actions_adddup2(
		    files, own->slot, PROCESS_SLOT_FD);
	if (code == 0)
		code = posix_spawn_file_actions_addclosefrom_np(
		    files, PROCESS_SLOT_FD + 1);
	return code;
}

/* Start the process with these ends of its sockets. 0, or an error code. */
static int
start(const struct fz_node_process_opts *opts, pid_t *pid,
    const struct files *files)
{
	const char *words[] = { opts->command, "--worker", opts->identity,
		"--slot-line", PROCESS_SLOT, "--allow", opts->allow };
	const size_t n = *opts->allow != '\0' ? 7 : 5;
	char *argv[8] = { NULL };
	/*
	 * The process leads a group of its own, because Ctrl-C is for the
	 * gateway.
	 */
	struct fz_spawn spawn = { .path = opts->command,
		.argv = argv,
		.files = set_files,
		.ctx = files };

	for (size_t i = 0; i < n; i++)
		argv[i] = (char *)(uintptr_t)words[i];
	/*
	 * Block SIGTERM until the program handles it: before that, the signal
	 * would end the program.
	 */
	sigemptyset(&spawn.blocked);
	sigaddset(&spawn.blocked, SIGTERM);
	return fz_spawn_start(pid, &spawn);
}

static int
open_slot_line(int ends[2])
{
	return socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) == 0
		   ? 0
		   : errno;
}

int
fz_node_process_start(const struct fz_node_process_opts *opts,
    struct fz_node_process *process, struct fz_err *err)
{
	int ends[2], slot[2] = { -1, -1 }, code;

	*process = (struct fz_node_process){ 0, -1, -1, -1 };
	if (fz_fd_socket_pair(ends, err) != 0)
		return -1;
	process->in = ends[0];
	process->out = fcntl(ends[0], F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
	if (process->out == -1 || fz_fd_nonblock(ends[0], NULL) != 0)
		code = errno;
	else
		code = open_slot_line(slot);
	process->slot = slot[0];
	if (code == 0)
		code = start(
		    opts, &process->pid, &(struct files){ ends[1], slot[1] });
	fz_fd_close(&ends[1]);
	fz_fd_close(&slot[1]);
	if (code == 0)
		return 0;
	fz_fd_close(&process->in);
	fz_fd_close(&process->out);
	fz_fd_close(&process->slot);
	return fz_err_sys(
	    err, code, "cannot start the program '%.128s'", opts->command);
}
