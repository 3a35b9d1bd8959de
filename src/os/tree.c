/* getdents64 is a Linux system call: readdir may not be used in a handler. */
#define _GNU_SOURCE
#include "os/tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"

enum {
	KNOWN_MAX = 2048,
	NAP_NS = 100000,
};

/* Something that cannot be ended must not hold us for ever. */
#define TIME_MAX (2 * FZ_CLOCK_SECOND)

/*
 * The root and those below it that were killed or have died. A pass over
 * /proc that finds nobody whose parent is known has seen all of them: when a
 * process ends in the midst of it, its children come below the root where
 * the pass may have been already, but then it is itself seen as a new zombie.
 */
struct known {
	pid_t pid[KNOWN_MAX];
	size_t n;
	bool full; /* a live one did not fit in */
};

struct status {
	pid_t parent;
	char state; /* as in /proc/PID/stat: R S D T t Z X */
};

static bool
knows(const struct known *known, pid_t pid)
{
	size_t i;

	for (i = known->n; i > 0; i--)
		if (known->pid[i - 1] == pid)
			return true;
	return false;
}

static pid_t
parse_pid(const char *text)
{
	pid_t pid = 0;

	while (*text >= '0' && *text <= '9')
		pid = pid * 10 + (*text++ - '0');
	return *text == '\0' || *text == ' ' ? pid : 0;
}

/* "4674 (a name) R 4657 ..."; the name may hold anything, even ") R 1". */
static bool
read_status(int proc, const char *name, struct status *status)
{
	char path[32], text[512];
	const char *p;
	ssize_t n;
	int fd;

	if (strlen(name) + sizeof("/stat") > sizeof(path))
		return false;
	strcpy(path, name);
	strcat(path, "/stat");
	fd = openat(proc, path, O_RDONLY | O_CLOEXEC);
	if (fd == -1)
		return false;
	n = read(fd, text, sizeof(text) - 1);
	close(fd);
	if (n <= 0)
		return false;
	text[n] = '\0';
	p = strrchr(text, ')');
	if (p == NULL || strlen(p) < sizeof(") R 1"))
		return false;
	status->state = p[2];
	status->parent = parse_pid(p + 4);
	return true;
}

static bool
is_stopped(char state)
{
	return state == 'T' || state == 't' || state == 'Z' || state == 'X';
}

/* One entry of /proc. Returns whether something new was found below. */
static bool
visit(int proc, const char *name, struct known *known, bool *root_runs)
{
	pid_t pid = parse_pid(name);
	struct status status;
	bool dead;

	if (pid == 0 || !read_status(proc, name, &status))
		return false;
	if (pid == known->pid[0])
		*root_runs = !is_stopped(status.state);
	if (!knows(known, status.parent) || knows(known, pid))
		return false;
	dead = status.state == 'Z' || status.state == 'X';
	if (!dead)
		kill(pid, SIGKILL);
	if (known->n < KNOWN_MAX) {
		known->pid[known->n++] = pid;
		return true;
	}
	known->full |= !dead;
	return !dead;
}

/* One pass over /proc. Returns how many new ones it found, -1 without /proc. */
static int
pass(struct known *known, bool *root_runs)
{
	int proc = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	_Alignas(struct dirent64) char block[4096];
	int found = 0;
	ssize_t n, at;

	*root_runs = false;
	if (proc == -1)
		return -1;
	while ((n = getdents64(proc, block, sizeof(block))) > 0) {
		for (at = 0; at < n;) {
			const struct dirent64 *entry =
			    (const void *)(block + at);

			found += visit(proc, entry->d_name, known, root_runs);
			at += entry->d_reclen;
		}
	}
	close(proc);
	return found;
}

/* In a new pid namespace /proc may still show the numbers of the old one. */
static bool
proc_is_ours(void)
{
	char text[16];
	ssize_t n = readlink("/proc/self", text, sizeof(text) - 1);

	if (n <= 0)
		return false;
	text[n] = '\0';
	return parse_pid(text) == getpid();
}

void
fz_tree_kill(pid_t root)
{
	const struct timespec nap = { 0, NAP_NS };
	int64_t deadline = fz_clock_ns() + TIME_MAX;
	bool self = root == getpid(), root_runs;
	struct known known;
	int keep = errno, found = 0;

	known.pid[0] = root;
	known.n = 1;
	known.full = false;
	while (proc_is_ours() && fz_clock_ns() < deadline) {
		found = pass(&known, &root_runs);
		if (found == -1 || (found == 0 && (self || !root_runs)))
			break;
		if (found == 0)
			nanosleep(&nap, NULL);
		/* The dead have left their children to the root by now. */
		if (known.full)
			known.n = 1;
		known.full = false;
	}
	errno = keep;
}
