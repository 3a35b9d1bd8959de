/*
 * spawn.h - start a program. The program leads its own process group unless
 * `in_group` is set. No code of this process runs in the child before exec.
 */
#ifndef FZ_SPAWN_H
#define FZ_SPAWN_H

#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <sys/types.h>

struct fz_spawn {
	const char *path; /* path or name, as for posix_spawnp() */
	char *const *argv;
	/* environment of the program; NULL: that of this process */
	char *const *environ_;
	/*
	 * Add the actions that set up the program's descriptors. Returns 0 or
	 * an errno.
	 */
	int (*files)(posix_spawn_file_actions_t *files, const void *ctx);
	const void *ctx;
	/* the program starts in the process group of this process */
	bool in_group;
	/*
	 * signals that are blocked when the program starts. The program ignores
	 * no signal.
	 */
	sigset_t blocked;
};

/* Start the program. Returns 0 and sets `*pid`, or an errno. */
int fz_spawn_start(pid_t *pid, const struct fz_spawn *spawn);

#endif
