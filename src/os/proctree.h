/* proctree.h - the processes below a process, however they got there. */
#ifndef FZ_PROCTREE_H
#define FZ_PROCTREE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/*
 * SIGKILL every descendant of `root` and return once no live one is left, or
 * after a bounded time. `root` is the calling process, or a subreaper that
 * was sent SIGSTOP, so that nothing starts anew and orphans stay below it.
 * Async-signal-safe; keeps errno. Does nothing where /proc is missing.
 */
void fz_proctree_kill(pid_t root);

/*
 * Send `sig`, SIGSTOP or SIGCONT, to the workers of this process, which are its
 * children that lead a group of our session, and to all below them. Returns
 * once no other one is found, or after a bounded time. Async-signal-safe; keeps
 * errno. Does nothing where /proc is missing.
 */
void fz_proctree_signal_workers(int sig);

/*
 * Whether the process `pid` that was there at `boot_ns`, a time of
 * CLOCK_BOOTTIME, still lives. Not async-signal-safe.
 */
bool fz_proctree_runs_since(pid_t pid, int64_t boot_ns);

/*
 * SIGKILL and reap the children of this process whose environment has `mark`
 * ("NAME=value"), and then theirs; zombies that had left our session are reaped
 * too. Those that are called `name` end themselves and what is below them: they
 * are waited for. Only a subreaper has orphans for children. Not
 * async-signal-safe; keeps errno.
 */
void fz_proctree_kill_orphans(const char *mark, const char *name);

#endif
