/* getdents64 is a Linux system call: handlers may not use readdir(). */
#define _GNU_SOURCE
#include "proc/proctree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"

/* Numbers of fields in /proc/PID/stat, from 1. */
enum { SESSION = 6, FLAGS = 9, STARTED = 22, ENV_START = 50 };

/* The bit PF_EXITING of the field FLAGS: the process is exiting. */
#define EXITING UINT64_C(4)

enum {
	KNOWN_MAX = 2048,
	NAP_NS = 100000,
};

/*
 * Maximum time of a search: a process that cannot be killed must not block the
 * caller forever.
 */
#define TIME_MAX (2 * FZ_CLOCK_SECOND)

/*
 * The root, and the processes below it that were killed or have died. A pass
 * over /proc kills each further process whose parent is one of these. All are
 * killed when a pass finds none. A pass may miss the children of a process that
 * dies during the pass, because they become children of the root; but then the
 * pass finds the dead process as a new zombie, and another pass follows.
 */
struct known {
	pid_t pid[KNOWN_MAX];
	size_t n;
	bool full;      /* a living process did not fit into `pid` */
	bool root_runs; /* the root was not stopped in the last pass */
};

struct status {
	pid_t parent, group, session;
	/* start time of the process, in clock ticks since the boot */
	uint64_t started;
	char state;   /* the state in /proc/PID/stat: R S D T t Z X */
	bool exiting; /* its memory may be gone */
	/*
	 * addresses of the environment; both are 0 while an exec sets up the
	 * new program
	 */
	uint64_t env_start, env_end;
	char name[16];
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

/* The number at the start of `p`; 0 if `p` is NULL. */
static uint64_t
parse_number(const char *p)
{
	uint64_t n = 0;

	for (; p != NULL && '0' <= *p && *p <= '9'; p++)
		n = n * 10 + (uint64_t)(*p - '0');
	return n;
}

/* The text after the next space; NULL if no space follows. */
static const char *
next_field(const char *p)
{
	p = p != NULL ? strchr(p, ' ') : NULL;
	return p != NULL ? p + 1 : NULL;
}

/* Parse "4674 (a name) R 4657 ...". The name may be any text, even ") R 1". */
static bool
parse_status(const char *text, struct status *status)
{
	const char *name = strchr(text, '(');
	const char *p = strrchr(text, ')');
	size_t len;

	if (name == NULL || p == NULL || strlen(p) < sizeof(") R 1"))
		return false;
	len = (size_t)(p - (name + 1));
	if (len >= sizeof(status->name))
		len = sizeof(status->name) - 1;
	memcpy(status->name, name + 1, len);
	status->name[len] = '\0';
	status->state = p[2];
	status->parent = parse_pid(p + 4);
	p = next_field(p + 4);
	status->group = p != NULL ? parse_pid(p) : 0;
	p = next_field(p);
	status->session = p != NULL ? parse_pid(p) : 0;
	for (int field = SESSION; field < FLAGS; field++)
		p = next_field(p);
	status->exiting = parse_number(p) & EXITING;
	for (int field = FLAGS; field < STARTED; field++)
		p = next_field(p);
	status->started = parse_number(p);
	for (int field = STARTED; field < ENV_START; field++)
		p = next_field(p);
	status->env_start = parse_number(p);
	status->env_end = parse_number(next_field(p));
	return true;
}

static bool
read_status(int proc, const char *name, struct status *status)
{
	char path[32], text[1024];
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
	return parse_status(text, status);
}

bool
fz_proctree_runs_since(pid_t pid, int64_t boot_ns)
{
	struct status status;
	char name[16];
	int64_t tick_ns = FZ_CLOCK_SECOND / sysconf(_SC_CLK_TCK);
	int proc = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	bool found;

	if (proc == -1)
		return kill(pid, 0) == 0 || errno == EPERM;
	snprintf(name, sizeof(name), "%ld", (long)pid);
	found = read_status(proc, name, &status);
	close(proc);
	return found && status.state != 'Z' && status.state != 'X' &&
	       (int64_t)status.started <= boot_ns / tick_ns;
}

static bool
is_stopped(char state)
{
	return state == 'T' || state == 't' || state == 'Z' || state == 'X';
}

/* Called for each entry of /proc; returns whether it counts as found. */
typedef bool (*visit_fn)(int proc, const char *name, void *ctx);

/*
 * Make one pass over /proc. Returns how many entries counted as found; -1 if
 * /proc cannot be opened.
 */
static int
each_entry(visit_fn visit, void *ctx)
{
	int proc = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	_Alignas(struct dirent64) char block[4096];
	int found = 0;
	ssize_t n, at;

	if (proc == -1)
		return -1;
	while ((n = getdents64(proc, block, sizeof(block))) > 0) {
		for (at = 0; at < n;) {
			const struct dirent64 *entry =
			    (const void *)(block + at);

			found += visit(proc, entry->d_name, ctx);
			at += entry->d_reclen;
		}
	}
	close(proc);
	return found;
}

/* A visit_fn: kill a process whose parent is in `known`. */
static bool
visit_below(int proc, const char *name, void *ctx)
{
	struct known *known = ctx;
	pid_t pid = parse_pid(name);
	struct status status;
	bool dead;

	if (pid == 0 || !read_status(proc, name, &status))
		return false;
	if (pid == known->pid[0])
		known->root_runs = !is_stopped(status.state);
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

/*
 * Whether /proc shows the pid namespace of this process. After the start of a
 * new namespace it may still show the old one.
 */
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
fz_proctree_kill(pid_t root)
{
	const struct timespec nap = { 0, NAP_NS };
	int64_t deadline = fz_clock_ns() + TIME_MAX;
	bool self = root == getpid();
	struct known known;
	int keep = errno, found = 0;

	known.pid[0] = root;
	known.n = 1;
	known.full = false;
	while (proc_is_ours() && fz_clock_ns() < deadline) {
		known.root_runs = false;
		found = each_entry(visit_below, &known);
		if (found == -1 || (found == 0 && (self || !known.root_runs)))
			break;
		if (found == 0)
			nanosleep(&nap, NULL);
		/*
		 * Forget dead processes if `known` was full: their children
		 * have become children of the root by now.
		 */
		if (known.full)
			known.n = 1;
		known.full = false;
	}
	errno = keep;
}

struct workers {
	struct known known; /* processes that have got the signal */
	pid_t root, group, session;
	char name[16]; /* process name of the root */
	int sig;
};

/*
 * Whether the process is a worker of the root. A worker that was just forked
 * still has the group and the name of the root.
 */
static bool
is_worker(const struct workers *w, pid_t pid, const struct status *status)
{
	return status->parent == w->root && status->session == w->session &&
	       (status->group == pid ||
		   (status->group == w->group &&
		       strcmp(status->name, w->name) == 0));
}

/* A visit_fn: send the signal to a worker, or to a process below a worker. */
static bool
visit_worker(int proc, const char *name, void *ctx)
{
	struct workers *w = ctx;
	pid_t pid = parse_pid(name);
	struct status status;

	if (pid == 0 || !read_status(proc, name, &status) ||
	    status.state == 'Z' || status.state == 'X')
		return false;
	if ((!is_worker(w, pid, &status) && !knows(&w->known, status.parent)) ||
	    knows(&w->known, pid))
		return false;
	kill(pid, w->sig);
	if (w->known.n == KNOWN_MAX)
		return false;
	w->known.pid[w->known.n++] = pid;
	return true;
}

void
fz_proctree_signal_workers(int sig)
{
	int64_t deadline = fz_clock_ns() + TIME_MAX;
	int keep = errno;
	struct workers w;

	w.known.n = 0;
	w.root = getpid();
	w.group = getpgrp();
	w.session = getsid(0);
	prctl(PR_GET_NAME, w.name);
	w.sig = sig;
	while (proc_is_ours() && each_entry(visit_worker, &w) > 0 &&
	       fz_clock_ns() < deadline)
		continue;
	errno = keep;
}

/*
 * Append a decimal digit to `number`. 0 if `digit` is no digit, or if the
 * number would be too large.
 */
static pid_t
add_digit(pid_t number, char digit)
{
	if (digit < '0' || digit > '9' || number >= INT32_MAX / 10)
		return 0;
	return number * 10 + (digit - '0');
}

/*
 * The number that follows `mark` ("NAME=") in the environment of a process, of
 * which `fd` is the file. 0 if the environment has no such entry; -1 if the
 * file is empty. Reads in blocks, because an environment may have megabytes.
 */
static pid_t
read_mark(int fd, const char *mark)
{
	char block[4096];
	/* the rest of `mark` to compare; NULL: this entry differs */
	const char *at = mark;
	pid_t number = -1;
	ssize_t n;

	while ((n = read(fd, block, sizeof(block))) > 0) {
		if (number == -1)
			number = 0;
		for (ssize_t i = 0; i < n; i++) {
			if (block[i] == '\0') {
				if (number != 0)
					return number;
				at = mark;
			} else if (at != NULL && *at == '\0') {
				number = add_digit(number, block[i]);
			} else if (at != NULL) {
				at = block[i] == *at ? at + 1 : NULL;
			}
		}
	}
	return number;
}

struct orphans {
	const struct fz_proctree_search *search;
	char own[16];    /* name of this process and of its new forks */
	char worker[32]; /* name of the workers of this process */
	struct known killed;
	bool news; /* the last pass has killed a further process */
};

static void
init_orphans(struct orphans *o, const struct fz_proctree_search *search)
{
	memset(o, 0, offsetof(struct orphans, killed));
	o->search = search;
	o->killed.n = 0;
	prctl(PR_GET_NAME, o->own);
	snprintf(o->worker, sizeof(o->worker), FZ_PROCTREE_WORKER "%ld",
	    (long)getpid());
}

/* Whether `name` is the name of a worker that another process has started. */
static bool
is_worker_of_another(const struct orphans *o, const char *name)
{
	return strncmp(name, FZ_PROCTREE_WORKER, strlen(FZ_PROCTREE_WORKER)) ==
		   0 &&
	       strcmp(name, o->own) != 0 && strcmp(name, o->worker) != 0;
}

/*
 * Wait for a child that was killed, or that ends itself. Returns whether the
 * child is alive at `until_ns`.
 */
static bool
lives_on(pid_t pid, int64_t until_ns)
{
	const struct timespec nap = { 0, NAP_NS };
	siginfo_t info;

	for (;;) {
		info.si_pid = 0;
		if (waitid(P_PID, (id_t)pid, &info,
			WEXITED | WNOHANG | WNOWAIT) == -1 ||
		    info.si_pid != 0)
			return false;
		if (fz_clock_ns() >= until_ns)
			return true;
		nanosleep(&nap, NULL);
	}
}

/* Wait as lives_on() does; if the child dies, reap it and return false. */
static bool
wait_for_end(pid_t pid, int64_t until_ns)
{
	return lives_on(pid, until_ns) || waitpid(pid, NULL, WNOHANG) == 0;
}

/*
 * Wait for a worker of a dead worker as lives_on() does. If it is dead, reap it
 * and kill its group. Returns whether it is alive.
 */
static bool
wait_for_worker(const struct orphans *o, pid_t pid)
{
	if (lives_on(pid, o->search->until_ns))
		return true;
	/* before the worker is reaped, as its number may be used again */
	kill(-pid, SIGKILL);
	waitpid(pid, NULL, WNOHANG);
	o->search->worker_died(pid);
	return false;
}

enum mark { UNMARKED, MARKED, NOT_YET };

/*
 * The file of a process's environment was empty. Whether that was because of an
 * exec: the process then has an environment by now, or will have one.
 */
static bool
was_in_exec(int proc, const char *name)
{
	struct status status;

	return read_status(proc, name, &status) && status.state != 'Z' &&
	       status.state != 'X' && !status.exiting &&
	       (status.env_end == 0 || status.env_start != status.env_end);
}

/*
 * Whether a dead worker started a process that is now a child of this one.
 * NOT_YET: its environment cannot be read yet. The environment has the pid of
 * the worker that started the process; if this process did, its own pid, or 0.
 * With search->all, any other pid is that of a dead worker, whose parent reaped
 * it and died.
 */
static enum mark
mark_of(int proc, const char *name, const struct fz_proctree_search *search)
{
	char path[40];
	pid_t parent;
	int fd;

	snprintf(path, sizeof(path), "%.16s/environ", name);
	fd = openat(proc, path, O_RDONLY | O_CLOEXEC);
	if (fd == -1)
		return UNMARKED;
	parent = read_mark(fd, search->mark);
	close(fd);
	if (parent == -1)
		return was_in_exec(proc, name) ? NOT_YET : UNMARKED;
	for (size_t i = 0; i < search->nparents; i++) {
		if (search->parents[i] == parent)
			return MARKED;
	}
	return search->all && parent != 0 && parent != getpid() ? MARKED
								: UNMARKED;
}

/*
 * Whether the leader of the process's group does not exist any more. If so, the
 * leader was a worker of another process, which has reaped it and has died,
 * too. It was no worker of this process, because those still exist.
 */
static bool
has_no_leader(const struct status *status)
{
	return status->group != getpgrp() && kill(status->group, 0) == -1 &&
	       errno == ESRCH;
}

/*
 * A visit_fn: end and reap an orphan. It counts as found if it was alive. A
 * child during an exec counts, too, because it may be an orphan.
 */
static bool
visit_orphan(int proc, const char *name, void *ctx)
{
	struct orphans *o = ctx;
	const struct fz_proctree_search *search = o->search;
	pid_t pid = parse_pid(name);
	enum mark mark = MARKED;
	struct status status;
	bool reaps;

	if (pid == 0 || !read_status(proc, name, &status) ||
	    status.parent != getpid())
		return false;
	reaps = search->all && status.session != getsid(0);
	if (is_worker_of_another(o, status.name))
		return wait_for_worker(o, pid) || status.state != 'Z';
	if (status.state == 'Z') {
		if (reaps || (search->all && has_no_leader(&status)))
			waitpid(pid, NULL, WNOHANG);
		return false;
	}
	/*
	 * An exiting process will be a zombie soon. It needs no mark, because
	 * its environment may be gone already.
	 */
	if (!(reaps && status.exiting))
		mark = mark_of(proc, name, search);
	if (mark != MARKED)
		return mark == NOT_YET;
	kill(pid, SIGKILL);
	if (wait_for_end(pid, search->until_ns))
		search->killed_late(pid);
	if (o->killed.n < KNOWN_MAX && !knows(&o->killed, pid)) {
		o->killed.pid[o->killed.n++] = pid;
		o->news = true;
	}
	return true;
}

/*
 * A visit_fn: reap a worker of another process if it is dead. If it is alive,
 * it counts as found.
 */
static bool
visit_worker_of_another(int proc, const char *name, void *ctx)
{
	const struct orphans *o = ctx;
	pid_t pid = parse_pid(name);
	struct status status;

	return pid != 0 && read_status(proc, name, &status) &&
	       status.parent == getpid() &&
	       is_worker_of_another(o, status.name) && wait_for_worker(o, pid);
}

bool
fz_proctree_reap_workers(void (*worker_died)(pid_t pid))
{
	const struct fz_proctree_search search = { .worker_died = worker_died };
	struct orphans o;
	int keep = errno;
	bool some;

	init_orphans(&o, &search);
	some = proc_is_ours() && each_entry(visit_worker_of_another, &o) > 0;
	errno = keep;
	return some;
}

bool
fz_proctree_kill_orphans(const struct fz_proctree_search *search)
{
	int64_t deadline = fz_clock_after(fz_clock_ns(), TIME_MAX), now;
	struct orphans o;
	int keep = errno, found = 0;

	init_orphans(&o, search);
	/* repeat, because the children of an orphan become orphans */
	do {
		o.news = false;
		if (proc_is_ours())
			found = each_entry(visit_orphan, &o);
		now = fz_clock_ns();
	} while (found > 0 && now < (o.news ? deadline : search->until_ns));
	errno = keep;
	return found > 0;
}

struct others {
	bool (*ignores)(const void *ctx, pid_t pid);
	const void *ctx;
};

/* A visit_fn: a child counts as found unless it is to be ignored. */
static bool
visit_other(int proc, const char *name, void *ctx)
{
	const struct others *o = ctx;
	pid_t pid = parse_pid(name);
	struct status status;

	return pid != 0 && read_status(proc, name, &status) &&
	       (status.parent == getpid() ||
		   o->ignores(o->ctx, status.parent)) &&
	       !o->ignores(o->ctx, pid);
}

bool
fz_proctree_has_others(
    bool (*ignores)(const void *ctx, pid_t pid), const void *ctx)
{
	struct others o = { ignores, ctx };

	return !proc_is_ours() || each_entry(visit_other, &o) != 0;
}
