/*
 * proc.h - a forked child: how it starts, how it is ended, how it died.
 *
 * The only file that forks. A child leads a process group of its own, adopts
 * its orphaned descendants (PR_SET_CHILD_SUBREAPER), reads nothing from
 * standard input, ignores SIGINT, and ends itself and all its descendants
 * when its parent dies by whatever means. It leaves through fz_proc_exit().
 */
#ifndef FZ_PROC_H
#define FZ_PROC_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/clock.h"

struct fz_err;

/* A child that was asked to end itself is ended by force after this time. */
#define FZ_PROC_ASKED_NS (FZ_CLOCK_SECOND / 4)

/*
 * Once fz_proc_adopt() was called, a child has its number in this environment
 * variable, and what it starts inherits it. 0 is the process that adopts.
 */
#define FZ_PROC_MARK "FZLUA_WORKER"

struct fz_proc {
	pid_t pid; /* 0: none */
	int pidfd; /* readable once the child is dead; -1 on old kernels */
	int64_t force_ns; /* when fz_proc_kill() stops waiting; 0: not asked */
};

/* Both stay open under their own numbers too: the caller's to close. */
struct fz_proc_opts {
	int out; /* becomes the child's standard output, -1: the parent's */
	int err; /* becomes its standard error, -1: the parent's */
};

/* The child's life; what it returns is its exit status. */
typedef int (*fz_proc_main)(void *ctx, const struct fz_err *failed);

/*
 * Fork. In the child `entry(ctx, NULL)` runs and then fz_proc_exit(); where
 * the child could not be set up (a descriptor, a process group) it is
 * `entry(ctx, what failed)` instead, so that it can tell its parent. All
 * signals have their default action in the child but SIGINT, which is
 * ignored, SIGTERM, which also ends what it has started, and the real-time one
 * that tells of the parent's death; the signal mask is the caller's. Buffered
 * output is flushed before the fork (that of other streams than stdout and
 * stderr only while there is one thread), and what could not be is forgotten in
 * the child. Returns 0 in the parent, or -1 and `err`.
 */
int fz_proc_fork(struct fz_proc *proc, const struct fz_proc_opts *opts,
    fz_proc_main entry, void *ctx, struct fz_err *err);

/*
 * How many children this process has forked, and the number of the last one of
 * them, from 1, that is not reaped; 0: there is none.
 */
uint64_t fz_proc_forks(void);
uint64_t fz_proc_newest(void);

/* Whether this process was itself forked by fz_proc_fork(). */
bool fz_proc_is_child(void);

/*
 * Ask the child to end itself and everything it started, as it does when its
 * parent dies: if this process is killed meanwhile, the child goes on with it.
 * Never waits. True: the child is dead soon, and if it still lives
 * FZ_PROC_ASKED_NS later, because it is wedged, fz_proc_kill() does not wait
 * either. False: it is dead, or blocks the signal; call fz_proc_kill().
 */
bool fz_proc_ask(struct fz_proc *proc);

/*
 * End the child and everything it started: setsid and double forks are no
 * escape. Asks it first, unless that was done, waits until FZ_PROC_ASKED_NS
 * after that at most, and then uses force. The child is still to be reaped.
 * Safe to call again. Does nothing when it is no child of this process. What a
 * child that died by itself has started is out of reach, but for its process
 * group.
 */
void fz_proc_kill(struct fz_proc *proc);

/*
 * Send the child SIGTERM, and wake it to be ended where it was stopped. Does
 * nothing when it is no child of this process.
 */
void fz_proc_terminate(const struct fz_proc *proc);

/* How a child ended. */
struct fz_death {
	int signal;        /* the signal that killed it, else 0 */
	int exitcode;      /* its exit status where signal is 0; -1 not known */
	uint64_t peak_rss; /* bytes */
	uint64_t cpu_limit; /* seconds, if that may have ended it, else 0 */
};

/*
 * Reap the child if it is dead, or wait until it is when `wait` is set. Kills
 * what is left of its process group and, in a subreaper, all that a child that
 * crashed had started (unless it has a new environment). Returns 1 and fills
 * `death` when it is reaped (`proc` is then empty), 0 when it is alive. A child
 * that somebody else has reaped counts as reaped, its exit code not known.
 */
int fz_proc_reap(struct fz_proc *proc, bool wait, struct fz_death *death);

/*
 * "killed by signal 9 (SIGKILL), perhaps out of memory; peak memory 3.9 GB",
 * "killed by signal 9 (SIGKILL), perhaps at its CPU time limit of 10 s",
 * "exited with code 3". Returns `text`.
 */
const char *fz_death_text(const struct fz_death *death, char *text, size_t len);

/*
 * Leave a child: flush stdio, end all descendants, _exit. No atexit handler
 * of the parent runs. Never returns.
 */
_Noreturn void fz_proc_exit(int status);

/*
 * Become a subreaper, or be one no longer: orphaned descendants, as those of a
 * child that has crashed, are children of this process then. Puts FZ_PROC_MARK
 * into the environment.
 */
void fz_proc_adopt(bool adopt);

/*
 * Limit the private memory that this process may have beyond what it has now
 * (RLIMIT_DATA); 0 lifts the limit. 0, or -1 and `err`.
 */
int fz_proc_limit_memory(uint64_t bytes, struct fz_err *err);

#endif
