/* proctree.h - find, signal and end all processes below a process. */
#ifndef FZ_PROCTREE_H
#define FZ_PROCTREE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/*
 * Kill all descendants of `root`. Returns when none is alive, or after a
 * bounded time. `root` is this process, or a subreaper that was sent SIGSTOP:
 * it then starts no process, and adopts all orphans below it.
 * Async-signal-safe; keeps errno. Does nothing without /proc.
 */
void fz_proctree_kill(pid_t root);

/*
 * Send `sig`, SIGSTOP or SIGCONT, to the workers of this process and to all
 * processes below the workers. A worker is a child that is in the session of
 * this process and leads a group, or will lead one soon. Returns when a pass
 * over /proc finds no further process, or after a bounded time.
 * Async-signal-safe; keeps errno. Does nothing without /proc.
 */
void fz_proctree_signal_workers(int sig);

/*
 * Whether the process `pid` has existed since `boot_ns` (a time of
 * CLOCK_BOOTTIME) and is still alive. Not async-signal-safe.
 */
bool fz_proctree_runs_since(pid_t pid, int64_t boot_ns);

/* The name of a worker is FZ_PROCTREE_WORKER and the pid of its parent. */
#define FZ_PROCTREE_WORKER "fzlua/"

/* What to search for: descendants of dead children of this process. */
struct fz_proctree_search {
	/* "NAME=", before a worker's pid in the environment */
	const char *mark;
	const pid_t *parents; /* pids of the dead children */
	size_t nparents;
	bool all; /* the library has started all children of this process */
	int64_t until_ns;
	/* Called for a killed process that is still alive at `until_ns`. */
	void (*killed_late)(pid_t pid);
	/*
	 * Called after a worker of a dead worker was reaped and its group was
	 * killed. If this worker (`pid`) was killed, it may have left processes
	 * behind.
	 */
	void (*worker_died)(pid_t pid);
};

/*
 * End and reap the processes that dead children of this process have left
 * behind. Finds them only if this process is a subreaper, and has therefore
 * adopted them. Makes passes over /proc. A pass kills each process whose
 * environment has the mark of a dead child. It does not kill workers of dead
 * workers, which it knows by their names. It waits for them, because they end
 * themselves and all processes below them. If search->all, it also reaps
 * zombies that were in another session.
 *
 * The passes end when one finds no process. After `until_ns` another pass
 * follows only if the last one has killed a further process; all passes take at
 * most two seconds. Returns whether the last pass has found a process. It may
 * still be alive, so call this again. Not async-signal-safe; keeps errno.
 */
bool fz_proctree_kill_orphans(const struct fz_proctree_search *search);

/*
 * Reap dead workers of dead workers, and call worker_died() for each. Returns
 * whether a worker of a dead worker is still alive.
 */
bool fz_proctree_reap_workers(void (*worker_died)(pid_t pid));

/*
 * Whether this process, or a child for which `ignores` is true, has a child for
 * which it is false. True if /proc does not say.
 */
bool fz_proctree_has_others(
    bool (*ignores)(const void *ctx, pid_t pid), const void *ctx);

#endif
