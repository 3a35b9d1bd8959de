/* Pipe sizes and O_CLOEXEC are Linux and POSIX. */
#define _GNU_SOURCE
#include "os/jobserver.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "os/fd.h"

#define FLAGS "MAKEFLAGS="
enum { PIPE_PAGE = 4096 };

/* The next flag of MAKEFLAGS; false if only variables are left. */
static bool
next_word(const char **at, const char **word, size_t *len)
{
	*word = *at + strspn(*at, " ");
	*len = strcspn(*word, " ");
	*at = *word + *len;
	return *len != 0 && !(*len == 2 && memcmp(*word, "--", 2) == 0);
}

/* The text after `name`; NULL if the word does not begin with it. */
static const char *
value_of(const char *word, const char *name)
{
	size_t n = strlen(name);

	return strncmp(word, name, n) == 0 ? word + n : NULL;
}

static int
reopen(int fd, int flags)
{
	char path[40];
	int copy;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	copy = open(path, flags | O_CLOEXEC);
	if (copy != -1 && fz_fd_clear_standard(&copy, NULL) != 0)
		fz_fd_close(&copy);
	return copy;
}

static bool
is_pipe(int fd, int mode, struct stat *st)
{
	int flags = fcntl(fd, F_GETFL);

	return flags != -1 &&
	       ((flags & O_ACCMODE) == mode || (flags & O_ACCMODE) == O_RDWR) &&
	       fstat(fd, st) == 0 && S_ISFIFO(st->st_mode);
}

/* Read "3,4", the numbers of two inherited descriptors. */
static bool
read_pair(const char *text, int fd[2])
{
	struct stat in, out;

	return sscanf(text, "%d,%d", &fd[0], &fd[1]) == 2 &&
	       is_pipe(fd[0], O_RDONLY, &in) &&
	       is_pipe(fd[1], O_WRONLY, &out) && in.st_ino == out.st_ino &&
	       in.st_dev == out.st_dev;
}

static void
open_pair(const char *text, int fd[2])
{
	int theirs[2];

	if (!read_pair(text, theirs))
		return;
	fd[0] = reopen(theirs[0], O_RDONLY | O_NONBLOCK);
	fd[1] = reopen(theirs[1], O_WRONLY | O_NONBLOCK);
}

/*
 * Open "/tmp/GMfifo4711" twice with O_RDWR, because an open for one direction
 * alone could block.
 */
static void
open_fifo(const char *path, size_t len, int fd[2])
{
	char name[PATH_MAX];
	struct stat st;

	if (len >= sizeof(name))
		return;
	memcpy(name, path, len);
	name[len] = '\0';
	if (stat(name, &st) != 0 || !S_ISFIFO(st.st_mode))
		return;
	fd[0] = open(name, O_RDWR | O_NONBLOCK | O_CLOEXEC);
	fd[1] = open(name, O_RDWR | O_NONBLOCK | O_CLOEXEC);
}

/* Find the last --jobserver-auth or -fds in MAKEFLAGS. NULL: none. */
static const char *
find_auth(size_t *auth_len)
{
	const char *at = getenv("MAKEFLAGS"), *word, *auth = NULL;
	size_t len;

	while (at != NULL && next_word(&at, &word, &len)) {
		const char *value = value_of(word, "--jobserver-auth=");

		if (value == NULL)
			value = value_of(word, "--jobserver-fds=");
		if (value != NULL) {
			auth = value;
			*auth_len = len - (size_t)(value - word);
		}
	}
	return auth;
}

bool
fz_jobserver_named(int fd[2])
{
	size_t len;
	const char *auth = find_auth(&len);

	if (auth != NULL && read_pair(auth, fd))
		return true;
	fd[0] = fd[1] = -1;
	return false;
}

bool
fz_jobserver_find(int fd[2])
{
	size_t auth_len = 0;
	const char *auth = find_auth(&auth_len), *fifo;

	fd[0] = fd[1] = -1;
	if (auth == NULL)
		return false;
	fifo = value_of(auth, "fifo:");
	if (fifo != NULL)
		open_fifo(fifo, auth_len - (size_t)(fifo - auth), fd);
	else
		open_pair(auth, fd);
	if (fd[0] != -1 && fd[1] != -1)
		return true;
	fz_fd_close(&fd[0]);
	fz_fd_close(&fd[1]);
	return false;
}

