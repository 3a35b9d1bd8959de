/* proctree.h - all processes below a process. */
#ifndef FZ_PROCTREE_H
#define FZ_PROCTREE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/*
 * SIGKILL every descendant of `root` and return once none is alive, or after a
 * bounded time. `root` is the calling process, or a subreaper that was sent
 * SIGSTOP, so that it starts no process and adopts all orphans below it.
 * Async-signal-safe; keeps errno. Does nothing without /proc.
 */
void fz_proctree_kill(pid_t root);

/*
 * Send `sig`, SIGSTOP or SIGCONT, to the workers of this process and to all
 * processes below them. Workers are children that lead a group in the session
 * of this process, or are about to. Returns once no other one is found, or
 * after a bounded time. Async-signal-safe; keeps errno. Does nothing without
 * /proc.
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
	const char *mark; /* "NAME=" in the environment of what a child left */
	const pid_t *parents; /* the dead children; their numbers follow it */
	size_t nparents;
	bool all; /* each child of this process is a child of the library */
	int64_t until_ns;
	/* Called for a killed child that is not dead by `until_ns`. */
	void (*killed_late)(pid_t pid);
	/*
	 * Called for a reaped worker of a dead worker: if it was killed, too,
	 * it may have left processes. The rest of its group is killed.
	 */
	void (*worker_died)(pid_t pid);
};

/*
 * End and reap what dead children of this process have left; only a subreaper
 * has it as children. SIGKILL those whose environment has the mark of a dead
 * child, then their children. Workers of a dead worker, whose name says that
 * they are, end themselves and all below them. With `all`, reap zombies that
 * had left the session of this process.
 *
 * Passes over /proc go on until one finds nothing, or until `until_ns`, or for
 * some seconds while they find others. Returns whether something may live on,
 * because the last pass has found something: call it again.
 * fz_proctree_reap_workers() is for the workers. Not async-signal-safe; keeps
 * errno.
 */
bool fz_proctree_kill_orphans(const struct fz_proctree_search *search);

/*
 * Reap dead workers of dead workers, and call worker_died() for each. Returns
 * whether one lives.
 */
bool fz_proctree_reap_workers(void (*worker_died)(pid_t pid));

/*
 * Whether this process, or a child for which `ignores` is true, has a child for
 * which it is false. True if /proc does not say.
 */
bool fz_proctree_has_others(
    bool (*ignores)(const void *ctx, pid_t pid), const void *ctx);

#endif
