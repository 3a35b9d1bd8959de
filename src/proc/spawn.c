/* environ */
#define _GNU_SOURCE
#include "proc/spawn.h"

#include <signal.h>
#include <unistd.h>

#include "os/fd.h"

static int
set_attributes(posix_spawnattr_t *attr, const struct fz_spawn *spawn)
{
	sigset_t set;
	int group = spawn->in_group ? 0 : POSIX_SPAWN_SETPGROUP;
	int code = posix_spawnattr_setflags(attr,
	    (short)(group | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK));

	if (code != 0)
		return code;
	posix_spawnattr_setpgroup(attr, 0);
	posix_spawnattr_setsigmask(attr, &spawn->blocked);
	sigfillset(&set);
	return posix_spawnattr_setsigdefault(attr, &set);
}

/*
 * Start the program, with the limit of descriptors that this process got. The
 * actions exist already: none can be made for a number above the limit.
 */
static int
start(pid_t *pid, const struct fz_spawn *spawn,
    const posix_spawn_file_actions_t *files, const posix_spawnattr_t *attr)
{
	int code;

	fz_fd_restore_limit();
	code = posix_spawnp(pid, spawn->path, files, attr, spawn->argv,
	    spawn->environ_ != NULL ? spawn->environ_ : environ);
	fz_fd_raise_limit_again();
	return code;
}

int
fz_spawn_start(pid_t *pid, const struct fz_spawn *spawn)
{
	posix_spawn_file_actions_t files;
	posix_spawnattr_t attr;
	int code = posix_spawn_file_actions_init(&files);

	if (code != 0)
		return code;
	code = posix_spawnattr_init(&attr);
	if (code != 0)
		goto out;
	code = spawn->files(&files, spawn->ctx);
	if (code == 0)
		code = set_attributes(&attr, spawn);
	if (code == 0)
		code = start(pid, spawn, &files, &attr);
	posix_spawnattr_destroy(&attr);
out:
	posix_spawn_file_actions_destroy(&files);
	return code;
}