int
fz_jobserver_reader(int fd)
{
	int in = reopen(fd, O_RDONLY | O_NONBLOCK);

	if (in != -1)
		return in;
	/*
	 * Without /proc the descriptor can only be duplicated. Then O_NONBLOCK
	 * is also set for all processes that have the pipe.
	 */
	in = fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
	if (in != -1 && fz_fd_nonblock(in, NULL) != 0)
		fz_fd_close(&in);
	return in;
}

unsigned
fz_jobserver_room(int fd)
{
	int bytes = fcntl(fd, F_GETPIPE_SZ);

	/*
	 * A page that is read in part takes no new bytes, so one page less is
	 * usable. Older kernels give a user with too many pipes a single page.
	 * In such a pipe there may be no room to write a token back.
	 */
	return bytes >= 2 * PIPE_PAGE ? (unsigned)bytes / 2 : 0;
}

unsigned
fz_jobserver_count(int fd)
{
	int n = 0;

	return ioctl(fd, FIONREAD, &n) == 0 ? (unsigned)n : 0;
}

static const char threads[][32] = {
	"OMP_NUM_THREADS=1",
	"OPENBLAS_NUM_THREADS=1",
	"MKL_NUM_THREADS=1",
	"BLIS_NUM_THREADS=1",
	"NUMEXPR_NUM_THREADS=1",
	"VECLIB_MAXIMUM_THREADS=1",
};
enum { NTHREADS = sizeof(threads) / sizeof(threads[0]) };

/* The entry of `env` for the variable of `set` ("NAME=value"); NULL: none. */
static const char *
find(char *const *env, const char *set)
{
	size_t n = strcspn(set, "=") + 1;

	for (; *env != NULL; env++) {
		if (strncmp(*env, set, n) == 0)
			return *env;
	}
	return NULL;
}

/*
 * Write the flags of `flags` that are not about jobs, then our flags for jobs,
 * then the variables of make.
 */
static void
write_flags(char *out, const char *flags, unsigned njobs, const int shared[2])
{
	const char *word;
	size_t len;

	out += sprintf(out, "%s", FLAGS);
	while (next_word(&flags, &word, &len)) {
		if (value_of(word, "-j") == NULL &&
		    value_of(word, "--jobs") == NULL &&
		    value_of(word, "--jobserver-") == NULL)
			out += sprintf(out, "%.*s ", (int)len, word);
	}
	out += sprintf(
	    out, " -j%u --jobserver-auth=%d,%d", njobs, shared[0], shared[1]);
	if (len != 0)
		sprintf(out, " --%s", flags);
}

char **
fz_jobserver_environ(char *const *env, unsigned njobs, const int shared[2])
{
	const char *flags = find(env, FLAGS);
	size_t n = 0, at = 0, len;
	char **copy;

	flags = flags != NULL ? flags + strlen(FLAGS) : "";
	len = sizeof(FLAGS " -j --jobserver-auth=, --") + 3 * 12 +
	      2 * strlen(flags);
	while (env[n] != NULL)
		n++;
	copy = malloc((n + NTHREADS + 2) * sizeof(*copy) + len);
	if (copy == NULL)
		return NULL;
	for (size_t i = 0; i < n; i++) {
		if (shared[0] == -1 || value_of(env[i], FLAGS) == NULL)
			copy[at++] = env[i];
	}
	for (size_t i = 0; i < NTHREADS; i++) {
		if (find(env, threads[i]) == NULL)
			/*
			 * The cast is harmless, because an environment is only
			 * read.
			 */
			copy[at++] = (char *)(uintptr_t)threads[i];
	}
	if (shared[0] != -1) {
		copy[at] = (char *)(copy + n + NTHREADS + 2);
		write_flags(copy[at++], flags, njobs, shared);
	}
	copy[at] = NULL;
	return copy;
}
