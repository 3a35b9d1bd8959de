#define _POSIX_C_SOURCE 200809L /* access */
#include "proc/start.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "os/process.h"

/* Path of the installed command. */
#ifndef FZLUA_COMMAND
#define FZLUA_COMMAND "/usr/local/bin/fzlua"
#endif

static const char *const names[] = { "fork", "spawn" };

int
fz_start_find(const char *name)
{
	for (int i = FZ_START_FORK; i <= FZ_START_SPAWN; i++) {
		if (strcmp(name, names[i]) == 0)
			return i;
	}
	return -1;
}

int
fz_start_from_environment(enum fz_start *start, struct fz_err *err)
{
	const char *name = getenv("FZLUA_START");
	int found = name != NULL ? fz_start_find(name) : FZ_START_FORK;

	if (found == -1)
		return fz_err_set(err, FZ_ERR_ERROR,
		    "FZLUA_START is '%.32s', but must be fork or spawn", name);
	*start = (enum fz_start)found;
	return 0;
}

const char *
fz_start_program(const char *option)
{
	const char *named = getenv("FZLUA_WORKER_COMMAND");

	if (option != NULL)
		return option;
	if (named != NULL && *named != '\0')
		return named;
	if (fz_process.program != NULL)
		return fz_process.program;
	return access(FZLUA_COMMAND, X_OK) == 0 ? FZLUA_COMMAND : "fzlua";
}
