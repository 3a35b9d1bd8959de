/* proctree.h - all processes below a process. */
#ifndef FZ_PROCTREE_H
#define FZ_PROCTREE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/*
 * SIGKILL every descendant of `root` and return when none is alive, or after a
 * bounded time. `root` is the calling process, or a subreaper that was sent
 * SIGSTOP, so that it starts no process and adopts all orphans below it.
 * Async-signal-safe; keeps errno. Does nothing without /proc.
 */
void fz_proctree_kill(pid_t root);

/*
 * Send `sig`, SIGSTOP or SIGCONT, to the workers of this process and to all
 * processes below them. Workers are children in the session of this process
 * that lead a group, or will soon. Returns when a pass finds no further
 * process, or after a bounded time. Async-signal-safe; keeps errno. Does
 * nothing without /proc.
 */
void fz_proctree_signal_workers(int sig);

/*
 * Whether the process `pid` that existed at `boot_ns`, a time of
 * CLOCK_BOOTTIME, is still alive. Not async-signal-safe.
 */
bool fz_proctree_runs_since(pid_t pid, int64_t boot_ns);

/* A worker is called FZ_PROCTREE_WORKER and the number of its parent. */
#define FZ_PROCTREE_WORKER "fzlua/"

/* A search for descendants of dead children of this process. */
struct fz_proctree_search {
	/* "NAME=", which precedes a pid in the environment of a descendant */
	const char *mark;
	const pid_t *parents; /* the dead children, whose pids follow `mark` */
	size_t nparents;
	bool all; /* each child of this process is a child of the library */
	int64_t until_ns;
	/* Called for a killed child that is still alive at `until_ns`. */
	void (*killed_late)(pid_t pid);
	/*
	 * Called when a worker whose parent was a dead worker is reaped and its
	 * group is killed. If `pid` was itself killed, it may have left other
	 * processes behind.
	 */
	void (*worker_died)(pid_t pid);
};

/*
 * End and reap the processes that dead children of this process have left
 * behind. They are children of this process only if it is a subreaper. Kill a
 * process if its environment has the mark of a dead child, then its children.
 * Wait for the workers of a dead worker, which their names show: they end
 * themselves and all processes below them. With `all`, reap zombies that had
 * left the session of this process.
 *
 * Make passes over /proc until one finds nothing. After `until_ns`, make
 * another pass only if the last one has found new processes, for two seconds in
 * all at most. Returns whether the last pass has found a process, which may
 * still be alive: then call it again. fz_proctree_reap_workers() handles only
 * the workers. Not async-signal-safe; keeps errno.
 */
bool fz_proctree_kill_orphans(const struct fz_proctree_search *search);

/*
 * Reap dead workers of dead workers, and call worker_died() for each. Returns
 * whether such a worker is still alive.
 */
bool fz_proctree_reap_workers(void (*worker_died)(pid_t pid));

/*
 * Whether this process, or a child for which `ignores` is true, has a child for
 * which `ignores` is false. True if /proc does not say.
 */
bool fz_proctree_has_others(
    bool (*ignores)(const void *ctx, pid_t pid), const void *ctx);

#endif
